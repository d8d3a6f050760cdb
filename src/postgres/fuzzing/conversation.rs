//! A client and a server over the relay that knows what passes: frames, tracker and notes as they work together.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::postgres::relay::{self, Relay, Want};
use crate::postgres::state::notes::Notes;
use crate::postgres::state::risky_names::RiskyNames;

const STATEMENT_BYTES: u32 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// Who says what, one after the other.
struct Script {
    said: VecDeque<(Side, Vec<u8>)>,
    waiting: Vec<Waker>,
}

/// One end as the relay has it.
struct End {
    side: Side,
    script: Rc<RefCell<Script>>,
    /// What the relay sent to it.
    got: Rc<RefCell<Vec<u8>>>,
}

impl Script {
    /// A byte says who speaks and how much, and so on.
    fn read(mut data: &[u8]) -> Self {
        let mut said = VecDeque::new();
        while let Some((head, rest)) = data.split_first() {
            let side = match head % 2 {
                0 => Side::Client,
                _ => Side::Server,
            };
            let length = usize::from(head / 2 + 1).min(rest.len());
            let (words, rest) = rest.split_at(length);
            said.push_back((side, words.to_vec()));
            data = rest;
        }
        Self {
            said,
            waiting: Vec::new(),
        }
    }

    fn all_of(&self, side: Side) -> Vec<u8> {
        let of_side = self.said.iter().filter(|(from, _)| *from == side);
        of_side.flat_map(|(_, words)| words.iter().copied()).collect()
    }
}

impl AsyncRead for End {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut script = self.script.borrow_mut();
        match script.said.front_mut() {
            // Both ends are closed when nothing more is said.
            None => return Poll::Ready(Ok(())),
            Some((side, words)) if *side == self.side => {
                let length = words.len().min(buffer.remaining());
                buffer.put_slice(&words[..length]);
                words.drain(..length);
                if words.is_empty() {
                    script.said.pop_front();
                }
            }
            Some(_) => {
                script.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        script.waiting.drain(..).for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, words: &[u8]) -> Poll<io::Result<usize>> {
        self.got.borrow_mut().extend_from_slice(words);
        Poll::Ready(Ok(words.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Whatever is said: what passes is what was said, in its order, and what is known of the session never panics.
pub fn conversation(data: &[u8]) {
    let script = Script::read(data);
    let (asked, answered) = (script.all_of(Side::Client), script.all_of(Side::Server));
    let script = Rc::new(RefCell::new(script));
    let end = |side| End {
        side,
        script: Rc::clone(&script),
        got: Rc::default(),
    };
    let (client, server) = (end(Side::Client), end(Side::Server));
    let (told, got) = (Rc::clone(&client.got), Rc::clone(&server.got));
    let mut relay = Relay::new(client, server, BytesMut::new(), BytesMut::new());
    relay.observe(Notes::new(Arc::new(RiskyNames::plain()), STATEMENT_BYTES));
    for want in [Want::Safe, Want::End] {
        let ended = run(&mut relay, want, data.len() + 8);
        assert!(
            asked.starts_with(&got.borrow()),
            "the server was told something else"
        );
        // A FATAL is kept back until it is known what becomes of the session, and no server says anything behind it.
        let is_prefix = answered.starts_with(&told.borrow());
        assert!(
            is_prefix || ends_itself(&answered),
            "the client was told something else"
        );
        if !matches!(ended, Some(Ok(()))) {
            break;
        }
        if let Some(notes) = relay.notes() {
            let _ = (notes.is_all_there_is(), notes.known(None, &Default::default()));
        }
    }
}

fn ends_itself(answered: &[u8]) -> bool {
    let says = |word: &[u8]| answered.windows(word.len()).any(|part| part == word);
    says(b"FATAL\0") || says(b"PANIC\0")
}

/// None: it waits for what nobody says.
fn run(relay: &mut Relay<End, End>, want: Want, polls_max: usize) -> Option<Result<(), relay::End>> {
    let mut context = Context::from_waker(Waker::noop());
    let mut running = pin!(relay.run_until(want));
    for _ in 0..polls_max {
        if let Poll::Ready(ended) = running.as_mut().poll(&mut context) {
            return Some(ended);
        }
    }
    None
}
