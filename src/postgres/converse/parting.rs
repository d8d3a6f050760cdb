//! The end of a session: what its client is told, and what becomes of the link.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::super::entry::{FAREWELL_TIME, turn_away};
use super::super::errors::ClientError;
use super::super::farewell::{leave, outlast};
use super::super::lender::take_back;
use super::super::links::Arrival;
use super::super::login::Link;
use super::super::notes::Notes;
use super::super::relay::End;
use super::super::session::address_of;
use super::{Over, Session};
use crate::net::Stream;

impl Session {
    pub(super) async fn close(mut self, over: Over) {
        let id = self.id;
        self.place = None;
        let error = match over {
            Over::Stopping => Some(ClientError::Stopping),
            Over::Cut(reasons) => Some(ClientError::Cut { reasons }),
            Over::End(End::LinkLost(loss)) => Some(loss.into()),
            Over::Gone(gone) => {
                warn!(session = id, reason = %gone.reason, "session lost with its link");
                Some(ClientError::Gone(gone))
            }
            Over::End(End::LinkMalformed(error)) => {
                info!(session = id, %error, "the server broke the protocol");
                Some(ClientError::LinkLost)
            }
            Over::End(End::ClientMalformed(error)) => Some(error.into()),
            Over::End(End::ClientGone | End::LinkClosed) => None,
        };
        let speakable = self.relay.client_at_boundary();
        let wing = Arc::clone(&self.wing);
        let mut client = self.give_back();
        match error {
            Some(error) if speakable => {
                turn_away(client, &mut BytesMut::new(), &error, id, &wing.lobby).await;
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
    fn give_back(self) -> Stream {
        let is_at_rest = self.relay.is_at_rest();
        let is_clean = is_at_rest && self.relay.notes().is_some_and(Notes::leaves_nothing);
        let is_touched = self.ledger.is_some() || self.relay.notes().is_none_or(Notes::is_signalled);
        let is_live = self.course.page.borrow().is_live(self.berth.credential())
            && Arc::ptr_eq(&self.target, &self.mapping.target);
        let backend = self.facts.backend.as_ref().map(|backend| backend.process_id);
        let cancels = &self.wing.lobby.cancels;
        let under_way = backend.map(|backend| cancels.under_way(backend));
        let reuse = self.mapping.target.upstream.reuse;
        let (client, stream) = self.relay.into_streams();
        let address = || {
            let backend = self.facts.backend.as_ref()?;
            Some(address_of(&self.facts.endpoint, &stream, backend, &self.target))
        };
        match self.kind.filter(|_| is_clean && is_live && reuse) {
            Some(kind) => {
                let link = Link {
                    stream,
                    unread: BytesMut::new(),
                    facts: self.facts,
                };
                let arrival = Arrival {
                    link,
                    berth: self.berth,
                    target: self.target,
                };
                take_back(kind, arrival, self.connection, is_touched, under_way);
            }
            None if is_at_rest => drop(tokio::spawn(leave(stream, self.berth))),
            // A Terminate could become part of a message that was not sent to its end.
            None => {
                let address = address();
                drop(tokio::spawn(outlast(stream, self.berth, address)));
            }
        }
        client
    }
}
