//! What is said before anybody is logged in.

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::postgres::wire::opening::{Opening, body_length};
use crate::postgres::wire::scram::client::{Binding, client_first};
use crate::postgres::wire::scram::server::{ExpectMechanism, SaltSecret, Verdict, Verifier};
use crate::postgres::wire::scram::{Nonce, SaltedPassword};

/// Costs little: what is derived is not what is tried.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN;
const ITERATIONS_MAX: u32 = 64;

/// The first packet of a connection: what is understood is written as it was read.
pub fn startup(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk::<4>() else {
        return;
    };
    let Ok(length) = body_length(*prefix) else {
        return;
    };
    let Some(body) = body.get(..length) else {
        return;
    };
    if let Ok(Opening::Startup(startup)) = Opening::read(body) {
        let written = startup.write();
        let again = Opening::read(&written[4..]);
        assert!(
            matches!(&again, Ok(Opening::Startup(again)) if again.parameters == startup.parameters),
            "what was understood is not what is said upstream"
        );
    }
}

/// Both sides of SCRAM: no bytes log anybody in, and none make a client believe a server.
pub fn scram(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (first, last, server) = (next(), next(), next());
    let nonce = || Nonce::from_random(&[1; 18]);
    let verifier = Arc::new(Verifier::mock(
        &SaltSecret::from_random([1; 32]),
        b"app",
        ITERATIONS,
    ));
    let offered = (first.len() % 2 == 0).then(|| (&b"hash"[..]).into());
    for mechanism in [&b"SCRAM-SHA-256"[..], b"SCRAM-SHA-256-PLUS"] {
        let phase = ExpectMechanism::new(Arc::clone(&verifier), offered.clone()).select(mechanism);
        if let Ok((_, phase)) = phase.and_then(|phase| phase.read(first, &nonce())) {
            let accepted = matches!(phase.read(last), Ok(Verdict::Accepted { .. }));
            assert!(!accepted, "let in without a password");
        }
    }
    let (_, client) = client_first(Binding::None, nonce());
    if let Ok(challenge) = client.read(server, ITERATIONS_MAX) {
        let salted = SaltedPassword::derive(b"x", challenge.salt(), challenge.iterations());
        let (_, phase) = challenge.answer(&salted);
        assert!(
            phase.verify(last).is_err(),
            "a server was believed that knows nothing"
        );
    }
}
