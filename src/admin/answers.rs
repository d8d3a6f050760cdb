use std::net::IpAddr;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Facts;

/// An event loop that takes longer to run nothing does not answer clients either.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

pub type Answer = Response<Full<Bytes>>;

pub async fn to(request: &Request<Incoming>, peer: IpAddr, facts: &Facts) -> Answer {
    let read = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/livez" if read => health(&alive(facts).await),
        "/startupz" if read => health(&started(facts)),
        "/readyz" if read => health(&ready(facts)),
        "/refresh" if *request.method() == Method::POST => refresh(peer, facts),
        "/livez" | "/startupz" | "/readyz" => refused_method("GET, HEAD"),
        "/refresh" => refused_method("POST"),
        _ => answer(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
    }
}

/// Why not; nothing: all is well.
type Reasons = Vec<String>;

async fn alive(facts: &Facts) -> Reasons {
    match timeout(ALIVE_WITHIN, facts.sessions.spawn(async {})).await {
        Ok(Ok(())) => Vec::new(),
        _ => vec![format!("the event loop did not answer within {ALIVE_WITHIN:?}")],
    }
}

/// The first credential is in hand.
fn started(facts: &Facts) -> Reasons {
    let secrets = facts.secrets.borrow().clone();
    let empty = secrets
        .iter()
        .filter(|(_, keeper)| keeper.page.borrow().entries().is_empty());
    empty
        .map(|(name, _)| format!("secret.{name}: nothing could be read yet"))
        .collect()
}

/// Some credential of every secret works, and clients are welcome. The listeners are bound before this server is.
fn ready(facts: &Facts) -> Reasons {
    let secrets = facts.secrets.borrow().clone();
    let unproven = secrets
        .iter()
        .filter(|(_, keeper)| !keeper.page.borrow().has_proof());
    let mut reasons: Reasons = unproven
        .map(|(name, _)| format!("secret.{name}: no credential is known to work"))
        .collect();
    if *facts.stopping.borrow() {
        reasons.push("stopping".to_owned());
    }
    reasons
}

fn health(reasons: &[String]) -> Answer {
    if reasons.is_empty() {
        answer(StatusCode::OK, &json!({ "ok": true }))
    } else {
        answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "ok": false, "reasons": reasons }),
        )
    }
}

/// Every read of a store may cost money, so strangers can't ask for one.
fn refresh(peer: IpAddr, facts: &Facts) -> Answer {
    if !peer.to_canonical().is_loopback() {
        return answer(
            StatusCode::FORBIDDEN,
            &json!({ "error": "only from this machine" }),
        );
    }
    let mut asked = Vec::new();
    let secrets = facts.secrets.borrow().clone();
    for (name, keeper) in &*secrets {
        keeper.refresh();
        asked.push(name.to_string());
    }
    answer(StatusCode::ACCEPTED, &json!({ "refreshing": asked }))
}

fn refused_method(allowed: &'static str) -> Answer {
    let mut answer = answer(
        StatusCode::METHOD_NOT_ALLOWED,
        &json!({ "error": format!("only {allowed}") }),
    );
    answer
        .headers_mut()
        .insert(ALLOW, hyper::header::HeaderValue::from_static(allowed));
    answer
}

fn answer(status: StatusCode, body: &Value) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    answer
}
