//! The admin server of a running pgswivel, as anybody asks it.

use std::collections::BTreeMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Swivel;

/// An answer, whole.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// Asks it, such as `GET /status`; more lines of the head may follow.
pub async fn ask(swivel: &Swivel, request: &str) -> Answer {
    ask_at(&format!("127.0.0.1:{}", swivel.admin_port()), request).await
}

pub async fn ask_at(address: &str, request: &str) -> Answer {
    ask_as(address, address, request).await
}

/// The same, under a name that somebody has for it.
pub async fn ask_as(host: &str, address: &str, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
    let request = format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// The document of `/status`.
pub async fn status(swivel: &Swivel) -> Value {
    ask(swivel, "GET /status").await.json()
}

/// One scrape: the value of every series, by how it is written.
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub async fn of(swivel: &Swivel) -> Self {
        Self::read(&ask(swivel, "GET /metrics").await.body)
    }

    pub fn read(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let series = series.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// The sum of the series of this metric whose labels hold all of these words: `secret="orders"`.
    pub fn sum(&self, metric: &str, labels: &[&str]) -> f64 {
        let series = self.0.iter().filter(|(name, _)| {
            let labelled = name.strip_prefix(metric);
            labelled.is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with('{')) && labels.iter().all(|label| rest.contains(label))
            })
        });
        series.map(|(_, value)| value).sum()
    }

    pub fn has(&self, metric: &str) -> bool {
        let is_of = |name: &str| {
            let rest = name.strip_prefix(metric);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('{'))
        };
        self.0.keys().any(|name| is_of(name))
    }
}
