//! Processes that use one secret tell each other of changes over the database, and say there where they stand.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::admin::{Scrape, ask, status};
use crate::support::swivel::{Swivel, Unstarted};
use crate::support::{Postgres, eventually, temporary_directory};

const CHANNEL: &str = "pgswivel \"fleet\"";
/// As many as `[fleet]` is for on one machine.
const MANY: usize = 20;

/// A payload that every process reads by a program of its own, so that nothing but the fleet tells of a change.
struct Secret {
    directory: TempDir,
}

impl Secret {
    fn new() -> Self {
        let secret = Self {
            directory: temporary_directory(),
        };
        secret.write(Postgres::USER, Postgres::PASSWORD);
        secret
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, user: &str, password: &str) {
        let whole = self.path("new");
        std::fs::write(
            &whole,
            format!(r#"{{"username":"{user}","password":"{password}"}}"#),
        )
        .unwrap();
        std::fs::rename(whole, self.path("payload")).unwrap();
    }

    /// How often it was read.
    fn reads(&self) -> usize {
        let reads = std::fs::read_to_string(self.path("reads"));
        reads.map_or(0, |reads| reads.lines().count())
    }

    fn read_by(&self, swivel: Unstarted) -> Unstarted {
        let program = self.path("read");
        let (reads, payload) = (self.path("reads"), self.path("payload"));
        let text = format!("echo read >>'{}'; cat '{}'\n", reads.display(), payload.display());
        std::fs::write(&program, text).unwrap();
        swivel
            .store("command", &format!("/bin/sh {}", program.display()))
            .secret_line("poll = \"1h\"")
            .secret_line("grace = \"1s\"")
    }
}

async fn member(postgres: &Postgres, secret: &Secret, name: &str) -> Swivel {
    let fleet = format!("[fleet]\nchannel = '{CHANNEL}'\ninstance = \"{name}\"");
    let swivel = secret
        .read_by(Swivel::in_front_of(postgres))
        .section(&fleet)
        .start()
        .await;
    listens(&swivel).await;
    swivel
}

async fn listens(swivel: &Swivel) {
    eventually("it listens for the fleet", async || {
        Scrape::of(swivel).await.sum("pgswivel_fleet_listening", &[]) == 1.0
    })
    .await;
}

async fn leads_with(swivel: &Swivel, user: &str) -> bool {
    let status = status(swivel).await;
    let credentials = status["secrets"][0]["credentials"].as_array().unwrap().clone();
    let mut leading = credentials.iter().filter(|known| known["standing"] == "leading");
    leading.next().is_some_and(|known| known["user"] == user)
}

/// What each process says of itself.
async fn words(postgres: &Postgres) -> Vec<String> {
    let admin = postgres.admin().await;
    let rows = admin
        .query(
            "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgswivel:%' ORDER BY 1",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn backends_of(postgres: &Postgres, user: &str) -> i64 {
    let admin = postgres.admin().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1";
    admin.query_one(count, &[&user]).await.unwrap().get(0)
}

async fn woke(swivel: &Swivel, by: &str) -> f64 {
    let by = format!("by=\"{by}\"");
    Scrape::of(swivel).await.sum("pgswivel_fleet_wakes_total", &[&by])
}

promise! {
    async fn what_one_process_is_told_all_of_them_do_and_nobody_stays_on_the_old_user(version) {
        let (postgres, secret) = (Postgres::start(version), Secret::new());
        let mut fleet = Vec::new();
        for number in 0..MANY {
            fleet.push(member(&postgres, &secret, &format!("i-{number:02}")).await);
        }
        let client = fleet[1].connect().await;
        postgres.create_user("orders_v2", "second").await;
        secret.write("orders_v2", "second");
        let answer = ask(&fleet[0], "POST /refresh?fleet=1").await;
        assert_eq!(answer.status, 202, "{}", answer.body);
        for swivel in &fleet {
            eventually("it uses the new user", async || leads_with(swivel, "orders_v2").await).await;
        }
        eventually("nothing is on the old user, the links that listen included", async || {
            backends_of(&postgres, Postgres::USER).await == 0
        })
        .await;
        assert_eq!(words(&postgres).await.len(), MANY);
        client.batch_execute("SELECT 1").await.unwrap();
    }
}

promise! {
    async fn whoever_hears_first_tells_the_others(version) {
        let (postgres, secret) = (Postgres::start(version), Secret::new());
        let first = member(&postgres, &secret, "first").await;
        let second = member(&postgres, &secret, "second").await;
        postgres.create_user("orders_v2", "second").await;
        secret.write("orders_v2", "second");
        assert_eq!(ask(&first, "POST /refresh").await.status, 202);
        eventually("the other one has read it, too", async || leads_with(&second, "orders_v2").await).await;
        assert_eq!(Scrape::of(&first).await.sum("pgswivel_fleet_told_total", &[]), 1.0);
        assert_eq!(Scrape::of(&second).await.sum("pgswivel_fleet_told_total", &[]), 0.0);
    }
}

promise! {
    async fn a_process_says_where_it_stands_and_who_is_pinned(version) {
        let (postgres, secret) = (Postgres::start(version), Secret::new());
        let swivel = member(&postgres, &secret, "orders-7d9f").await;
        let words_are = async |what: &str, is_right: &dyn Fn(&str) -> bool| {
            eventually(what, async || words(&postgres).await.iter().any(|word| is_right(word))).await;
        };
        words_are("nothing is under way", &|word| {
            word.starts_with("pgswivel:orders-7d9f ") && word.ends_with("=c")
        })
        .await;
        let (free, pinned) = (swivel.connect().await, swivel.connect().await);
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        postgres.create_user("orders_v2", "second").await;
        secret.write("orders_v2", "second");
        ask(&swivel, "POST /refresh").await;
        words_are("one session is left, and pinned", &|word| word.ends_with("=m1.1")).await;
        pinned.batch_execute("DROP TABLE t").await.unwrap();
        words_are("nobody is left", &|word| word.ends_with("=c")).await;
        free.batch_execute("SELECT 1").await.unwrap();
    }
}

promise! {
    async fn a_flood_on_the_channel_costs_one_read_a_second(version) {
        let (postgres, secret) = (Postgres::start(version), Secret::new());
        let swivel = member(&postgres, &secret, "one").await;
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        let before = secret.reads();
        let start = std::time::Instant::now();
        for number in 0..300 {
            let statement = "SELECT pg_notify($1, 'read'), pg_notify($1, 'nonsense ' || $2::int::text)";
            admin.execute(statement, &[&CHANNEL, &number]).await.unwrap();
        }
        postgres.create_user("orders_v2", "second").await;
        secret.write("orders_v2", "second");
        admin.execute("SELECT pg_notify($1, 'read')", &[&CHANNEL]).await.unwrap();
        eventually("the last word is heard", async || leads_with(&swivel, "orders_v2").await).await;
        assert!(woke(&swivel, "nonsense").await > 0.0);
        assert!(woke(&swivel, "put_off").await > 0.0);
        let seconds = start.elapsed().as_secs() as usize;
        let reads = secret.reads() - before;
        assert!((1..=seconds + 2).contains(&reads), "{reads} reads in {seconds} s");
    }
}

promise! {
    async fn a_process_listens_again_after_a_restart_and_reads_what_it_may_have_missed(version) {
        let (mut postgres, secret) = (Postgres::start(version), Secret::new());
        let swivel = member(&postgres, &secret, "one").await;
        let client = swivel.connect().await;
        postgres.create_user("orders_v2", "second").await;
        postgres.stop(crate::support::Stop::Fast);
        secret.write("orders_v2", "second");
        postgres.start_again();
        eventually("it has read the new user", async || leads_with(&swivel, "orders_v2").await).await;
        eventually("it has looked for what it missed", async || woke(&swivel, "reconnected").await >= 1.0).await;
        listens(&swivel).await;
        client.batch_execute("SELECT 1").await.unwrap();
    }
}

promise! {
    async fn a_changed_configuration_joins_and_leaves_the_fleet(version) {
        let (postgres, secret) = (Postgres::start(version), Secret::new());
        let swivel = secret.read_by(Swivel::in_front_of(&postgres)).start().await;
        let answer = ask(&swivel, "POST /refresh?fleet=1").await;
        assert_eq!(answer.status, 400);
        assert!(answer.body.contains("fleet.channel"), "{}", answer.body);
        let without = swivel.written();
        swivel.add(&format!("\n[fleet]\nchannel = '{CHANNEL}'\n")).await;
        listens(&swivel).await;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let end_of_host = &host.trim_end()[host.trim_end().len().saturating_sub(8)..];
        let said = words(&postgres).await;
        assert!(said.iter().any(|word| word.contains(&format!("{end_of_host}:{}", swivel.pid()))), "{said:?}");
        swivel.reconfigure(&without).await;
        eventually("it listens no more", async || words(&postgres).await.is_empty()).await;
    }
}
