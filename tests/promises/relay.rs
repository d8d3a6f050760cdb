//! Between login and goodbye: every byte arrives, none is held longer than it must be.

use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::timeout;

use crate::support::wire::message;
use crate::support::{Forged, Message, Postgres, Swivel, Wire, eventually};

/// What the proxy may grow by while any amount of data passes it.
const MEMORY_LIMIT: u64 = 16 << 20;

async fn direct(postgres: &Postgres) -> Wire {
    let (user, password) = (Postgres::USER, Postgres::PASSWORD);
    Wire::login(&postgres.address(), user, password, Postgres::DATABASE).await
}

async fn answer(wire: &mut Wire, sql: &str) -> Vec<Message> {
    wire.query(sql).await;
    wire.until(b'Z').await
}

async fn pid(wire: &mut Wire) -> i32 {
    let rows = answer(wire, "SELECT pg_backend_pid()").await;
    rows[1].first_column().unwrap().parse().unwrap()
}

async fn backends(postgres: &Postgres, pid: i32, condition: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND {condition}");
    postgres
        .admin()
        .await
        .query_one(&sql, &[&pid])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn a_row_of_a_gigabyte_passes_in_constant_memory() {
    const LENGTH: u32 = 1 << 30;
    let forged = Forged::start(|mut wire| async move {
        wire.packet().await;
        wire.say(b'R', &[0, 0, 0, 0]).await;
        wire.say(b'Z', b"I").await;
        wire.next().await;
        wire.send(
            &[
                b"D",
                &(LENGTH + 10).to_be_bytes()[..],
                &[0, 1],
                &LENGTH.to_be_bytes(),
            ]
            .concat(),
        )
        .await;
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..LENGTH >> 20 {
            wire.send(&chunk).await;
        }
        wire.say(b'C', b"SELECT 1\0").await;
        wire.say(b'Z', b"I").await;
        wire.rest().await;
        wire
    })
    .await;
    let swivel = Swivel::in_front_of_port(forged.port()).start().await;
    let mut wire = swivel.wire().await;
    let before = swivel.rss();
    wire.query("a gigabyte please").await;
    assert_eq!(wire.raw(5).await[0], b'D');
    assert!(wire.skip(u64::from(LENGTH) + 6).await);
    wire.expect(b'C').await;
    wire.expect(b'Z').await;
    let grown = swivel.rss_peak().saturating_sub(before);
    assert!(grown < MEMORY_LIMIT, "grew by {grown} bytes");
}

promise! {
    async fn a_value_of_a_quarter_gigabyte_passes_in_constant_memory(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = swivel.wire().await;
        let before = swivel.rss();
        wire.query("SELECT repeat('x', 1 << 28)").await;
        wire.expect(b'T').await;
        let mut header = wire.raw(5).await;
        assert_eq!(header.get_u8(), b'D');
        let length = header.get_u32();
        assert_eq!(length, (1 << 28) + 10);
        assert!(wire.skip(u64::from(length) - 4).await);
        wire.expect(b'C').await;
        wire.expect(b'Z').await;
        let grown = swivel.rss_peak().saturating_sub(before);
        assert!(grown < MEMORY_LIMIT, "grew by {grown} bytes");
    }
}

promise! {
    async fn copy_moves_the_same_bytes_both_ways(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE copied (line text); GRANT ALL ON copied TO PUBLIC").await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = swivel.wire().await;
        let before = swivel.rss();
        wire.query("COPY copied FROM STDIN").await;
        wire.expect(b'G').await;
        let line = format!("{}\n", "copied ".repeat(1000));
        let batch = message(b'd', line.as_bytes()).repeat(64);
        for _ in 0..128 {
            wire.send(&batch).await;
        }
        wire.say(b'c', b"").await;
        let done = wire.until(b'Z').await;
        assert_eq!(done[0].body, &b"COPY 8192\0"[..]);

        wire.query("COPY copied TO STDOUT").await;
        let out = wire.until(b'Z').await;
        let lines: Vec<&Message> = out.iter().filter(|message| message.tag == b'd').collect();
        assert_eq!(lines.len(), 8192);
        assert!(lines.iter().all(|message| message.body == line.as_bytes()));
        let grown = swivel.rss_peak().saturating_sub(before);
        assert!(grown < MEMORY_LIMIT, "grew by {grown} bytes");
    }
}

promise! {
    async fn a_copy_that_the_client_gives_up_leaves_the_session_usable(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE copied (line text); GRANT ALL ON copied TO PUBLIC").await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut answers = Vec::new();
        for mut wire in [direct(&postgres).await, swivel.wire().await] {
            wire.query("COPY copied FROM STDIN").await;
            wire.expect(b'G').await;
            wire.say(b'd', b"a line\n").await;
            wire.say(b'f', b"never mind\0").await;
            let mut messages = wire.until(b'Z').await;
            messages.extend(answer(&mut wire, "SELECT count(*) FROM copied").await);
            answers.push(messages);
        }
        assert_eq!(answers[0], answers[1]);
    }
}

/// Statements whose answers have something of everything: errors with all fields, notices, empty
/// queries, several results, parameter changes.
const STATEMENTS: [&str; 14] = [
    "SELECT 1/0",
    "SELECT * FROM nowhere",
    "SELECT 1; SELEC 2",
    "",
    ";;",
    "SELECT 1; SELECT 'two'; SELECT NULL",
    "INSERT INTO strict VALUES (1), (1)",
    "INSERT INTO strict VALUES (-1)",
    "INSERT INTO strict VALUES (NULL)",
    "DO $$ BEGIN RAISE NOTICE 'noticed %', 1 USING HINT = 'a hint', DETAIL = 'a detail'; END $$",
    "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'AB123', COLUMN = 'c', TABLE = 't', SCHEMA = 's'; END $$",
    "SET client_min_messages = debug1; SET DateStyle = 'SQL'; SELECT date '2020-01-31'",
    "BEGIN; SAVEPOINT a; SELECT 1/0",
    "ROLLBACK TO a; COMMIT",
];

promise! {
    async fn every_answer_is_the_one_that_postgres_gave_byte_for_byte(version) {
        let postgres = Postgres::start(version);
        postgres
            .execute("CREATE TABLE strict (n int PRIMARY KEY CHECK (n > 0)); GRANT ALL ON strict TO PUBLIC")
            .await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut direct = direct(&postgres).await;
        let mut through = swivel.wire().await;
        for sql in STATEMENTS {
            let expected = answer(&mut direct, sql).await;
            assert_eq!(answer(&mut through, sql).await, expected, "{sql}");
        }
        for wire in [&mut direct, &mut through] {
            wire.send(&extended("SELECT $1::int / $2::int")).await;
        }
        assert_eq!(through.until(b'Z').await, direct.until(b'Z').await);
    }
}

/// Parse, Describe, Bind of two nulls, Execute, an Execute of what is not there, Flush, Sync.
fn extended(sql: &str) -> Vec<u8> {
    let parse = message(b'P', &[b"s\0", sql.as_bytes(), b"\0\0\0"].concat());
    let describe = message(b'D', b"Ss\0");
    let bind = message(b'B', b"\0s\0\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    let execute = message(b'E', b"\0\0\0\0\0");
    let missing = message(b'E', b"missing\0\0\0\0\0");
    let flush = message(b'H', b"");
    let sync = message(b'S', b"");
    [parse, describe, bind, execute, missing, flush, sync].concat()
}

promise! {
    /// Postgres ends this session, and no other link would make it go on.
    async fn the_last_words_of_a_session_that_postgres_ends_arrive_byte_for_byte(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut words = Vec::new();
        for mut wire in [direct(&postgres).await, swivel.wire().await] {
            answer(&mut wire, "SET idle_in_transaction_session_timeout = '200ms'").await;
            answer(&mut wire, "BEGIN").await;
            let mut last = wire.rest().await;
            last.retain(|message| message.tag == b'E');
            words.push(last);
        }
        assert_eq!(words[0], words[1]);
        let error = words[0][0].error();
        assert_eq!((error.severity.as_str(), error.code.as_str()), ("FATAL", "25P03"));
    }
}

promise! {
    async fn a_slow_reader_slows_its_own_backend_and_nobody_else(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut slow = swivel.wire().await;
        let pid = pid(&mut slow).await;
        let before = swivel.rss();
        slow.query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)").await;
        eventually("Postgres waits for the reader", async || {
            backends(&postgres, pid, "wait_event = 'ClientWrite'").await == 1
        })
        .await;
        let client = swivel.connect().await;
        assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
        let grown = swivel.rss_peak().saturating_sub(before);
        assert!(grown < MEMORY_LIMIT, "grew by {grown} bytes");

        let rows = slow.until(b'Z').await;
        assert_eq!(rows.iter().filter(|message| message.tag == b'D').count(), 200_000);
    }
}

promise! {
    async fn a_server_that_does_not_read_slows_its_client(version) {
        const LOTS: usize = 256 << 20;
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        admin.execute("SELECT pg_advisory_lock(1)", &[]).await.unwrap();
        let mut wire = swivel.wire().await;
        let before = swivel.rss();
        wire.query("SELECT pg_advisory_lock(1)").await;
        let comment = message(b'Q', &[b"-- ", "x".repeat(1 << 16).as_bytes(), b"\0"].concat());
        let mut sent = 0;
        while sent < LOTS {
            // An unfinished write is finished below: what was written of it is not known.
            match timeout(Duration::from_secs(1), wire.try_send(&comment)).await {
                Ok(written) => written.unwrap(),
                Err(_) => break,
            }
            sent += comment.len();
        }
        assert!(sent < LOTS, "{sent} bytes went to a server that reads none");
        let grown = swivel.rss_peak().saturating_sub(before);
        assert!(grown < MEMORY_LIMIT, "grew by {grown} bytes");
        admin.execute("SELECT pg_advisory_unlock(1)", &[]).await.unwrap();
        let empty = message(b'I', b"");
        let mut answered = 0;
        while answered < sent / comment.len() {
            answered += usize::from(wire.next().await.unwrap().tag == empty[0]);
        }
    }
}

promise! {
    async fn a_client_that_closes_its_sending_half_gets_the_rest_of_its_answer(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut answers = Vec::new();
        for mut wire in [direct(&postgres).await, swivel.wire().await] {
            wire.query("SELECT n, pg_sleep(0.3) FROM generate_series(1, 2) n").await;
            wire.half_close().await;
            answers.push(wire.rest().await);
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(answers[1].last().map(|message| message.tag), Some(b'Z'));
    }
}

promise! {
    async fn a_client_that_is_gone_leaves_no_backend_behind(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).upstream_line("reuse = false").start().await;
        for unfinished in [None, Some("SELECT repeat('x', 1000) FROM generate_series(1, 10000000)")] {
            let mut wire = swivel.wire().await;
            let pid = pid(&mut wire).await;
            if let Some(sql) = unfinished {
                wire.query(sql).await;
                wire.expect(b'T').await;
            }
            drop(wire);
            eventually("its backend is gone", async || backends(&postgres, pid, "true").await == 0).await;
        }
    }
}

promise! {
    async fn a_goodbye_ends_the_backend_and_the_connection(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).upstream_line("reuse = false").start().await;
        let mut wire = swivel.wire().await;
        let pid = pid(&mut wire).await;
        wire.say(b'X', b"").await;
        assert!(wire.ends().await);
        eventually("its backend is gone", async || backends(&postgres, pid, "true").await == 0).await;
    }
}

type Messages = &'static [(u8, &'static [u8])];

/// What leaves a session somewhere else than at rest, and the last that is heard of it then.
const UNRESTED: [(Messages, u8); 7] = [
    (&[(b'Q', b"BEGIN; LOCK TABLE locked\0")], b'Z'),
    (&[(b'Q', b"BEGIN; SELECT 1/0\0")], b'Z'),
    (
        &[(b'P', b"\0LOCK TABLE locked\0\0\0"), (b'D', b"S\0"), (b'H', b"")],
        b'n',
    ),
    (
        &[
            (b'P', b"s\0SELECT 1\0\0\0"),
            (b'B', b"\0s\0\0\0\0\0\0\0"),
            (b'H', b""),
        ],
        b'2',
    ),
    (&[(b'P', b"\0SELEC\0\0\0"), (b'H', b"")], b'E'),
    (&[(b'Q', b"COPY locked FROM STDIN\0")], b'G'),
    (
        &[
            (b'P', b"\0COPY locked FROM STDIN\0\0\0"),
            (b'B', b"\0\0\0\0\0\0\0\0"),
            (b'E', b"\0\0\0\0\0"),
            (b'H', b""),
            (b'd', b"1\n"),
        ],
        b'G',
    ),
];

promise! {
    /// Drivers say Terminate wherever they are, and wait for the end of their connection.
    async fn a_goodbye_ends_a_session_wherever_it_is(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE locked (n int); GRANT ALL ON locked TO PUBLIC").await;
        for reuse in ["reuse = true", "reuse = false"] {
            let swivel = Swivel::in_front_of(&postgres).upstream_line(reuse).start().await;
            for (asked, last) in UNRESTED {
                let mut wire = swivel.wire().await;
                let pid = pid(&mut wire).await;
                for (tag, body) in asked {
                    wire.say(*tag, body).await;
                }
                wire.until(last).await;
                wire.say(b'X', b"").await;
                wire.rest().await;
                eventually("the backend ends", async || backends(&postgres, pid, "true").await == 0).await;
                postgres.execute("BEGIN; LOCK TABLE locked NOWAIT; COMMIT").await;
            }
        }
    }
}

promise! {
    /// As `PQfinish` after a query that nobody waits for.
    async fn what_was_asked_before_a_goodbye_is_done_and_what_is_said_behind_it_is_not(version) {
        let postgres = Postgres::start(version);
        postgres.execute("CREATE TABLE told (n int); GRANT ALL ON told TO PUBLIC").await;
        let swivel = Swivel::in_front_of(&postgres).upstream_line("reuse = true").start().await;
        for (number, before) in ["", "INSERT INTO told VALUES (1)"].iter().enumerate() {
            let mut wire = swivel.wire().await;
            let query = match before {
                &"" => Vec::new(),
                before => message(b'Q', &[before.as_bytes(), b"\0"].concat()),
            };
            let behind = message(b'Q', b"INSERT INTO told VALUES (2)\0");
            wire.send(&[query, message(b'X', b""), behind].concat()).await;
            wire.rest().await;
            let admin = postgres.admin_of(Postgres::DATABASE).await;
            let told = admin.query("SELECT n FROM told", &[]).await.unwrap();
            assert_eq!(told.iter().map(|row| row.get(0)).collect::<Vec<i32>>(), vec![1; number]);
        }
    }
}

promise! {
    async fn notifications_and_notices_arrive_when_nothing_was_asked(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = swivel.wire().await;
        answer(&mut wire, "LISTEN news").await;
        postgres.execute("NOTIFY news, 'unasked'").await;
        let notification = wire.expect(b'A').await;
        assert_eq!(notification.body.slice(4..), Bytes::from_static(b"news\0unasked\0"));
    }
}

promise! {
    async fn many_statements_in_one_write_are_answered_in_their_order(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = swivel.wire().await;
        let statements: Vec<u8> = (0..5000)
            .flat_map(|n| message(b'Q', format!("SELECT {n}\0").as_bytes()))
            .collect();
        wire.send(&statements).await;
        for n in 0..5000 {
            let rows = wire.until(b'Z').await;
            assert_eq!(rows[1].first_column(), Some(n.to_string()));
        }
    }
}

promise! {
    async fn bytes_that_come_one_by_one_are_the_same_bytes(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut direct = direct(&postgres).await;
        let mut through = swivel.wire().await;
        let conversation = [message(b'Q', b"SELECT 'a'\0"), extended("SELECT $1::text, $2::text")].concat();
        direct.send(&conversation).await;
        for byte in &conversation {
            through.send(&[*byte]).await;
        }
        for _ in 0..2 {
            assert_eq!(through.until(b'Z').await, direct.until(b'Z').await);
        }
    }
}
