//! Running pgswivels, asked at their admin addresses.

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::config::Sidecar;
use crate::credentials::Password;

/// Longer than a pgswivel gives its stores when it is asked for a fresh answer.
const TIME: Duration = Duration::from_secs(35);
const ANSWER_MAX: u64 = 1 << 20;

/// All of them, by their names.
#[derive(Clone)]
pub struct Sidecars {
    names: Vec<Sidecar>,
    token: Option<Password>,
}

/// What one pgswivel says of a user, as of a read of its stores that was made for this answer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Answer {
    pub unused: bool,
    pub links: u64,
    pub sessions: u64,
    pub pinned: u64,
    pub wanted_by: Vec<String>,
    pub unread: Vec<String>,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    #[error("can't be found: {0}")]
    Unresolved(String),
    #[error("can't be asked: {0}")]
    Unreachable(io::Error),
    #[error("did not answer within {} s", TIME.as_secs())]
    Slow,
    #[error("does not answer as pgswivel does")]
    Stranger,
    #[error("can't tell: {0}")]
    Refused(String),
}

impl SidecarError {
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unresolved(_) | Self::Unreachable(_) | Self::Slow)
    }
}

impl Sidecars {
    pub fn new(names: Vec<Sidecar>, token: Option<Password>) -> Self {
        Self { names, token }
    }

    /// Everybody's answer, by name or address. A name that can't be resolved, or has no address, is an answer too: nobody
    /// knows who is behind it.
    pub async fn ask(&self, user: &str) -> Vec<(String, Result<Answer, SidecarError>)> {
        let mut asked = Vec::new();
        let mut answers = Vec::new();
        for name in &self.names {
            match resolve(name).await {
                Ok(addresses) => {
                    for address in addresses {
                        let (token, user) = (self.token.clone(), user.to_owned());
                        let asking = async move { unused(address, &user, token.as_ref()).await };
                        asked.push((address.to_string(), tokio::spawn(asking)));
                    }
                }
                Err(error) => answers.push((name.to_string(), Err(error))),
            }
        }
        for (address, answer) in asked {
            let answer = answer.await.unwrap_or(Err(SidecarError::Stranger));
            answers.push((address, answer));
        }
        answers
    }
}

async fn resolve(name: &Sidecar) -> Result<Vec<SocketAddr>, SidecarError> {
    let found = timeout(TIME, lookup_host((name.host.as_str(), name.port))).await;
    let found = match found {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(SidecarError::Unresolved(error.to_string())),
        Err(_) => return Err(SidecarError::Slow),
    };
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(SidecarError::Unresolved("it has no address".to_owned()));
    }
    if !name.every_address {
        addresses.truncate(1);
    }
    Ok(addresses)
}

async fn unused(address: SocketAddr, user: &str, token: Option<&Password>) -> Result<Answer, SidecarError> {
    let path = format!("/unused?user={}", escaped(user));
    let exchange = timeout(TIME, exchange(address, &path, token)).await;
    let said = match exchange {
        Ok(said) => said.map_err(SidecarError::Unreachable)?,
        Err(_) => return Err(SidecarError::Slow),
    };
    let (status, body) = parse(&said).ok_or(SidecarError::Stranger)?;
    match status {
        200 => serde_json::from_str(body).map_err(|_| SidecarError::Stranger),
        _ => match serde_json::from_str::<Refused>(body) {
            Ok(refused) => Err(SidecarError::Refused(refused.error)),
            Err(_) => Err(SidecarError::Stranger),
        },
    }
}

async fn exchange(address: SocketAddr, path: &str, token: Option<&Password>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    // An old version of the protocol: its answers end when the connection does.
    let mut request = format!("POST {path} HTTP/1.0\r\nhost: {address}\r\n").into_bytes();
    if let Some(token) = token {
        request.extend_from_slice(b"authorization: Bearer ");
        request.extend_from_slice(token.expose());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    let request = zeroize::Zeroizing::new(request);
    stream.write_all(&request).await?;
    let mut said = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut said).await?;
    Ok(said)
}

fn parse(said: &[u8]) -> Option<(u16, &str)> {
    let said = str::from_utf8(said).ok()?;
    let (head, body) = said.split_once("\r\n\r\n")?;
    let mut words = head.split([' ', '\r']);
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok().filter(|_| is_http)?;
    Some((status, body))
}

/// Every byte that could mean something in a query.
fn escaped(user: &str) -> String {
    let mut out = String::new();
    for byte in user.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String never fails");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_from_anything_else() {
        assert_eq!(parse(b"HTTP/1.0 503 x\r\na: b\r\n\r\n{}"), Some((503, "{}")));
        for other in [
            &b""[..],
            b"R\0\0\0\x08",
            b"SSH-2.0-x\r\n\r\n",
            b"HTTP/1.1 x\r\n\r\n",
        ] {
            assert_eq!(parse(other), None);
        }
        assert_eq!(escaped("a b&c%é"), "a%20b%26c%25%C3%A9");
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_answer_too() {
        let names = vec![Sidecar {
            every_address: true,
            host: "no-such-host.invalid".to_owned(),
            port: 9632,
        }];
        let answers = Sidecars::new(names, None).ask("app").await;
        let [(name, Err(error))] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        assert_eq!(name, "dns+http://no-such-host.invalid:9632");
        assert!(error.is_unreachable(), "{error}");
    }
}
