//! What an endpoint makes of a credential, asked for its own sake: no client waits for the answer.

use bytes::BytesMut;
use tokio::time::timeout;

use super::login::{Link, log_in, login, reach};
use super::login_error::LoginError;
use super::target::Target;
use crate::access::log_in::AttemptError;
use crate::credentials::Credential;
use crate::names::Endpoint;
use crate::net::tls::TlsFacts;
use crate::postgres::state::ledger::LACKS_QUERY;
use crate::postgres::talk::stream::{MessageStream, StreamError};
use crate::postgres::wire::opening::Startup;
use crate::postgres::wire::tag::from_server;
use crate::postgres::wire::{read, say};

/// Every cluster has it, and a credential is proven before it matters.
const DATABASE_FOR_PROOFS: &str = "postgres";
/// Of one message that answers SET ROLE.
const ANSWER_MAX: usize = 30_000;

/// Everything that one connection could find out.
#[derive(Debug)]
pub struct Examination {
    pub reached: Result<Reached, AttemptError<LoginError>>,
    /// None: no credential was sent.
    pub login: Option<Result<Admission, AttemptError<LoginError>>>,
}

/// How an endpoint was reached.
#[derive(Clone, Debug)]
pub struct Reached {
    /// None: no TLS.
    pub tls: Option<TlsFacts>,
    /// The connection does not leave this machine.
    pub is_local: bool,
}

/// What a session found inside.
#[derive(Debug)]
pub struct Admission {
    /// As the server reports it; not every server does.
    pub server_version: Option<String>,
    pub is_standby: bool,
    /// Whether each role that was asked for can be taken.
    pub set_roles: Vec<(String, Result<(), LoginError>)>,
    /// Functions that it may not execute, and a survey would.
    pub survey_lacks: Vec<String>,
}

/// The database that proofs and examinations log in to.
pub fn database(target: &Target) -> &str {
    target.upstream.database.as_deref().unwrap_or(DATABASE_FOR_PROOFS)
}

/// Whether the endpoint accepts the credential: a login, and nothing to do with what it opened.
pub async fn prove(
    target: &Target,
    endpoint: &Endpoint,
    credential: &Credential,
) -> Result<Link, LoginError> {
    login(target, endpoint, credential, &startup(target)).await
}

/// One connection, and one login over it if there is a credential. Nothing is tried again.
pub async fn examine(
    target: &Target,
    endpoint: &Endpoint,
    credential: Option<&Credential>,
    set_roles: &[String],
) -> Examination {
    let limit = target.upstream.connect_timeout;
    let stream = timeout(limit, reach(target, endpoint)).await;
    let stream = match stream.unwrap_or(Err(LoginError::TimedOut)) {
        Ok(stream) => stream,
        Err(error) => {
            return Examination {
                reached: Err(error.into()),
                login: None,
            };
        }
    };
    let reached = Ok(Reached {
        tls: stream.tls().cloned(),
        is_local: stream.peer().is_local(),
    });
    let Some(credential) = credential else {
        return Examination { reached, login: None };
    };
    let startup = startup(target);
    let link = timeout(limit, log_in(stream, target, endpoint, credential, &startup)).await;
    let login = match link.unwrap_or(Err(LoginError::TimedOut)) {
        Ok(link) => Ok(look_around(link, target, set_roles).await),
        Err(error) => Err(error.into()),
    };
    Examination {
        reached,
        login: Some(login),
    }
}

fn startup(target: &Target) -> Startup {
    let mut startup = Startup::default();
    startup.set(b"database", database(target).as_bytes());
    startup.set(b"application_name", b"pgswivel");
    startup
}

async fn look_around(link: Link, target: &Target, set_roles: &[String]) -> Admission {
    let reported = |name: &[u8]| {
        let value = read::reported(&link.facts.greeting.messages, name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let mut admission = Admission {
        server_version: reported(b"server_version"),
        is_standby: reported(b"in_hot_standby").is_some_and(|value| value == "on"),
        set_roles: Vec::new(),
        survey_lacks: Vec::new(),
    };
    let mut talk = MessageStream::resume(link.stream, link.unread);
    let lacks = timeout(target.upstream.connect_timeout, survey_lacks(&mut talk)).await;
    // What can't be found out is no reason to complain.
    admission.survey_lacks = lacks.map(Result::unwrap_or_default).unwrap_or_default();
    for role in set_roles {
        let answer = timeout(target.upstream.connect_timeout, set_role(&mut talk, role)).await;
        let answer = answer.unwrap_or(Err(LoginError::TimedOut));
        admission.set_roles.push((role.clone(), answer));
    }
    let mut out = BytesMut::new();
    say::terminate(&mut out);
    // The server ends the backend either way.
    let _ = talk.write(&mut out).await;
    admission
}

/// Asks with a statement what a session will ask with its startup packet.
async fn set_role(talk: &mut MessageStream<crate::net::Stream>, role: &str) -> Result<(), LoginError> {
    let mut out = BytesMut::new();
    say::query(&mut out, &format!("SET ROLE \"{}\"", role.replace('"', "\"\"")));
    talk.write(&mut out).await.map_err(StreamError::from)?;
    let mut answer = Ok(());
    loop {
        let message = talk.read(ANSWER_MAX).await?;
        match message.tag {
            from_server::ERROR => {
                answer = Err(LoginError::Server {
                    body: bytes::Bytes::copy_from_slice(message.body()),
                    authenticated: true,
                });
            }
            from_server::READY => return answer,
            _ => {}
        }
    }
}

async fn survey_lacks(talk: &mut MessageStream<crate::net::Stream>) -> Result<Vec<String>, LoginError> {
    let mut out = BytesMut::new();
    say::query(&mut out, LACKS_QUERY);
    talk.write(&mut out).await.map_err(StreamError::from)?;
    let mut lacks = Vec::new();
    loop {
        let message = talk.read(ANSWER_MAX).await?;
        match message.tag {
            from_server::DATA_ROW => {
                let [signature] = read::row::<1>(message.body())?;
                let name = signature.unwrap_or_default().split(|byte| *byte == b'(').next();
                lacks.push(String::from_utf8_lossy(name.unwrap_or_default()).into_owned());
            }
            from_server::READY => return Ok(lacks),
            _ => {}
        }
    }
}
