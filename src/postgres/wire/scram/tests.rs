//! Promises that take both roles, or a role and somebody else's.

use std::num::NonZeroU32;
use std::sync::Arc;

use postgres_protocol::authentication::sasl;
use proptest::prelude::*;

use super::client::{self, Binding, ITERATIONS_MAX, ScramClientError};
use super::server::{ExpectMechanism, SaltSecret, ScramServerError, Verdict, Verifier};
use super::*;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4).unwrap();

fn verifier(password: &[u8]) -> Arc<Verifier> {
    let secret = SaltSecret::from_random([1; 32]);
    Arc::new(Verifier::derive(&secret, b"app", password, ITERATIONS))
}

fn nonce(byte: u8) -> Nonce {
    Nonce::from_random(&[byte; NONCE_BYTES])
}

/// One login. The outer result is the server's, the inner one the client's.
fn log_in(
    password: &[u8],
    binding: Binding,
    verifier: &Arc<Verifier>,
    offered: Option<EndPointHash>,
) -> Result<Option<Result<(), ScramClientError>>, ScramServerError> {
    let phase = ExpectMechanism::new(verifier.clone(), offered).select(binding.mechanism().as_bytes())?;
    let (client_first, client) = client::client_first(binding, nonce(1));
    let (server_first, phase) = phase.read(&client_first, &nonce(2))?;
    let challenge = client.read(&server_first, ITERATIONS_MAX).unwrap();
    let salted = SaltedPassword::derive(password, challenge.salt(), challenge.iterations());
    let (client_final, client) = challenge.answer(&salted);
    Ok(match phase.read(&client_final)? {
        Verdict::Accepted { server_final } => Some(client.verify(&server_final)),
        Verdict::Refused => None,
    })
}

#[test]
fn both_roles_agree_on_any_password_with_and_without_binding() {
    let hash: EndPointHash = Arc::from(&[9_u8; 48][..]);
    let long = vec![0xf0; 4_096];
    for password in [
        &b"pencil"[..],
        b"",
        b"\xff\x00,=",
        "p\u{e4}\u{fb01}\u{a0}".as_bytes(),
        &long,
    ] {
        let verifier = verifier(password);
        let plus = Binding::EndPoint(hash.clone());
        assert_eq!(log_in(password, Binding::None, &verifier, None), Ok(Some(Ok(()))));
        assert_eq!(
            log_in(password, Binding::SupportedButNotOffered, &verifier, None),
            Ok(Some(Ok(())))
        );
        assert_eq!(
            log_in(password, Binding::None, &verifier, Some(hash.clone())),
            Ok(Some(Ok(())))
        );
        assert_eq!(
            log_in(password, plus, &verifier, Some(hash.clone())),
            Ok(Some(Ok(())))
        );
        assert_eq!(log_in(b"other", Binding::None, &verifier, None), Ok(None));
    }
}

#[test]
fn somebody_between_the_two_is_noticed_by_the_binding() {
    let (ours, theirs): (EndPointHash, EndPointHash) = (Arc::from(&b"ours"[..]), Arc::from(&b"theirs"[..]));
    let verifier = verifier(b"pencil");
    assert_eq!(
        log_in(
            b"pencil",
            Binding::EndPoint(theirs),
            &verifier,
            Some(ours.clone())
        ),
        Err(ScramServerError::BindingMismatch)
    );
    assert_eq!(
        log_in(b"pencil", Binding::SupportedButNotOffered, &verifier, Some(ours)),
        Err(ScramServerError::Downgrade)
    );
}

#[test]
fn a_role_that_does_not_exist_refuses_every_password() {
    let secret = SaltSecret::from_random([1; 32]);
    let mock = Arc::new(Verifier::mock(&secret, b"nobody", ITERATIONS));
    for password in [&b""[..], b"pencil", b"mock"] {
        assert_eq!(log_in(password, Binding::None, &mock, None), Ok(None));
    }
}

#[test]
fn another_client_logs_in_here() {
    let hash: EndPointHash = Arc::from(&[3_u8; 32][..]);
    let password = "p\u{e4}ss\u{2168}";
    for (binding, mechanism, offered) in [
        (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256, None),
        (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256, None),
        (
            sasl::ChannelBinding::tls_server_end_point(hash.to_vec()),
            sasl::SCRAM_SHA_256_PLUS,
            Some(hash.clone()),
        ),
    ] {
        let mut client = sasl::ScramSha256::new(password.as_bytes(), binding);
        let phase = ExpectMechanism::new(verifier(password.as_bytes()), offered)
            .select(mechanism.as_bytes())
            .unwrap();
        let (server_first, phase) = phase.read(client.message(), &nonce(2)).unwrap();
        client.update(&server_first).unwrap();
        let Verdict::Accepted { server_final } = phase.read(client.message()).unwrap() else {
            panic!("the right password was refused");
        };
        client.finish(&server_final).unwrap();
    }
}

#[test]
fn keys_are_those_of_the_verifier_that_alter_role_takes() {
    let password = "p\u{e4}ss\u{fb01}";
    let stored = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let mut fields = stored.split(['$', ':']);
    let mut next = || fields.next().expect("five fields");
    assert_eq!(next(), SCRAM_SHA_256);
    let iterations = next().parse().unwrap();
    let salt = STANDARD.decode(next()).unwrap();
    let salted = SaltedPassword::derive(password.as_bytes(), &salt, iterations);
    assert_eq!(next(), STANDARD.encode(sha256(&*salted.client_key())));
    assert_eq!(next(), STANDARD.encode(*salted.server_key()));
    assert_eq!(format!("{salted:?}"), "***");
}

/// Bytes that get further into the parsers than arbitrary ones would.
fn nearly_scram() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"n,,n=,r=".to_vec()),
        Just(b"p=tls-server-end-point,,".to_vec()),
        Just(b"c=biws,r=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB".to_vec()),
        Just(b"r=AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBx,s=QQ==,i=1".to_vec()),
        Just(b",p=".to_vec()),
        Just(b",".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..8),
    ];
    proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic_or_log_in(first in nearly_scram(), last in nearly_scram()) {
        let verifier = Arc::new(Verifier::mock(&SaltSecret::from_random([1; 32]), b"app", ITERATIONS));
        for offered in [None, Some(EndPointHash::from(&b"hash"[..]))] {
            for mechanism in [SCRAM_SHA_256, SCRAM_SHA_256_PLUS] {
                let phase = ExpectMechanism::new(verifier.clone(), offered.clone()).select(mechanism.as_bytes());
                if let Ok((_, phase)) = phase.and_then(|phase| phase.read(&first, &nonce(1))) {
                    let accepted = matches!(phase.read(&last), Ok(Verdict::Accepted { .. }));
                    prop_assert!(!accepted);
                }
            }
        }
        let (_, client) = client::client_first(Binding::None, nonce(1));
        if let Ok(challenge) = client.read(&first, 10) {
            let salted = SaltedPassword::derive(b"x", challenge.salt(), challenge.iterations());
            prop_assert!(challenge.answer(&salted).1.verify(&last).is_err());
        }
    }
}

/// The password, the salt and the iterations of RFC 7677's example, computed by another library.
#[test]
fn a_verifier_is_written_as_postgres_keeps_it() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    let iterations = NonZeroU32::new(4096).unwrap();
    let salted = SaltedPassword::derive(b"pencil", &salt, iterations);
    assert_eq!(
        *salted.verifier(&salt, iterations),
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
         wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    );
}
