//! Whether a server's certificate is believed.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};

/// Whom to believe. Whatever it is, the handshake's signature is always verified: the server holds
/// the key of the certificate that it shows, so that channel binding means something.
#[derive(Debug)]
pub(super) enum Trust {
    Anyone,
    Pin(Fingerprint),
    Chain(RootCertStore),
    ChainAndName(RootCertStore),
}

impl Trust {
    pub(super) fn is_verification(&self) -> bool {
        !matches!(self, Self::Anyone)
    }
}

/// SHA-256 of a whole certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub(super) fn of(certificate: &[u8]) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, certificate).as_ref());
        Self(bytes)
    }
}

/// As `tls.pin` is written.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A certificate that was not believed, and what can be done about it.
#[derive(Clone, Debug)]
pub struct Distrust {
    pub reason: Reason,
    pub leaf: Fingerprint,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, leaf } = self;
        write!(f, "the server's certificate is not trusted: {reason}")?;
        if let Some(remedy) = reason.remedy() {
            write!(f, "; {remedy}")?;
        }
        write!(
            f,
            ". If you know that this certificate is the server's own, set tls.pin = \"{leaf}\""
        )
    }
}

impl Error for Distrust {}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Reason {
    #[error("it is not the one that tls.pin names")]
    NotPinned,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotValidYet,
    #[error("nobody known has issued it")]
    UnknownIssuer,
    #[error("the known issuer of that name has not signed it")]
    OtherIssuer,
    #[error("it has no name in subjectAltName, and the common name does not count")]
    NoName,
    #[error("it is for {presented}, not for {expected}", presented = presented.join(", "))]
    WrongName {
        expected: String,
        presented: Vec<String>,
    },
    #[error("it is marked as an authority, so it can't be a server's as well")]
    AuthorityAsServer,
    #[error("{0}")]
    Other(Arc<dyn Error + Send + Sync>),
}

impl Reason {
    /// What helps, apart from a pin.
    fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::UnknownIssuer => Some("name the issuer's certificate in tls.ca"),
            Self::OtherIssuer => Some("tls.ca may hold an older certificate of the issuer"),
            Self::WrongName { .. } => Some("tls.server_name can name another"),
            _ => None,
        }
    }

    fn from_library(error: rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => Self::from_certificate(error),
            other => Self::Other(Arc::new(other)),
        }
    }

    fn from_certificate(error: CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotValidYet,
            E::UnknownIssuer => Self::UnknownIssuer,
            E::BadSignature => Self::OtherIssuer,
            E::NotValidForNameContext { presented, .. } if presented.is_empty() => Self::NoName,
            E::NotValidForNameContext { expected, presented } => Self::WrongName {
                expected: expected.to_str().into_owned(),
                presented: presented.iter().map(|name| bare(name).to_owned()).collect(),
            },
            // The library keeps the type of this error to itself.
            E::Other(OtherError(error)) if error.to_string() == "CaUsedAsEndEntity" => {
                Self::AuthorityAsServer
            }
            other => Self::Other(Arc::new(rustls::Error::InvalidCertificate(other))),
        }
    }
}

/// The library says `DnsName("db.internal")` and `IpAddress(10.0.0.1)`.
fn bare(name: &str) -> &str {
    let within = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    within.map_or(name, |within| within.trim_matches('"'))
}

#[derive(Debug)]
pub(super) struct Verifier {
    trust: Trust,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(trust: Trust, algorithms: WebPkiSupportedAlgorithms) -> Self {
        Self { trust, algorithms }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Reason> {
        let (roots, with_name) = match &self.trust {
            Trust::Anyone => return Ok(()),
            Trust::Pin(pin) if *pin == Fingerprint::of(leaf) => return Ok(()),
            Trust::Pin(_) => return Err(Reason::NotPinned),
            Trust::Chain(roots) => (roots, false),
            Trust::ChainAndName(roots) => (roots, true),
        };
        let parsed = ParsedCertificate::try_from(leaf).map_err(Reason::from_library)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, self.algorithms.all)
            .map_err(Reason::from_library)?;
        if with_name {
            verify_server_name(&parsed, name).map_err(Reason::from_library)?;
        }
        Ok(())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.judge(leaf, intermediates, name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(reason) => {
                let distrust = Distrust {
                    reason,
                    leaf: Fingerprint::of(leaf),
                };
                Err(CertificateError::Other(OtherError(Arc::new(distrust))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Finds in a handshake's error what [`Verifier`] put there.
pub(super) fn distrust(error: &std::io::Error) -> Option<&Distrust> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(reason))) => {
            reason.downcast_ref::<Distrust>()
        }
        _ => None,
    }
}
