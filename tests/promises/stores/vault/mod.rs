mod auth;
mod db;
pub mod kv;

use std::time::Duration;

use pgswivel::config::{Vault, VaultAuth};
use pgswivel::credentials::Password;

use super::contract::{Fault, PAUSE};
use crate::support::http::{FaultProxy, Reply};
use crate::support::vault::ROOT;

pub fn vault(address: &str, auth: VaultAuth) -> Vault {
    Vault {
        address: address.to_owned(),
        namespace: None,
        ca: None,
        auth,
    }
}

fn root() -> VaultAuth {
    VaultAuth::Token(Password::new(ROOT))
}

pub fn host(url: &str) -> String {
    url.strip_prefix("http://")
        .unwrap()
        .trim_end_matches('/')
        .to_owned()
}

/// What Vault says, or does not say, when it is troubled.
pub fn harm(proxy: &FaultProxy, fault: Fault) {
    proxy.answer(move |_| {
        let errors = |status, words: &str| Reply::json(status, &serde_json::json!({ "errors": [words] }));
        Some(match fault {
            Fault::Denied => errors(403, "permission denied"),
            Fault::Throttled => errors(429, "rate limit quota exceeded")
                .with_header("retry-after", PAUSE.as_secs().to_string()),
            Fault::Slow => Reply::Silence,
            Fault::Unreachable => Reply::HangUp,
            fault => panic!("Vault has no answer that means {fault:?}"),
        })
    });
}

/// Time passes at once; what is under way on sockets does not notice.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
