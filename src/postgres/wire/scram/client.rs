//! The role of the one who logs in.

use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::attributes::{Attributes, Malformed, printable};
use super::{
    EndPointHash, Nonce, PLUS_HEADER, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, SaltedPassword, binding_attribute,
    hmac_sha256, sha256, xor,
};

/// Enough for every published recommendation (600,000 and rising) and at most about 0.1 s of one core,
/// which is what a server that has proven nothing yet may cost.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// As libpq bounds any authentication request.
const SERVER_MESSAGE_MAX: usize = 2_000;

/// How the login is tied to the TLS session below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// No TLS, or binding is switched off.
    None,
    /// The server did not offer -PLUS. If it really did, it can see from this that somebody cut the offer.
    SupportedButNotOffered,
    EndPoint(EndPointHash),
}

impl Binding {
    pub fn mechanism(&self) -> &'static str {
        match self {
            Self::None | Self::SupportedButNotOffered => SCRAM_SHA_256,
            Self::EndPoint(_) => SCRAM_SHA_256_PLUS,
        }
    }

    fn gs2_header(&self) -> &'static str {
        match self {
            Self::None => "n,,",
            Self::SupportedButNotOffered => "y,,",
            Self::EndPoint(_) => PLUS_HEADER,
        }
    }

    fn attribute(&self) -> String {
        match self {
            Self::EndPoint(hash) => binding_attribute(self.gs2_header(), hash),
            Self::None | Self::SupportedButNotOffered => binding_attribute(self.gs2_header(), b""),
        }
    }
}

/// Why the server is not believed, or what it said against us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramClientError {
    #[error("malformed SCRAM message from the server: {0}")]
    Malformed(#[from] Malformed),
    #[error("the server's SCRAM nonce does not continue ours")]
    ForgedNonce,
    #[error("the server requires an unknown SCRAM extension")]
    MandatoryExtension,
    #[error("the server asks for more than {max} SCRAM iterations")]
    TooManyIterations { max: u32 },
    #[error("the server asks for no SCRAM iteration at all")]
    NoIterations,
    #[error("the server refused the SCRAM exchange: {0}")]
    Refused(ServerRefusal),
    #[error("the server's SCRAM signature is wrong: it does not know the password")]
    ForgedSignature,
}

/// The values that RFC 5802 gives to `e=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerRefusal {
    #[error("invalid encoding")]
    InvalidEncoding,
    #[error("extensions not supported")]
    ExtensionsNotSupported,
    #[error("invalid proof")]
    InvalidProof,
    #[error("channel bindings do not match")]
    ChannelBindingsDontMatch,
    #[error("the server does support channel binding")]
    ServerDoesSupportChannelBinding,
    #[error("channel binding is not supported")]
    ChannelBindingNotSupported,
    #[error("unsupported channel binding type")]
    UnsupportedChannelBindingType,
    #[error("unknown user")]
    UnknownUser,
    #[error("invalid user name encoding")]
    InvalidUsernameEncoding,
    #[error("no resources")]
    NoResources,
    #[error("other error")]
    Other,
}

impl ServerRefusal {
    fn from_value(value: &[u8]) -> Self {
        match value {
            b"invalid-encoding" => Self::InvalidEncoding,
            b"extensions-not-supported" => Self::ExtensionsNotSupported,
            b"invalid-proof" => Self::InvalidProof,
            b"channel-bindings-dont-match" => Self::ChannelBindingsDontMatch,
            b"server-does-support-channel-binding" => Self::ServerDoesSupportChannelBinding,
            b"channel-binding-not-supported" => Self::ChannelBindingNotSupported,
            b"unsupported-channel-binding-type" => Self::UnsupportedChannelBindingType,
            b"unknown-user" => Self::UnknownUser,
            b"invalid-username-encoding" => Self::InvalidUsernameEncoding,
            b"no-resources" => Self::NoResources,
            _ => Self::Other,
        }
    }
}

/// The client-first message, to be sent under [`Binding::mechanism`]. Postgres takes the user's name
/// from the startup message, so it stays empty here.
pub fn client_first(binding: Binding, nonce: Nonce) -> (Vec<u8>, ExpectServerFirst) {
    let bare = format!("n=,r={}", nonce.0);
    let message = format!("{}{bare}", binding.gs2_header());
    (message.into_bytes(), ExpectServerFirst { binding, nonce, bare })
}

#[derive(Debug)]
pub struct ExpectServerFirst {
    binding: Binding,
    nonce: Nonce,
    bare: String,
}

impl ExpectServerFirst {
    pub fn read(self, server_first: &[u8], iterations_max: u32) -> Result<Challenge, ScramClientError> {
        let mut attributes = Attributes::new(server_first, SERVER_MESSAGE_MAX)?;
        if attributes.next_is('m') {
            return Err(ScramClientError::MandatoryExtension);
        }
        let nonce = attributes.expect('r')?;
        let salt = attributes.expect('s')?;
        let iterations = attributes.expect('i')?;
        attributes.done()?;

        let nonce = printable(nonce).ok_or(Malformed::Value('r'))?;
        let added = nonce.strip_prefix(self.nonce.0.as_str());
        if added.is_none_or(str::is_empty) {
            return Err(ScramClientError::ForgedNonce);
        }
        let salt = STANDARD.decode(salt).map_err(|_| Malformed::Value('s'))?;
        if salt.is_empty() {
            return Err(Malformed::Value('s').into());
        }
        let iterations = read_iterations(iterations, iterations_max)?;

        let without_proof = format!("c={},r={nonce}", self.binding.attribute());
        let auth_message = [self.bare.as_bytes(), server_first, without_proof.as_bytes()].join(&b',');
        Ok(Challenge {
            salt,
            iterations,
            without_proof,
            auth_message,
        })
    }
}

fn read_iterations(digits: &[u8], max: u32) -> Result<NonZeroU32, ScramClientError> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed::Value('i').into());
    }
    let iterations = digits.iter().try_fold(0_u32, |number, digit| {
        number.checked_mul(10)?.checked_add(u32::from(digit - b'0'))
    });
    match iterations {
        Some(iterations) if iterations <= max => {
            NonZeroU32::new(iterations).ok_or(ScramClientError::NoIterations)
        }
        _ => Err(ScramClientError::TooManyIterations { max }),
    }
}

/// What the server wants the password salted with.
#[derive(Debug)]
pub struct Challenge {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    without_proof: String,
    auth_message: Vec<u8>,
}

impl Challenge {
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    pub fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// The client-final message, for a password salted with [`Self::salt`] and [`Self::iterations`].
    pub fn answer(self, salted: &SaltedPassword) -> (Vec<u8>, ExpectServerFinal) {
        let client_key = salted.client_key();
        let client_signature = hmac_sha256(&sha256(&*client_key), &[&self.auth_message]);
        let proof = xor(&client_key, &client_signature);
        let server_signature = hmac_sha256(&*salted.server_key(), &[&self.auth_message]);
        let message = format!("{},p={}", self.without_proof, STANDARD.encode(*proof));
        (message.into_bytes(), ExpectServerFinal { server_signature })
    }
}

/// Without this the server has proven nothing, and the login has not happened.
#[derive(Debug)]
pub struct ExpectServerFinal {
    server_signature: [u8; super::KEY_BYTES],
}

impl ExpectServerFinal {
    pub fn verify(self, server_final: &[u8]) -> Result<(), ScramClientError> {
        let mut attributes = Attributes::new(server_final, SERVER_MESSAGE_MAX)?;
        if attributes.next_is('e') {
            let value = attributes.expect('e')?;
            return Err(ScramClientError::Refused(ServerRefusal::from_value(value)));
        }
        let signature = attributes.expect('v')?;
        attributes.done()?;
        let signature = STANDARD.decode(signature).map_err(|_| Malformed::Value('v'))?;
        verify_slices_are_equal(&signature, &self.server_signature)
            .map_err(|_| ScramClientError::ForgedSignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER_FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn rfc_7677() -> ExpectServerFirst {
        let nonce = Nonce("rOprNGfwEbeRWgbNEkqO".into());
        let bare = format!("n=user,r={}", nonce.0);
        ExpectServerFirst {
            binding: Binding::None,
            nonce,
            bare,
        }
    }

    fn refusal(server_first: &str) -> ScramClientError {
        rfc_7677()
            .read(server_first.as_bytes(), ITERATIONS_MAX)
            .expect_err("has to be refused")
    }

    fn at_the_end() -> ExpectServerFinal {
        let challenge = rfc_7677().read(SERVER_FIRST, ITERATIONS_MAX).unwrap();
        let salted = SaltedPassword::derive(b"pencil", challenge.salt(), challenge.iterations());
        challenge.answer(&salted).1
    }

    #[test]
    fn the_exchange_of_rfc_7677_is_answered_as_printed_there() {
        let challenge = rfc_7677().read(SERVER_FIRST, 4096).unwrap();
        assert_eq!(challenge.iterations().get(), 4096);
        let salted = SaltedPassword::derive(b"pencil", challenge.salt(), challenge.iterations());
        let (message, end) = challenge.answer(&salted);
        assert_eq!(
            String::from_utf8(message).unwrap(),
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(
            end.verify(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
    }

    #[test]
    fn a_nonce_that_does_not_continue_ours_is_refused() {
        for nonce in ["", "rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkqX1234", "forged"] {
            let message = format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
            assert_eq!(refusal(&message), ScramClientError::ForgedNonce, "{nonce:?}");
        }
        let unprintable = "r=rOprNGfwEbeRWgbNEkqO\u{e9},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(refusal(unprintable), Malformed::Value('r').into());
    }

    #[test]
    fn iterations_are_refused_below_one_and_above_the_cap() {
        let asked = |iterations: &str| {
            refusal(&format!(
                "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i={iterations}"
            ))
        };
        let too_many = ScramClientError::TooManyIterations { max: ITERATIONS_MAX };
        assert_eq!(asked("0"), ScramClientError::NoIterations);
        assert_eq!(asked("1000001"), too_many);
        assert_eq!(asked("4294967296"), too_many);
        assert_eq!(asked("99999999999999999999999999"), too_many);
        for digits in ["", "-1", "+1", "4096 ", "0x10", "1e3"] {
            assert_eq!(asked(digits), Malformed::Value('i').into(), "{digits:?}");
        }
    }

    #[test]
    fn a_server_first_message_of_another_form_is_refused() {
        let extension = "m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=1";
        assert_eq!(refusal(extension), ScramClientError::MandatoryExtension);
        let salts = ["", "*", "W22ZaJ0SNY7soEsUEjb6gQ"];
        for salt in salts {
            let message = format!("r=rOprNGfwEbeRWgbNEkqOx,s={salt},i=1");
            assert_eq!(refusal(&message), Malformed::Value('s').into(), "{salt:?}");
        }
        assert_eq!(refusal(""), Malformed::Empty.into());
        assert_eq!(refusal("r=a\0"), Malformed::ZeroByte.into());
        assert_eq!(
            refusal(&"r".repeat(2001)),
            Malformed::TooLong { max: 2000 }.into()
        );
        assert_eq!(
            refusal("r=rOprNGfwEbeRWgbNEkqOx,s=QQ==,i=1,x=y"),
            Malformed::Trailing.into()
        );
    }

    #[test]
    fn a_server_first_message_cut_anywhere_is_refused_or_asks_for_fewer_iterations() {
        for end in 0..SERVER_FIRST.len() {
            if let Ok(challenge) = rfc_7677().read(&SERVER_FIRST[..end], ITERATIONS_MAX) {
                assert!(SERVER_FIRST[..end].windows(3).any(|w| w == b",i="));
                assert!(challenge.iterations().get() < 4096);
            }
        }
    }

    #[test]
    fn no_login_without_the_servers_signature() {
        let forged = format!("v={}", STANDARD.encode([0; 32]));
        let cases: [(&[u8], ScramClientError); 6] = [
            (b"", Malformed::Empty.into()),
            (b"v=", ScramClientError::ForgedSignature),
            (b"v=*", Malformed::Value('v').into()),
            (
                b"x=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
                Malformed::Expected('v').into(),
            ),
            (
                b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=,x=y",
                Malformed::Trailing.into(),
            ),
            (forged.as_bytes(), ScramClientError::ForgedSignature),
        ];
        for (message, error) in cases {
            assert_eq!(
                at_the_end().verify(message),
                Err(error),
                "{}",
                message.escape_ascii()
            );
        }
        let whole = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        for end in 0..whole.len() {
            at_the_end().verify(&whole[..end]).expect_err("a cut signature");
        }
    }

    #[test]
    fn an_error_from_the_server_is_named() {
        let error = at_the_end().verify(b"e=invalid-proof").expect_err("a refusal");
        assert_eq!(error, ScramClientError::Refused(ServerRefusal::InvalidProof));
        let error = at_the_end().verify(b"e=\x1b[31m").expect_err("a refusal");
        assert_eq!(error, ScramClientError::Refused(ServerRefusal::Other));
    }
}
