//! Sessions whose backend went away, and that go on.

mod said;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::moves::Carried;
use crate::support::wire::message;
use crate::support::{Postgres, Swivel, eventually};

pub async fn before(postgres: &Postgres) -> Swivel {
    let swivel = Swivel::in_front_of(postgres)
        .trusting()
        .credential(Postgres::USER, Postgres::PASSWORD)
        .section("[log]\nlevel = \"debug\"")
        .start()
        .await;
    // Until then any statement may have done anything.
    drop(swivel.connect().await);
    eventually("functions are learned", async || {
        swivel.said("learned what functions do") > 0
    })
    .await;
    swivel
}

impl Carried {
    /// Ends its backend as an administrator would.
    pub async fn is_terminated(&self, postgres: &Postgres) {
        let sql = "SELECT pg_terminate_backend($1)";
        postgres
            .admin()
            .await
            .query(sql, &[&self.backend()])
            .await
            .unwrap();
    }

    /// The SQLSTATE and the status that a query ends with.
    async fn fails(&mut self, sql: &str) -> (String, u8) {
        self.wire.query(sql).await;
        self.ends().await
    }

    async fn ends(&mut self) -> (String, u8) {
        let messages = self.wire.until(b'Z').await;
        let error = messages
            .iter()
            .find(|message| message.tag == b'E')
            .expect("an error");
        (error.error().code, messages.last().unwrap().body[0])
    }
}

promise! {
    async fn a_session_at_rest_does_not_notice_that_its_backend_was_terminated(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "at rest", &[]).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    async fn what_a_session_set_survives_its_backend(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "with settings", &[]).await;
        carried.query("SET work_mem = '5MB'").await;
        carried.query("SET app.tenant = 'me'").await;
        carried.query("LISTEN a").await;
        carried.extended(&[(b'P', b"kept\0SELECT $1::int + 1\0\0\0")]).await;
        carried.is_surveyed(&postgres).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SHOW work_mem").await, ["5MB"]);
        assert_eq!(carried.query("SHOW app.tenant").await, ["me"]);
        assert_eq!(carried.query("SELECT pg_listening_channels()").await, ["a"]);
        let answer = carried.extended(&[(b'B', b"\0kept\0\0\0\0\x01\0\0\0\x011\0\0"), (b'E', b"\0\0\0\0\0")]).await;
        assert_eq!(answer[1].first_column().as_deref(), Some("2"));
    }
}

promise! {
    async fn work_in_flight_fails_and_the_session_goes_on(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "working", &[]).await;
        carried.wire.query("SELECT pg_sleep(60)").await;
        carried.is_busy(&postgres).await;
        carried.is_terminated(&postgres).await;
        assert_eq!(carried.ends().await, ("08007".to_owned(), b'I'));
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    async fn a_transaction_is_rolled_back_and_the_client_told_with_its_next_request(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "in a transaction", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.fails("INSERT INTO t VALUES (2)").await, ("57P01".to_owned(), b'E'));
        assert_eq!(carried.fails("INSERT INTO t VALUES (3)").await, ("25P02".to_owned(), b'E'));
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    async fn a_transaction_lost_at_rest_is_not_committed_quietly(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "to be committed", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        assert_eq!(carried.fails("COMMIT").await.0, "57P01");
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

promise! {
    /// As drivers do that close a portal and never look at the answer.
    async fn a_lost_transaction_is_told_to_a_request_that_its_client_waits_for(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "closing", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.query("BEGIN").await;
        carried.query("INSERT INTO t VALUES (1)").await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        for _ in 0..2 {
            let closed = carried.extended(&[(b'C', b"Pportal\0"), (b'C', b"Sstatement\0")]).await;
            assert_eq!(closed.iter().map(|message| message.tag).collect::<Vec<_>>(), b"33Z");
        }
        assert_eq!(carried.fails("COMMIT").await, ("57P01".to_owned(), b'E'));
        carried.query("ROLLBACK").await;
        assert_eq!(carried.query("SELECT count(*) FROM t").await, ["0"]);
    }
}

/// Makes state that no other link can have, and how it is called.
const LOST: [(&str, &str); 8] = [
    ("CREATE TEMP TABLE t (n int)", "temporary_objects"),
    ("SELECT make_temp()", "temporary_objects"),
    ("SELECT pg_advisory_lock(1)", "advisory_locks"),
    ("SELECT take_lock()", "advisory_locks"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "held_cursors"),
    ("SELECT connect()", "foreign_connections"),
    ("SELECT setseed(0.5)", "random_seed"),
    (
        "SELECT pg_create_physical_replication_slot('brief', true, true)",
        "replication_slots",
    ),
];

promise! {
    async fn what_can_not_be_made_again_ends_its_session_and_is_named(version) {
        let postgres = Postgres::start(version);
        postgres
            .execute(&format!(
                "ALTER ROLE {} SUPERUSER; CREATE EXTENSION dblink; \
                 CREATE FUNCTION make_temp() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN CREATE TEMP TABLE t (n int); END $$; \
                 CREATE FUNCTION take_lock() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_lock(2); END $$; \
                 CREATE FUNCTION connect() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM dblink_connect('there', concat('user=postgres dbname=postgres port=', \
                 current_setting('port'), ' host=', current_setting('unix_socket_directories'))); END $$",
                Postgres::USER
            ))
            .await;
        let swivel = before(&postgres).await;
        for (number, (make, name)) in LOST.iter().enumerate() {
            let mut carried = Carried::through(&swivel, &postgres, &format!("lost {number}"), &[]).await;
            carried.query(make).await;
            carried.is_surveyed(&postgres).await;
            carried.is_terminated(&postgres).await;
            let error = carried.wire.next().await.expect("a word about it").error();
            assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "57P01"), "{make}");
            assert_eq!(error.message, "terminating connection due to administrator command");
            let detail = error.fields.iter().find(|(code, _)| *code == 'D');
            assert!(detail.is_some_and(|(_, said)| said.contains(name)), "{make}: {error:?}");
        }
    }
}

promise! {
    /// What was noted of them is enough.
    async fn a_session_that_made_statements_alone_is_not_surveyed_and_has_them_after_a_loss(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let run: [(u8, &[u8]); 2] = [(b'B', b"\0kept\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")];
        let mut carried = Carried::through(&swivel, &postgres, "noted", &[]).await;
        carried.extended(&[(b'P', b"kept\0SELECT 'kept'\0\0\0"), run[0], run[1]]).await;
        // One that began to rest later, and has something to ask about.
        let mut other = Carried::through(&swivel, &postgres, "asked", &[]).await;
        other.query("SET work_mem = '5MB'").await;
        other.is_surveyed(&postgres).await;
        let sql = "SELECT query FROM pg_stat_activity WHERE pid = $1";
        let seen = postgres.admin().await.query_one(sql, &[&carried.backend()]).await.unwrap();
        assert_eq!(seen.get::<_, &str>(0), "SELECT 'kept'");
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        let answer = carried.extended(&run).await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap();
        assert_eq!(row.first_column().as_deref(), Some("kept"));
    }
}

promise! {
    /// What a unit made of statements outlives its failure, on the server and here.
    async fn a_statement_of_a_unit_that_failed_is_made_again(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "failing", &[]).await;
        let answer = carried
            .extended(&[
                (b'P', b"kept\0SELECT 'kept'\0\0\0"),
                (b'P', b"bad\0SELEC\0\0\0"),
                (b'P', b"never\0SELECT 1\0\0\0"),
            ])
            .await;
        assert_eq!(answer.iter().map(|message| message.tag).collect::<Vec<_>>(), b"1EZ");
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        let answer = carried.extended(&[(b'B', b"\0kept\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")]).await;
        let row = answer.iter().find(|message| message.tag == b'D').unwrap();
        assert_eq!(row.first_column().as_deref(), Some("kept"));
        assert_eq!(carried.query("SELECT name FROM pg_prepared_statements").await, ["kept"]);
    }
}

/// Whether something waits to be read by a server that listens there.
fn has_arrived(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
    sockets.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_here = fields
            .get(1)
            .is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
        let is_open = fields.get(3) == Some(&"01");
        is_here && is_open && fields.get(4).is_some_and(|queues| !queues.ends_with(":00000000"))
    })
}

impl Carried {
    /// Says this to a backend that is being terminated and has not read it.
    async fn says_as_it_is_terminated(&mut self, postgres: &Postgres, messages: &[(u8, &[u8])]) {
        let backend = Pid::from_raw(self.backend());
        kill(backend, Signal::SIGSTOP).unwrap();
        let bytes: Vec<u8> = messages
            .iter()
            .flat_map(|(tag, body)| message(*tag, body))
            .collect();
        self.wire.send(&bytes).await;
        eventually("it has arrived", async || has_arrived(postgres.port())).await;
        kill(backend, Signal::SIGTERM).unwrap();
        kill(backend, Signal::SIGCONT).unwrap();
    }

    async fn count(&mut self) -> String {
        self.query("SELECT count(*) FROM t").await.remove(0)
    }
}

type Messages = &'static [(u8, &'static [u8])];

/// What the unit leaves in the table, and its answer.
const ASKED_AGAIN: [(Messages, &str, &[u8]); 10] = [
    (&[(b'Q', b"SELECT n FROM t\0")], "0", b"TCZ"),
    (&[(b'Q', b"INSERT INTO t (n) VALUES (1)\0")], "1", b"CZ"),
    (
        &[
            (b'B', b"\0kept\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ],
        "1",
        b"2CZ",
    ),
    (
        &[
            (b'P', b"new\0INSERT INTO t VALUES (2)\0\0\0"),
            (b'B', b"\0new\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'B', b"\0kept\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ],
        "2",
        b"12C2CZ",
    ),
    (
        &[
            (b'P', b"\0BEGIN\0\0\0"),
            (b'B', b"\0\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ],
        "0",
        b"12CZ",
    ),
    (&[(b'Q', b"SET work_mem = '5MB'\0")], "0", b"CZ"),
    (
        &[(b'Q', b"SELECT set_config('work_mem', '6MB', false)\0")],
        "0",
        b"TDCZ",
    ),
    (
        &[
            (b'P', b"\0SELECT set_config('app.tenant', $1, false)\0\0\0"),
            (b'B', b"\0\0\0\0\0\x01\0\0\0\x02me\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'S', b""),
        ],
        "0",
        b"12DCZ",
    ),
    (&[(b'Q', b"PREPARE p AS SELECT 1\0")], "0", b"CZ"),
    (&[(b'Q', b"LISTEN a\0")], "0", b"CZ"),
];

promise! {
    /// As an operator does who ends what is left of the old user.
    async fn what_postgres_undid_is_asked_again_and_the_client_notices_nothing(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "asked again", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.extended(&[(b'P', b"kept\0INSERT INTO t VALUES (1)\0\0\0")]).await;
        for (number, (messages, left, answer)) in ASKED_AGAIN.iter().enumerate() {
            carried.says_as_it_is_terminated(&postgres, messages).await;
            let heard = carried.wire.until(b'Z').await;
            assert_eq!(heard.iter().map(|message| message.tag).collect::<Vec<_>>(), *answer, "{number}");
            assert_eq!(swivel.said("asked_again"), number + 1);
            carried.moves(&postgres).await;
            assert_eq!(carried.count().await, *left, "{number}");
            carried.query("ROLLBACK; TRUNCATE t").await;
        }
        assert_eq!(carried.query("SHOW work_mem").await, ["6MB"]);
        assert_eq!(carried.query("SHOW app.tenant").await, ["me"]);
        assert_eq!(carried.query("EXECUTE p").await, ["1"]);
    }
}

promise! {
    async fn a_write_that_waited_when_its_backend_was_terminated_is_done_once(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "waiting", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        let mut locks = postgres.admin_of(Postgres::DATABASE).await;
        let lock = locks.transaction().await.unwrap();
        lock.batch_execute("LOCK TABLE t").await.unwrap();
        carried.wire.query("INSERT INTO t VALUES (1)").await;
        carried.is_busy(&postgres).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        carried.is_busy(&postgres).await;
        // It was asked once more, and is not a third time.
        carried.is_terminated(&postgres).await;
        assert_eq!(carried.ends().await, ("08007".to_owned(), b'I'));
        carried.moves(&postgres).await;
        carried.wire.query("INSERT INTO t VALUES (1)").await;
        carried.is_busy(&postgres).await;
        carried.is_terminated(&postgres).await;
        carried.moves(&postgres).await;
        carried.is_busy(&postgres).await;
        lock.rollback().await.unwrap();
        carried.wire.until(b'Z').await;
        assert_eq!(carried.count().await, "1");
    }
}

/// Each would insert a row.
const NOT_ASKED_AGAIN: [Messages; 8] = [
    &[(b'Q', b"INSERT INTO t VALUES (1); INSERT INTO t VALUES (2)\0")],
    &[(b'Q', b"CALL p()\0")],
    &[(b'Q', b"DO 'BEGIN INSERT INTO t VALUES (1); COMMIT; END'\0")],
    &[(b'Q', b"SELECT inserts()\0")],
    &[
        (b'Q', b"INSERT INTO t VALUES (1)\0"),
        (b'Q', b"INSERT INTO t VALUES (2)\0"),
    ],
    &[(b'Q', b"COPY t FROM STDIN\0")],
    &[
        (b'P', b"\0SELECT inserts()\0\0\0"),
        (b'B', b"\0\0\0\0\0\0\0\0"),
        (b'E', b"\0\0\0\0\0"),
        (b'S', b""),
    ],
    &[(b'Q', b"SELECT pg_terminate_backend(pg_backend_pid())\0")],
];

promise! {
    async fn what_may_reach_outside_of_its_transaction_is_not_asked_again(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "not asked again", &[]).await;
        let made = "CREATE TABLE t (n int); \
             CREATE PROCEDURE p() LANGUAGE sql AS 'INSERT INTO t VALUES (1)'; \
             CREATE FUNCTION inserts() RETURNS void LANGUAGE sql AS 'INSERT INTO t VALUES (1)'";
        carried.query(made).await;
        carried.is_surveyed(&postgres).await;
        for messages in NOT_ASKED_AGAIN {
            carried.says_as_it_is_terminated(&postgres, messages).await;
            assert_eq!(carried.ends().await, ("08007".to_owned(), b'I'), "{messages:?}");
            if messages.len() == 2 {
                carried.ends().await;
            }
            carried.moves(&postgres).await;
            assert_eq!(carried.count().await, "0", "{messages:?}");
        }
        assert_eq!(swivel.said("asked_again"), 0);
    }
}

promise! {
    async fn nothing_is_asked_again_where_that_is_not_wanted(version) {
        let postgres = Postgres::start(version);
        for line in ["[upstream.orders] again", "[limits] again_bytes"] {
            let swivel = Swivel::in_front_of(&postgres).trusting().credential(Postgres::USER, Postgres::PASSWORD);
            let swivel = match line {
                "[limits] again_bytes" => swivel.section("[limits]\nagain_bytes = 0"),
                _ => swivel.upstream_line("again = false"),
            };
            let swivel = swivel.start().await;
            let mut carried = Carried::through(&swivel, &postgres, line, &[]).await;
            carried.says_as_it_is_terminated(&postgres, &[(b'Q', b"SELECT 1\0")]).await;
            assert_eq!(carried.ends().await.0, "08007", "{line}");
        }
    }
}

promise! {
    /// As libraries do that wait for what they prepare, and bind it in the same unit.
    async fn a_unit_that_has_only_prepared_something_goes_on_after_a_loss(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "prepares", &[]).await;
        carried.query("SELECT 1").await;
        const RUN: Messages = &[(b'B', b"\0p\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0"), (b'S', b"")];
        for is_asked in [false, true] {
            let parse: (u8, &[u8]) = (b'P', b"p\0SELECT 'here'\0\0\0");
            let prepare = [(b'C', &b"Sp\0"[..]), parse, (b'D', b"Sp\0"), (b'H', b"")];
            let bytes: Vec<u8> = prepare.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            carried.wire.send(&bytes).await;
            carried.wire.until(b'T').await;
            if is_asked {
                carried.says_as_it_is_terminated(&postgres, RUN).await;
            } else {
                carried.is_terminated(&postgres).await;
                carried.moves(&postgres).await;
                let bytes: Vec<u8> = RUN.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
                carried.wire.send(&bytes).await;
            }
            let answers = carried.wire.until(b'Z').await;
            let tags: Vec<u8> = answers.iter().map(|message| message.tag).filter(|tag| *tag != b'S').collect();
            assert_eq!(tags, *b"2DCZ", "asked: {is_asked}");
            assert_eq!(carried.query("SELECT 'still'").await, ["still"]);
        }
        assert_eq!(swivel.said("\"in_flight\":\"asked_again\""), 2);
    }
}

promise! {
    /// Its own backend holds the last place until it has gone.
    async fn a_rescue_waits_for_room_in_the_server(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "no room", &[]).await;
        let other = postgres.connect().await;
        let limit = format!("ALTER ROLE {} CONNECTION LIMIT 1", Postgres::USER);
        postgres.execute(&limit).await;
        carried.is_terminated(&postgres).await;
        eventually("there is no room", async || swivel.said("login tried again") > 1).await;
        drop(other);
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    async fn a_rescue_waits_for_a_database_that_takes_nobody_for_a_while(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "nobody", &[]).await;
        let takes = |whom: bool| format!("ALTER DATABASE {} ALLOW_CONNECTIONS {whom}", Postgres::DATABASE);
        let admin = postgres.admin().await;
        admin.batch_execute(&takes(false)).await.unwrap();
        carried.is_terminated(&postgres).await;
        eventually("nobody is taken", async || swivel.said("login tried again") > 1).await;
        admin.batch_execute(&takes(true)).await.unwrap();
        carried.moves(&postgres).await;
        assert_eq!(carried.query("SELECT 'here'").await, ["here"]);
    }
}

promise! {
    /// Who looks for what is in the way of a lock may end what waits for it, too.
    async fn a_rescue_waits_for_a_lock_that_somebody_holds(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut carried = Carried::through(&swivel, &postgres, "locked out", &[]).await;
        carried.query("CREATE TABLE t (n int)").await;
        carried.is_surveyed(&postgres).await;
        carried.extended(&[(b'P', b"kept\0INSERT INTO t VALUES (1)\0\0\0")]).await;
        let mut locks = postgres.admin_of(Postgres::DATABASE).await;
        let lock = locks.transaction().await.unwrap();
        lock.batch_execute("LOCK TABLE t").await.unwrap();
        carried.is_terminated(&postgres).await;
        let cancel = format!(
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = '{}' AND wait_event_type = 'Lock'",
            Postgres::USER
        );
        eventually("a statement was cancelled", async || {
            postgres.execute(&cancel).await;
            swivel.said("57014") > 0
        })
        .await;
        let so_far = swivel.said("rescue tried again");
        eventually("the lock is in the way", async || swivel.said("rescue tried again") > so_far).await;
        lock.rollback().await.unwrap();
        carried.moves(&postgres).await;
        carried.extended(&[(b'B', b"\0kept\0\0\0\0\0\0\0"), (b'E', b"\0\0\0\0\0")]).await;
        assert_eq!(carried.count().await, "1");
    }
}
