//! What a session has of its link, beside the stream, which the relay has.

use std::sync::Arc;

use bytes::BytesMut;

use crate::access::roster::Registration;
use crate::limit::Permit;
use crate::net::Stream;
use crate::postgres::link::cancel::Address;
use crate::postgres::link::login::Facts;
use crate::postgres::link::pool::{LinkKind, Pool};
use crate::postgres::link::target::Target;
use crate::postgres::state::ledger::Ledger;

pub struct Held {
    pub facts: Facts,
    pub registration: Registration,
    /// Where the link leads. The session's way may lead elsewhere by now.
    pub pool: Arc<Pool>,
    pub connection: Permit,
    /// Who else the link can be lent to when the session is over.
    pub kind: Option<LinkKind>,
    /// What the last survey told; None: there was no reason for one yet.
    pub ledger: Option<Box<Ledger>>,
}

/// A link that was made what the session's own is, or was.
pub struct Next {
    pub facts: Facts,
    pub registration: Registration,
    pub pool: Arc<Pool>,
    pub stream: Stream,
    /// What was read of it, and is for the client.
    pub unread: BytesMut,
    /// What it holds.
    pub ledger: Ledger,
    /// What the client has to be told.
    pub messages: BytesMut,
}

/// Where a link's backend can be told to stop.
pub fn address_of(facts: &Facts, link: &Stream, target: &Arc<Target>) -> Option<Address> {
    Some(Address {
        target: Arc::clone(target),
        endpoint: facts.endpoint.clone(),
        peer: link.peer().clone(),
        encrypted: link.tls().is_some(),
        backend: facts.backend.clone()?,
    })
}
