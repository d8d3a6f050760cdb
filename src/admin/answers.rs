//! Which request gets which answer.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderMap, HeaderValue,
    ORIGIN, REFERRER_POLICY,
};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::readiness::{Ready, alive, ready, started};
use super::room::Entered;
use super::{Facts, Server, exposition, names, page, status, users};

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const NOT_OURS: &str = "not a name of this server: what it tells is for those who call it by its address, by localhost, or by a name in admin.hosts";
const NO_ROOM: &str = "too many ask at once (limits.admin_connections)";

pub type Answer = Response<Full<Bytes>>;

/// Who asks, and where the request came in.
#[derive(Clone, Copy)]
pub struct Asker {
    pub peer: IpAddr,
    pub local: IpAddr,
}

pub async fn to(request: &Request<Incoming>, asker: Asker, entered: &Entered, server: &Server) -> Answer {
    let (path, facts) = (request.uri().path(), &server.facts);
    if let Some(allowed) = refused(request.method(), path) {
        return refused_method(allowed);
    }
    // Which secrets there are is all that these tell, so whatever name a prober has for us is fine.
    entered.probes();
    match path {
        "/livez" => return health(&alive(facts).await, &[]),
        "/startupz" => return health(&started(facts), &[]),
        "/readyz" => {
            let Ready { reasons, warnings } = ready(facts);
            return health(&reasons, &warnings);
        }
        _ => {}
    }
    if !names::is_ours(request, asker.local, &facts.active.borrow().config.admin.hosts) {
        return json_answer(StatusCode::MISDIRECTED_REQUEST, &json!({ "error": NOT_OURS }));
    }
    if !entered.asks(server.connections_max()) {
        return json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": NO_ROOM }));
    }
    let answer = match path {
        "/" => written(server, page).await,
        "/metrics" => written(server, metrics).await,
        "/status" => {
            written(server, |facts| {
                json_answer(StatusCode::OK, &status::report(facts))
            })
            .await
        }
        "/unused" if *request.method() != Method::POST => unused(request, facts),
        "/refresh" | "/unused" | "/quit" => match wish(request.headers(), asker.peer, facts) {
            Err(why) => json_answer(StatusCode::FORBIDDEN, &json!({ "error": why })),
            Ok(()) if path == "/refresh" => refresh(request.uri().query(), facts),
            Ok(()) if path == "/unused" => unused_as_of_now(request, facts).await,
            Ok(()) => quit(facts),
        },
        _ => json_answer(StatusCode::NOT_FOUND, &json!({ "error": "no such page" })),
    };
    entered.reads();
    answer
}

/// The methods that the page allows, if this one is none of them.
fn refused(method: &Method, path: &str) -> Option<&'static str> {
    let (allowed, may) = match path {
        "/" | "/livez" | "/startupz" | "/readyz" | "/metrics" | "/status" => {
            ("GET, HEAD", matches!(*method, Method::GET | Method::HEAD))
        }
        "/unused" => (
            "GET, HEAD, POST",
            matches!(*method, Method::GET | Method::HEAD | Method::POST),
        ),
        "/refresh" | "/quit" => ("POST", *method == Method::POST),
        _ => return None,
    };
    (!may).then_some(allowed)
}

/// Written beside the thread that answers probes, in turn: it may take its time.
async fn written(server: &Server, page: impl FnOnce(&Facts) -> Answer + Send + 'static) -> Answer {
    let _turn = server.writers.take().await;
    let facts = Arc::clone(&server.facts);
    let writing = spawn_blocking(move || page(&facts));
    writing.await.unwrap_or_else(|_| {
        let error = "the answer could not be written";
        json_answer(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": error }))
    })
}

fn health(reasons: &[String], warnings: &[String]) -> Answer {
    if !warnings.is_empty() && reasons.is_empty() {
        json_answer(StatusCode::OK, &json!({ "ok": true, "warnings": warnings }))
    } else if reasons.is_empty() {
        json_answer(StatusCode::OK, &json!({ "ok": true }))
    } else {
        json_answer(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "ok": false, "reasons": reasons }),
        )
    }
}

fn page(facts: &Facts) -> Answer {
    let page = page::page(facts);
    let mut answer = answer(StatusCode::OK, HTML, page.html);
    let policy = HeaderValue::from_str(&page.policy).expect("hashes in base64 are visible ASCII");
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

fn metrics(facts: &Facts) -> Answer {
    let text = exposition::text(facts, &status::report(facts));
    answer(StatusCode::OK, PROMETHEUS, text)
}

/// Whether this client's wishes count. Every read of a store may cost money, and an end is an end: strangers
/// can't ask for either, nor can a web page that somebody on this machine looks at.
fn wish(headers: &HeaderMap, peer: IpAddr, facts: &Facts) -> Result<(), &'static str> {
    if headers.contains_key(ORIGIN) {
        return Err("not from a web page");
    }
    if peer.to_canonical().is_loopback() {
        return Ok(());
    }
    let active = facts.active.borrow();
    let Some(token) = &active.config.admin.token else {
        return Err("only from this machine (no admin.token is configured)");
    };
    let said = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let said = said.and_then(|said| said.split_at_checked(BEARER.len()));
    let is_known = said.is_some_and(|(scheme, said)| {
        scheme.eq_ignore_ascii_case(BEARER) && verify_slices_are_equal(said, token.expose()).is_ok()
    });
    if is_known {
        Ok(())
    } else {
        Err("only from this machine, or with the bearer token of admin.token")
    }
}

const BEARER: &[u8] = b"Bearer ";

/// `fleet=1`: by every process of the fleet.
fn refresh(query: Option<&str>, facts: &Facts) -> Answer {
    let active = facts.active.borrow();
    let for_fleet = query.is_some_and(|query| query.split('&').any(|part| part == "fleet=1"));
    match (for_fleet, &active.tell_fleet) {
        (false, _) => {}
        (true, Some(tell)) => tell.notify_one(),
        (true, None) => {
            let error = "this process is in no fleet: set fleet.channel";
            return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": error }));
        }
    }
    let mut asked = Vec::new();
    for (name, keeper) in &active.keepers {
        keeper.refresh();
        asked.push(name.as_str());
    }
    json_answer(StatusCode::ACCEPTED, &json!({ "refreshing": asked }))
}

/// Whether the user that is asked for is unused here, as of the last reads of the stores.
fn unused(request: &Request<Incoming>, facts: &Facts) -> Answer {
    match user_of(request) {
        Ok(user) => json_answer(
            StatusCode::OK,
            &users::of(&user, &facts.active.borrow(), &facts.roster),
        ),
        Err(why) => json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why })),
    }
}

/// The same, after every store was read.
async fn unused_as_of_now(request: &Request<Incoming>, facts: &Facts) -> Answer {
    if let Err(why) = user_of(request) {
        return json_answer(StatusCode::BAD_REQUEST, &json!({ "error": why }));
    }
    match users::refresh(facts).await.as_slice() {
        [] => unused(request, facts),
        behind => {
            let error = format!("the store of {} can't be read now", behind.join(", "));
            json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error }))
        }
    }
}

/// `user=NAME` of the query, where bytes may be written as `%XX`.
fn user_of(request: &Request<Incoming>) -> Result<String, &'static str> {
    let query = request.uri().query().unwrap_or_default();
    let user = query.split('&').find_map(|pair| pair.strip_prefix("user="));
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or("whose? ask for /unused?user=NAME")?;
    unescaped(user).ok_or("the user's name is not UTF-8, or has a % that no two hexadecimal digits follow")
}

fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next()?.as_bytes());
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// As SIGTERM does.
fn quit(facts: &Facts) -> Answer {
    facts.quit.notify_one();
    json_answer(StatusCode::ACCEPTED, &json!({ "stopping": true }))
}

fn refused_method(allowed: &'static str) -> Answer {
    let error = json!({ "error": format!("only {allowed}") });
    let mut answer = json_answer(StatusCode::METHOD_NOT_ALLOWED, &error);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Answer {
    let body = serde_json::to_string(body);
    let body = body.expect("what is answered is texts, numbers and lists of them");
    answer(status, JSON, body + "\n")
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    answer
}
