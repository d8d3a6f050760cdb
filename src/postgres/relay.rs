//! Moves bytes between a client and its link and looks at nothing but message headers.
//!
//! One task owns both sockets. What was read is written on at once from the same slice; only what the other
//! side does not take yet, or the beginning of a small message, is kept, and as long as something can't be
//! sent nothing more is read: the sockets' own buffers are the queue. Progress lives in `self`, so the future
//! may be dropped and taken up again between any two bytes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::lane::{Lane, Stop};
use super::notes::Notes;
use super::wire::frame::{BadLength, Piece};
use super::wire::read::error_field;
use super::wire::tracker::Tracker;

/// Why a relay has nothing left to do.
#[derive(Debug)]
pub enum End {
    /// The client went, or can't be reached any more.
    ClientGone,
    /// The client broke the protocol; nothing after that can be framed.
    ClientMalformed(BadLength),
    /// The server said why (a FATAL was passed on), or answered a Terminate.
    LinkClosed,
    /// The server went without a word.
    LinkLost(Option<io::Error>),
    LinkMalformed(BadLength),
}

#[derive(Debug)]
pub struct Relay<C, L> {
    client: C,
    link: L,
    up: Lane,
    down: Lane,
    state: State,
    link_shut: bool,
}

/// What passing messages tell.
#[derive(Debug, Default)]
struct State {
    tracker: Tracker,
    /// A FATAL or PANIC passed: the server will say nothing more.
    farewell: bool,
    /// The client said Terminate, or closed its side.
    client_leaving: bool,
    /// Grows with everything that the client says.
    turns: u64,
    /// After a move the backend has another process id than the client knows it by.
    process_ids: Option<ProcessIds>,
    /// None: nobody wants to know.
    notes: Option<Box<Notes>>,
}

/// What a relay stops for, besides an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    End,
    /// A safe point: nothing in flight, no transaction, both directions at a message boundary. As long as the relay
    /// does not run after it, it stays one.
    Safe,
    /// A safe point after something may have changed what the session holds.
    Signalled,
}

/// In notifications that a session sends to itself, the process id tells the client that they are its own.
#[derive(Clone, Copy, Debug)]
pub struct ProcessIds {
    pub backend: i32,
    pub known: i32,
}

impl State {
    fn see_client(&mut self, piece: &Piece<'_>) {
        self.turns += 1;
        if let Piece::Message { tag, .. } | Piece::Begin { tag, .. } = piece {
            self.tracker.from_client(*tag);
            self.client_leaving |= *tag == b'X';
        }
        if let Some(notes) = &mut self.notes {
            notes.see_client(piece);
        }
    }

    fn see_server(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Message { tag, body } => {
                self.tracker.from_server(tag, body.first().copied());
                if let Some(notes) = &mut self.notes {
                    notes.see_server(tag, body);
                    if tag == b'Z' && self.tracker.is_quiet() {
                        notes.quiet();
                    }
                }
                if tag == b'A' {
                    self.translate(body);
                }
                if tag == b'E' {
                    let severity = error_field(body, b'V').or_else(|| error_field(body, b'S'));
                    self.farewell |= matches!(severity, Some(b"FATAL" | b"PANIC"));
                }
            }
            Piece::Begin { tag, .. } => self.tracker.from_server(tag, None),
            Piece::More { .. } => {}
        }
    }

    fn translate(&self, notification: &mut [u8]) {
        if let (Some(ids), Some(process_id)) = (self.process_ids, notification.first_chunk_mut())
            && *process_id == ids.backend.to_be_bytes()
        {
            *process_id = ids.known.to_be_bytes();
        }
    }
}

impl<C, L> Relay<C, L>
where
    C: AsyncRead + AsyncWrite + Unpin,
    L: AsyncRead + AsyncWrite + Unpin,
{
    /// Takes over right after the first ReadyForQuery, with what was read of either side behind it.
    pub fn new(client: C, link: L, from_client: BytesMut, from_link: BytesMut) -> Self {
        Self {
            client,
            link,
            up: Lane::new(from_client),
            down: Lane::new(from_link),
            state: State::default(),
            link_shut: false,
        }
    }

    /// Until either side ends. May be dropped and called again.
    pub async fn run(&mut self) -> End {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Until there is what is wanted; `Ok` only then.
    pub async fn run_until(&mut self, want: Want) -> Result<(), End> {
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending if self.has(want) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    fn has(&self, want: Want) -> bool {
        match want {
            Want::End => false,
            Want::Safe => self.is_safe(),
            Want::Signalled => self.notes().is_some_and(Notes::is_signalled) && self.is_safe(),
        }
    }

    /// Lets somebody take notes of what passes.
    pub fn observe(&mut self, notes: Notes) {
        self.state.notes = Some(Box::new(notes));
    }

    pub fn notes(&self) -> Option<&Notes> {
        self.state.notes.as_deref()
    }

    pub fn notes_mut(&mut self) -> Option<&mut Notes> {
        self.state.notes.as_deref_mut()
    }

    pub fn is_safe(&self) -> bool {
        let State {
            tracker,
            farewell,
            client_leaving,
            ..
        } = &self.state;
        tracker.is_idle()
            && self.up.is_passed_on()
            && self.down.is_passed_on()
            && !(*farewell || *client_leaving || self.link_shut)
    }

    /// Grows with everything that the client says.
    pub fn turns(&self) -> u64 {
        self.state.turns
    }

    /// For a conversation with the server beside the client's, at a safe point.
    pub fn link(&mut self) -> &mut L {
        &mut self.link
    }

    /// What that conversation yields for the client: whole messages, and bytes that it did not look at.
    pub fn resume(&mut self, messages: &[u8], unseen: &[u8]) {
        self.down.insert(messages);
        self.down.append_unseen(unseen);
    }

    /// Puts the session on another link, at a safe point, and returns the one it was on.
    pub fn change_link(&mut self, link: L, process_ids: Option<ProcessIds>) -> L {
        self.state.process_ids = process_ids;
        std::mem::replace(&mut self.link, link)
    }

    /// Whether a message of pgswivel's own may be written to the client now.
    pub fn client_at_boundary(&self) -> bool {
        self.down.is_passed_on()
    }

    pub fn into_streams(self) -> (C, L) {
        (self.client, self.link)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(end) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        let end = ready!(self.poll_down(cx));
        Poll::Ready(end)
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.link_shut {
            return Poll::Pending;
        }
        let state = &mut self.state;
        let see = |piece: Piece<'_>| state.see_client(&piece);
        match ready!(self.up.pump(cx, &mut self.client, &mut self.link, see)) {
            Stop::End => {
                self.state.client_leaving = true;
                // The server finishes what it was asked before it notices: half-close, and keep listening.
                let _ = ready!(Pin::new(&mut self.link).poll_shutdown(cx));
                self.link_shut = true;
                Poll::Pending
            }
            Stop::ReadFailed(_) => Poll::Ready(End::ClientGone),
            Stop::Malformed(bad) => Poll::Ready(End::ClientMalformed(bad)),
            Stop::WriteFailed => {
                // The server may have said why before it closed: what it sent can still be read.
                self.link_shut = true;
                Poll::Pending
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let state = &mut self.state;
        let see = |piece: Piece<'_>| state.see_server(piece);
        let Poll::Ready(stop) = self.down.pump(cx, &mut self.link, &mut self.client, see) else {
            if self.state.tracker.is_quiet() {
                self.up.rest();
                self.down.rest();
            }
            return Poll::Pending;
        };
        let over = self.state.farewell || self.state.client_leaving;
        Poll::Ready(match stop {
            Stop::End | Stop::ReadFailed(_) if over => End::LinkClosed,
            Stop::End => End::LinkLost(None),
            Stop::ReadFailed(error) => End::LinkLost(Some(error)),
            Stop::WriteFailed => End::ClientGone,
            Stop::Malformed(bad) => End::LinkMalformed(bad),
        })
    }
}
#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    /// A relay between two far ends, over pipes that hold a few bytes: every message is split somewhere.
    fn between(pipe: usize) -> (DuplexStream, DuplexStream, JoinHandle<End>) {
        let (client, near_client) = duplex(pipe);
        let (server, near_server) = duplex(pipe);
        let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
        let running = tokio::spawn(async move { relay.run().await });
        (client, server, running)
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    const FATAL: &[u8] = b"SFATAL\0VFATAL\0C57P01\0Mgoing\0\0";

    #[tokio::test]
    async fn bytes_pass_unchanged_both_ways_whatever_the_splits() {
        for pipe in [1, 3, 8, 64, 1 << 20] {
            let (mut client, mut server, running) = between(pipe);
            let up: Vec<u8> = (0..400_u32)
                .flat_map(|n| message(b"QPBESd"[n as usize % 6], &vec![n as u8; n as usize]))
                .collect();
            let down: Vec<u8> = (0..400_u32)
                .flat_map(|n| message(b"DCZTNA"[n as usize % 6], &vec![n as u8; 1 + 2 * n as usize]))
                .collect();
            let (mut client_reads, mut client_writes) = tokio::io::split(&mut client);
            let (mut server_reads, mut server_writes) = tokio::io::split(&mut server);
            let (mut got_up, mut got_down) = (vec![0; up.len()], vec![0; down.len()]);
            let all = tokio::try_join!(
                client_writes.write_all(&up),
                server_writes.write_all(&down),
                server_reads.read_exact(&mut got_up),
                client_reads.read_exact(&mut got_down),
            );
            all.unwrap();
            assert!(got_up == up && got_down == down, "pipe of {pipe}");
            running.abort();
        }
    }

    #[tokio::test]
    async fn a_client_that_closes_its_side_still_gets_its_answer() {
        let (mut client, mut server, running) = between(8);
        client.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
        client.shutdown().await.unwrap();
        let mut asked = Vec::new();
        server.read_to_end(&mut asked).await.unwrap();
        assert_eq!(asked, message(b'Q', b"select 1\0"));
        let answer = message(b'Z', b"I");
        server.write_all(&answer).await.unwrap();
        drop(server);
        let mut got = Vec::new();
        let end = running.await.unwrap();
        client.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, answer);
        assert!(matches!(end, End::LinkClosed), "{end:?}");
    }

    #[tokio::test]
    async fn a_fatal_is_passed_on_and_then_nothing_is_added() {
        let (mut client, mut server, running) = between(8);
        let fatal = message(b'E', FATAL);
        let said = async {
            server.write_all(&fatal).await.unwrap();
            drop(server);
        };
        let mut got = vec![0; fatal.len()];
        tokio::join!(said, async { client.read_exact(&mut got).await.unwrap() });
        assert_eq!(got, fatal);
        assert!(matches!(running.await.unwrap(), End::LinkClosed));
    }

    #[tokio::test]
    async fn a_server_that_vanishes_is_a_lost_link() {
        let (_client, server, running) = between(8);
        drop(server);
        assert!(matches!(running.await.unwrap(), End::LinkLost(None)));
    }

    #[tokio::test]
    async fn a_length_that_no_message_can_have_ends_the_session() {
        let (mut client, _server, running) = between(8);
        client.write_all(b"Q\0\0\0\x03").await.unwrap();
        assert!(matches!(running.await.unwrap(), End::ClientMalformed(_)));
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_the_writer() {
        let (mut client, mut server, running) = between(1024);
        let row = message(b'D', &[7; 100_000]);
        let (mut written, mut stuck) = (0, false);
        while !stuck {
            let write = server.write(&row[..512]);
            match tokio::time::timeout(std::time::Duration::from_millis(50), write).await {
                Ok(count) => written += count.unwrap(),
                Err(_) => stuck = true,
            }
            assert!(written < 300_000, "the relay takes what nobody reads");
        }
        let mut got = vec![0; written];
        client.read_exact(&mut got).await.unwrap();
        running.abort();
    }

    #[tokio::test]
    async fn buffers_grow_for_bulk_and_are_given_back_at_rest() {
        let (client, near_client) = duplex(1 << 20);
        let (mut server, near_server) = duplex(1 << 20);
        let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
        let (mut reads, mut writes) = tokio::io::split(client);
        writes.write_all(&message(b'Q', b"\0")).await.unwrap();
        let total = 8 << 20;
        let bulk = message(b'D', &vec![1; total]);
        let feed = tokio::spawn(async move {
            server.write_all(&bulk).await.unwrap();
            server
        });
        let drain = tokio::spawn(async move {
            let mut got = vec![0; total + 5];
            reads.read_exact(&mut got).await.unwrap();
            reads
        });
        let (mut capacity, mut done) = (0, false);
        while !done {
            tokio::select! {
                biased;
                _ = relay.run() => panic!("nobody ended it"),
                () = tokio::task::yield_now() => {}
            }
            capacity = capacity.max(relay.down.capacity());
            done = drain.is_finished() && feed.is_finished();
        }
        assert!(capacity >= 256 * 1024, "{capacity}");
        let (mut server, _reads) = (feed.await.unwrap(), drain.await.unwrap());
        server.write_all(&message(b'Z', b"I")).await.unwrap();
        tokio::select! {
            biased;
            _ = relay.run() => panic!("nobody ended it"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(relay.down.capacity(), 0);
    }
}
