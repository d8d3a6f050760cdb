//! Moments at which a session must not move, and what would be wrong after it if nobody had looked.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Carried, moving, rotate};
use crate::support::{Message, Postgres, Swivel};

/// Moves whoever can move, and shows that the others had the time to.
async fn all_who_can_move(postgres: &Postgres, swivel: &Swivel, free: &mut Carried, password: &str) {
    rotate(postgres, swivel, Postgres::USER, password).await;
    free.moves(postgres).await;
}

promise! {
    /// Up to its Sync, what a client has sent is one transaction, whatever was answered of it.
    async fn a_unit_without_its_sync_is_not_torn(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        postgres.execute(&format!("CREATE TABLE t (n int); GRANT ALL ON t TO {user}")).await;
        let swivel = moving(&postgres, user).await;
        let mut carried = Carried::through(&swivel, &postgres, "in a unit", &[]).await;
        let mut broken = Carried::through(&swivel, &postgres, "in a broken unit", &[]).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        carried.wire.say(b'P', b"add\0INSERT INTO t VALUES (1) RETURNING pg_backend_pid()\0\0\0").await;
        broken.wire.say(b'P', b"bad\0SELEC\0\0\0").await;
        let execute: [(u8, &[u8]); 2] = [(b'B', b"\0add\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")];
        for (tag, body) in execute {
            carried.wire.say(tag, body).await;
        }
        for wire in [&mut carried.wire, &mut broken.wire] {
            wire.say(b'H', b"").await;
        }
        let before = carried.wire.until(b'C').await;
        broken.wire.until(b'E').await;
        all_who_can_move(&postgres, &swivel, &mut free, "next").await;
        assert!(carried.stayed(&postgres).await && broken.stayed(&postgres).await);
        let after = carried.extended(&execute).await;
        let backend = |answer: &[Message]| {
            let row = answer.iter().find(|message| message.tag == b'D');
            row.unwrap().first_column()
        };
        assert_eq!(backend(&before), backend(&after));
        // Ignored, as everything that comes before the Sync.
        let answer = broken.extended(&[(b'P', b"good\0SELECT 1\0\0\0")]).await;
        assert_eq!(answer.iter().map(|message| message.tag).collect::<Vec<_>>(), b"Z");
        for session in [&mut carried, &mut broken] {
            session.moves(&postgres).await;
            assert_eq!(session.query("SELECT count(*) FROM t").await, ["2"]);
        }
        assert_eq!(broken.query("SELECT name FROM pg_prepared_statements").await, [""; 0]);
    }
}

promise! {
    /// Postgres refuses it, so that a client that goes by what it was told does not take one column for another.
    async fn a_statement_whose_columns_have_changed_is_not_made_anew(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        postgres.execute(&format!("CREATE TABLE t AS SELECT 1 AS a, 2 AS b; GRANT ALL ON t TO {user}")).await;
        let swivel = moving(&postgres, user).await;
        let mut carried = Carried::through(&swivel, &postgres, "prepared before", &[]).await;
        let mut same = Carried::through(&swivel, &postgres, "prepared as well", &[]).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        carried.extended(&[(b'P', b"all\0SELECT * FROM t\0\0\0")]).await;
        same.extended(&[(b'P', b"one\0SELECT b FROM t\0\0\0")]).await;
        let execute: [(u8, &[u8]); 2] = [(b'B', b"\0all\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")];
        assert_eq!(carried.extended(&execute).await[1].first_column().as_deref(), Some("1"));
        postgres.execute("ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN c int DEFAULT 3").await;
        all_who_can_move(&postgres, &swivel, &mut free, "next").await;
        same.moves(&postgres).await;
        assert!(carried.stayed(&postgres).await);
        let answer = carried.extended(&execute).await;
        assert_eq!(answer[0].error().message, "cached plan must not change result type");
        carried.extended(&[(b'C', b"Sall\0")]).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT * FROM t").await, ["2"]);
    }
}

promise! {
    async fn a_copy_that_its_client_gave_up_leaves_a_session_that_moves(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        postgres.execute(&format!("CREATE TABLE t (n int); GRANT ALL ON t TO {user}")).await;
        let swivel = moving(&postgres, user).await;
        let mut carried = Carried::through(&swivel, &postgres, "copying", &[]).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        carried.wire.query("COPY t FROM STDIN").await;
        carried.wire.until(b'G').await;
        carried.wire.say(b'd', b"1\n").await;
        all_who_can_move(&postgres, &swivel, &mut free, "next").await;
        assert!(carried.stayed(&postgres).await);
        carried.wire.say(b'f', b"no more\0").await;
        carried.wire.until(b'Z').await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    async fn a_prepared_transaction_outlives_the_link_that_prepared_it(version) {
        let postgres = Postgres::version(version).setting("max_prepared_transactions", "5").start();
        let user = Postgres::USER;
        postgres.execute(&format!("CREATE TABLE t (n int); GRANT ALL ON t TO {user}")).await;
        let swivel = moving(&postgres, user).await;
        let mut carried = Carried::through(&swivel, &postgres, "in two phases", &[]).await;
        carried.query("BEGIN; INSERT INTO t VALUES (1)").await;
        carried.query("PREPARE TRANSACTION 'first'").await;
        rotate(&postgres, &swivel, user, "next").await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
        carried.query("COMMIT PREPARED 'first'").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["1"]);
    }
}

promise! {
    async fn a_session_of_the_replication_protocol_stays(version) {
        let postgres = Postgres::start(version);
        postgres.execute(&format!("ALTER ROLE {} REPLICATION", Postgres::USER)).await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let parameters = [("replication", "database")];
        let mut carried = Carried::through(&swivel, &postgres, "replicating", &parameters).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        let system = carried.query("IDENTIFY_SYSTEM").await;
        all_who_can_move(&postgres, &swivel, &mut free, "next").await;
        all_who_can_move(&postgres, &swivel, &mut free, "and next").await;
        assert!(carried.stayed(&postgres).await);
        assert_eq!(carried.query("IDENTIFY_SYSTEM").await, system);
    }
}

/// What a server that says nothing at all may cost a request that comes while a session is about to leave it.
const HELD_MAX: Duration = Duration::from_secs(12);

promise! {
    /// The old link counts as lost by then, and the session is made again with what it had.
    async fn an_old_link_that_says_nothing_holds_a_request_no_longer_than_it_takes_to_be_lost(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        let swivel = moving(&postgres, user).await;
        let mut carried = Carried::through(&swivel, &postgres, "before a silence", &[]).await;
        carried.query("SET search_path = nowhere").await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        let backend = Pid::from_raw(carried.backend());
        kill(backend, Signal::SIGSTOP).unwrap();
        all_who_can_move(&postgres, &swivel, &mut free, "next").await;
        let asked = Instant::now();
        assert_eq!(carried.query("SHOW search_path").await, ["nowhere"]);
        let held = asked.elapsed();
        kill(backend, Signal::SIGCONT).unwrap();
        assert!(held < HELD_MAX, "{held:?}");
    }
}
