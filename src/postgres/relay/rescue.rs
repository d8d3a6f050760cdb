//! From a lost link to the next one.
//!
//! After [`End::LinkLost`](super::End) the relay stands still, and may do so for as long as it takes to find
//! another link: the client has everything that the lost one said and is owed the rest. Nothing is decided before
//! [`Relay::take_up`], so a link that is lost on the way there costs nothing but the way. One that is lost
//! afterwards is the next [`End::LinkLost`](super::End).

use std::future::poll_fn;
use std::mem;

use super::{Loss, ProcessIds, Relay};
use crate::postgres::wire::aftermath::{Aftermath, Unanswerable};
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
        let more = self.up.has_unseen() || self.up.is_cut();
        Aftermath::of(&self.state.tracker, more, loss.fatal.as_deref())
    }

    /// Resolves when the client leaves while there is no link. What it says meanwhile is kept, up to a bound; then
    /// nothing more is read, and that it leaves is not noticed.
    pub async fn client_left(&mut self) {
        poll_fn(|cx| self.up.poll_hear(cx, &mut self.client)).await;
    }

    /// Answers what was in flight, and goes on with `link`, which is at rest: in a failed transaction if the
    /// aftermath has one, else in none. What was in flight is not asked of it. Returns the lost link.
    pub fn take_up(&mut self, aftermath: Aftermath, link: L, process_ids: Option<ProcessIds>) -> L {
        // Of a large message on its way up, the rest is still to come; it counts as sent.
        self.state.dropping = self.up.is_cut();
        self.up.forget_shown();
        self.down.forget_unfinished();
        self.down.insert(&aftermath.answer);
        aftermath.settle(&mut self.state.tracker, &mut self.state.still);
        self.state.fatal = None;
        self.link_shut = false;
        self.state.process_ids = process_ids;
        mem::replace(&mut self.link, link)
    }
}
