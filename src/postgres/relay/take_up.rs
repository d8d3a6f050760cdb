//! From a lost link to the next one.
//!
//! After [`End::LinkLost`](super::End) the relay stands still, and may do so for as long as it takes to find
//! another link: the client has everything that the lost one said and is owed the rest. Nothing is decided before
//! [`Relay::take_up`], so a link that is lost on the way there costs nothing but the way. One that is lost
//! afterwards is the next [`End::LinkLost`](super::End).

use std::future::poll_fn;
use std::mem;

use super::{Loss, ProcessIds, Relay};
use crate::postgres::wire::aftermath::{Aftermath, Behind, InFlight, Unanswerable};
use tokio::io::{AsyncRead, AsyncWrite};

impl<C, L> Relay<C, L>
where
    C: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    /// What the client is to be told. To be asked once the wait for another link is over: what the client has sent
    /// ahead meanwhile counts.
    pub fn aftermath(&self, loss: &Loss) -> Result<Aftermath, Unanswerable> {
        if self.down.is_cut() {
            return Err(Unanswerable::CutOff);
        }
        let behind = match self.up.has_unseen() || self.up.is_cut() {
            true => Behind::More,
            false => Behind::Nothing,
        };
        Aftermath::of(&self.state.tracker, behind, loss.fatal.as_deref())
    }

    /// Whether the lost server has undone what was in flight, and it can be asked of another. `text_of`: what the client
    /// has prepared before.
    pub fn is_undone<'a>(&self, loss: &Loss, text_of: impl Fn(&[u8]) -> Option<&'a [u8]>) -> bool {
        let (Some(fatal), Some(notes)) = (&loss.fatal, self.notes()) else {
            return false;
        };
        let is_whole = !self.down.is_cut() && !self.up.is_cut();
        let is_plain = |text: &[u8]| notes.is_plain(text);
        is_whole && self.state.again.is_undone(fatal, text_of, is_plain)
    }

    /// Resolves when the client leaves while there is no link. What it says meanwhile is kept, up to a bound; then
    /// nothing more is read, and that it leaves is not noticed.
    pub async fn client_left(&mut self) {
        poll_fn(|cx| self.up.poll_hear(cx, &mut self.client)).await;
    }

    /// Answers what was in flight, and goes on with `link`, which is at rest: in a failed transaction if the
    /// aftermath has one, else in none. What was in flight is not asked of it, unless the aftermath says so. Returns the
    /// lost link.
    pub fn take_up(&mut self, aftermath: Aftermath, link: L, process_ids: Option<ProcessIds>) -> L {
        // Of a large message on its way up, the rest is still to come; it counts as sent.
        self.state.dropping = self.up.is_cut();
        self.state.holding = false;
        self.up.forget_shown();
        self.down.forget_unfinished();
        self.down.insert(&aftermath.answer);
        let again = &mut self.state.again;
        match aftermath.in_flight {
            InFlight::AskedAgain => self.up.show_again(&again.take()),
            _ => again.lost(),
        }
        aftermath.settle(&mut self.state.tracker, &mut self.state.unfinished);
        self.state.fatal = None;
        self.link_shut = false;
        self.state.process_ids = process_ids;
        mem::replace(&mut self.link, link)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::super::tests::message;
    use super::super::{End, Loss, Relay, Want};
    use crate::postgres::state::notes::Notes;
    use crate::postgres::state::risky_names::RiskyNames;
    use crate::postgres::wire::aftermath::{Aftermath, InFlight, Unanswerable};
    use crate::postgres::wire::read::error_field;

    const FATAL: &[u8] = b"SFATAL\0VFATAL\0C57P02\0Mcrashed\0\0";

    /// A client and a server with a relay between them.
    struct Scene {
        client: DuplexStream,
        server: DuplexStream,
        relay: Relay<DuplexStream, DuplexStream>,
    }

    impl Scene {
        fn new(pipe: usize) -> Self {
            let (client, near_client) = duplex(pipe);
            let (server, near_server) = duplex(pipe);
            Self {
                client,
                server,
                relay: Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new()),
            }
        }

        async fn says(&mut self, bytes: &[u8]) {
            let said = self.client.write_all(bytes);
            running(&mut self.relay, said).await.unwrap();
            self.passes_on().await;
        }

        /// All that can be.
        async fn passes_on(&mut self) {
            running(&mut self.relay, tokio::task::yield_now()).await;
            running(&mut self.relay, std::future::ready(())).await;
        }

        async fn server_says(&mut self, bytes: &[u8]) {
            let said = self.server.write_all(bytes);
            running(&mut self.relay, said).await.unwrap();
            self.passes_on().await;
        }

        /// Tag and body of the next message that the client gets.
        async fn hears(&mut self) -> (u8, Vec<u8>) {
            running(&mut self.relay, next(&mut self.client)).await
        }

        async fn server_hears(&mut self) -> (u8, Vec<u8>) {
            running(&mut self.relay, next(&mut self.server)).await
        }

        /// The server says why, or nothing, and is gone.
        async fn lose(&mut self, words: &[u8]) -> Loss {
            let (gone, _) = duplex(1);
            let mut server = std::mem::replace(&mut self.server, gone);
            let words = async {
                server.write_all(words).await.unwrap();
                drop(server);
            };
            match tokio::join!(self.relay.run(), words) {
                (End::LinkLost(loss), ()) => loss,
                (end, ()) => panic!("{end:?}"),
            }
        }

        fn take_up(&mut self, loss: &Loss) -> (InFlight, bool) {
            let aftermath = self.relay.aftermath(loss).unwrap();
            let facts = (aftermath.in_flight, aftermath.transaction_failed);
            let (server, near) = duplex(1 << 20);
            self.server = server;
            self.relay.take_up(aftermath, near, None);
            facts
        }

        /// The client asks for something, and the server alone answers it.
        async fn works(&mut self, status: &[u8]) {
            let query = message(b'Q', b"ROLLBACK\0");
            self.says(&query).await;
            assert_eq!(self.server_hears().await, (b'Q', b"ROLLBACK\0".to_vec()));
            self.server_says(&message(b'Z', status)).await;
            assert_eq!(self.hears().await, (b'Z', status.to_vec()));
        }

        async fn hears_error(&mut self, state: &[u8]) {
            let (tag, body) = self.hears().await;
            assert_eq!(tag, b'E');
            assert_eq!(error_field(&body, b'V'), Some(&b"ERROR"[..]));
            assert_eq!(error_field(&body, b'C'), Some(state));
        }

        async fn hears_ready(&mut self, status: &[u8]) {
            assert_eq!(self.hears().await, (b'Z', status.to_vec()));
        }

        /// Brings the client into a transaction.
        async fn begins(&mut self) {
            self.says(&message(b'Q', b"BEGIN\0")).await;
            self.server_hears().await;
            self.server_says(&message(b'Z', b"T")).await;
            self.hears_ready(b"T").await;
        }
    }

    async fn running<T>(relay: &mut Relay<DuplexStream, DuplexStream>, script: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = script => done,
            end = relay.run() => panic!("{end:?}"),
        }
    }

    async fn next(stream: &mut DuplexStream) -> (u8, Vec<u8>) {
        let mut header = [0; 5];
        stream.read_exact(&mut header).await.unwrap();
        let length = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        stream.read_exact(&mut body).await.unwrap();
        (header[0], body)
    }

    #[tokio::test]
    async fn a_client_at_rest_does_not_notice_that_its_link_is_another() {
        for words in [&message(b'E', FATAL)[..], b"", b"D\0\0\0\x20half a row"] {
            let mut scene = Scene::new(8);
            let loss = scene.lose(words).await;
            assert_eq!(scene.take_up(&loss), (InFlight::Nothing, false));
            scene.works(b"I").await;
        }
    }

    #[tokio::test]
    async fn what_the_lost_server_said_is_heard_before_the_error() {
        for pipe in [1, 8, 1 << 20] {
            let mut scene = Scene::new(pipe);
            scene.begins().await;
            scene.says(&message(b'Q', b"SELECT 1\0")).await;
            let row = message(b'D', &[7; 300]);
            let words = [&row[..], &message(b'E', FATAL), b"Z"].concat();
            let client = async |scene: &mut Scene| {
                let mut got = vec![0; row.len()];
                let (gone, _) = duplex(1);
                let mut server = std::mem::replace(&mut scene.server, gone);
                let script = async {
                    // The rest of it can't be written: the relay is done when it has heard enough.
                    let _ = server.write_all(&words).await;
                };
                let (end, _, read) =
                    tokio::join!(scene.relay.run(), script, scene.client.read_exact(&mut got));
                read.unwrap();
                assert_eq!(got, row);
                match end {
                    End::LinkLost(loss) => loss,
                    end => panic!("{end:?}"),
                }
            };
            let loss = client(&mut scene).await;
            assert_eq!(scene.take_up(&loss), (InFlight::Transaction, true));
            scene.hears_error(b"57P02").await;
            scene.hears_ready(b"E").await;
            scene.works(b"I").await;
        }
    }

    #[tokio::test]
    async fn what_is_answered_is_not_asked_again() {
        // The server takes no more than the pipe holds: most of the second Query waits in the relay.
        let mut scene = Scene::new(1 << 10);
        let long = [b"INSERT ".as_slice(), &[b'x'; 3000], b"\0"].concat();
        scene.says(&message(b'Q', b"INSERT 1\0")).await;
        scene.says(&message(b'Q', &long)).await;
        let loss = scene.lose(b"").await;
        assert_eq!(scene.take_up(&loss), (InFlight::Autocommit, false));
        for _ in 0..2 {
            scene.hears_error(b"08007").await;
            scene.hears_ready(b"I").await;
        }
        scene.works(b"I").await;
    }

    #[tokio::test]
    async fn a_request_of_which_the_lost_link_saw_nothing_is_the_next_ones() {
        let mut scene = Scene::new(1 << 10);
        let query = message(b'Q', b"INSERT 2\0");
        scene.says(&message(b'Q', b"INSERT 1\0")).await;
        scene.says(&query[..7]).await;
        let loss = scene.lose(b"").await;
        // Before there is another link, the client goes on.
        scene.client.write_all(&query[7..]).await.unwrap();
        tokio::select! {
            biased;
            () = scene.relay.client_left() => panic!("the client is there"),
            () = tokio::task::yield_now() => {}
        }
        scene.take_up(&loss);
        scene.hears_error(b"08007").await;
        scene.hears_ready(b"I").await;
        assert_eq!(scene.server_hears().await, (b'Q', b"INSERT 2\0".to_vec()));
    }

    #[tokio::test]
    async fn a_transaction_that_did_not_begin_is_one_to_a_client_that_did_not_wait() {
        for (ahead, failed) in [(&b""[..], false), (b"Q\0\0\0\x14INSERT", true)] {
            let mut scene = Scene::new(1 << 10);
            scene.says(&message(b'Q', b"BEGIN\0")).await;
            scene.says(ahead).await;
            let loss = scene.lose(b"").await;
            assert_eq!(scene.take_up(&loss), (InFlight::Autocommit, failed));
            scene.hears_error(b"57P01").await;
            scene.hears_ready(if failed { b"E" } else { b"I" }).await;
        }
    }

    #[tokio::test]
    async fn a_link_that_took_no_more_is_followed_by_one_that_does() {
        let (mut client, near) = duplex(1 << 10);
        let ((server, reads), (_, writes)) = (duplex(64), duplex(64));
        let link = tokio::io::join(reads, writes);
        let mut relay = Relay::new(near, link, BytesMut::new(), BytesMut::new());
        client.write_all(&message(b'Q', b"SHOW x\0")).await.unwrap();
        tokio::select! {
            biased;
            end = relay.run() => panic!("{end:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(server);
        let End::LinkLost(loss) = relay.run().await else {
            panic!("the link was lost");
        };
        let ((_server, reads), (mut heard, writes)) = (duplex(64), duplex(64));
        let aftermath = relay.aftermath(&loss).unwrap();
        relay.take_up(aftermath, tokio::io::join(reads, writes), None);
        client.write_all(&message(b'Q', b"SHOW y\0")).await.unwrap();
        tokio::select! {
            heard = next(&mut heard) => assert_eq!(heard, (b'Q', b"SHOW y\0".to_vec())),
            end = relay.run() => panic!("{end:?}"),
        }
    }

    #[tokio::test]
    async fn a_client_that_leaves_while_there_is_no_link_is_noticed() {
        let mut scene = Scene::new(1 << 10);
        scene.lose(b"").await;
        scene.client.write_all(&message(b'X', b"")).await.unwrap();
        drop(std::mem::replace(&mut scene.client, duplex(1).0));
        scene.relay.client_left().await;
    }

    #[tokio::test]
    async fn a_client_that_says_terminate_while_there_is_no_link_does_not_wait_for_one() {
        for large in [0, 100_000] {
            let mut scene = Scene::new(1 << 20);
            let half = message(b'Q', &vec![b'x'; large]);
            scene.says(&half[..half.len() - large / 2]).await;
            scene.lose(b"").await;
            let rest = [&half[half.len() - large / 2..], &message(b'X', b"")].concat();
            scene.client.write_all(&rest).await.unwrap();
            scene.relay.client_left().await;
        }
        // What it asked for before is asked of the next link.
        let mut scene = Scene::new(1 << 20);
        scene.lose(b"").await;
        let asked = [message(b'Q', b"INSERT 1\0"), message(b'X', b"")].concat();
        scene.client.write_all(&asked).await.unwrap();
        tokio::select! {
            biased;
            () = scene.relay.client_left() => panic!("the client has asked for something"),
            () = tokio::task::yield_now() => {}
        }
    }

    const UNDONE: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0";

    #[tokio::test]
    async fn what_was_undone_is_asked_of_the_next_link_once() {
        let mut scene = Scene::new(1 << 10);
        scene
            .relay
            .observe(Notes::new(Arc::new(RiskyNames::plain()), 1000));
        scene.relay.keep_units_up_to(1000);
        scene.says(&message(b'Q', b"INSERT INTO t VALUES (1)\0")).await;
        let loss = scene.lose(&message(b'E', UNDONE)).await;
        assert!(scene.relay.is_undone(&loss, |_| None));
        // What it says meanwhile comes behind it.
        scene
            .client
            .write_all(&message(b'Q', b"INSERT 2\0"))
            .await
            .unwrap();
        let (server, near) = duplex(1 << 20);
        scene.server = server;
        scene.relay.take_up(Aftermath::unnoticed(), near, None);
        let (_, first) = scene.server_hears().await;
        assert_eq!(first, b"INSERT INTO t VALUES (1)\0");
        let loss = scene.lose(&message(b'E', UNDONE)).await;
        assert!(!scene.relay.is_undone(&loss, |_| None), "once");
        scene.take_up(&loss);
        scene.hears_error(b"08007").await;
    }

    #[tokio::test]
    async fn what_is_acknowledged_together_with_the_last_words_is_not_heard() {
        let unit = [
            message(b'P', b"s\0INSERT INTO t VALUES (1)\0\0\0"),
            message(b'B', b"\0s\0\0\0\0\0\0\0"),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ];
        let said = |tags: &[u8]| {
            tags.iter()
                .flat_map(|tag| message(*tag, b"I\0"))
                .collect::<Vec<u8>>()
        };
        for (fatal, is_undone) in [(UNDONE, true), (FATAL, false)] {
            for acknowledged in [&b"1"[..], b"12", b"12n", b"12T", b"12TDD"] {
                let mut scene = Scene::new(1 << 10);
                scene
                    .relay
                    .observe(Notes::new(Arc::new(RiskyNames::plain()), 1000));
                scene.relay.keep_units_up_to(1000);
                scene.says(&unit.concat()).await;
                let loss = scene
                    .lose(&[said(acknowledged), message(b'E', fatal)].concat())
                    .await;
                assert_eq!(scene.relay.is_undone(&loss, |_| None), is_undone);
                // It would be there already when it is asked for again.
                assert!(scene.relay.notes().unwrap().text_of(b"s").is_none());
                if !is_undone {
                    assert_eq!(scene.take_up(&loss), (InFlight::Autocommit, false));
                    scene.hears_error(b"08007").await;
                    scene.hears_ready(b"I").await;
                    continue;
                }
                let (server, near) = duplex(1 << 20);
                scene.server = server;
                scene.relay.take_up(Aftermath::unnoticed(), near, None);
                for message in &unit {
                    assert_eq!(scene.server_hears().await, (message[0], message[5..].to_vec()));
                }
                scene.server_says(&said(b"12TDCZ")).await;
                for tag in b"12TDCZ" {
                    assert_eq!(scene.hears().await.0, *tag, "once");
                }
            }
        }
    }

    #[tokio::test]
    async fn what_the_client_has_heard_of_is_not_asked_again() {
        for said in [
            &b"T\0\0\0\x06\0\0"[..],
            &message(b'N', b"SWARNING\0\0"),
            &message(b'C', b"INSERT\0"),
        ] {
            let mut scene = Scene::new(1 << 10);
            scene
                .relay
                .observe(Notes::new(Arc::new(RiskyNames::plain()), 1000));
            scene.relay.keep_units_up_to(1000);
            scene.says(&message(b'Q', b"INSERT INTO t VALUES (1)\0")).await;
            scene.server_says(said).await;
            let loss = scene.lose(&message(b'E', UNDONE)).await;
            assert!(!scene.relay.is_undone(&loss, |_| None));
        }
    }

    #[tokio::test]
    async fn the_rest_of_a_large_message_is_taken_from_the_client_and_dropped() {
        let mut scene = Scene::new(1 << 20);
        scene.begins().await;
        let large = message(b'Q', &[b'x'; 200_000]);
        scene.says(&large[..100_000]).await;
        let loss = scene.lose(&message(b'E', FATAL)).await;
        let (in_flight, failed) = scene.take_up(&loss);
        assert_eq!((in_flight, failed), (InFlight::Commit, true));
        scene.hears_error(b"08007").await;
        scene.hears_ready(b"E").await;
        scene.says(&large[100_000..]).await;
        scene.works(b"I").await;
    }

    #[tokio::test]
    async fn a_row_that_was_cut_in_the_middle_can_not_be_continued() {
        let mut scene = Scene::new(1 << 20);
        let loss = scene.lose(&message(b'D', &[1; 100_000])[..70_000]).await;
        let told = scene.relay.aftermath(&loss).map(|aftermath| aftermath.in_flight);
        assert_eq!(told, Err(Unanswerable::CutOff));
        assert!(!scene.relay.client_at_boundary());
    }

    #[tokio::test]
    async fn replication_can_not_be_continued() {
        let mut scene = Scene::new(1 << 10);
        scene.says(&message(b'Q', b"START_REPLICATION\0")).await;
        scene.server_hears().await;
        scene.server_says(&message(b'W', b"\0\0\0")).await;
        scene.hears().await;
        let loss = scene.lose(&message(b'E', FATAL)).await;
        let told = scene.relay.aftermath(&loss).map(|aftermath| aftermath.in_flight);
        assert_eq!(told, Err(Unanswerable::Replication));
        assert_eq!(loss.fatal.unwrap(), FATAL);
        assert!(scene.relay.client_at_boundary());
    }

    #[tokio::test]
    async fn after_an_error_the_next_link_hears_nothing_up_to_the_sync() {
        let mut scene = Scene::new(1 << 10);
        let parse = message(b'P', b"\0SHOW x\0\0\0");
        scene.says(&parse).await;
        let mut loss = scene.lose(b"").await;
        scene.take_up(&loss);
        scene.hears_error(b"57P01").await;
        // It is lost once more before the client has noticed.
        scene.says(&message(b'B', b"\0\0\0\0\0\0\0\0")).await;
        loss = scene.lose(b"").await;
        scene.take_up(&loss);
        let rest = [message(b'Q', b"SELECT 1\0"), message(b'd', &vec![0; 100_000])].concat();
        scene.says(&rest).await;
        scene.says(&message(b'S', b"")).await;
        assert_eq!(scene.server_hears().await, (b'S', Vec::new()));
        scene.server_says(&message(b'Z', b"I")).await;
        scene.hears_ready(b"I").await;
        scene.works(b"I").await;
    }

    #[tokio::test]
    async fn a_transaction_that_is_lost_at_rest_fails_with_the_next_request() {
        let extended = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'S', b"")].concat();
        let requests = [message(b'Q', b"COMMIT\0"), message(b'F', b"\0\0"), extended];
        for request in requests {
            let mut scene = Scene::new(1 << 10);
            scene.begins().await;
            let loss = scene.lose(&message(b'E', FATAL)).await;
            assert_eq!(scene.take_up(&loss), (InFlight::OpenTransaction, true));
            // Losing one more makes it no worse.
            let again = scene.lose(b"").await;
            assert_eq!(scene.take_up(&again), (InFlight::FailedTransaction, true));
            scene.says(&request).await;
            scene.hears_error(b"57P02").await;
            if request[0] == b'P' {
                assert_eq!(scene.server_hears().await, (b'S', Vec::new()));
                scene.server_says(&message(b'Z', b"E")).await;
            }
            scene.hears_ready(b"E").await;
            scene.works(b"I").await;
        }
    }

    #[tokio::test]
    async fn what_is_closed_before_the_error_is_answered_before_it() {
        let closes = [message(b'C', b"Ss\0"), message(b'S', b"")].concat();
        let large = message(b'Q', &[b'x'; 100_000]);
        let extended = [message(b'P', b"\0SELECT 1\0\0\0"), message(b'S', b"")].concat();
        for request in [message(b'Q', b"SELECT 1\0"), large, message(b'S', b""), extended] {
            let mut scene = Scene::new(1 << 20);
            scene.begins().await;
            let loss = scene.lose(&message(b'E', FATAL)).await;
            scene.take_up(&loss);
            scene.says(&[&closes[..], &request].concat()).await;
            for (tag, body) in [(b'C', &b"Ss\0"[..]), (b'S', b"")] {
                assert_eq!(scene.server_hears().await, (tag, body.to_vec()));
            }
            for answer in [message(b'3', b""), message(b'Z', b"E")] {
                scene.server_says(&answer).await;
                assert_eq!(scene.hears().await, (answer[0], answer[5..].to_vec()));
            }
            scene.hears_error(b"57P02").await;
            if request[0] != b'Q' {
                assert_eq!(scene.server_hears().await, (b'S', Vec::new()));
                scene.server_says(&message(b'Z', b"E")).await;
            }
            scene.hears_ready(b"E").await;
            scene.works(b"I").await;
        }
    }

    #[tokio::test]
    async fn what_comes_in_one_unit_with_a_close_is_refused_by_the_failed_transaction() {
        let mut scene = Scene::new(1 << 10);
        scene.begins().await;
        let loss = scene.lose(b"").await;
        scene.take_up(&loss);
        let unit = [
            message(b'C', b"Ss\0"),
            message(b'P', b"\0SELECT 1\0\0\0"),
            message(b'B', b"\0\0\0\0\0\0\0\0"),
            message(b'S', b""),
        ];
        scene.says(&unit[..2].concat()).await;
        scene
            .server_says(&message(b'E', b"SERROR\0VERROR\0C25P02\0\0"))
            .await;
        scene.says(&unit[2..].concat()).await;
        scene.hears_error(b"25P02").await;
        for message in unit {
            assert_eq!(scene.server_hears().await, (message[0], message[5..].to_vec()));
        }
        scene.server_says(&message(b'Z', b"E")).await;
        scene.hears_ready(b"E").await;
        // It has not been told why.
        scene.says(&message(b'Q', b"SELECT 1\0")).await;
        scene.hears_error(b"57P01").await;
        scene.hears_ready(b"E").await;
    }

    #[tokio::test]
    async fn a_rollback_of_what_is_lost_is_none_the_wiser() {
        let named = [
            message(b'P', b"r\0ROLLBACK\0\0\0"),
            message(b'B', b"\0r\0\0\0\0\0\0\0"),
        ];
        for request in [vec![message(b'Q', b" /* a */ rollback; \0")], named.to_vec()] {
            let mut scene = Scene::new(1 << 10);
            scene.begins().await;
            let loss = scene.lose(b"").await;
            scene.take_up(&loss);
            for message in request {
                scene.says(&message).await;
                assert_eq!(scene.server_hears().await, (message[0], message[5..].to_vec()));
            }
        }
    }

    #[tokio::test]
    async fn a_rollback_does_not_bring_back_what_it_leaves_alone() {
        let mut scene = Scene::new(1 << 10);
        scene.begins().await;
        scene.says(&message(b'P', b"s\0SELECT 1\0\0\0")).await;
        scene.says(&message(b'H', b"")).await;
        scene.server_says(&message(b'1', b"")).await;
        scene.hears().await;
        let loss = scene.lose(b"").await;
        scene.take_up(&loss);
        scene.says(&message(b'Q', b"ROLLBACK\0")).await;
        scene.hears_error(b"57P01").await;
        scene.hears_ready(b"E").await;
        scene.works(b"I").await;
    }

    #[tokio::test]
    async fn data_of_a_lost_copy_is_taken_from_the_client_and_dropped() {
        let mut scene = Scene::new(1 << 20);
        scene.says(&message(b'Q', b"COPY t FROM STDIN\0")).await;
        scene.server_hears().await;
        scene.server_says(&message(b'G', b"\0\0\0")).await;
        scene.hears().await;
        scene.says(&message(b'd', b"line\n")).await;
        let loss = scene.lose(&message(b'E', FATAL)).await;
        assert_eq!(scene.take_up(&loss), (InFlight::CopyIn, false));
        let rest = [
            message(b'd', &[b'x'; 100_000]),
            message(b'd', b"x"),
            message(b'c', b""),
        ]
        .concat();
        scene.says(&rest).await;
        scene.hears_error(b"57P02").await;
        scene.hears_ready(b"I").await;
        scene.works(b"I").await;
    }

    #[tokio::test]
    async fn an_answer_waits_for_the_end_of_what_the_server_is_saying() {
        let mut scene = Scene::new(1 << 20);
        scene.begins().await;
        let loss = scene.lose(b"").await;
        scene.take_up(&loss);
        let notice = message(b'N', &[1; 100_000]);
        scene.server_says(&notice[..80_000]).await;
        scene.says(&message(b'Q', b"SELECT 1\0")).await;
        scene.server_says(&notice[80_000..]).await;
        assert_eq!(scene.hears().await, (b'N', vec![1; 100_000]));
        scene.hears_error(b"57P01").await;
        scene.hears_ready(b"E").await;
    }

    #[tokio::test]
    async fn a_session_with_something_left_to_tell_is_not_at_a_safe_point() {
        let mut scene = Scene::new(1 << 10);
        scene.says(&message(b'P', b"\0SHOW x\0\0\0")).await;
        scene.says(&message(b'H', b"")).await;
        scene.server_says(&message(b'1', b"")).await;
        scene.hears().await;
        let loss = scene.lose(b"").await;
        scene.take_up(&loss);
        tokio::select! {
            biased;
            _ = scene.relay.run_until(Want::Safe) => panic!("the client has not heard yet"),
            () = tokio::task::yield_now() => {}
        }
        scene.says(&message(b'S', b"")).await;
        scene.hears_error(b"57P01").await;
        scene.server_says(&message(b'Z', b"I")).await;
        scene.hears_ready(b"I").await;
        scene.relay.run_until(Want::Safe).await.unwrap();
    }
}
