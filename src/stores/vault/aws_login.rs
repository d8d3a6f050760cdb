//! Logging in to Vault as an AWS role: a signed question to STS, "who am I", which Vault asks in our place.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::Aws;
use crate::stores::aws::{Signer, credentials, load};
use crate::stores::{Said, StoreError};

const QUESTION: &str = "Action=GetCallerIdentity&Version=2011-06-15";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded; charset=utf-8");
const SERVER_ID: HeaderName = HeaderName::from_static("x-vault-aws-iam-server-id");
/// Where the global endpoint is.
const GLOBAL_REGION: &str = "us-east-1";

/// The signed request, in the parts that Vault wants.
#[derive(Serialize)]
pub(super) struct Proof<'a> {
    role: &'a str,
    iam_http_request_method: &'static str,
    iam_request_url: String,
    iam_request_body: String,
    iam_request_headers: String,
}

/// Signed anew at each login: a signature is good for minutes, and credentials rotate too.
pub(super) async fn proof<'a>(
    role: &'a str,
    region: Option<&str>,
    server_id: Option<&str>,
) -> Result<Proof<'a>, StoreError> {
    let aws = Aws {
        region: Some(region.unwrap_or(GLOBAL_REGION).to_owned()),
        endpoint: None,
    };
    let credentials = credentials(&load(&aws, "").await?).await?;
    let host = region.map_or_else(
        || "sts.amazonaws.com".to_owned(),
        |region| format!("sts.{region}.amazonaws.com"),
    );
    let url = format!("https://{host}/");
    let unusable = |error: http::Error| StoreError::Failed(Said::chain(&error));
    let mut request = http::Request::post(&url)
        .header(HOST, &host)
        .header(CONTENT_TYPE, FORM);
    if let Some(server_id) = server_id {
        request = request.header(SERVER_ID, server_id);
    }
    let mut request = request.body(QUESTION.as_bytes().to_vec()).map_err(unusable)?;
    let signer = Signer {
        credentials: &credentials,
        region: region.unwrap_or(GLOBAL_REGION),
        service: "sts",
        now: SystemTime::now(),
    };
    signer.sign_headers(&mut request)?;
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), Value::from(value.to_str().ok()?))))
        .collect();
    Ok(Proof {
        role,
        iam_http_request_method: "POST",
        iam_request_url: STANDARD.encode(url),
        iam_request_body: STANDARD.encode(QUESTION),
        iam_request_headers: STANDARD.encode(Value::Object(headers).to_string()),
    })
}
