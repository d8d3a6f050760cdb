//! What status says of a rotation, at each of its steps, held against what Postgres itself says.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::support::admin::{ask, status};
use crate::support::{Postgres, Swivel, eventually};

const NEXT: &str = "orders_v2";

/// Sessions that ask all the time, until they are told to stop.
struct Load {
    sessions: JoinSet<Result<u64, String>>,
    stop: watch::Sender<bool>,
}

impl Load {
    async fn of(swivel: &Swivel, sessions: usize) -> Self {
        let mut load = Self {
            sessions: JoinSet::new(),
            stop: watch::Sender::new(false),
        };
        for _ in 0..sessions {
            let client = swivel.connect().await;
            let stop = load.stop.subscribe();
            load.sessions.spawn(async move {
                let mut asked = 0;
                while !*stop.borrow() {
                    let answer = client.query_one("SELECT 1, pg_sleep(0.002)", &[]).await;
                    answer.map_err(|error| format!("{error:?}"))?;
                    asked += 1;
                    // A client that thinks.
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Ok(asked)
            });
        }
        load
    }

    /// How much was asked, when nothing went wrong.
    async fn end(self) -> u64 {
        self.stop.send_replace(true);
        let asked: Result<Vec<u64>, String> = self.sessions.join_all().await.into_iter().collect();
        asked.unwrap().iter().sum()
    }
}

/// Client backends by user, as Postgres counts them.
async fn backends(admin: &Client) -> BTreeMap<String, u64> {
    let sql = "SELECT usename::text, count(*) FROM pg_stat_activity \
               WHERE backend_type = 'client backend' AND usename LIKE 'orders%' GROUP BY 1";
    let rows = admin.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get::<_, i64>(1).unsigned_abs()))
        .collect()
}

/// The one secret of a status.
fn secret(status: &Value) -> &Value {
    &status["secrets"][0]
}

fn credential<'a>(status: &'a Value, user: &str) -> &'a Value {
    let credentials = secret(status)["credentials"].as_array().unwrap();
    let found = credentials.iter().find(|known| known["user"] == user);
    found.unwrap_or(&Value::Null)
}

/// Waits for a stage, and sees to it that nothing untrue is said on the way.
async fn reaches(swivel: &Swivel, admin: &Client, stage: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("the stage is {stage}"), async || {
        last = status(swivel).await;
        if secret(&last)["safe_to_revoke"] == true {
            let retired = credential(&last, Postgres::USER);
            assert_eq!(retired["standing"], "retired", "{last}");
            let left = backends(admin).await;
            assert_eq!(left.get(Postgres::USER), None, "{last}");
        }
        secret(&last)["stage"] == stage
    })
    .await;
    page_shows(swivel, stage).await;
    last
}

/// The page is at the same step of the rotation.
async fn page_shows(swivel: &Swivel, stage: &str) {
    let step = match stage {
        "steady" => None,
        "moving" => Some("sessions moving"),
        "safe_to_revoke" => Some("safe to revoke"),
        other => Some(other),
    };
    let html = ask(swivel, "GET /").await.body;
    let now = html.split_once("<li class=\"now");
    let now = now.and_then(|(_, rest)| rest.split_once("<span>")?.1.split_once("</span>"));
    assert_eq!(now.map(|(name, _)| name), step, "{html}");
}

/// Status and Postgres agree on how many sessions each user has.
async fn agree(swivel: &Swivel, admin: &Client, expected: &[(&str, u64)]) {
    eventually(&format!("status and Postgres say {expected:?}"), async || {
        let said = status(swivel).await;
        let there = backends(admin).await;
        expected.iter().all(|(user, sessions)| {
            let known = credential(&said, user);
            let told = (known["sessions"].as_u64(), known["links"].as_u64());
            told == (Some(*sessions), Some(*sessions)) && there.get(*user).copied().unwrap_or(0) == *sessions
        })
    })
    .await;
}

promise! {
    async fn status_is_right_at_every_step_of_a_rotation_under_load(version) {
        let postgres = Postgres::start(version);
        let admin = postgres.admin().await;
        let swivel = Swivel::in_front_of(&postgres)
            .secret_line("grace = \"2s\"")
            .secret_line("poll = \"200ms\"")
            .section("[login]\nrefused_retry = \"1s\"\n[log]\nlevel = \"debug\"")
            .start()
            .await;
        let load = Load::of(&swivel, 6).await;
        let pinned = swivel.connect().await;
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        reaches(&swivel, &admin, "steady").await;
        agree(&swivel, &admin, &[(Postgres::USER, 7)]).await;

        swivel.write_secret(NEXT, "second");
        let seen = reaches(&swivel, &admin, "seen").await;
        assert_eq!(credential(&seen, Postgres::USER)["standing"], "leading");
        assert_eq!(credential(&seen, NEXT)["standing"], "waiting");
        agree(&swivel, &admin, &[(Postgres::USER, 7)]).await;

        postgres.create_user(NEXT, "second").await;
        let moving = reaches(&swivel, &admin, "moving").await;
        assert_eq!(credential(&moving, NEXT)["standing"], "leading");
        assert_eq!(credential(&moving, Postgres::USER)["standing"], "retired");
        agree(&swivel, &admin, &[(Postgres::USER, 1), (NEXT, 6)]).await;
        let mut held = Value::Null;
        eventually("what keeps the last one is told", async || {
            held = status(&swivel).await;
            !credential(&held, Postgres::USER)["pinned"][0].is_null()
        })
        .await;
        let old = credential(&held, Postgres::USER);
        assert_eq!(secret(&held)["stage"], "moving", "{held}");
        assert_eq!(old["safe_to_revoke"], false);
        assert_eq!(old["pinned"][0]["reasons"][0], "temporary_objects", "{old}");
        let session = old["pinned"][0]["session"].as_u64().unwrap();
        assert!(swivel.said(&format!("\"session\":{session},")) > 0);

        pinned.batch_execute("DROP TABLE t").await.unwrap();
        let safe = reaches(&swivel, &admin, "safe_to_revoke").await;
        assert_eq!(credential(&safe, Postgres::USER)["safe_to_revoke"], true);
        let words = secret(&safe)["words"].as_str().unwrap();
        assert!(words.starts_with("safe to revoke: nothing here uses orders_v1"), "{words}");
        drop_user(&postgres).await;
        agree(&swivel, &admin, &[(NEXT, 7)]).await;
        assert!(load.end().await > 100);
        // The story is told a moment after the fact.
        let end = "old connections closed";
        eventually("the end is told", async || swivel.said(end) > 0).await;
        for phrase in ["credential rotation detected", "now using rotated credentials", end] {
            assert_eq!(swivel.said(phrase), 1, "{phrase}");
        }
        assert_eq!(swivel.said("credential.safe_to_revoke"), 1);
    }
}

/// What the user owns goes to somebody else first; its sessions are not asked.
async fn drop_user(postgres: &Postgres) {
    let user = Postgres::USER;
    for sql in [
        format!("REASSIGN OWNED BY {user} TO CURRENT_USER"),
        format!("DROP OWNED BY {user}"),
        format!("DROP ROLE {user}"),
    ] {
        let admin = postgres.admin().await;
        admin
            .batch_execute(&sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
    assert!(!postgres.has_user(user).await);
}

promise! {
    /// The session is over, and its backend goes on with what it was asked.
    async fn what_a_backend_still_does_for_a_session_that_was_cut_is_use_of_its_credential(version) {
        let postgres = Postgres::start(version);
        postgres.create_user(NEXT, "second").await;
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        let swivel = Swivel::in_front_of(&postgres)
            .secret_line("sessions = \"cut\"")
            .secret_line("grace = \"1s\"")
            .start()
            .await;
        reaches(&swivel, &admin, "steady").await;
        let mut wire = swivel.wire().await;
        admin.batch_execute("SELECT pg_advisory_lock(1)").await.unwrap();
        wire.query("SELECT pg_advisory_xact_lock(1)").await;
        swivel.write_secret(NEXT, "second");
        assert_eq!(wire.refusal().await.code, "57P01");
        let mut now = Value::Null;
        eventually("its session is over", async || {
            now = status(&swivel).await;
            credential(&now, Postgres::USER)["sessions"] == 0
        })
        .await;
        assert_eq!(secret(&now)["stage"], "moving", "{now}");
        let words = &credential(&now, Postgres::USER)["words"];
        assert_eq!(words, "1 connection left: not safe to revoke yet");
        assert_eq!(backends(&admin).await.get(Postgres::USER), Some(&1));
        admin.batch_execute("SELECT pg_advisory_unlock(1)").await.unwrap();
        reaches(&swivel, &admin, "safe_to_revoke").await;
    }
}

#[tokio::test]
async fn a_credential_that_works_on_one_of_two_endpoints_is_proven_and_does_not_lead() {
    let (first, second) = (Postgres::start(18), Postgres::start(18));
    let hosts = format!("hosts = [\"{}\", \"{}\"]", first.address(), second.address());
    let swivel = Swivel::in_front_of(&first)
        .upstream_line(&hosts)
        .section("[login]\nrefused_retry = \"1s\"")
        .start()
        .await;
    let stage = async |stage: &str| {
        eventually(&format!("the stage is {stage}"), async || {
            secret(&status(&swivel).await)["stage"] == stage
        })
        .await;
        page_shows(&swivel, stage).await;
    };
    stage("steady").await;
    first.create_user(NEXT, "second").await;
    swivel.write_secret(NEXT, "second");
    stage("proven").await;
    second.create_user(NEXT, "second").await;
    stage("safe_to_revoke").await;
}

#[tokio::test]
async fn sessions_that_stay_by_policy_are_told_from_those_that_leave() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let client = swivel.connect().await;
    postgres.change_password(Postgres::USER, "next").await;
    swivel.write_secret(Postgres::USER, "next");
    eventually("it leads, and a session stays", async || {
        let now = status(&swivel).await;
        secret(&now)["credentials"][1]["standing"] == "retired" && secret(&now)["stage"] == "steady"
    })
    .await;
    page_shows(&swivel, "steady").await;
    let now = status(&swivel).await;
    let words = secret(&now)["credentials"][1]["words"].as_str().unwrap();
    assert_eq!(
        words,
        "1 session left from before the password changed: they need it no more to go on"
    );
    assert_eq!(
        secret(&now)["replaced_users"],
        serde_json::json!([]),
        "the user is in use: {now}"
    );
    drop(client);
    eventually("it left", async || {
        secret(&status(&swivel).await)["credentials"][1]["links"] == 0
    })
    .await;
    assert_eq!(secret(&status(&swivel).await)["stage"], "steady");
    eventually("the trail says so", async || {
        swivel.said("credential.unused") == 1
    })
    .await;
    assert_eq!(swivel.said("credential.safe_to_revoke"), 0);
}

/// A user whose sessions stay by policy is in use.
#[tokio::test]
async fn sessions_that_stay_on_another_user_are_said_to_stay() {
    let postgres = Postgres::start(18);
    postgres.create_user(NEXT, "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("sessions = \"keep\"")
        .start()
        .await;
    let client = swivel.connect().await;
    swivel.write_secret(NEXT, "second");
    eventually("it leads, and a session stays", async || {
        secret(&status(&swivel).await)["stage"] == "leading"
    })
    .await;
    page_shows(&swivel, "leading").await;
    let now = status(&swivel).await;
    let words = secret(&now)["words"].as_str().unwrap();
    assert!(
        words.ends_with("on orders_v1 there are still 1 session: not safe to revoke"),
        "{words}"
    );
    drop(client);
    eventually("it left", async || {
        secret(&status(&swivel).await)["stage"] == "safe_to_revoke"
    })
    .await;
}

#[tokio::test]
async fn a_credential_past_its_age_is_said_once_and_shown() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("max_age = \"1s\"")
        .secret_line("poll = \"100ms\"")
        .start()
        .await;
    eventually("it is too old", async || {
        secret(&status(&swivel).await)["max_age_exceeded"] == true
    })
    .await;
    let warning = "the credential is older than max_age";
    eventually("it is said", async || swivel.said(warning) > 0).await;
    let reads = async || secret(&status(&swivel).await)["reads"]["ok"].as_u64().unwrap();
    let before = reads().await;
    eventually("it was read again", async || reads().await > before + 3).await;
    assert_eq!(swivel.said(warning), 1);
}

/// Of the credential that leads.
async fn version(swivel: &Swivel) -> String {
    let mut version = String::new();
    eventually("something leads", async || {
        let said = status(swivel).await;
        let credentials = secret(&said)["credentials"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let leading = credentials.iter().find(|known| known["standing"] == "leading");
        version = leading.map_or_else(String::new, |known| known["version"].as_str().unwrap().to_owned());
        !version.is_empty()
    })
    .await;
    version
}

/// Stores that give no versions: a fleet is compared all the same.
#[tokio::test]
async fn versions_are_the_same_in_a_fleet() {
    let postgres = Postgres::start(18);
    let one = Swivel::in_front_of(&postgres).start().await;
    let command = format!("/bin/cat {}", one.directory().join("secret.json").display());
    let other = Swivel::in_front_of(&postgres)
        .store("command", &command)
        .start()
        .await;
    assert_eq!(version(&one).await, version(&other).await);
    // Who does not know the local password can't make them.
    let stranger = Swivel::in_front_of(&postgres).password("another").start().await;
    assert_ne!(version(&one).await, version(&stranger).await);
    // Where there is none, a key does.
    let [mut with, mut without] = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        let trusting = Swivel::in_front_of(&postgres).trusting();
        with.push(version(&trusting.top_line("version_key = \"of the fleet\"").start().await).await);
        without.push(version(&Swivel::in_front_of(&postgres).trusting().start().await).await);
    }
    assert_eq!(with[0], with[1]);
    assert_ne!(without[0], without[1]);
}

/// It is another name for the same credential, and no rotation.
#[tokio::test]
async fn a_local_password_that_is_replaced_renames_versions_and_rotates_nothing() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let client = swivel.connect().await;
    let before = version(&swivel).await;
    std::fs::write(swivel.directory().join("password"), "another").unwrap();
    eventually("the version has another name", async || {
        version(&swivel).await != before
    })
    .await;
    let other = Swivel::in_front_of(&postgres).password("another").start().await;
    assert_eq!(version(&swivel).await, version(&other).await);
    assert_eq!(secret(&status(&swivel).await)["stage"], "steady");
    assert_eq!(swivel.said("credential.leading"), 1);
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
}
