//! Signature Version 4 over requests of our own.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;

use crate::stores::{Said, StoreError};

/// Who signs what for whom, and when.
pub(in crate::stores) struct Signer<'a> {
    pub(in crate::stores) credentials: &'a Credentials,
    pub(in crate::stores) region: &'a str,
    pub(in crate::stores) service: &'a str,
    pub(in crate::stores) now: SystemTime,
}

impl Signer<'_> {
    /// Adds the headers that authorise a request.
    pub(in crate::stores) fn sign_headers(
        &self,
        request: &mut http::Request<Vec<u8>>,
    ) -> Result<(), StoreError> {
        self.sign(request, SigningSettings::default())
    }

    /// Adds a signature to the address itself, good for `lifetime`.
    pub(super) fn presign(
        &self,
        request: &mut http::Request<Vec<u8>>,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lifetime);
        self.sign(request, settings)
    }

    fn sign(
        &self,
        request: &mut http::Request<Vec<u8>>,
        settings: SigningSettings,
    ) -> Result<(), StoreError> {
        let unsigned = |error: &dyn std::error::Error| StoreError::Failed(Said::chain(error));
        let identity = self.credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.now)
            .settings(settings)
            .build()
            .map_err(|error| unsigned(&error))?;
        let headers = request
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers,
            SignableBody::Bytes(request.body()),
        )
        .map_err(|error| unsigned(&error))?;
        let (instructions, _) = sign(signable, &parameters.into())
            .map_err(|error| unsigned(&error))?
            .into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

/// As Signature Version 4 wants queries: everything but letters, digits and `-._~`.
pub(super) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => write!(encoded, "%{byte:02X}").expect("writing to a String never fails"),
        }
    }
    encoded
}
