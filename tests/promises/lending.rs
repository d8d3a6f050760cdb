//! Links are made ready, and lent again.

mod beginning;
mod keeping;

use std::collections::BTreeSet;

use tokio::net::UnixStream;

use crate::support::admin::Scrape;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Forged, Postgres, Swivel, Wire, eventually};

async fn lending(postgres: &Postgres, lines: &[&str]) -> Swivel {
    let swivel = Swivel::in_front_of(postgres)
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD);
    let swivel = lines
        .iter()
        .fold(swivel, |swivel, line| swivel.upstream_line(line));
    swivel.start().await
}

async fn login(swivel: &Swivel, parameters: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::connect(&swivel.address()).await;
    let mut all = vec![("user", Swivel::USER), ("database", Postgres::DATABASE)];
    all.extend_from_slice(parameters);
    wire.startup(PROTOCOL_3_0, &all).await;
    wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
    wire.until(b'Z').await;
    wire
}

/// The first column of the first row.
async fn ask(wire: &mut Wire, sql: &str) -> Option<String> {
    wire.query(sql).await;
    let messages = wire.until(b'Z').await;
    let error = messages.iter().find(|message| message.tag == b'E');
    assert!(error.is_none(), "{sql}: {:?}", error.unwrap().error());
    messages
        .iter()
        .find(|message| message.tag == b'D')?
        .first_column()
}

async fn backend(wire: &mut Wire) -> i32 {
    ask(wire, "SELECT pg_backend_pid()")
        .await
        .unwrap()
        .parse()
        .unwrap()
}

async fn leave(mut wire: Wire) {
    wire.say(b'X', b"").await;
    assert!(wire.next().await.is_none());
}

/// Backends of the application's user that are at rest.
async fn resting(postgres: &Postgres) -> BTreeSet<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND state = 'idle' \
               AND (query IN ('DISCARD ALL', '') OR query LIKE '/* pgswivel */%')";
    let rows = postgres
        .admin()
        .await
        .query(sql, &[&Postgres::USER])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Waits until the backend has forgotten its session.
async fn is_washed(postgres: &Postgres, backend: i32) {
    eventually("the link is as good as new", async || {
        resting(postgres).await.contains(&backend)
    })
    .await;
}

/// So many have had to wait because `connections_max` are taken.
async fn waits_for_room(swivel: &Swivel, clients: f64) {
    eventually("a client waits for room", async || {
        let hits = Scrape::of(swivel).await;
        hits.sum("pgswivel_limit_hits_total", &["limit=\"connections_max\""]) == clients
    })
    .await;
}

promise! {
    async fn the_next_client_gets_the_link_and_nothing_of_the_last_one(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut first = login(&swivel, &[("options", "-c work_mem=5MB")]).await;
        let lent = backend(&mut first).await;
        for change in [
            "SET work_mem = '6MB'",
            "PREPARE p AS SELECT 1",
            "LISTEN a",
            "SELECT pg_advisory_lock(1)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        ] {
            ask(&mut first, change).await;
        }
        leave(first).await;
        is_washed(&postgres, lent).await;
        let mut second = login(&swivel, &[("options", "-c work_mem=5MB")]).await;
        assert_eq!(backend(&mut second).await, lent);
        assert_eq!(ask(&mut second, "SHOW work_mem").await.unwrap(), "5MB");
        let left = "SELECT count(*) FROM (SELECT FROM pg_prepared_statements UNION ALL SELECT FROM pg_listening_channels() \
                    UNION ALL SELECT FROM pg_cursors WHERE is_holdable UNION ALL SELECT FROM pg_locks \
                    WHERE locktype = 'advisory') AS state";
        assert_eq!(ask(&mut second, left).await.unwrap(), "0");
    }
}

promise! {
    async fn a_link_is_not_lent_to_a_client_that_begins_otherwise(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut first = login(&swivel, &[("application_name", "first")]).await;
        let lent = backend(&mut first).await;
        leave(first).await;
        is_washed(&postgres, lent).await;
        let mut second = login(&swivel, &[("application_name", "second")]).await;
        assert_ne!(backend(&mut second).await, lent);
    }
}

promise! {
    async fn links_that_wait_for_a_client_make_room_in_a_server_that_has_none_left(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true", "warm = 0"]).await;
        for name in ["first", "second"] {
            let mut client = login(&swivel, &[("application_name", name)]).await;
            let lent = backend(&mut client).await;
            leave(client).await;
            is_washed(&postgres, lent).await;
        }
        let full = format!("ALTER ROLE {} CONNECTION LIMIT 2", Postgres::USER);
        postgres.admin().await.batch_execute(&full).await.unwrap();
        let mut third = login(&swivel, &[("application_name", "third")]).await;
        let mut fourth = login(&swivel, &[("application_name", "fourth")]).await;
        for client in [&mut third, &mut fourth] {
            assert_eq!(ask(client, "SELECT 1").await.unwrap(), "1");
        }
        let mut fifth = Wire::connect(&swivel.address()).await;
        let parameters = [("user", Swivel::USER), ("database", Postgres::DATABASE), ("application_name", "fifth")];
        fifth.startup(PROTOCOL_3_0, &parameters).await;
        let told = fifth.until(b'E').await;
        assert_eq!(told.last().unwrap().error().code, "53300", "nothing is left to make room with");
    }
}

promise! {
    async fn whoever_comes_while_a_link_is_on_its_way_out_gets_its_room(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true", "warm = 0"]).await;
        leave(login(&swivel, &[]).await).await;
        let full = format!("ALTER ROLE {} CONNECTION LIMIT 1", Postgres::USER);
        postgres.admin().await.batch_execute(&full).await.unwrap();
        for round in 0..10 {
            let name = format!("round {round}");
            let mut client = login(&swivel, &[("application_name", &name)]).await;
            // Its link is not lent again.
            ask(&mut client, "CREATE TEMP TABLE kept ()").await;
            leave(client).await;
        }
    }
}

promise! {
    async fn a_link_that_ended_while_nobody_had_it_is_not_lent(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut first = login(&swivel, &[]).await;
        let lent = backend(&mut first).await;
        leave(first).await;
        is_washed(&postgres, lent).await;
        let ended = "SELECT pg_terminate_backend($1, 10000)";
        postgres.admin().await.query(ended, &[&lent]).await.unwrap();
        let mut second = login(&swivel, &[]).await;
        assert_ne!(backend(&mut second).await, lent);
    }
}

promise! {
    async fn what_no_reset_undoes_ends_with_its_session(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        // The schema of temporary objects is there for as long as the backend.
        let temporary = "CREATE TEMP TABLE t (); DROP TABLE t";
        for sql in ["SELECT setseed(0.5)", temporary] {
            let mut first = login(&swivel, &[]).await;
            let lent = backend(&mut first).await;
            ask(&mut first, sql).await;
            leave(first).await;
            eventually("the backend ends", async || {
                let sql = "SELECT FROM pg_stat_activity WHERE pid = $1";
                postgres.admin().await.query(sql, &[&lent]).await.unwrap().is_empty()
            })
            .await;
        }
    }
}

promise! {
    async fn links_nobody_is_on_are_closed_when_their_credential_is_replaced(version) {
        let postgres = Postgres::start(version);
        postgres.create_user("orders_v2", "next").await;
        let swivel = lending(&postgres, &["reuse = true", "warm = 1"]).await;
        let first = login(&swivel, &[]).await;
        leave(first).await;
        swivel.write_secret("orders_v2", "next");
        let users = "SELECT coalesce(string_agg(DISTINCT usename, ' '), '') FROM pg_stat_activity \
                     WHERE usename LIKE 'orders%' AND backend_type = 'client backend'";
        eventually("only the new user is connected", async || {
            let users: String = postgres.admin().await.query_one(users, &[]).await.unwrap().get(0);
            users == "orders_v2"
        })
        .await;
    }
}

promise! {
    async fn as_many_links_as_configured_are_ready_for_the_next_client(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["warm = 2"]).await;
        // Who came once is not waited for.
        leave(login(&swivel, &[]).await).await;
        let _first = login(&swivel, &[]).await;
        eventually("two are ready", async || {
            resting(&postgres).await.len() == 3
        })
        .await;
        let ready = resting(&postgres).await;
        let mut second = login(&swivel, &[]).await;
        assert!(ready.contains(&backend(&mut second).await));
    }
}

promise! {
    async fn a_link_that_nobody_is_on_makes_room_for_a_client(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true", "connections_max = 1"]).await;
        for name in ["one", "two", "three"] {
            let mut wire = login(&swivel, &[("application_name", name)]).await;
            let lent = backend(&mut wire).await;
            leave(wire).await;
            is_washed(&postgres, lent).await;
        }
    }
}

promise! {
    async fn a_link_that_is_lent_leaves_the_others_where_they_are(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(login(&swivel, &[]).await);
        }
        let mut kept = BTreeSet::new();
        for mut wire in clients {
            kept.insert(backend(&mut wire).await);
            leave(wire).await;
        }
        for backend in &kept {
            is_washed(&postgres, *backend).await;
        }
        let mut again = Vec::new();
        for _ in 0..4 {
            again.push(login(&swivel, &[]).await);
        }
        let mut lent = BTreeSet::new();
        for wire in &mut again {
            lent.insert(backend(wire).await);
        }
        assert_eq!(lent, kept);
    }
}

promise! {
    async fn a_client_that_comes_again_and_again_is_lent_what_it_left(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut backends = BTreeSet::new();
        for _ in 0..50 {
            let mut wire = login(&swivel, &[]).await;
            backends.insert(backend(&mut wire).await);
            leave(wire).await;
        }
        assert!(backends.len() <= 3, "{backends:?}");
    }
}

promise! {
    async fn who_waits_for_room_gets_the_link_that_somebody_leaves(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true", "connections_max = 1"]).await;
        let mut first = login(&swivel, &[]).await;
        let left = backend(&mut first).await;
        let (alike, ()) = tokio::join!(login(&swivel, &[]), async {
            waits_for_room(&swivel, 1.0).await;
            leave(first).await;
        });
        let mut alike = alike;
        assert_eq!(backend(&mut alike).await, left);
        let (other, ()) = tokio::join!(login(&swivel, &[("application_name", "other")]), async {
            waits_for_room(&swivel, 2.0).await;
            leave(alike).await;
        });
        let mut other = other;
        assert_ne!(backend(&mut other).await, left);
    }
}

/// A server that greets with more than a socket takes in.
async fn talkative() -> Forged {
    Forged::start(|mut wire| async move {
        if wire.packet().await.is_none() {
            return wire;
        }
        wire.say(b'R', &[0; 4]).await;
        wire.say(b'K', &[0, 0, 0, 7, 1, 2, 3, 4]).await;
        let much = "much ".repeat(180_000);
        wire.say(b'N', format!("SNOTICE\0VNOTICE\0C00000\0M{much}\0\0").as_bytes())
            .await;
        wire.say(b'Z', b"I").await;
        wire.rest().await;
        wire
    })
    .await
}

#[tokio::test]
async fn who_does_not_read_its_greeting_keeps_no_link() {
    let forged = talkative().await;
    let swivel = Swivel::in_front_of_port(forged.port())
        .trusting()
        .section("[limits]\nstartup_time = \"1s\"");
    let socket = swivel.directory().join(".s.PGSQL.6432");
    let _swivel = swivel
        .also_on(&format!("unix:{}", socket.display()))
        .start()
        .await;
    // TCP would take all of it in.
    let mut silent = Wire::over(UnixStream::connect(socket).await.unwrap());
    silent
        .startup(PROTOCOL_3_0, &[("user", Swivel::USER), ("database", "orders")])
        .await;
    let is_its_link = |told: &Vec<u8>| {
        let says = |word: &[u8]| told.windows(word.len()).any(|window| window == word);
        says(b"orders") && !says(b"application_name")
    };
    eventually("its link is left", async || {
        forged.heard().iter().any(is_its_link)
    })
    .await;
}
