//! The end of a session: what its client is told, and what becomes of the link.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::ending::{Ending, Over};
use super::held::{Held, address_of};
use super::run::Session;
use crate::metrics::NotLent;
use crate::net::Stream;
use crate::postgres::client::admit::{FAREWELL_TIME, close_heard};
use crate::postgres::link::farewell::{leave, outlast};
use crate::postgres::link::login::Link;
use crate::postgres::link::pool::{Idle, Left, take_back};
use crate::postgres::relay::End;

impl Session {
    pub async fn close(mut self, over: Over) {
        let id = self.id;
        self.place = None;
        let error = match over {
            Over::Stopping => Some(Ending::Stopping),
            Over::Cut(reasons) => Some(Ending::Cut { reasons }),
            Over::End(End::LinkLost(loss)) => Some(loss.into()),
            Over::Gone(gone) => {
                warn!(session = id, reason = %gone.reason, "session lost with its link");
                Some(Ending::Gone(gone))
            }
            Over::End(End::LinkMalformed(error)) => {
                info!(session = id, %error, "the server broke the protocol");
                Some(Ending::LinkLost)
            }
            Over::End(End::ClientMalformed(error)) => Some(error.into()),
            Over::End(End::ClientGone | End::LinkClosed) => None,
        };
        let speakable = self.relay.client_at_boundary();
        let mut client = self.give_back();
        match error {
            Some(error) if speakable => {
                let out = &mut BytesMut::new();
                debug!(session = id, side = ?error.side(), sqlstate = error.sqlstate(), %error, "client turned away");
                error.write(out);
                close_heard(client, out).await;
            }
            _ if client.tls().is_some() => {
                // The client may be gone, and then there is nobody to say goodbye to.
                let _ = timeout(FAREWELL_TIME, client.shutdown()).await;
            }
            // Closing says as much.
            _ => {}
        }
        debug!(session = id, "session over");
    }

    /// The link, to be lent again if nothing is left on it that it can't be rid of. Returns the client.
    fn give_back(mut self) -> Stream {
        let kind = self
            .held
            .kind
            .take()
            .filter(|_| self.way.pool.target.upstream.reuse);
        let is_at_rest = self.relay.is_at_rest();
        let left = kind.is_some().then(|| self.left()).flatten();
        let is_live = self.page.borrow().is_live(self.held.registration.credential())
            && Arc::ptr_eq(&self.held.pool, &self.way.pool);
        let (client, stream) = self.relay.into_streams();
        let Held {
            facts,
            registration,
            pool,
            connection,
            ..
        } = self.held;
        match kind.zip(left) {
            Some((kind, left)) if is_live => {
                let link = Link {
                    stream,
                    unread: BytesMut::new(),
                    facts,
                };
                let idle = Idle::new(link, registration, connection, None);
                take_back(pool, kind, idle, left);
            }
            _ if is_at_rest => drop(tokio::spawn(leave(stream, registration))),
            // A Terminate could become part of a message that was not sent to its end.
            _ => {
                let address = address_of(&facts, &stream, &pool.target);
                drop(tokio::spawn(outlast(stream, registration, address)));
            }
        }
        client
    }

    /// What the session leaves with its link. None: something that no reset takes away.
    fn left(&mut self) -> Option<Left> {
        let metrics = &self.service.shared.metrics;
        if !self.relay.is_at_rest() {
            metrics.not_lent(NotLent::Unfinished);
            return None;
        }
        let notes = self.relay.notes_mut()?;
        let risky = Arc::clone(notes.risky());
        let learned = risky.learned();
        notes.hear_news();
        if !notes.leaves_nothing() {
            metrics.not_lent(NotLent::SessionState);
            return None;
        }
        let is_touched = self.held.ledger.is_some() || notes.has_touched();
        // Before anything is known, all that is not harmless counts as that.
        let is_harmless = learned == 0 && !is_touched;
        let backend = self.held.facts.backend.as_ref();
        let cancels = &self.service.shared.cancels;
        Some(Left {
            touched: is_touched.then(|| notes.custom_names()),
            under_way: backend.map(|backend| cancels.under_way(backend.process_id)),
            used: (!is_harmless).then_some((risky, learned)),
            metrics: Arc::clone(metrics),
        })
    }
}
