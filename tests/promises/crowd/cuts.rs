//! A move that is cut off anywhere leaves its session as it was: on the old link, or on another.

use std::time::Instant;

use super::severing::{Cut, How, Severing, Side, Which};
use crate::moves::Carried;
use crate::support::swivel::Unstarted;
use crate::support::{Message, PATIENCE, Postgres, Swivel, Version, eventually, within};

/// Sessions that move at once, each with another cut.
const ABREAST: usize = 40;
/// In one direction of one link, a move has fewer messages. Most of them are rows of its surveys: each tells whatever is
/// set, and every one of some forty settings that count by whatever they are in force.
const MESSAGES_MAX: usize = 400;

const STATE: [&str; 5] = [
    "SET work_mem = '5MB'; SET DateStyle = 'German'",
    "SELECT set_config('app.tenant', 'seven', false)",
    "PREPARE by_sql (int) AS SELECT $1 + 1",
    "LISTEN news",
    "SET ROLE reader",
];

const QUESTIONS: &str = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('DateStyle'), \
     current_setting('app.tenant'), current_setting('role'), \
     (SELECT string_agg(name || parameter_types::text || from_sql, ' ' ORDER BY name) FROM pg_prepared_statements), \
     (SELECT string_agg(c, ' ') FROM pg_listening_channels() c))";

const ANSWER: &str = "5MB German, DMY seven reader by_protocol{integer}false by_sql{integer}true news";

struct Bench {
    postgres: Postgres,
    severing: Severing,
    swivel: Swivel,
    sessions: Vec<Carried>,
    rotations: u32,
}

fn name(number: usize) -> String {
    format!("cut {number}")
}

impl Bench {
    async fn set(version: Version, describe: impl FnOnce(Unstarted) -> Unstarted) -> Self {
        let postgres = Postgres::version(version)
            .setting("max_connections", "200")
            .start();
        let user = Postgres::USER;
        postgres
            .execute(&format!("CREATE ROLE reader; GRANT reader TO {user}"))
            .await;
        let severing = Severing::before(postgres.port()).await;
        let swivel = Swivel::in_front_of_port(severing.port())
            .trusting()
            .secret_line("sessions = \"move\"")
            .secret_line("grace = \"500ms\"")
            .section("[limits]\nmoves = 40\nlogins_per_endpoint = 40");
        let swivel = describe(swivel).start().await;
        let mut sessions = Vec::new();
        for number in 0..ABREAST {
            let mut session = Carried::through(&swivel, &postgres, &name(number), &[]).await;
            for sql in STATE {
                session.query(sql).await;
            }
            session
                .extended(&[(b'P', b"by_protocol\0SELECT $1 + 2\0\0\x01\0\0\0\x17")])
                .await;
            sessions.push(session);
        }
        for session in &sessions {
            session.is_surveyed(&postgres).await;
        }
        Self {
            postgres,
            severing,
            swivel,
            sessions,
            rotations: 0,
        }
    }

    /// Moves everybody, with a cut for each; false if one of the cuts was never reached.
    async fn cut(&mut self, cuts: &[Cut]) -> bool {
        for (number, cut) in cuts.iter().enumerate() {
            self.severing.plan(&name(number), *cut);
        }
        self.rotations += 1;
        let round = self.rotations;
        let password = format!("password {round}");
        self.postgres.change_password(Postgres::USER, &password).await;
        let admin = self.postgres.admin().await;
        let now = admin
            .query_one("SELECT clock_timestamp()::text", &[])
            .await
            .unwrap();
        let now: String = now.get(0);
        self.swivel.write_secret(Postgres::USER, &password);
        let notifier = self.postgres.admin_of(Postgres::DATABASE).await;
        let mut said = 0;
        let sql = format!(
            "SELECT count(*) FILTER (WHERE backend_start > '{now}') = {ABREAST} AND count(*) = {ABREAST} \
             FROM pg_stat_activity WHERE application_name LIKE 'cut %'"
        );
        eventually("everybody has moved", async || {
            said += 1;
            notifier
                .batch_execute(&format!("NOTIFY news, '{round} {said}'"))
                .await
                .unwrap();
            admin.query_one(&sql, &[]).await.unwrap().get(0)
        })
        .await;
        let left = self.severing.give_up();
        let mut ears: Vec<Ear> = Vec::new();
        for (number, session) in self.sessions.iter_mut().enumerate() {
            let what = format!("{} with {:?}", name(number), cuts.get(number));
            let mut ear = Ear::of(round);
            let answer = within(PATIENCE, &what, ear.answer(session)).await;
            assert_eq!(answer.as_deref(), Some(ANSWER), "{what}");
            ears.push(ear);
        }
        // Whoever has answered has a link, and listens.
        said += 1;
        notifier
            .batch_execute(&format!("NOTIFY news, '{round} {said}'"))
            .await
            .unwrap();
        for (ear, session) in ears.iter_mut().zip(&mut self.sessions) {
            within(PATIENCE, "the last of the news", ear.hear(session, said)).await;
        }
        left.is_empty()
    }

    /// Cuts after every message there is, or after some of them.
    async fn cut_everywhere(&mut self, link: Which, from: Side, how: How, step: usize) {
        let began = Instant::now();
        let first = usize::from(link == Which::Old);
        for wave in 0..MESSAGES_MAX.div_ceil(ABREAST * step) {
            let cuts: Vec<Cut> = (0..ABREAST)
                .map(|number| Cut {
                    link,
                    from,
                    after: first + (wave * ABREAST + number) * step,
                    how,
                })
                .collect();
            if !self.cut(&cuts).await {
                let took = began.elapsed();
                println!("{link:?} {from:?} {how:?}: {} waves in {took:?}", wave + 1);
                return;
            }
        }
        panic!("a move has more messages than {MESSAGES_MAX}");
    }
}

/// What one session hears of one round: everything once and in order, or else it was told before.
struct Ear {
    round: u32,
    last: u32,
    is_warned: bool,
}

impl Ear {
    fn of(round: u32) -> Self {
        Self {
            round,
            last: 0,
            is_warned: false,
        }
    }

    async fn answer(&mut self, session: &mut Carried) -> Option<String> {
        session.wire.query(QUESTIONS).await;
        let mut answer = None;
        loop {
            let message = session.wire.next().await?;
            match message.tag {
                b'D' => answer = message.first_column(),
                b'E' => panic!("{:?}", message.error()),
                b'Z' => return answer,
                _ => self.take_in(&message),
            }
        }
    }

    async fn hear(&mut self, session: &mut Carried, said: u32) {
        while self.last < said {
            let message = session.wire.next().await.unwrap();
            self.take_in(&message);
        }
    }

    fn take_in(&mut self, message: &Message) {
        if message.tag == b'N' {
            let words = message.error().message;
            self.is_warned |= words.contains("notifications sent meanwhile are missing");
        }
        if message.tag != b'A' {
            return;
        }
        let payload = message.body[4..].split(|byte| *byte == 0).nth(1).unwrap();
        let payload = String::from_utf8_lossy(payload);
        let (of, number) = payload.split_once(' ').unwrap();
        let number: u32 = number.parse().unwrap();
        assert_eq!(of, self.round.to_string(), "news of this round");
        let last = self.last;
        let follows = number == last + 1 || self.is_warned && number > last;
        assert!(follows, "{number} came after {last}");
        (self.last, self.is_warned) = (number, false);
    }
}

promise! {
    async fn a_move_whose_new_link_is_cut_anywhere_is_tried_again(version) {
        let mut bench = Bench::set(version, |swivel| swivel).await;
        for from in [Side::Server, Side::Pgswivel] {
            bench.cut_everywhere(Which::New, from, How::Close, 1).await;
        }
    }
}

promise! {
    async fn a_move_whose_old_link_is_cut_anywhere_is_a_rescue(version) {
        let mut bench = Bench::set(version, |swivel| swivel).await;
        for from in [Side::Server, Side::Pgswivel] {
            bench.cut_everywhere(Which::Old, from, How::Close, 1).await;
        }
    }
}

promise! {
    async fn a_move_whose_new_link_falls_silent_anywhere_is_given_up(version) {
        let quick = "connect_timeout = \"1s\"";
        let mut bench = Bench::set(version, |swivel| swivel.upstream_line(quick)).await;
        for from in [Side::Server, Side::Pgswivel] {
            bench.cut_everywhere(Which::New, from, How::Silence, 3).await;
        }
    }
}

/// Nobody says that it is gone: pgswivel has to give it up.
async fn a_silent_old_link_is_given_up(version: Version, from: Side) {
    let mut bench = Bench::set(version, |swivel| swivel).await;
    bench.cut_everywhere(Which::Old, from, How::Silence, 3).await;
}

#[tokio::test]
async fn a_move_whose_old_link_falls_silent_is_a_rescue_on_15() {
    a_silent_old_link_is_given_up(15, Side::Pgswivel).await;
}

#[tokio::test]
async fn a_move_whose_old_link_falls_silent_is_a_rescue_on_18() {
    a_silent_old_link_is_given_up(18, Side::Server).await;
}
