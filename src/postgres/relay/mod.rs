//! Moves bytes between a client and its link and looks at nothing but message headers.
//!
//! One task owns both sockets. What was read is written on at once from the same slice; only what the other
//! side does not take yet, or the beginning of a small message, is kept, and as long as something can't be
//! sent nothing more is read: the sockets' own buffers are the queue. Progress lives in `self`, so the future
//! may be dropped and taken up again between any two bytes.

#[cfg(test)]
mod bounds;
pub mod lane;
pub mod poll_if_woken;
mod take_up;
pub mod wake_flag;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::postgres::state::notes::Notes;
use crate::postgres::wire::aftermath::{Again, Unfinished};
use crate::postgres::wire::frame::{BadLength, Fate, Piece};
use crate::postgres::wire::read::error_field;
use crate::postgres::wire::say;
use crate::postgres::wire::tag::{field, from_client, from_server};
use crate::postgres::wire::tracker::Tracker;
use crate::postgres::wire::work::Statements;
use lane::{Lane, See, Stop};
use wake_flag::WakeFlag;

/// Why a relay has nothing left to do.
#[derive(Debug)]
pub enum End {
    /// The client went, or can't be reached any more.
    ClientGone,
    /// The client broke the protocol; nothing after that can be framed.
    ClientMalformed(BadLength),
    /// The client was leaving; what the server still had to say was passed on.
    LinkClosed,
    /// The client has everything that the server said before, and waits.
    LinkLost(Loss),
    LinkMalformed(BadLength),
}

/// How a link was lost.
#[derive(Debug, Default)]
pub struct Loss {
    /// The body of the server's FATAL. It is not passed on: to the client it would be the end of its session.
    pub fatal: Option<Bytes>,
    pub error: Option<io::Error>,
}

impl Loss {
    /// In a conversation of our own with the server.
    pub fn with(last_words: Option<&Bytes>) -> Self {
        Self {
            fatal: last_words.cloned(),
            error: None,
        }
    }
}

#[derive(Debug)]
pub struct Relay<C, L> {
    client: C,
    link: L,
    up: Lane,
    down: Lane,
    flags: Flags,
    state: State,
    link_shut: bool,
}

/// Which lane has something to do: most often it is one of them, and to ask the other costs as much.
#[derive(Debug)]
struct Flags {
    up: WakeFlag,
    down: WakeFlag,
}

/// What passing messages tell.
#[derive(Debug, Default)]
struct State {
    tracker: Tracker,
    statements: Statements,
    /// What a lost link has left to do.
    unfinished: Unfinished,
    /// What is in flight, if it may have to be asked for once more.
    again: Again,
    /// For the client, as soon as it can be told.
    answers: BytesMut,
    /// The client's large message that is under way is not for the link.
    dropping: bool,
    /// The client's next message waits for what the server still has to answer.
    holding: bool,
    /// The FATAL or PANIC that was kept back.
    fatal: Option<Bytes>,
    /// A FATAL or PANIC passed: the server will say nothing more.
    farewell: bool,
    /// The client said Terminate, or closed its side.
    client_leaving: bool,
    terminate: Terminate,
    /// Grows with everything that the client says.
    turns: u64,
    /// After a move the backend has another process id than the client knows it by.
    process_ids: Option<ProcessIds>,
    /// None: nobody wants to know.
    notes: Option<Box<Notes>>,
    /// What a statement takes was said, and not yet what it gives.
    describing: bool,
    /// The link outlives a client that leaves at rest.
    keeps_link: bool,
}

/// What has become of the client's Terminate. Behind it nothing is heard any more, as Postgres would not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Terminate {
    #[default]
    Unsaid,
    /// The session was at rest, and its link outlives it.
    KeptBack,
    /// The link ends as soon as its server has read so far.
    PassedOn,
}

/// What a relay stops for, besides an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    End,
    /// A safe point: nothing in flight, no transaction, both directions at a message boundary. As long as the relay
    /// does not run after it, it stays one.
    Safe,
    /// A safe point at which the client has asked for what sequences gave it, if it ever does.
    Asked,
    /// A safe point after something may have changed what the session holds, and nobody took notes of it.
    Unsure,
}

/// In notifications that a session sends to itself, the process id tells the client that they are its own.
#[derive(Clone, Copy, Debug)]
pub struct ProcessIds {
    pub backend: i32,
    pub known: i32,
}

impl State {
    /// Whether the server has to answer something before the client may say more.
    #[inline]
    fn is_full(&self) -> bool {
        self.holding || self.tracker.is_full()
    }

    #[inline]
    fn see_client(&mut self, piece: Piece<'_>) -> Fate {
        self.turns += 1;
        match piece {
            Piece::Message { tag, body } => self.asked(tag, body, true),
            Piece::Begin { tag, body } => self.asked(tag, body, false),
            Piece::More { body, last } => self.asked_more(body, last),
        }
    }

    /// A message of the client's, `whole` or its beginning.
    fn asked(&mut self, tag: u8, body: &[u8], whole: bool) -> Fate {
        if tag == from_client::TERMINATE || self.terminate != Terminate::Unsaid {
            return self.terminated();
        }
        if self.tracker.skips(tag) && self.unfinished.is_nothing() {
            self.dropping = false;
            return Fate::PassedOn;
        }
        let asked = self.statements.read(tag, body, whole);
        let fate = match self.unfinished {
            Unfinished::Nothing => Fate::PassedOn,
            ref mut unfinished => unfinished.meet(tag, &asked, &mut self.tracker, &mut self.answers),
        };
        self.dropping = fate == Fate::Dropped;
        self.holding = fate == Fate::Held;
        if fate != Fate::PassedOn {
            return fate;
        }
        (self.again).asked(tag, body.len(), whole, || {
            self.tracker.is_idle() && self.unfinished.is_nothing()
        });
        self.tracker.from_client(tag, asked.work);
        match &mut self.notes {
            Some(notes) if whole => notes.asked(tag, body),
            Some(notes) => notes.asked_beginning(tag, body),
            None => {}
        }
        fate
    }

    /// The client says Terminate, or something behind it.
    #[inline(never)]
    fn terminated(&mut self) -> Fate {
        let is_first = self.terminate == Terminate::Unsaid;
        if is_first {
            self.client_leaving = true;
            let is_at_rest = self.tracker.is_idle() && self.unfinished.is_nothing();
            self.terminate = match self.keeps_link && is_at_rest {
                true => Terminate::KeptBack,
                false => Terminate::PassedOn,
            };
        }
        self.dropping = !is_first || self.terminate == Terminate::KeptBack;
        match self.dropping {
            true => Fate::Dropped,
            false => {
                // Nobody waits for answers.
                self.again.forget();
                Fate::PassedOn
            }
        }
    }

    fn asked_more(&mut self, body: &[u8], last: bool) -> Fate {
        if self.dropping {
            return Fate::Dropped;
        }
        if let Some(notes) = &mut self.notes {
            notes.asked_more(body, last);
        }
        Fate::PassedOn
    }

    #[inline]
    fn see_server(&mut self, piece: Piece<'_>) -> Fate {
        match piece {
            Piece::Message { tag, body } => match tag {
                // A row says nothing, and there are many of them.
                from_server::DATA_ROW | from_server::COPY_DATA => Fate::PassedOn,
                // Nor do most of the other answers in a pipeline, but that they are answers.
                from_server::BIND_COMPLETE | from_server::ROW_DESCRIPTION | from_server::NO_DATA => {
                    self.tracker.completed();
                    let fate = self.told(tag);
                    if tag != from_server::BIND_COMPLETE && self.awaits_description() {
                        self.described(body, true);
                    }
                    fate
                }
                _ => self.answered(tag, body),
            },
            Piece::Begin { tag, body } => self.answered_beginning(tag, body),
            Piece::More { body, last } => {
                if self.describing {
                    self.described(body, last);
                }
                Fate::PassedOn
            }
        }
    }

    #[inline]
    fn told(&mut self, tag: u8) -> Fate {
        match self.again.told(tag) {
            true => Fate::Opens,
            false => Fate::PassedOn,
        }
    }

    #[inline]
    fn awaits_description(&self) -> bool {
        self.describing
            || self
                .notes
                .as_ref()
                .is_some_and(|notes| notes.awaits_description())
    }

    /// What the statement gives whose parameters were described before.
    #[inline(never)]
    fn described(&mut self, columns: &[u8], last: bool) {
        self.describing = !last;
        if let Some(notes) = &mut self.notes {
            notes.described(columns, last);
        }
    }

    fn answered(&mut self, tag: u8, body: &mut [u8]) -> Fate {
        match tag {
            from_server::ERROR => return self.see_error(body),
            from_server::NOTIFICATION => self.translate(body),
            _ => {
                let fate = self.told(tag);
                self.tracker.from_server(tag, body.first().copied());
                if tag == from_server::READY && self.tracker.is_idle() {
                    self.again.answered();
                }
                self.describing = tag == from_server::PARAMETER_DESCRIPTION;
                if let Some(notes) = &mut self.notes {
                    notes.answered(tag, body);
                    if tag == from_server::READY && self.tracker.is_quiet() {
                        notes.quiet();
                    }
                }
                return fate;
            }
        }
        Fate::PassedOn
    }

    fn answered_beginning(&mut self, tag: u8, body: &[u8]) -> Fate {
        self.again.told(tag);
        self.tracker.from_server(tag, None);
        self.farewell |= tag == from_server::ERROR && is_fatal(body);
        match tag {
            from_server::ROW_DESCRIPTION if self.awaits_description() => self.described(body, false),
            _ => self.describing = false,
        }
        if tag == from_server::PARAMETER_DESCRIPTION
            && let Some(notes) = &mut self.notes
        {
            notes.answered_beginning(tag);
        }
        Fate::PassedOn
    }

    #[inline(never)]
    fn see_error(&mut self, body: &[u8]) -> Fate {
        if !is_fatal(body) {
            self.again.told(from_server::ERROR);
            self.tracker.from_server(from_server::ERROR, None);
            self.statements.doubt();
            if let Some(notes) = &mut self.notes {
                notes.answered(from_server::ERROR, body);
            }
            return Fate::PassedOn;
        }
        if self.client_leaving {
            self.farewell = true;
            return Fate::PassedOn;
        }
        self.fatal = Some(Bytes::copy_from_slice(body));
        if !self.again.takes_back() {
            return Fate::Dropped;
        }
        if let Some(notes) = &mut self.notes {
            notes.taken_back();
        }
        Fate::TakenBack
    }

    #[inline(never)]
    fn translate(&self, notification: &mut [u8]) {
        if let (Some(ids), Some(process_id)) = (self.process_ids, notification.first_chunk_mut())
            && *process_id == ids.backend.to_be_bytes()
        {
            *process_id = ids.known.to_be_bytes();
        }
    }
}

/// What the client's lane is shown to.
struct Asking<'a>(&'a mut State);

impl See for Asking<'_> {
    #[inline]
    fn see(&mut self, piece: Piece<'_>) -> Fate {
        self.0.see_client(piece)
    }

    #[inline]
    fn passed(&mut self, bytes: &[u8]) {
        self.0.again.went_on(bytes);
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.0.is_full()
    }
}

/// What the server's lane is shown to.
struct Answering<'a>(&'a mut State);

impl See for Answering<'_> {
    #[inline]
    fn see(&mut self, piece: Piece<'_>) -> Fate {
        self.0.see_server(piece)
    }

    #[inline]
    fn passed(&mut self, _bytes: &[u8]) {
        self.0.again.passed();
    }
}

fn is_fatal(error: &[u8]) -> bool {
    let severity =
        error_field(error, field::SEVERITY_UNTRANSLATED).or_else(|| error_field(error, field::SEVERITY));
    matches!(severity, Some(b"FATAL" | b"PANIC"))
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
            flags: Flags {
                up: WakeFlag::new(),
                down: WakeFlag::new(),
            },
            state: State::default(),
            link_shut: false,
        }
    }

    /// Until either side ends. May be dropped and called again.
    pub async fn run(&mut self) -> End {
        self.wake_all();
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Until there is what is wanted; `Ok` only then.
    pub fn run_until(&mut self, want: Want) -> impl Future<Output = Result<(), End>> {
        self.wake_all();
        poll_fn(move |cx| match self.poll(cx) {
            Poll::Ready(end) => Poll::Ready(Err(end)),
            Poll::Pending if self.has(want) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
    }

    /// Between two runs, others may have read and written here.
    fn wake_all(&self) {
        self.flags.up.set();
        self.flags.down.set();
    }

    fn has(&self, want: Want) -> bool {
        match want {
            Want::End => false,
            Want::Safe => self.is_safe(),
            Want::Asked => {
                let notes = self.notes();
                !notes.is_some_and(Notes::may_ask_sequences) && self.is_safe()
            }
            Want::Unsure => {
                let notes = self.notes();
                notes.is_some_and(|notes| notes.is_unsure() || notes.is_disowned()) && self.is_safe()
            }
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
        self.is_at_rest() && !self.state.client_leaving
    }

    /// Whether the link can be used for something else, if the client has left.
    pub fn is_at_rest(&self) -> bool {
        let State {
            tracker,
            unfinished,
            fatal,
            farewell,
            terminate,
            ..
        } = &self.state;
        let asked_for_no_more = match terminate {
            Terminate::Unsaid => self.up.is_passed_on(),
            // What it says behind that is not for the link.
            Terminate::KeptBack => self.up.is_written(),
            Terminate::PassedOn => false,
        };
        tracker.is_idle()
            && unfinished.is_nothing()
            && asked_for_no_more
            && self.down.is_passed_on()
            && !(fatal.is_some() || *farewell || self.link_shut)
    }

    /// When the client leaves at rest, the link does not learn of it.
    pub fn keep_link(&mut self) {
        self.state.keeps_link = true;
    }

    /// A unit up to so many bytes is kept while it is in flight, in case that it has to be asked for again.
    pub fn keep_units_up_to(&mut self, bytes_max: u32) {
        self.state.again = Again::up_to(bytes_max);
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
        self.down.is_at_boundary()
    }

    pub fn into_streams(self) -> (C, L) {
        (self.client, self.link)
    }

    /// The link first: what is known to be lost on it is not asked of it any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.flags.down.take(cx) {
            let was_full = self.state.is_full();
            if let Poll::Ready(end) = self.poll_down() {
                return Poll::Ready(end);
            }
            if was_full {
                self.flags.up.set();
            }
        }
        if !self.is_speechless()
            && self.flags.up.take(cx)
            && let Poll::Ready(end) = self.poll_up()
        {
            return Poll::Ready(end);
        }
        if self.state.keeps_link && self.state.client_leaving && self.is_at_rest() {
            return Poll::Ready(End::ClientGone);
        }
        if self.state.answers.is_empty() {
            return Poll::Pending;
        }
        let answers = self.state.answers.split();
        self.down.insert(&answers);
        self.poll_down()
    }

    /// An answer of our own can't be put into a message of the server's.
    fn is_speechless(&self) -> bool {
        !self.state.unfinished.is_nothing() && self.down.is_cut()
    }

    fn poll_up(&mut self) -> Poll<End> {
        if self.link_shut {
            return Poll::Pending;
        }
        let cx = &mut self.flags.up.context();
        let see = Asking(&mut self.state);
        match ready!(self.up.pump(cx, &mut self.client, &mut self.link, see)) {
            Stop::End => {
                self.state.client_leaving = true;
                if self.state.keeps_link && self.is_at_rest() {
                    return Poll::Ready(End::ClientGone);
                }
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

    fn poll_down(&mut self) -> Poll<End> {
        let cx = &mut self.flags.down.context();
        let see = Answering(&mut self.state);
        let stop = match self.down.pump(cx, &mut self.link, &mut self.client, see) {
            Poll::Ready(stop) => stop,
            // Whether and when it closes as well makes no difference.
            Poll::Pending if self.state.fatal.is_some() && self.down.is_at_boundary() => Stop::End,
            Poll::Pending => {
                if self.state.tracker.is_quiet() {
                    self.up.rest();
                    self.down.rest();
                }
                return Poll::Pending;
            }
        };
        let error = match stop {
            Stop::WriteFailed => return Poll::Ready(End::ClientGone),
            Stop::Malformed(bad) => return Poll::Ready(End::LinkMalformed(bad)),
            Stop::End => None,
            Stop::ReadFailed(error) => Some(error),
        };
        if !self.state.farewell && !self.state.client_leaving {
            let fatal = self.state.fatal.take();
            return Poll::Ready(End::LinkLost(Loss { fatal, error }));
        }
        match self.state.fatal.take() {
            // The client has left meanwhile, and gets what it would have got.
            Some(fatal) if !self.down.is_cut() => {
                let mut message = BytesMut::new();
                say::error_body(&mut message, &fatal);
                self.down.end_with(&message);
                self.poll_down()
            }
            _ => Poll::Ready(End::LinkClosed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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

    pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
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
    async fn a_fatal_is_kept_back_and_ends_the_relay_at_once() {
        let (mut client, mut server, running) = between(8);
        let notice = message(b'N', b"SNOTICE\0\0");
        let words = [&notice[..], &message(b'E', FATAL)].concat();
        let mut got = Vec::new();
        let (said, end, heard) =
            tokio::join!(server.write_all(&words), running, client.read_to_end(&mut got));
        said.and(heard.map(drop)).unwrap();
        let End::LinkLost(Loss { fatal, error: None }) = end.unwrap() else {
            panic!("the link was lost");
        };
        assert_eq!(fatal.unwrap(), FATAL);
        assert_eq!(got, notice);
    }

    #[tokio::test]
    async fn a_client_that_is_leaving_gets_the_fatal_as_it_came() {
        let fatal = message(b'E', FATAL);
        for terminate in [true, false] {
            let (mut client, mut server, running) = between(8);
            match terminate {
                true => client.write_all(&message(b'X', b"")).await.unwrap(),
                false => client.shutdown().await.unwrap(),
            }
            let mut heard = Vec::new();
            match terminate {
                true => server.read_exact(&mut [0; 5]).await.map(drop).unwrap(),
                false => server.read_to_end(&mut heard).await.map(drop).unwrap(),
            }
            let said = async {
                server.write_all(&fatal).await.unwrap();
                drop(server);
            };
            let mut got = vec![0; fatal.len()];
            tokio::join!(said, async { client.read_exact(&mut got).await.unwrap() });
            assert_eq!(got, fatal);
            assert!(matches!(running.await.unwrap(), End::LinkClosed));
        }
    }

    /// What leaves a session that is not at rest.
    type Messages = &'static [(u8, &'static [u8])];

    /// What both sides said.
    const UNRESTED: [(Messages, Messages); 6] = [
        (&[(b'Q', b"BEGIN\0")], &[(b'Z', b"T")]),
        (&[(b'P', b"\0SELECT 1\0\0\0"), (b'H', b"")], &[(b'1', b"")]),
        (&[(b'P', b"\0SELEC\0\0\0")], &[(b'E', b"SERROR\0\0")]),
        (&[(b'Q', b"COPY t FROM STDIN\0")], &[(b'G', b"\0\0\0")]),
        (&[(b'Q', b"BEGIN\0"), (b'Q', b"SELEC\0")], &[(b'Z', b"E")]),
        (&[(b'Q', b"SELECT 1\0")], &[]),
    ];

    proptest! {
        #[test]
        fn a_terminate_is_for_the_server_unless_it_comes_at_rest_and_nothing_is_behind_it(
            before in prop::collection::vec((any::<bool>(), prop::sample::select(b"QPBESCHdcTZ12CEGN".to_vec())), 0..12),
            behind in prop::collection::vec(prop::sample::select(b"QPSXdF".to_vec()), 0..4),
            keeps_link in any::<bool>(),
        ) {
            let mut state = State { keeps_link, ..State::default() };
            for (from_client, tag) in before {
                let mut body = *b"I\0\0\0\0\0\0\0\0";
                let piece = Piece::Message { tag, body: &mut body };
                match from_client {
                    true => state.see_client(piece),
                    false => state.see_server(piece),
                };
            }
            let is_kept = keeps_link && state.tracker.is_idle() && state.unfinished.is_nothing();
            let fate = state.see_client(Piece::Message { tag: b'X', body: &mut [] });
            prop_assert_eq!(fate == Fate::Dropped, is_kept);
            let tracker = format!("{:?}", state.tracker);
            for tag in behind {
                let fate = state.see_client(Piece::Message { tag, body: &mut [0, 0] });
                prop_assert_eq!(fate, Fate::Dropped);
            }
            prop_assert_eq!(format!("{:?}", state.tracker), tracker);
        }
    }

    #[tokio::test]
    async fn a_terminate_that_does_not_come_at_rest_is_for_the_server() {
        for (asked, answered) in UNRESTED {
            let (mut client, near_client) = duplex(1 << 20);
            let (mut server, near_server) = duplex(1 << 20);
            let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
            relay.keep_link();
            let running = tokio::spawn(async move { (relay.run().await, relay.is_at_rest()) });
            for (tag, body) in asked {
                client.write_all(&message(*tag, body)).await.unwrap();
            }
            let asked: Vec<u8> = asked.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
            server.read_exact(&mut vec![0; asked.len()]).await.unwrap();
            for (tag, body) in answered {
                server.write_all(&message(*tag, body)).await.unwrap();
                client.read_exact(&mut vec![0; body.len() + 5]).await.unwrap();
            }
            let behind = [message(b'X', b""), message(b'Q', b"INSERT 1\0")].concat();
            client.write_all(&behind).await.unwrap();
            let mut heard = [0; 5];
            server.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard[..], message(b'X', b""));
            // It may have become idle before it read that.
            server.write_all(&message(b'Z', b"I")).await.unwrap();
            server.shutdown().await.unwrap();
            let (end, is_at_rest) = running.await.unwrap();
            assert!(matches!(end, End::LinkClosed), "{end:?}");
            assert!(!is_at_rest, "it can't be lent");
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"", "behind a Terminate nothing is asked");
        }
    }

    #[tokio::test]
    async fn a_terminate_at_rest_leaves_the_link_as_it_was_whatever_follows() {
        for behind in [
            &b""[..],
            b"Q\0",
            &message(b'Q', b"INSERT 1\0"),
            &message(b'd', &[0; 100_000])[..70_000],
        ] {
            let (mut client, near_client) = duplex(1 << 20);
            let (mut server, near_server) = duplex(1 << 20);
            let mut relay = Relay::new(near_client, near_server, BytesMut::new(), BytesMut::new());
            relay.keep_link();
            client.write_all(&message(b'X', b"")).await.unwrap();
            client.write_all(behind).await.unwrap();
            let end = relay.run().await;
            assert!(matches!(end, End::ClientGone), "{end:?}");
            assert!(relay.is_at_rest());
            drop(relay);
            let mut heard = Vec::new();
            server.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"");
        }
    }

    #[tokio::test]
    async fn a_server_that_vanishes_is_a_lost_link() {
        let (_client, server, running) = between(8);
        drop(server);
        let end = running.await.unwrap();
        assert!(matches!(
            end,
            End::LinkLost(Loss {
                fatal: None,
                error: None
            })
        ));
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
