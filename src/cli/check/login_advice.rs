//! What to do when a login fails.

use super::findings::Trouble;
use crate::config::{Source, TlsMode};
use crate::credentials::{Credential, Position};
use crate::names::Endpoint;
use crate::net::dial::DialError;
use crate::net::tls::{Distrust, Reason, TlsError};
use crate::postgres::{LoginError, Target, database};

/// What a server says is cut here.
const SAID_CHARS_MAX: usize = 300;
/// Shorter than this, a password is found in any text by chance, and hiding it would show it.
const HIDDEN_BYTES_MIN: usize = 4;

/// What was asked of whom.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) target: &'a Target,
    pub(super) endpoint: &'a Endpoint,
    pub(super) credential: Option<&'a Credential>,
    /// Where the credential is from.
    pub(super) source: Option<&'a Source>,
}

pub(super) fn trouble(error: &LoginError, question: Question<'_>) -> Trouble {
    if let Some(sqlstate) = error.sqlstate() {
        let said = error.server_message().unwrap_or_default();
        let (kind, advice) = about_sqlstate(sqlstate, question);
        return Trouble {
            kind,
            message: quoted(&said, question.credential),
            advice,
        };
    }
    let (kind, advice) = about_failure(error, question);
    let message = match error {
        // What follows it there is advice.
        LoginError::Tls(TlsError::Distrust(distrust)) => {
            format!("the server's certificate is not trusted: {}", distrust.reason)
        }
        error => error.to_string(),
    };
    Trouble {
        kind,
        message,
        advice,
    }
}

fn about_sqlstate(sqlstate: &str, question: Question<'_>) -> (&'static str, String) {
    let upstream = &question.target.upstream.name;
    let database = database(question.target);
    let user = question
        .credential
        .map_or("the user", |credential| &credential.user);
    match sqlstate {
        "28P01" => ("bad_password", about_password(user, question)),
        "28000" => ("not_allowed", about_permission(user, question)),
        "3D000" => (
            "no_database",
            format!("create the database, or correct upstream.{upstream}.database"),
        ),
        "42501" => (
            "no_permission",
            format!("let the user in: GRANT CONNECT ON DATABASE {database:?} TO {user:?}"),
        ),
        "53300" => (
            "too_many_connections",
            format!(
                "raise max_connections or the CONNECTION LIMIT of the role or database, or lower \
                 upstream.{upstream}.connections_max"
            ),
        ),
        "57P03" => (
            "not_yet",
            "wait until the server has started or recovered, and check again".to_owned(),
        ),
        _ => (
            "server_error",
            format!("look up SQLSTATE {sqlstate} in the server's log"),
        ),
    }
}

fn about_password(user: &str, question: Question<'_>) -> String {
    if is_token(question) {
        return about_token(user);
    }
    match question.credential.map(|credential| credential.position) {
        Some(Position::Next) => {
            "expected while a rotation has not changed the database yet; if none is under \
                                 way, the last one failed, so start it again"
                .to_owned()
        }
        Some(Position::Previous) => "expected after a rotation, which leaves it behind".to_owned(),
        Some(Position::Index(_)) => {
            "take it off the list, unless it is about to become valid or has just been replaced".to_owned()
        }
        Some(Position::Current) | None => format!(
            "wait if a rotation is under way; otherwise make store and database agree: ALTER ROLE {user:?} \
             PASSWORD … (a role without a password, or past its VALID UNTIL, is refused as well)"
        ),
    }
}

fn about_permission(user: &str, question: Question<'_>) -> String {
    if is_token(question) {
        return about_token(user);
    }
    let upstream = &question.target.upstream;
    let (name, database) = (&upstream.name, database(question.target));
    let mut advice = String::new();
    if upstream.tls.mode == TlsMode::Disable {
        advice = format!("if the server wants TLS, set upstream.{name}.tls.mode = \"require\" or stricter; ");
    }
    advice += &format!(
        "let {user:?} into {database:?} from here with a line in pg_hba.conf; if there is one, the role may be \
         NOLOGIN: ALTER ROLE {user:?} LOGIN"
    );
    if upstream.database.is_none() {
        advice += &format!("; if it is only this database, set upstream.{name}.database");
    }
    advice
}

fn is_token(question: Question<'_>) -> bool {
    matches!(question.source, Some(Source::AwsRdsIam { .. }))
}

fn about_token(user: &str) -> String {
    format!(
        "GRANT rds_iam TO {user:?}, allow rds-db:connect on this user to this identity, and check the region and \
         this machine's clock"
    )
}

fn about_failure(error: &LoginError, question: Question<'_>) -> (&'static str, String) {
    let name = &question.target.upstream.name;
    let elsewhere = || format!("check that Postgres is what answers there (upstream.{name}.hosts)");
    match error {
        LoginError::Dial(error) => about_dial(error, question),
        LoginError::TimedOut => (
            "timed_out",
            format!(
                "{}, its load and the network, or raise upstream.{name}.connect_timeout",
                elsewhere()
            ),
        ),
        LoginError::Stream(_) => (
            "closed",
            format!("see the server's log for why it closed; {}", elsewhere()),
        ),
        LoginError::Tls(TlsError::Distrust(distrust)) => ("certificate", about_distrust(distrust, question)),
        LoginError::Tls(TlsError::ServerName { .. }) => (
            "server_name",
            format!("set upstream.{name}.tls.server_name to a name in the server's certificate"),
        ),
        LoginError::Tls(_) => (
            "tls",
            format!("check that the server speaks TLS 1.2 or 1.3 there, and upstream.{name}.tls.negotiation"),
        ),
        LoginError::TlsNotOffered => (
            "tls_not_offered",
            format!("turn ssl on in the server, or set upstream.{name}.tls.mode = \"disable\""),
        ),
        LoginError::CleartextRefused => (
            "cleartext_refused",
            format!(
                "set upstream.{name}.tls.mode = \"verify-full\", or let pg_hba.conf ask for scram-sha-256"
            ),
        ),
        LoginError::Md5Refused => (
            "md5_refused",
            format!(
                "give the role a SCRAM password (password_encryption = scram-sha-256), use TLS, or set \
                 upstream.{name}.md5 = \"allow\""
            ),
        ),
        LoginError::Method(_) | LoginError::Mechanism => {
            ("method", "let pg_hba.conf ask for scram-sha-256".to_owned())
        }
        LoginError::Unbound => (
            "channel_binding",
            format!(
                "see whether something between here and the server ends TLS; if it may, verify its certificate \
                 (tls.mode) or set upstream.{name}.tls.channel_binding = \"disable\""
            ),
        ),
        LoginError::Scram(_) | LoginError::Unproven => ("scram", elsewhere()),
        LoginError::BadTlsAnswer(_)
        | LoginError::Malformed(_)
        | LoginError::Unexpected(_)
        | LoginError::Greeting
        | LoginError::Chatter
        | LoginError::Server { .. } => ("protocol", elsewhere()),
    }
}

fn about_dial(error: &DialError, question: Question<'_>) -> (&'static str, String) {
    let name = &question.target.upstream.name;
    match error {
        DialError::Resolve { .. } | DialError::NoAddress { .. } => (
            "unresolved",
            format!("correct the name in upstream.{name}.hosts, or this machine's name resolution"),
        ),
        DialError::Unreachable { .. } if matches!(question.endpoint, Endpoint::Unix(_)) => (
            "unreachable",
            "check that the server runs, its unix_socket_directories, and who may open the socket".to_owned(),
        ),
        DialError::Unreachable { .. } => (
            "unreachable",
            format!("check that the server runs, its listen_addresses and port, and upstream.{name}.hosts"),
        ),
        DialError::NoAnswer { .. } | DialError::TimedOut { .. } => (
            "no_answer",
            format!("check firewalls, security groups and routes, and upstream.{name}.hosts"),
        ),
    }
}

fn about_distrust(distrust: &Distrust, question: Question<'_>) -> String {
    let name = &question.target.upstream.name;
    let first = match &distrust.reason {
        Reason::NotPinned => "if it was replaced on purpose".to_owned(),
        Reason::Expired | Reason::NotValidYet => {
            "renew it, or check this machine's clock; or, if it is the server's own".to_owned()
        }
        Reason::UnknownIssuer | Reason::OtherIssuer => {
            format!("name the issuer's certificate in upstream.{name}.tls.ca; or, if it is the server's own")
        }
        Reason::WrongName { .. } => {
            format!("name one of its names in upstream.{name}.tls.server_name; or, if it is the server's own")
        }
        Reason::NoName | Reason::AuthorityAsServer | Reason::Other(_) => {
            "if it is the server's own".to_owned()
        }
    };
    // What is shown here is what was just found untrusted: whoever sits in between shows a certificate, too.
    format!(
        "{first} and only once you have compared its fingerprint with the one on the server's own disk (openssl x509 -noout \
         -fingerprint -sha256 -in server.crt), since whoever sits in between shows a certificate as well: set \
         upstream.{name}.tls.pin = \"{}\"",
        distrust.leaf
    )
}

/// In the server's words, but for the password: a server that is no Postgres may say anything.
fn quoted(said: &str, credential: Option<&Credential>) -> String {
    let mut said = said.to_owned();
    if let Some(credential) = credential {
        let password = String::from_utf8_lossy(credential.password.expose());
        if password.len() >= HIDDEN_BYTES_MIN {
            said = said.replace(&*password, "***");
        } else if said.contains(&*password) {
            said = "***".to_owned();
        }
    }
    let mut quoted: String = said.chars().take(SAID_CHARS_MAX).collect();
    if quoted.len() < said.len() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::Password;

    #[test]
    fn a_server_that_repeats_the_password_is_not_repeated() {
        let credential = |password: &str| Credential {
            user: "app".into(),
            password: Password::new(password),
            version: "1".into(),
            position: Position::Current,
        };
        let long = credential("hunter2");
        assert_eq!(
            quoted("got hunter2, wanted more", Some(&long)),
            "got ***, wanted more"
        );
        assert_eq!(quoted("got abc", Some(&credential("b"))), "***");
        assert_eq!(quoted("denied", Some(&long)), "denied");
        assert_eq!(
            quoted(&"x".repeat(1000), None).chars().count(),
            SAID_CHARS_MAX + 1
        );
    }
}
