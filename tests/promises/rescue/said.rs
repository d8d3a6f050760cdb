//! What a session said a moment before its backend went away, when nobody has asked Postgres about it yet.

use super::before;
use crate::moves::Carried;
use crate::moves::carried::EVERYTHING;
use crate::support::{Postgres, Swivel};

/// A session, and somebody who can end its backend at once.
struct Scene {
    postgres: Postgres,
    admin: tokio_postgres::Client,
    carried: Carried,
    _swivel: Swivel,
}

impl Scene {
    async fn new(version: crate::support::Version) -> Self {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let admin = postgres.admin().await;
        let carried = Carried::through(&swivel, &postgres, "said", &[]).await;
        Self {
            postgres,
            admin,
            carried,
            _swivel: swivel,
        }
    }

    async fn is_terminated(&mut self) {
        let sql = "SELECT pg_terminate_backend($1)";
        self.admin.query(sql, &[&self.carried.backend()]).await.unwrap();
        self.carried.moves(&self.postgres).await;
    }

    /// Says it and loses its backend, and is what it was.
    async fn survives(&mut self, said: &[&str]) {
        for sql in said {
            self.carried.query(sql).await;
        }
        let held = self.carried.query(EVERYTHING).await;
        self.is_terminated().await;
        assert_eq!(self.carried.query(EVERYTHING).await, held, "{said:?}");
    }
}

const STATEMENTS: [&str; 16] = [
    "SET work_mem = '5MB'",
    "SET SESSION app.tenant TO 'it''s me'",
    "SET TIME ZONE 'Asia/Tokyo'",
    "SET NAMES 'LATIN1'",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "SELECT set_config('app.other', 'x', false), pg_catalog.set_config('lock_timeout', '7s', false)",
    "SET DateStyle = 'SQL, DMY'",
    "RESET work_mem",
    "LISTEN a; LISTEN b",
    "UNLISTEN a",
    "PREPARE p (int) AS SELECT $1, '01/02/2020'::date",
    "PREPARE q AS SELECT 1",
    "DEALLOCATE q",
    "SET SESSION AUTHORIZATION DEFAULT",
    "RESET ROLE",
    "SET search_path = pg_catalog, public",
];

promise! {
    async fn what_a_session_said_a_moment_before_survives_its_backend(version) {
        let mut scene = Scene::new(version).await;
        scene.survives(&STATEMENTS).await;
        assert_eq!(scene.carried.query("SHOW app.tenant").await, ["it's me"]);
        assert_eq!(scene.carried.query("SHOW app.other").await, ["x"]);
        assert_eq!(scene.carried.query("EXECUTE p (1)").await, ["1"]);
        // What a survey told, and what was said since.
        scene.carried.is_surveyed(&scene.postgres).await;
        scene.survives(&["SET work_mem = '6MB'", "RESET TIME ZONE", "DEALLOCATE p", "UNLISTEN *"]).await;
        assert_eq!(scene.carried.query("SHOW app.tenant").await, ["it's me"]);
        scene.survives(&["SET work_mem = '7MB'; SELECT count(*) FROM pg_class; SET app.tenant = 'mixed'"]).await;
        let off = "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new";
        scene.survives(&[off, "SET app.a = '1'; SELECT set_config('app.b', '2', false), current_setting('jit')"]).await;
        scene.survives(&["DISCARD ALL", "SET app.tenant = 'again'"]).await;
        assert_eq!(scene.carried.query("SHOW app.tenant").await, ["again"]);
        assert_eq!(scene.carried.query("SHOW app.other").await, [""]);
    }
}

promise! {
    async fn what_was_said_in_a_transaction_counts_if_it_was_committed(version) {
        let mut scene = Scene::new(version).await;
        scene.survives(&["BEGIN", "SET work_mem = '5MB'", "LISTEN a", "SET LOCAL app.x = '1'", "COMMIT"]).await;
        assert_eq!(scene.carried.query("SHOW app.x").await, [""]);
        scene.survives(&["BEGIN", "SET work_mem = '6MB'", "LISTEN b", "SET app.y = '1'", "ROLLBACK"]).await;
        assert_eq!(scene.carried.query("SHOW work_mem").await, ["5MB"]);
        assert_eq!(scene.carried.query("SHOW app.y").await, [""]);
        scene.survives(&["BEGIN", "SET LOCAL work_mem = '7MB'", "COMMIT"]).await;
        assert_eq!(scene.carried.query("SHOW work_mem").await, ["5MB"]);
    }
}

promise! {
    /// In its own encoding, and with values that are bound.
    async fn what_the_extended_protocol_said_survives_its_backend(version) {
        let mut scene = Scene::new(version).await;
        let execute: (u8, &[u8]) = (b'E', b"\0\0\0\0\0");
        let bind: (u8, &[u8]) = (b'B', b"\0\0\0\0\0\0\0\0");
        scene.carried.query("SET client_encoding = 'LATIN1'").await;
        scene.carried.extended(&[(b'P', b"\0SET app.x = '\xe9'\0\0\0"), bind, execute]).await;
        let bound = b"\0\0\0\0\0\x02\0\0\0\x05app.y\0\0\0\x02\xe9'\0\0";
        let parse = b"\0SELECT set_config($1, $2, false)\0\0\0";
        scene.carried.extended(&[(b'P', parse), (b'B', bound), execute]).await;
        scene.survives(&[]).await;
        let sql = "SELECT encode(convert_to(current_setting('app.x') || current_setting('app.y'), 'UTF8'), 'hex')";
        assert_eq!(scene.carried.query(sql).await, ["c3a9c3a927"]);
    }
}

promise! {
    async fn statements_are_read_again_under_what_was_in_force(version) {
        let mut scene = Scene::new(version).await;
        let mut answers = Vec::new();
        for (name, style) in [("a", "SQL, DMY"), ("b", "SQL, MDY"), ("c", "ISO, YMD")] {
            scene.carried.query(&format!("SET DateStyle = '{style}'")).await;
            let parse = format!("{name}\0SELECT '01/02/03'::date - '2000-01-01'::date || ''\0\0\0");
            answers.push(run(&mut scene.carried, name, Some(&parse)).await);
        }
        assert!(answers[0] != answers[1] && answers[1] != answers[2]);
        scene.survives(&[]).await;
        for (name, answer) in ["a", "b", "c"].iter().zip(answers) {
            assert_eq!(run(&mut scene.carried, name, None).await, answer, "{name}");
        }
    }
}

async fn run(carried: &mut Carried, name: &str, parse: Option<&str>) -> Option<String> {
    let bind = format!("\0{name}\0\0\0\0\0\0\0");
    let parse = parse.map(|parse| (b'P', parse.as_bytes()));
    let run = [(b'B', bind.as_bytes()), (b'E', &b"\0\0\0\0\0"[..])];
    let messages: Vec<_> = parse.into_iter().chain(run).collect();
    let answer = carried.extended(&messages).await;
    let row = answer.iter().find(|message| message.tag == b'D').expect("a row");
    row.first_column()
}
