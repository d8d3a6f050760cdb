//! Notifications while links change: each arrives once, in order.

use super::{Carried, moving, rotate};
use crate::support::{PATIENCE, Postgres, within};

const COUNT: u32 = 10_000;
const MOVES: u32 = 100;

promise! {
    async fn every_notification_arrives_once_across_a_hundred_moves(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut carried = Carried::through(&swivel, &postgres, "listening", &[]).await;
        carried.query("LISTEN a").await;
        let notifier = postgres.connect().await;
        let sending = tokio::spawn(async move {
            for number in 0..COUNT {
                notifier.batch_execute(&format!("NOTIFY a, '{number}'")).await.unwrap();
            }
        });
        for number in 0..MOVES {
            rotate(&postgres, &swivel, Postgres::USER, &format!("password {number}")).await;
            carried.moves(&postgres).await;
        }
        sending.await.unwrap();
        let mut expected = 0;
        while expected < COUNT {
            let message = within(PATIENCE, "the next notification", carried.wire.next()).await.unwrap();
            assert_eq!(message.tag, b'A');
            let payload = message.body[4..].split(|byte| *byte == 0).nth(1).unwrap();
            assert_eq!(payload, expected.to_string().as_bytes());
            expected += 1;
        }
        assert_eq!(carried.query("SELECT pg_listening_channels()").await, ["a"]);
    }
}

promise! {
    async fn a_session_is_known_to_itself_by_the_process_id_it_was_told(version) {
        let postgres = Postgres::start(version);
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut carried = Carried::through(&swivel, &postgres, "talking to itself", &[]).await;
        let known = carried.query("SELECT pg_backend_pid()").await;
        carried.query("LISTEN a").await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        carried.moves(&postgres).await;
        carried.wire.query("NOTIFY a, 'me'").await;
        let answer = carried.wire.until(b'Z').await;
        let notification = answer.iter().find(|message| message.tag == b'A').unwrap();
        let process_id = i32::from_be_bytes(notification.body[..4].try_into().unwrap());
        assert_eq!(known, [process_id.to_string()]);
    }
}
