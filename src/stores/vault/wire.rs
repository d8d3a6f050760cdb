//! One request to Vault's HTTP API and its answer, both bounded.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, Method, Response, Url, redirect};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Answer, NOTHING};
use crate::config::Vault;
use crate::credentials::Password;
use crate::stores::{PAYLOAD_BYTES_MAX, READ_TIME_MAX, Said, StoreError, Unsuitable};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

/// A wait that Vault asks for is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

pub(super) struct Wire {
    address: Url,
    namespace: Option<String>,
    ca: Option<PathBuf>,
    http: Option<Client>,
}

/// A path below `/v1`, whose parts may hold slashes of their own.
pub(super) struct Request<'a, B> {
    method: Method,
    path: &'a [&'a str],
    query: Option<(&'a str, String)>,
    body: Option<&'a B>,
    /// JSON that is written already, instead of a body.
    text: Option<&'a str>,
}

/// What an answer says, as it was sent.
pub(super) type Body = Zeroizing<Vec<u8>>;

impl<'a> Request<'a, ()> {
    pub(super) fn get(path: &'a [&'a str]) -> Self {
        Self {
            method: Method::GET,
            path,
            query: None,
            body: NOTHING,
            text: None,
        }
    }

    pub(super) fn post_text(path: &'a [&'a str], text: &'a str) -> Self {
        Self {
            method: Method::POST,
            path,
            query: None,
            body: NOTHING,
            text: Some(text),
        }
    }

    pub(super) fn with_query(self, name: &'a str, value: impl fmt::Display) -> Self {
        Self {
            query: Some((name, value.to_string())),
            ..self
        }
    }
}

impl<'a, B: Serialize> Request<'a, B> {
    pub(super) fn post(path: &'a [&'a str], body: &'a B) -> Self {
        Self {
            method: Method::POST,
            path,
            query: None,
            body: Some(body),
            text: None,
        }
    }
}

/// An answer that is not a success, in Vault's own words.
pub(super) struct Refusal {
    pub(super) status: u16,
    retry_after: Option<Duration>,
    said: Said,
}

impl Wire {
    pub(super) fn new(vault: &Vault) -> Result<Self, StoreError> {
        let address = Url::parse(&vault.address).ok();
        let address = address.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        Ok(Self {
            address: address.ok_or(StoreError::Unsuitable(Unsuitable::Address))?,
            namespace: vault.namespace.clone(),
            ca: vault.ca.clone(),
            http: None,
        })
    }

    pub(super) async fn send<T: DeserializeOwned>(
        &mut self,
        request: &Request<'_, impl Serialize>,
        token: Option<&Password>,
    ) -> Result<Answer<T>, StoreError> {
        understand(self.exchange(request, token).await?)
    }

    pub(super) async fn exchange(
        &mut self,
        request: &Request<'_, impl Serialize>,
        token: Option<&Password>,
    ) -> Result<Answer<Body>, StoreError> {
        let http = self.http().await?;
        let mut draft = http
            .request(request.method.clone(), self.url(request))
            .headers(self.headers(token)?);
        let body = match (request.body, request.text) {
            (Some(body), _) => Some(serde_json::to_vec(body).map_err(|_| not_sendable())?),
            (None, text) => text.map(|text| text.as_bytes().to_vec()),
        };
        if let Some(body) = body {
            draft = draft.header("content-type", "application/json").body(body);
        }
        let response = match draft.send().await {
            Ok(response) => response,
            Err(error) => {
                // The next try reads the certificate file again: it may be what was wrong.
                self.http = None;
                return Err(failure(error));
            }
        };
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let body = read_bounded(response).await?;
        if !(200..300).contains(&status) {
            let said = words(status, &body);
            return Ok(Answer::Refused(Refusal {
                status,
                retry_after,
                said,
            }));
        }
        Ok(Answer::Given(body))
    }

    async fn http(&mut self) -> Result<Client, StoreError> {
        if let Some(http) = &self.http {
            return Ok(http.clone());
        }
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .redirect(redirect::Policy::custom(follow_once));
        if let Some(path) = &self.ca {
            let unusable = |reason: &dyn fmt::Display| {
                StoreError::Unreachable(Said::new(format_args!("{}: {reason}", path.display())))
            };
            let pem = tokio::fs::read(path).await.map_err(|error| unusable(&error))?;
            let roots = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
            builder = builder.tls_certs_only(roots);
        }
        let http = builder.build().map_err(failure)?;
        self.http = Some(http.clone());
        Ok(http)
    }

    fn url(&self, request: &Request<'_, impl Serialize>) -> Url {
        let mut url = self.address.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1");
            for part in request.path {
                segments.extend(part.split('/').filter(|segment| !segment.is_empty()));
            }
        }
        if let Some((name, value)) = &request.query {
            url.set_query(Some(&format!("{name}={value}")));
        }
        url
    }

    fn headers(&self, token: Option<&Password>) -> Result<HeaderMap, StoreError> {
        let mut headers = HeaderMap::new();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(namespace) = &self.namespace {
            let namespace = HeaderValue::from_str(namespace).map_err(|_| not_sendable())?;
            headers.insert("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let mut token = HeaderValue::from_bytes(token.expose()).map_err(|_| not_sendable())?;
            token.set_sensitive(true);
            headers.insert("x-vault-token", token);
        }
        Ok(headers)
    }
}

pub(super) fn understand<T: DeserializeOwned>(answer: Answer<Body>) -> Result<Answer<T>, StoreError> {
    let body = match answer {
        Answer::Given(body) => body,
        Answer::Refused(refusal) => return Ok(Answer::Refused(refusal)),
    };
    let answer = serde_json::from_slice(&body);
    answer
        .map(Answer::Given)
        .map_err(|_| StoreError::Failed(Said::new("its answer can't be understood")))
}

impl Refusal {
    /// The version that a write was made against is not the last.
    pub(super) fn is_about_check_and_set(&self) -> bool {
        self.status == 400 && self.said.to_string().contains("check-and-set")
    }

    /// The token is not, or no longer, good for this.
    pub(super) fn is_about_the_token(&self) -> bool {
        matches!(self.status, 400 | 401 | 403 | 404)
    }

    pub(super) fn into_error(self) -> StoreError {
        let Self {
            status,
            retry_after,
            said,
        } = self;
        match status {
            429 => StoreError::Throttled { retry_after, said },
            500.. if retry_after.is_some() => StoreError::Throttled { retry_after, said },
            401 | 403 => StoreError::Denied(said),
            404 => StoreError::Missing(said),
            // Sealed, or a gateway without a Vault behind it.
            502..=504 => StoreError::Unreachable(said),
            400 if said.to_string().contains("unknown role") => StoreError::Missing(said),
            // A standby that has not heard yet of what was just written.
            412 => StoreError::Unsettled,
            _ => StoreError::Failed(said),
        }
    }

    /// A login that is refused is a refusal, whatever its number.
    pub(super) fn into_login_error(self) -> StoreError {
        match self.status {
            400..=428 => StoreError::Denied(self.said),
            _ => self.into_error(),
        }
    }
}

/// A standby node sends its clients on to the active one. The token goes along, so once, and never from
/// TLS to plain text.
fn follow_once(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_tls = attempt.previous().iter().any(|url| url.scheme() == "https");
    let stays_safe = !was_tls || attempt.url().scheme() == "https";
    match stays_safe && attempt.previous().len() == 1 {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

async fn read_bounded(mut response: Response) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut body = Zeroizing::new(Vec::with_capacity(4096));
    while let Some(chunk) = response.chunk().await.map_err(failure)? {
        if body.len() + chunk.len() > PAYLOAD_BYTES_MAX {
            return Err(StoreError::TooLarge {
                limit: PAYLOAD_BYTES_MAX,
            });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Complaint {
    errors: Vec<String>,
    data: Option<Tombstone>,
}

/// What stands in the place of a version that was deleted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tombstone {
    metadata: Option<TombstoneMetadata>,
}

#[derive(Deserialize)]
struct TombstoneMetadata {
    version: u64,
}

fn words(status: u16, body: &[u8]) -> Said {
    let complaint: Complaint = serde_json::from_slice(body).unwrap_or_default();
    let tombstone = complaint.data.and_then(|data| data.metadata);
    match (tombstone, complaint.errors.as_slice()) {
        (Some(metadata), _) => Said::new(format_args!("version {} is deleted", metadata.version)),
        (None, []) => Said::new(format_args!("HTTP {status}")),
        (None, errors) => Said::new(errors.join("; ")),
    }
}

fn failure(error: reqwest::Error) -> StoreError {
    if error.is_timeout() && !error.is_connect() {
        return StoreError::Slow { limit: READ_TIME_MAX };
    }
    let error = error.without_url();
    match error.is_connect() || error.is_request() || error.is_body() {
        true => StoreError::Unreachable(Said::chain(&error)),
        false => StoreError::Failed(Said::chain(&error)),
    }
}

fn not_sendable() -> StoreError {
    StoreError::Denied(Said::new(
        "the token or namespace holds bytes that HTTP can't carry",
    ))
}
