//! The role of the one who is logged in to.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::attributes::{Attributes, Malformed, printable};
use super::{
    EndPointHash, KEY_BYTES, Nonce, PLUS_HEADER, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, SaltedPassword,
    binding_attribute, hmac_sha256, sha256, xor,
};

/// As Postgres bounds a SASL message.
pub const CLIENT_MESSAGE_MAX: usize = 1_024;

const SALT_BYTES: usize = 16;

/// Bytes that this process alone knows. Every salt is derived from them and a name, for roles that
/// exist and for those that do not, so that a salt tells nobody which is which.
#[derive(Clone)]
pub struct SaltSecret(Arc<Zeroizing<[u8; KEY_BYTES]>>);

impl SaltSecret {
    pub fn from_random(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    fn salt(&self, role: &[u8]) -> [u8; SALT_BYTES] {
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&hmac_sha256(&**self.0, &[b"salt ", role])[..SALT_BYTES]);
        salt
    }
}

impl fmt::Debug for SaltSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a role's password is checked with. It does not log in anywhere by itself, but a guess at the
/// password can be tested against it, so it is not shown.
pub struct Verifier {
    salt: [u8; SALT_BYTES],
    iterations: NonZeroU32,
    stored_key: Zeroizing<[u8; KEY_BYTES]>,
    server_key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Verifier {
    /// Expensive: once for a role, not for a login.
    pub fn derive(secret: &SaltSecret, role: &[u8], password: &[u8], iterations: NonZeroU32) -> Self {
        let salt = secret.salt(role);
        let salted = SaltedPassword::derive(password, &salt, iterations);
        Self {
            salt,
            iterations,
            stored_key: Zeroizing::new(sha256(&*salted.client_key())),
            server_key: salted.server_key(),
        }
    }

    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// For a role that does not exist. It costs, and shows, the same as a real one's. No proof satisfies
    /// it: that would take a key that hashes to bytes which nobody derived by hashing a key.
    pub fn mock(secret: &SaltSecret, role: &[u8], iterations: NonZeroU32) -> Self {
        Self {
            salt: secret.salt(role),
            iterations,
            stored_key: Zeroizing::new(hmac_sha256(&**secret.0, &[b"mock stored key ", role])),
            server_key: Zeroizing::new(hmac_sha256(&**secret.0, &[b"mock server key ", role])),
        }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a client did that no correct client does. A wrong password is not among these: see [`Verdict`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramServerError {
    #[error("client selected an invalid SASL authentication mechanism")]
    UnknownMechanism,
    #[error("malformed SCRAM message: {0}")]
    Malformed(#[from] Malformed),
    #[error("malformed SCRAM message: unexpected channel-binding flag")]
    UnknownBindingFlag,
    #[error("malformed SCRAM message: SCRAM-SHA-256-PLUS was selected, but there is no channel binding data")]
    BindingMissing,
    #[error("malformed SCRAM message: SCRAM-SHA-256 was selected, but there is channel binding data")]
    BindingUnasked,
    #[error("unsupported SCRAM channel-binding type")]
    UnknownBindingType,
    #[error(
        "SCRAM channel binding negotiation error: the client thinks that this server has no channel binding"
    )]
    Downgrade,
    #[error("client uses authorization identity, but it is not supported")]
    AuthorizationIdentity,
    #[error("client requires an unsupported SCRAM extension")]
    MandatoryExtension,
    #[error("unexpected SCRAM channel-binding attribute in client-final-message")]
    BindingChanged,
    #[error("SCRAM channel binding check failed")]
    BindingMismatch,
    #[error("invalid SCRAM response: nonce does not match")]
    ForgedNonce,
}

impl ScramServerError {
    /// As Postgres reports the same.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Downgrade | Self::BindingMismatch => "28000",
            Self::AuthorizationIdentity | Self::MandatoryExtension => "0A000",
            _ => "08P01",
        }
    }
}

/// The phase in which the client chooses among [`Self::mechanisms`].
#[derive(Debug)]
pub struct ExpectMechanism {
    verifier: Arc<Verifier>,
    offered: Option<EndPointHash>,
}

impl ExpectMechanism {
    /// `offered`: the hash of this connection's own certificate. None without TLS, and where the
    /// certificate has no hash to bind to.
    pub fn new(verifier: Arc<Verifier>, offered: Option<EndPointHash>) -> Self {
        Self { verifier, offered }
    }

    /// To be announced in this order.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self.offered {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        }
    }

    /// A client may send the mechanism alone. It is then answered with an empty challenge, and its
    /// client-first message comes in the next packet.
    pub fn select(self, mechanism: &[u8]) -> Result<ExpectClientFirst, ScramServerError> {
        let binding = if mechanism == SCRAM_SHA_256.as_bytes() {
            Selected::Plain {
                plus_was_offered: self.offered.is_some(),
            }
        } else if mechanism == SCRAM_SHA_256_PLUS.as_bytes() {
            Selected::Plus(self.offered.ok_or(ScramServerError::UnknownMechanism)?)
        } else {
            return Err(ScramServerError::UnknownMechanism);
        };
        Ok(ExpectClientFirst {
            verifier: self.verifier,
            selected: binding,
        })
    }
}

#[derive(Debug)]
enum Selected {
    Plain { plus_was_offered: bool },
    Plus(EndPointHash),
}

#[derive(Debug)]
pub struct ExpectClientFirst {
    verifier: Arc<Verifier>,
    selected: Selected,
}

impl ExpectClientFirst {
    /// The server-first message that answers `client_first`.
    pub fn read(
        self,
        client_first: &[u8],
        nonce: &Nonce,
    ) -> Result<(Vec<u8>, ExpectClientFinal), ScramServerError> {
        let mut attributes = Attributes::new(client_first, CLIENT_MESSAGE_MAX)?;
        let binding = read_gs2_flag(&mut attributes, self.selected)?;
        if attributes.next_is('a') {
            return Err(ScramServerError::AuthorizationIdentity);
        }
        if !attributes.skip(b",") {
            return Err(Malformed::Expected('a').into());
        }
        let bare = attributes.rest();
        if attributes.next_is('m') {
            return Err(ScramServerError::MandatoryExtension);
        }
        // The user is the one of the startup message, as in Postgres.
        attributes.expect('n')?;
        let client_nonce = printable(attributes.expect('r')?).ok_or(Malformed::Value('r'))?;
        while !attributes.is_done() {
            attributes.any()?;
        }

        let nonce = format!("{client_nonce}{}", nonce.0);
        let salt = STANDARD.encode(self.verifier.salt);
        let message = format!("r={nonce},s={salt},i={}", self.verifier.iterations).into_bytes();
        let auth_message = [bare, message.as_slice()].join(&b',');
        Ok((
            message,
            ExpectClientFinal {
                verifier: self.verifier,
                binding,
                nonce,
                auth_message,
            },
        ))
    }
}

/// The value that `c=` has to have, and whether a different one means different TLS sessions.
#[derive(Debug)]
struct ExpectedBinding {
    attribute: String,
    on_mismatch: ScramServerError,
}

/// Reads the flag and the comma behind it.
fn read_gs2_flag(
    attributes: &mut Attributes<'_>,
    selected: Selected,
) -> Result<ExpectedBinding, ScramServerError> {
    let unbound = |header| ExpectedBinding {
        attribute: binding_attribute(header, b""),
        on_mismatch: ScramServerError::BindingChanged,
    };
    let flag = attributes.rest().first();
    match (flag, selected) {
        (Some(b'n' | b'y'), Selected::Plus(_)) => Err(ScramServerError::BindingMissing),
        (
            Some(b'y'),
            Selected::Plain {
                plus_was_offered: true,
            },
        ) => Err(ScramServerError::Downgrade),
        (Some(b'n'), Selected::Plain { .. }) if attributes.skip(b"n,") => Ok(unbound("n,,")),
        (Some(b'y'), Selected::Plain { .. }) if attributes.skip(b"y,") => Ok(unbound("y,,")),
        (Some(b'n' | b'y'), Selected::Plain { .. }) => Err(Malformed::Expected(',').into()),
        (Some(b'p'), Selected::Plain { .. }) => Err(ScramServerError::BindingUnasked),
        (Some(b'p'), Selected::Plus(hash)) => match attributes.expect('p')? {
            b"tls-server-end-point" => Ok(ExpectedBinding {
                attribute: binding_attribute(PLUS_HEADER, &hash),
                on_mismatch: ScramServerError::BindingMismatch,
            }),
            _ => Err(ScramServerError::UnknownBindingType),
        },
        _ => Err(ScramServerError::UnknownBindingFlag),
    }
}

#[derive(Debug)]
pub struct ExpectClientFinal {
    verifier: Arc<Verifier>,
    binding: ExpectedBinding,
    nonce: String,
    /// Client-first-bare and server-first so far.
    auth_message: Vec<u8>,
}

/// How an exchange that was well-formed ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted {
        server_final: Vec<u8>,
    },
    /// A wrong password, or a role that does not exist: there is no telling.
    Refused,
}

impl ExpectClientFinal {
    pub fn read(mut self, client_final: &[u8]) -> Result<Verdict, ScramServerError> {
        let mut attributes = Attributes::new(client_final, CLIENT_MESSAGE_MAX)?;
        if attributes.expect('c')? != self.binding.attribute.as_bytes() {
            return Err(self.binding.on_mismatch);
        }
        let nonce = attributes.expect('r')?;
        let (without_proof, proof) = loop {
            let end = attributes.position();
            if let ('p', value) = attributes.any()? {
                // The comma before the proof belongs to neither part.
                break (&client_final[..end - 1], value);
            }
        };
        let proof = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| <[u8; KEY_BYTES]>::try_from(proof).ok());
        let proof = proof.ok_or(Malformed::Value('p'))?;
        attributes.done()?;
        verify_slices_are_equal(nonce, self.nonce.as_bytes()).map_err(|_| ScramServerError::ForgedNonce)?;

        self.auth_message.push(b',');
        self.auth_message.extend_from_slice(without_proof);
        Ok(self.judge(&proof))
    }

    fn judge(&self, proof: &[u8; KEY_BYTES]) -> Verdict {
        let client_signature = hmac_sha256(&*self.verifier.stored_key, &[&self.auth_message]);
        let client_key = xor(proof, &client_signature);
        match verify_slices_are_equal(&sha256(&*client_key), &*self.verifier.stored_key) {
            Ok(()) => {
                let signature = hmac_sha256(&*self.verifier.server_key, &[&self.auth_message]);
                let server_final = format!("v={}", STANDARD.encode(signature)).into_bytes();
                Verdict::Accepted { server_final }
            }
            Err(_) => Verdict::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const CLIENT_FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    /// The verifier of RFC 7677, whose salt is given.
    fn pencil() -> Arc<Verifier> {
        let salt: [u8; SALT_BYTES] = STANDARD
            .decode("W22ZaJ0SNY7soEsUEjb6gQ==")
            .unwrap()
            .try_into()
            .unwrap();
        let iterations = NonZeroU32::new(4096).unwrap();
        let salted = SaltedPassword::derive(b"pencil", &salt, iterations);
        Arc::new(Verifier {
            salt,
            iterations,
            stored_key: Zeroizing::new(sha256(&*salted.client_key())),
            server_key: salted.server_key(),
        })
    }

    fn selected(verifier: &Arc<Verifier>) -> ExpectClientFirst {
        ExpectMechanism::new(verifier.clone(), None)
            .select(b"SCRAM-SHA-256")
            .unwrap()
    }

    fn rfc_nonce() -> Nonce {
        Nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into())
    }

    fn challenged(verifier: &Arc<Verifier>) -> ExpectClientFinal {
        selected(verifier).read(CLIENT_FIRST, &rfc_nonce()).unwrap().1
    }

    fn first_refusal(offered: Option<&[u8]>, mechanism: &str, client_first: &str) -> ScramServerError {
        ExpectMechanism::new(pencil(), offered.map(Arc::from))
            .select(mechanism.as_bytes())
            .and_then(|phase| phase.read(client_first.as_bytes(), &rfc_nonce()))
            .expect_err("has to be refused")
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_judged_as_printed_there() {
        let (server_first, phase) = selected(&pencil()).read(CLIENT_FIRST, &rfc_nonce()).unwrap();
        assert_eq!(
            String::from_utf8(server_first).unwrap(),
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let server_final = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=".to_vec();
        assert_eq!(phase.read(CLIENT_FINAL), Ok(Verdict::Accepted { server_final }));
    }

    #[test]
    fn a_client_first_message_cut_anywhere_in_its_form_is_refused() {
        let verifier = pencil();
        let nonce_at = CLIENT_FIRST.windows(3).position(|w| w == b",r=").unwrap() + 3;
        for end in 0..nonce_at {
            selected(&verifier)
                .read(&CLIENT_FIRST[..end], &rfc_nonce())
                .expect_err("a cut message");
        }
    }

    #[test]
    fn a_client_final_message_cut_anywhere_is_malformed_and_never_accepted() {
        let verifier = pencil();
        for end in 0..CLIENT_FINAL.len() {
            let error = challenged(&verifier)
                .read(&CLIENT_FINAL[..end])
                .expect_err("a cut message");
            assert_eq!(error.sqlstate(), "08P01");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_proof_is_refused() {
        let verifier = pencil();
        let proof = STANDARD
            .decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
            .unwrap();
        for bit in 0..8 * proof.len() {
            let mut wrong = proof.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            let message = format!(
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p={}",
                STANDARD.encode(wrong)
            );
            assert_eq!(
                challenged(&verifier).read(message.as_bytes()),
                Ok(Verdict::Refused)
            );
        }
    }

    #[test]
    fn a_nonce_that_is_not_ours_is_a_violation() {
        let forged = String::from_utf8(CLIENT_FINAL.to_vec())
            .unwrap()
            .replace("$k0", "$k1");
        assert_eq!(
            challenged(&pencil()).read(forged.as_bytes()),
            Err(ScramServerError::ForgedNonce)
        );
    }

    #[test]
    fn extensions_that_are_not_mandatory_are_ignored_but_signed() {
        let phase = selected(&pencil()).read(b"n,,n=user,r=abc,x=y,z=1", &rfc_nonce());
        phase.expect("optional extensions");
        let extended = String::from_utf8(CLIENT_FINAL.to_vec())
            .unwrap()
            .replace(",p=", ",x=y,p=");
        assert_eq!(
            challenged(&pencil()).read(extended.as_bytes()),
            Ok(Verdict::Refused)
        );
    }

    #[test]
    fn the_binding_flag_has_to_fit_the_mechanism_and_the_offer() {
        use ScramServerError as E;
        let (plain, plus) = ("SCRAM-SHA-256", "SCRAM-SHA-256-PLUS");
        let hash = Some(&b"hash"[..]);
        let cases = [
            (None, plus, "n,,n=,r=a", E::UnknownMechanism),
            (None, "SCRAM-SHA-1", "n,,n=,r=a", E::UnknownMechanism),
            (None, "", "n,,n=,r=a", E::UnknownMechanism),
            (hash, plain, "y,,n=,r=a", E::Downgrade),
            (hash, plus, "y,,n=,r=a", E::BindingMissing),
            (hash, plus, "n,,n=,r=a", E::BindingMissing),
            (hash, plain, "p=tls-server-end-point,,n=,r=a", E::BindingUnasked),
            (None, plain, "p=tls-server-end-point,,n=,r=a", E::BindingUnasked),
            (hash, plus, "p=tls-unique,,n=,r=a", E::UnknownBindingType),
            (hash, plus, "p,,n=,r=a", Malformed::Expected('p').into()),
            (None, plain, "q,,n=,r=a", E::UnknownBindingFlag),
            (None, plain, "n.,n=,r=a", Malformed::Expected(',').into()),
            (None, plain, "n,a=other,n=,r=a", E::AuthorizationIdentity),
            (None, plain, "n,x,n=,r=a", Malformed::Expected('a').into()),
            (None, plain, "n,,m=x,n=,r=a", E::MandatoryExtension),
            (None, plain, "n,,r=a,n=", Malformed::Expected('n').into()),
            (None, plain, "n,,n=,r=a b", Malformed::Value('r').into()),
            (None, plain, "n,,n=,r=a,1=x", Malformed::ExpectedAny.into()),
        ];
        for (offered, mechanism, client_first, error) in cases {
            assert_eq!(
                first_refusal(offered, mechanism, client_first),
                error,
                "{client_first}"
            );
        }
        assert_eq!(E::Downgrade.sqlstate(), "28000");
        assert_eq!(E::AuthorizationIdentity.sqlstate(), "0A000");
        let long = format!("n,,n=,r={}", "a".repeat(1_024));
        assert_eq!(
            first_refusal(None, plain, &long),
            Malformed::TooLong { max: 1_024 }.into()
        );
    }

    #[test]
    fn a_salt_does_not_tell_whether_a_role_exists() {
        let secret = SaltSecret::from_random([7; 32]);
        let iterations = NonZeroU32::new(1).unwrap();
        let real = Verifier::derive(&secret, b"app", b"pw", iterations);
        let mock = Verifier::mock(&secret, b"app", iterations);
        assert_eq!(real.salt, mock.salt);
        assert_ne!(real.salt, Verifier::mock(&secret, b"apq", iterations).salt);
        let restarted = SaltSecret::from_random([8; 32]);
        assert_ne!(real.salt, Verifier::mock(&restarted, b"app", iterations).salt);
        assert_eq!(format!("{real:?} {secret:?}"), "*** ***");
    }
}
