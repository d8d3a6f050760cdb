//! Secrets: what is known of one outlives a change of where it is kept, and sessions follow it.

use tokio_postgres::Client;

use crate::support::{Postgres, Swivel, eventually};

async fn user(client: &Client) -> String {
    let row = client.query_one("SELECT session_user::text", &[]).await.unwrap();
    row.get(0)
}

async fn new_sessions_are_of(swivel: &Swivel, wanted: &str) {
    eventually(&format!("new sessions are {wanted}'s"), async || {
        user(&swivel.connect().await).await == wanted
    })
    .await;
}

async fn moves_to(session: &Client, wanted: &str) {
    eventually(&format!("the session moves to {wanted}"), async || {
        user(session).await == wanted
    })
    .await;
}

fn write(swivel: &Swivel, name: &str, user: &str, password: &str) -> String {
    let path = swivel.directory().join(name);
    let text = serde_json::json!({ "username": user, "password": password });
    std::fs::write(&path, text.to_string()).unwrap();
    path.display().to_string()
}

async fn with_two_users(postgres: &Postgres) -> Swivel {
    postgres.create_user("orders_v2", "second").await;
    postgres.create_user("orders_v3", "third").await;
    Swivel::in_front_of(postgres)
        .secret_line("grace = \"1s\"")
        .start()
        .await
}

#[tokio::test]
async fn a_secret_that_is_kept_elsewhere_is_a_rotation_for_those_who_use_it() {
    let postgres = Postgres::start(18);
    let swivel = with_two_users(&postgres).await;
    let session = swivel.connect().await;
    session.batch_execute("SET app.tenant = 'mine'").await.unwrap();
    let elsewhere = write(&swivel, "elsewhere.json", "orders_v2", "second");
    let before = swivel.directory().join("secret.json").display().to_string();
    swivel.rewrite(&before, &elsewhere).await;
    new_sessions_are_of(&swivel, "orders_v2").await;
    moves_to(&session, "orders_v2").await;
    let row = session.query_one("SHOW app.tenant", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "mine");
    // And it goes on from there.
    write(&swivel, "elsewhere.json", "orders_v3", "third");
    moves_to(&session, "orders_v3").await;
}

#[tokio::test]
async fn a_secret_whose_new_place_has_nothing_that_works_goes_on_as_before() {
    let postgres = Postgres::start(18);
    let swivel = with_two_users(&postgres).await;
    let elsewhere = write(&swivel, "elsewhere.json", "orders_v2", "wrong");
    let before = swivel.directory().join("secret.json").display().to_string();
    swivel.rewrite(&before, &elsewhere).await;
    eventually("it is tried", async || {
        swivel.said("a credential was refused") > 0
    })
    .await;
    assert_eq!(user(&swivel.connect().await).await, Postgres::USER);
    assert_eq!(swivel.status_of("/readyz").await, 200);
}

#[tokio::test]
async fn an_added_secret_is_read_and_used() {
    let postgres = Postgres::start(18);
    let swivel = with_two_users(&postgres).await;
    let id = write(&swivel, "report.json", "orders_v2", "second");
    swivel
        .add(&format!(
            "[role.report]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"report\"\n\
             [secret.report]\nstore = \"file\"\nid = \"{id}\"\n"
        ))
        .await;
    let mut config = swivel.config();
    let (client, connection) = config
        .user("report")
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    assert_eq!(user(&client).await, "orders_v2");
    eventually("it is ready for both", async || {
        swivel.status_of("/readyz").await == 200
    })
    .await;
}

#[tokio::test]
async fn a_session_whose_role_and_secret_were_removed_still_moves_with_its_credential() {
    let postgres = Postgres::start(18);
    let swivel = with_two_users(&postgres).await;
    let whole = swivel.written();
    let id = write(&swivel, "report.json", Postgres::USER, Postgres::PASSWORD);
    swivel
        .add(&format!(
            "[role.report]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"report\"\n\
             [secret.report]\nstore = \"file\"\nid = \"{id}\"\ngrace = \"1s\"\n"
        ))
        .await;
    let mut config = swivel.config();
    let (session, connection) = config
        .user("report")
        .connect(tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    swivel.reconfigure(&whole).await;
    assert_eq!(user(&session).await, Postgres::USER);
    write(&swivel, "report.json", "orders_v2", "second");
    moves_to(&session, "orders_v2").await;
}

#[tokio::test]
async fn sessions_go_by_the_policy_that_their_secret_has_now() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("sessions = \"keep\"")
        .secret_line("grace = \"1s\"")
        .start()
        .await;
    let session = swivel.connect().await;
    swivel.write_secret("orders_v2", "second");
    new_sessions_are_of(&swivel, "orders_v2").await;
    assert_eq!(user(&session).await, Postgres::USER);
    swivel.rewrite("sessions = \"keep\"", "sessions = \"move\"").await;
    moves_to(&session, "orders_v2").await;
}

#[tokio::test]
async fn a_shorter_poll_is_in_force_at_once() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let unstarted = Swivel::in_front_of(&postgres);
    let payload = unstarted.directory().join("payload.json");
    let write = |user: &str, password: &str| {
        let text = serde_json::json!({ "username": user, "password": password });
        std::fs::write(&payload, text.to_string()).unwrap();
    };
    write(Postgres::USER, Postgres::PASSWORD);
    // A command is not watched: only a poll or a wish reads it again.
    let swivel = unstarted
        .store("command", &format!("/bin/cat {}", payload.display()))
        .secret_line("poll = \"1h\"")
        .start()
        .await;
    assert_eq!(user(&swivel.connect().await).await, Postgres::USER);
    write("orders_v2", "second");
    swivel.rewrite("poll = \"1h\"", "poll = \"1s\"").await;
    new_sessions_are_of(&swivel, "orders_v2").await;
}

/// Fifty stores that are asked in the same second are a storm. Whoever has a client that waits does not stand in line.
#[tokio::test]
async fn fifty_secrets_are_read_one_after_the_other_and_first_those_that_clients_wait_for() {
    let postgres = Postgres::start(18);
    let mut unstarted = Swivel::in_front_of(&postgres);
    let (script, reads) = (
        unstarted.directory().join("read"),
        unstarted.directory().join("reads"),
    );
    let text = serde_json::json!({ "username": Postgres::USER, "password": Postgres::PASSWORD });
    let text = format!("echo $1 >> {}\necho '{text}'\n", reads.display());
    std::fs::write(&script, text).unwrap();
    std::fs::write(&reads, "").unwrap();
    for number in 0..50 {
        unstarted = unstarted.section(&format!(
            "[secret.s{number}]\nstore = \"command\"\nid = \"/bin/sh {} s{number}\"\npoll = \"1h\"\n\
             [role.s{number}]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"s{number}\"",
            script.display()
        ));
    }
    let begun = std::time::Instant::now();
    let swivel = unstarted.start().await;
    let done = || -> Vec<String> {
        let lines = std::fs::read_to_string(&reads).unwrap();
        lines.lines().map(str::to_owned).collect()
    };
    let before = done();
    let waited_for = (0..50).map(|number| format!("s{number}"));
    let waited_for = waited_for.rev().find(|name| !before.contains(name)).unwrap();
    let mut config = swivel.config();
    config.user(&waited_for);
    let (_client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    eventually("all were read", async || done().len() == 50).await;
    // What is a tenth of a second apart takes five of them.
    assert!(begun.elapsed() > std::time::Duration::from_secs(4));
    let read_after = done().iter().position(|name| *name == waited_for).unwrap() - before.len();
    let others = 50 - before.len();
    assert!(
        read_after < others.div_ceil(2),
        "{read_after} of {others} came before"
    );
}
