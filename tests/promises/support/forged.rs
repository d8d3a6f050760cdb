//! A server that is no Postgres at all: it says what a test tells it to, for what a real server would
//! never say.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::wire::Wire;

/// Plays one script to every connection and remembers what it was told.
pub struct Forged {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    accepting: JoinHandle<()>,
}

impl Forged {
    /// `script` plays one connection and gives it back when it has nothing more to say; it is closed then.
    pub async fn start<F, Fut>(script: F) -> Self
    where
        F: Fn(Wire) -> Fut + Send + 'static,
        Fut: Future<Output = Wire> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&heard);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let played = script(Wire::over(stream).remembering());
                let remembered = Arc::clone(&remembered);
                tokio::spawn(async move {
                    let wire = played.await;
                    remembered.lock().unwrap().push(wire.heard().to_vec());
                });
            }
        });
        Self {
            address,
            heard,
            accepting,
        }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// What each connection that is over was told, TLS taken off.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }

    /// Whether anyone told it these bytes.
    pub fn was_told(&self, bytes: &[u8]) -> bool {
        self.heard()
            .iter()
            .any(|heard| heard.windows(bytes.len()).any(|window| window == bytes))
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A SCRAM-SHA-256 server that can be made to lie in one place.
#[derive(Clone, Debug)]
pub struct ForgedScram {
    pub password: Vec<u8>,
    pub iterations: u32,
    /// Put in the place of the client's nonce followed by the server's.
    pub nonce: Option<String>,
    /// Put in the place of `v=<signature>`; an empty one leaves AuthenticationSASLFinal out.
    pub verdict: Option<String>,
}

impl ForgedScram {
    pub fn honest(password: &[u8]) -> Self {
        Self {
            password: password.to_vec(),
            iterations: 4096,
            nonce: None,
            verdict: None,
        }
    }

    /// Asks for SCRAM after a StartupMessage and plays it up to and with AuthenticationOk. False when
    /// the client gave up before.
    pub async fn play(&self, wire: &mut Wire) -> bool {
        self.play_to_the_end(wire).await.is_some()
    }

    async fn play_to_the_end(&self, wire: &mut Wire) -> Option<()> {
        wire.say(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0").await;
        let initial = wire.next().await?;
        let text = String::from_utf8_lossy(&initial.body).into_owned();
        let client_nonce = text.split("r=").nth(1)?;
        let client_first = format!("n={}", text.split_once("n=")?.1);

        let nonce = match &self.nonce {
            Some(nonce) => nonce.clone(),
            None => format!("{client_nonce}forged"),
        };
        let salt = b"sixteen bytes of";
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(salt), self.iterations);
        wire.say(b'R', &[b"\0\0\0\x0b", server_first.as_bytes()].concat())
            .await;
        let answer = wire.next().await?;
        let answer = String::from_utf8_lossy(&answer.body).into_owned();
        let client_final = answer.split_once(",p=")?.0;

        let transcript = format!("{client_first},{server_first},{client_final}");
        let verdict = match &self.verdict {
            Some(verdict) => verdict.clone(),
            None => format!("v={}", STANDARD.encode(self.signature(salt, &transcript))),
        };
        if !verdict.is_empty() {
            wire.say(b'R', &[b"\0\0\0\x0c", verdict.as_bytes()].concat())
                .await;
        }
        wire.say(b'R', b"\0\0\0\0").await;
        Some(())
    }

    fn signature(&self, salt: &[u8], transcript: &str) -> Vec<u8> {
        let iterations = self.iterations.try_into().expect("at least one iteration");
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            &self.password,
            &mut salted,
        );
        let sign = |key: &[u8], text: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        let server_key = sign(&salted, b"Server Key");
        sign(server_key.as_ref(), transcript.as_bytes()).as_ref().to_vec()
    }
}
