//! Who is there: a client proves that it knows its role's static password.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::refusal::TurnedAway;
use crate::postgres::talk::stream::{Message, MessageStream, StreamError};
use crate::postgres::wire::parts::{string, value};
use crate::postgres::wire::say;
use crate::postgres::wire::scram::server::{ExpectMechanism, Verdict, Verifier};
use crate::postgres::wire::scram::{EndPointHash, Nonce};
use crate::postgres::wire::tag::from_client;
use crate::random;

/// As Postgres bounds a SASL message.
const MESSAGE_MAX: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Refused(#[from] TurnedAway),
}

/// Runs SCRAM against `verifier`, which for an unknown role is one that nothing satisfies. `out` may hold
/// messages that have to go first.
pub async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut MessageStream<S>,
    out: &mut BytesMut,
    role: &str,
    verifier: Arc<Verifier>,
    binding: Option<EndPointHash>,
) -> Result<(), AuthError> {
    let phase = ExpectMechanism::new(verifier, binding);
    say::sasl(out, phase.mechanisms());
    talk.write(out).await.map_err(StreamError::from)?;

    let message = password(talk).await?;
    let (mechanism, first) = initial_response(message.body())?;
    let phase = phase.select(mechanism).map_err(TurnedAway::from)?;
    let asked;
    let first = match first {
        Some(first) => first,
        None => {
            say::sasl_continue(out, b"");
            talk.write(out).await.map_err(StreamError::from)?;
            asked = password(talk).await?;
            asked.body()
        }
    };
    let (challenge, phase) = phase
        .read(first, &Nonce::from_random(&random::bytes()))
        .map_err(TurnedAway::from)?;
    say::sasl_continue(out, &challenge);
    talk.write(out).await.map_err(StreamError::from)?;

    let message = password(talk).await?;
    match phase.read(message.body()).map_err(TurnedAway::from)? {
        Verdict::Accepted { server_final } => {
            say::sasl_final(out, &server_final);
            Ok(())
        }
        Verdict::Refused => Err(TurnedAway::WrongPassword {
            role: role.to_owned(),
        }
        .into()),
    }
}

async fn password<S: AsyncRead + AsyncWrite + Unpin>(
    talk: &mut MessageStream<S>,
) -> Result<Message, AuthError> {
    let message = talk.read(MESSAGE_MAX).await?;
    if message.tag != from_client::PASSWORD {
        return Err(TurnedAway::NoPassword(char::from(message.tag)).into());
    }
    Ok(message)
}

/// The mechanism's name, and the first message of the exchange, which may be absent (length -1).
fn initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), TurnedAway> {
    const BAD: TurnedAway = TurnedAway::NoPassword('p');
    let (mechanism, rest) = string(body).ok_or(BAD)?;
    match value(rest) {
        Some((response, b"")) => Ok((mechanism, response)),
        _ => Err(BAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sasl_response_with_a_lying_length_is_refused() {
        for body in [
            &b""[..],
            b"SCRAM-SHA-256",
            b"SCRAM-SHA-256\0",
            b"SCRAM-SHA-256\0\0\0",
            b"SCRAM-SHA-256\0\0\0\0\x05abc",
            b"SCRAM-SHA-256\0\x7f\xff\xff\xffabc",
            b"SCRAM-SHA-256\0\xff\xff\xff\xfeabc",
            b"SCRAM-SHA-256\0\xff\xff\xff\xffabc",
        ] {
            assert!(initial_response(body).is_err(), "{body:?}");
        }
        let (mechanism, data) = initial_response(b"X\0\0\0\0\x03abc").unwrap();
        assert_eq!((mechanism, data), (&b"X"[..], Some(&b"abc"[..])));
        assert_eq!(initial_response(b"X\0\xff\xff\xff\xff").unwrap().1, None);
    }
}
