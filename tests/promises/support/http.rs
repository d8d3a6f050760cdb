//! HTTP for stand-ins: a server that answers as a test says, and a proxy that gets in the way.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that has arrived whole.
pub struct Asked {
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Asked {
    /// Whether it is for this operation of an AWS service.
    pub fn is_for(&self, operation: &str) -> bool {
        self.operation() == operation
    }

    fn operation(&self) -> String {
        let target = self
            .headers
            .get("x-amz-target")
            .and_then(|target| target.to_str().ok());
        let operation = target.and_then(|target| target.rsplit('.').next());
        operation.unwrap_or(&self.target).to_owned()
    }
}

pub enum Reply {
    Say {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: Bytes,
    },
    /// The connection stays open, and nothing comes.
    Silence,
    /// The connection ends without an answer.
    HangUp,
}

impl Reply {
    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::Say {
            status,
            headers: vec![("content-type", "application/json".to_owned())],
            body: body.to_string().into(),
        }
    }

    #[must_use]
    pub fn with_header(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Say {
                status,
                mut headers,
                body,
            } => {
                headers.push((name, value.into()));
                Self::Say {
                    status,
                    headers,
                    body,
                }
            }
            other => other,
        }
    }
}

/// A server on a port of its own, which ends with it.
pub struct HttpServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl HttpServer {
    pub async fn start<F>(answer: impl Fn(Asked) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    let service = service_fn(|request| converse(request, &*answer));
                    let connection = hyper::server::conn::http1::Builder::new();
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse<F: Future<Output = Reply>>(
    request: Request<Incoming>,
    answer: impl Fn(Asked) -> F,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let asked = Asked {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: body.collect().await.map_err(std::io::Error::other)?.to_bytes(),
    };
    match answer(asked).await {
        Reply::Say {
            status,
            headers,
            body,
        } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            Ok(response.body(Full::new(body)).unwrap())
        }
        Reply::Silence => std::future::pending().await,
        Reply::HangUp => Err(std::io::ErrorKind::ConnectionReset.into()),
    }
}

/// Carries one request to `to` (`host:port`) and brings back what it says.
pub async fn carry(to: &str, asked: &Asked) -> Reply {
    let stream = TcpStream::connect(to).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(asked.method.as_str())
        .uri(&asked.target);
    for (name, value) in &asked.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(asked.body.clone())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    Reply::Say {
        status,
        headers: vec![("content-type", "application/json".to_owned())],
        body,
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Option<Reply> + Send>;

/// Stands before a server, and answers instead of it when its rule says so.
pub struct FaultProxy {
    server: HttpServer,
    rule: Arc<Mutex<Option<Rule>>>,
    /// By operation of AWS, or by path.
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl FaultProxy {
    /// `to` is `host:port`.
    pub async fn before(to: String) -> Self {
        let rule: Arc<Mutex<Option<Rule>>> = Arc::default();
        let rules = Arc::clone(&rule);
        let counts: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let counted = Arc::clone(&counts);
        let server = HttpServer::start(move |asked| {
            *counted.lock().unwrap().entry(asked.operation()).or_default() += 1;
            let instead = rules.lock().unwrap().as_mut().and_then(|rule| rule(&asked));
            let to = to.clone();
            async move {
                match instead {
                    Some(reply) => reply,
                    None => carry(&to, &asked).await,
                }
            }
        })
        .await;
        Self {
            server,
            rule,
            asked: counts,
        }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn answer(&self, rule: impl FnMut(&Asked) -> Option<Reply> + Send + 'static) {
        *self.rule.lock().unwrap() = Some(Box::new(rule));
    }

    /// How often it was asked for this operation of AWS, or for this path.
    pub fn count(&self, operation: &str) -> usize {
        self.asked.lock().unwrap().get(operation).copied().unwrap_or(0)
    }

    /// How often it was asked for anything.
    pub fn count_all(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }

    pub fn carry_all(&self) {
        *self.rule.lock().unwrap() = None;
    }
}
