//! The part of AWS STS that Vault relies on, after the documentation of Signature Version 4: whether a request
//! that Vault was told to make is signed with the secret key of who it says it is.

use std::collections::BTreeMap;

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub const KEY_ID: &str = "AKIDORDERS";
pub const SECRET_KEY: &str = "the-secret-key-of-orders";
/// What the double's Vault wants to see signed.
pub const SERVER_ID: &str = "vault.internal";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// `login`: the body of a login to Vault by the method `aws`, type `iam`.
pub fn accepts(login: &Value) -> bool {
    let part = |name: &str| {
        let encoded = login[name].as_str().unwrap_or_default();
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    };
    let body = part("iam_request_body");
    let headers: BTreeMap<String, String> = serde_json::from_str(&part("iam_request_headers")).unwrap();
    let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
    let is_the_question = login["iam_http_request_method"] == "POST"
        && part("iam_request_url") == "https://sts.amazonaws.com/"
        && body == "Action=GetCallerIdentity&Version=2011-06-15"
        && header("x-vault-aws-iam-server-id") == SERVER_ID;

    let field = |name: &str| {
        let (_, after) = header("authorization")
            .split_once(&format!("{name}="))
            .unwrap_or_default();
        after.split(',').next().unwrap_or_default().to_owned()
    };
    let (credential, signed) = (field("Credential"), field("SignedHeaders"));
    let Some((key_id, scope)) = credential.split_once('/') else {
        return false;
    };
    let date = scope.split('/').next().unwrap_or_default();
    let lines: String = signed
        .split(';')
        .map(|name| format!("{name}:{}\n", header(name)))
        .collect();
    let canonical = format!("POST\n/\n\n{lines}\n{signed}\n{}", sha256(&body));
    let text = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        header("x-amz-date"),
        sha256(&canonical)
    );
    let mut key = mac(format!("AWS4{SECRET_KEY}").as_bytes(), date);
    for step in ["us-east-1", "sts", "aws4_request"] {
        key = mac(key.as_ref(), step);
    }
    let signature = hex(mac(key.as_ref(), &text).as_ref());
    is_the_question
        && key_id == KEY_ID
        && scope == format!("{date}/us-east-1/sts/aws4_request")
        && signed.split(';').any(|name| name == "x-vault-aws-iam-server-id")
        && field("Signature") == signature
}
