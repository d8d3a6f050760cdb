//! Bytes meant to hurt: each ends the one connection that sent them, and nothing else notices.

use std::time::Duration;

use crate::support::wire::{PROTOCOL_3_0, cancel_request, message, packet};
use crate::support::{Forged, PATIENCE, Postgres, Swivel, Wire, within};

const PARAMETERS: [(&str, &str); 2] = [("user", Swivel::USER), ("database", Postgres::DATABASE)];
const AT_ONCE: Duration = Duration::from_secs(15);

/// What the process may grow by over hundreds of hostile connections.
const MEMORY_LIMIT: u64 = 8 << 20;

/// Messages that break decoders which trust a length or a terminator, and a few that break others.
fn broken_messages() -> Vec<Vec<u8>> {
    let mut broken: Vec<Vec<u8>> = Vec::new();
    // A tag with a length that is too short, negative, or beyond anything.
    for tag in *b"pQPBEDCSHdcfFX\0R" {
        for length in [0_u32, 1, 3, 4, 5, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            broken.push([&[tag], &length.to_be_bytes()[..]].concat());
        }
    }
    // Bodies that end before they say they do.
    broken.push(message(b'p', b""));
    broken.push(message(b'p', b"SCRAM-SHA-256\0\x7f\xff\xff\xff"));
    broken.push(message(b'p', b"SCRAM-SHA-256\0\0\0\0\x40n,,n=,r=short"));
    broken.push(message(b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff"));
    broken.push(message(b'p', b"SCRAM-SHA-256"));
    broken.push(message(b'p', b"NO-SUCH-MECHANISM\0\0\0\0\x04n,,x"));
    broken.push(message(b'p', b"SCRAM-SHA-256\0\0\0\0\x10p=tls-unique,,n=,r=x"));
    broken.push(message(b'p', &[0xff; 64]));
    broken.push(message(b'B', b""));
    broken.push(message(b'B', b"\0\0\x7f\xff"));
    broken.push(message(b'E', b""));
    broken.push(message(b'Q', b"SELECT 1"));
    broken.push(message(b'Q', b"SELECT 1\0SELECT 2\0"));
    broken.push(message(b'P', b"\0SELECT 1\0\xff\xff"));
    broken.push(message(b'F', b"\0"));
    broken.push(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec());
    broken
}

async fn is_unharmed(swivel: &mut Swivel) {
    assert!(swivel.is_running(), "pgswivel ended:\n{}", swivel.log());
    let client = swivel.connect().await;
    assert_eq!(client.query("SELECT 1", &[]).await.unwrap().len(), 1);
    assert!(!swivel.log().contains("panicked"), "{}", swivel.log());
}

#[tokio::test]
async fn in_the_place_of_a_startup_packet() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    for bytes in broken_messages() {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.send(&bytes).await;
        wire.half_close().await;
        within(AT_ONCE, "the end", wire.raw(100_000)).await;
    }
    is_unharmed(&mut swivel).await;
}

#[tokio::test]
async fn in_the_place_of_a_password() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    for bytes in broken_messages() {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &PARAMETERS).await;
        wire.expect(b'R').await;
        wire.send(&bytes).await;
        let _ = wire.try_send(&message(b'Q', b"SELECT 1\0")).await;
        // Only a message that is still incomplete may be waited for; half a close says that it is.
        wire.half_close().await;
        let answer = within(AT_ONCE, "the end", wire.rest()).await;
        let refused = answer.last().is_none_or(|message| message.tag == b'E');
        let let_in = answer
            .iter()
            .any(|message| message.tag == b'R' && message.body[..] == [0; 4]);
        assert!(refused && !let_in, "{bytes:?}: {answer:?}");
    }
    is_unharmed(&mut swivel).await;
}

#[tokio::test]
async fn in_the_place_of_the_second_scram_message() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let finals: [&[u8]; 7] = [
        b"",
        b"c=biws",
        b"c=biws,r=forged,p=AAAA",
        b"c=!!!!,r=x,p=x",
        b"p=",
        b"\xff\xfe",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO1234,p=",
    ];
    for last in finals {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &PARAMETERS).await;
        wire.expect(b'R').await;
        wire.say(b'p', b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqO1234")
            .await;
        wire.expect(b'R').await;
        wire.say(b'p', last).await;
        let error = within(AT_ONCE, "the refusal", wire.refusal()).await;
        assert_eq!(error.severity, "FATAL");
    }
    is_unharmed(&mut swivel).await;
}

/// What Postgres makes of `bytes` from a client that is logged in, and whether it hangs up.
async fn reaction(mut wire: Wire, bytes: &[u8]) -> Vec<(u8, String)> {
    wire.send(bytes).await;
    wire.half_close().await;
    let messages = within(AT_ONCE, "the end", wire.rest()).await;
    let seen = |message: &crate::support::Message| match message.tag {
        b'E' | b'N' => (message.tag, format!("{:?}", message.error())),
        tag => (tag, format!("{message:?}")),
    };
    messages.iter().map(seen).collect()
}

#[tokio::test]
async fn from_a_client_that_is_logged_in_postgres_itself_gives_the_answer() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    for bytes in broken_messages() {
        let (user, password, database) = (Postgres::USER, Postgres::PASSWORD, Postgres::DATABASE);
        let direct = Wire::login(&postgres.address(), user, password, database).await;
        let expected = reaction(direct, &bytes).await;
        let through = reaction(swivel.wire().await, &bytes).await;
        // Of a length that cannot be, ours to refuse, only the refusal itself is promised.
        let refused = |seen: &[(u8, String)]| seen.iter().all(|(tag, _)| *tag == b'E');
        assert!(
            through == expected || refused(&through) && refused(&expected),
            "{bytes:?}: directly {expected:?}, through {through:?}"
        );
    }
    is_unharmed(&mut swivel).await;
}

#[tokio::test]
async fn from_a_server_that_a_client_is_logged_in_to() {
    let postgres = Postgres::start(18);
    let hostile: [&[u8]; 10] = [
        b"R\0\0\0\x04",
        b"Z\0\0\0\x04",
        b"Z\0\0\0\x03",
        b"E\0\0\0\x00",
        b"D\xff\xff\xff\xff",
        b"D\x80\0\0\0",
        b"T\0\0\0\x02",
        b"K\0\0\0\x04",
        b"\0\0\0\0\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ];
    for bytes in hostile {
        let forged = Forged::start(move |mut wire| async move {
            wire.packet().await;
            wire.say(b'R', &[0, 0, 0, 0]).await;
            wire.say(b'Z', b"I").await;
            wire.next().await;
            wire.send(bytes).await;
            wire
        })
        .await;
        let second = format!(
            "[role.real]\npassword = {{ env = \"REAL\" }}\nupstream = \"real\"\nsecret = \"orders\"\n\
             [upstream.real]\nhosts = [\"{}\"]\ndatabase = \"orders\"\ntls = {{ mode = \"disable\" }}\n",
            postgres.address()
        );
        let swivel = Swivel::in_front_of_port(forged.port())
            .section(&second)
            .section("[login]\npatience = \"1s\"\n")
            .environment("REAL", "real");
        let mut swivel = swivel.start().await;
        let mut bystander = Wire::login(&swivel.address(), "real", "real", "orders").await;
        let mut victim = swivel.wire().await;
        victim.query("SELECT 1").await;
        // Another link is looked for first, for as long as patience lasts.
        within(PATIENCE, "the end", victim.raw(100_000)).await;

        bystander.query("SELECT 'unharmed'").await;
        assert_eq!(
            bystander.until(b'Z').await[1].first_column().as_deref(),
            Some("unharmed")
        );
        assert!(swivel.is_running());
        assert!(!swivel.log().contains("panicked"), "{}", swivel.log());
    }
}

#[tokio::test]
async fn hundreds_of_times_over_and_memory_stays_flat() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let hostile = [
        i32::MAX.to_be_bytes().to_vec(),
        [&10_004_u32.to_be_bytes()[..], &[0xff; 9_000]].concat(),
        packet(&[0xff; 5_000]),
        cancel_request(1, &[0xff; 9_000]),
        vec![0; 100_000],
        vec![0xff; 100_000],
    ];
    let mut sizes = Vec::new();
    for _ in 0..3 {
        for _ in 0..50 {
            for bytes in &hostile {
                let mut wire = Wire::connect(&swivel.address()).await;
                wire.send(bytes).await;
            }
        }
        is_unharmed(&mut swivel).await;
        sizes.push(swivel.rss());
    }
    assert!(sizes[2] < sizes[0] + MEMORY_LIMIT, "{sizes:?}");
}

#[tokio::test]
async fn clients_that_never_finish_their_startup_are_sent_away() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).section("[limits]\nstartup_time = \"1s\"");
    let mut swivel = swivel.start().await;
    let mut silent = Wire::connect(&swivel.address()).await;
    let mut halfway = Wire::connect(&swivel.address()).await;
    halfway.send(&[0, 0, 0]).await;
    let mut unproven = Wire::connect(&swivel.address()).await;
    unproven.startup(PROTOCOL_3_0, &PARAMETERS).await;
    unproven.expect(b'R').await;
    for wire in [&mut silent, &mut halfway, &mut unproven] {
        let answer = within(AT_ONCE, "the end", wire.rest()).await;
        assert!(answer.iter().all(|message| message.tag == b'E'), "{answer:?}");
    }
    is_unharmed(&mut swivel).await;
}

/// What one client may have remembered of it.
const SESSION_LIMIT: u64 = 24 << 20;
/// Of what names alone take: about a third of this.
const NAMES_LIMIT: u64 = 8 << 20;

#[tokio::test]
async fn a_client_that_talks_on_after_an_error_takes_no_more_than_its_share_of_memory() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let mut wire = swivel.wire().await;
    wire.query("SELECT 1").await;
    wire.until(b'Z').await;
    let before = swivel.rss();
    // Refused, and no Sync behind it: all that follows is skipped.
    wire.say(b'P', b"\0SELEC\0\0\0").await;
    let closes = message(b'C', b"Sx\0").repeat(1 << 17);
    for _ in 0..24 {
        within(PATIENCE, "the skipping", wire.send(&closes)).await;
    }
    wire.say(b'S', b"").await;
    within(PATIENCE, "the end of the unit", wire.until(b'Z')).await;
    let grown = swivel.rss_peak().saturating_sub(before);
    assert!(grown < SESSION_LIMIT, "{grown} bytes more");
    wire.query("SELECT 'goes on'").await;
    assert_eq!(
        wire.until(b'Z').await[1].first_column().as_deref(),
        Some("goes on")
    );
    is_unharmed(&mut swivel).await;
}

#[tokio::test]
async fn a_client_whose_statements_come_and_go_in_one_transaction_takes_no_more_than_its_share_of_memory() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let mut wire = swivel.wire().await;
    wire.query("BEGIN").await;
    wire.until(b'Z').await;
    let before = swivel.rss();
    for round in 0..40 {
        let each = (0..4_000).flat_map(|number| {
            // As long as names are told apart.
            let name = format!(
                "{:x<63}",
                format!("a_statement_with_a_name_of_its_own_{round}_{number}_")
            );
            let parse = message(b'P', format!("{name}\0SELECT 1\0\0\0").as_bytes());
            [parse, message(b'C', format!("S{name}\0").as_bytes())].concat()
        });
        let unit: Vec<u8> = each.chain(message(b'S', b"")).collect();
        wire.send(&unit).await;
        within(PATIENCE, "the answers", wire.until(b'Z')).await;
    }
    let grown = swivel.rss_peak().saturating_sub(before);
    assert!(grown < NAMES_LIMIT, "{grown} bytes more");
    wire.query("COMMIT").await;
    wire.until(b'Z').await;
    is_unharmed(&mut swivel).await;
}
