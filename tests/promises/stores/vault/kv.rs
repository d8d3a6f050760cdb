use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use pgswivel::config::{Source, VaultAuth};
use pgswivel::credentials::{Password, Position};
use pgswivel::stores::{self, Operation, Store};
use serde_json::{Value, json};

use super::{harm, host, vault};
use crate::stores::contract::{self, CANARY, Fault, Habitable, Login, World, leading, read};
use crate::support::http::{Asked, FaultProxy, Reply, carry};
use crate::support::swivel::Unstarted;
use crate::support::vault::{ROOT, VaultDouble};

/// One secret of a KV engine at `secret/`, in a double or in a real Vault.
pub struct Kv {
    /// `host:port`
    address: String,
    token: String,
    proxy: FaultProxy,
    path: String,
    login: Cell<Login>,
}

impl Kv {
    pub async fn at(url: &str, token: &str) -> Self {
        Self {
            address: host(url),
            token: token.to_owned(),
            proxy: FaultProxy::before(host(url)).await,
            path: format!("prod/orders-{:016x}", RandomState::new().hash_one(())),
            login: Cell::new(Login(0)),
        }
    }

    async fn call(&self, method: &str, kind: &str, body: &Value) {
        let mut headers = hyper::HeaderMap::new();
        headers.insert("host", self.address.parse().unwrap());
        headers.insert("x-vault-token", self.token.parse().unwrap());
        let asked = Asked {
            method: method.to_owned(),
            target: format!("/v1/secret/{kind}/{}", self.path),
            headers,
            body: body.to_string().into(),
        };
        let Reply::Say { status, body, .. } = carry(&self.address, &asked).await else {
            panic!("no answer");
        };
        let words = String::from_utf8_lossy(&body);
        assert!((200..300).contains(&status), "{method} {kind}: {status} {words}");
    }

    async fn put_json(&self, data: &Value) {
        self.call("POST", "data", &json!({ "data": data })).await;
    }
}

impl World for Kv {
    fn open(&self) -> Box<dyn Store> {
        let token = VaultAuth::Token(Password::new(self.token.as_str()));
        crate::stores::open(Source::VaultKv {
            mount: "secret".to_owned(),
            path: self.path.clone(),
            vault: vault(&self.proxy.url(), token),
        })
    }

    async fn put(&self, login: Login) {
        self.login.set(login);
        self.put_json(&serde_json::from_str(&login.json()).unwrap()).await;
    }

    async fn harm(&self, fault: Fault) {
        match fault {
            Fault::Missing => self.call("DELETE", "metadata", &Value::Null).await,
            Fault::Empty => self.put_json(&json!({})).await,
            Fault::Garbage => self.put_json(&json!({ "text": CANARY })).await,
            Fault::Partial => self.put_json(&json!({ "password": CANARY })).await,
            Fault::Large => {
                let data = json!({ "username": "app", "password": contract::large() });
                let metadata = json!({ "version": 9 });
                let answer = json!({ "data": { "data": data, "metadata": metadata } });
                self.proxy.answer(move |asked| {
                    let is_value = asked.target.contains("/data/");
                    is_value.then(|| Reply::json(200, &answer))
                });
            }
            fault => harm(&self.proxy, fault),
        }
    }

    async fn heal(&self) {
        self.proxy.carry_all();
        self.put(self.login.get()).await;
    }
}

impl Habitable for Kv {
    fn settle(&self, swivel: Unstarted) -> Unstarted {
        swivel
            .store("vault-kv", &format!("secret/{}", self.path))
            .environment("VAULT_ADDR", &self.proxy.url())
            .environment("VAULT_TOKEN", &self.token)
    }
}

async fn keeps_everything(kv: &Kv) {
    contract::gives_what_is_there_and_names_it_stably(kv).await;
    let faults = [
        Fault::Missing,
        Fault::Denied,
        Fault::Empty,
        Fault::Garbage,
        Fault::Partial,
        Fault::Large,
        Fault::Slow,
        Fault::Unreachable,
        Fault::Throttled,
    ];
    contract::says_what_is_wrong_and_recovers(kv, &faults).await;
    contract::never_mixes_two_values(kv, 50).await;
    contract::logs_no_secret(kv).await;
}

async fn is_followed_by_version(kv: &Kv) {
    kv.put(Login(1)).await;
    let mut store = kv.open();
    let reading = read(&mut *store).await;
    assert_eq!(reading.credentials.len(), 1);
    assert_eq!(&*reading.credentials[0].version, "1");

    kv.put(Login(2)).await;
    for _ in 0..3 {
        let reading = read(&mut *store).await;
        assert_eq!(leading(&reading), 2);
        let previous = &reading.credentials[1];
        assert_eq!((previous.position, &*previous.version), (Position::Previous, "1"));
        assert_eq!(&*previous.user, "app_1");
        let made: Vec<&str> = reading.made.iter().map(|made| &*made.version).collect();
        assert_eq!(made, ["2", "1"]);
    }
    assert_eq!(store.calls().of(Operation::VaultRead), 1 + 3 + 1);

    kv.put(Login(3)).await;
    kv.call("POST", "destroy", &json!({ "versions": [2] })).await;
    let reading = read(&mut *store).await;
    assert_eq!(leading(&reading), 3);
    assert_eq!(reading.credentials.len(), 1);

    kv.call("DELETE", "data", &Value::Null).await;
    let error = stores::read(&mut *store).await.unwrap_err();
    assert_eq!(error.label(), "missing");
    assert!(error.to_string().contains("version 3 is deleted"), "{error}");
}

#[tokio::test]
async fn a_secret_keeps_the_contract() {
    let double = VaultDouble::start().await;
    keeps_everything(&Kv::at(&double.url(), ROOT).await).await;
}

#[tokio::test]
async fn the_version_before_is_an_alternate_unless_it_is_gone() {
    let double = VaultDouble::start().await;
    is_followed_by_version(&Kv::at(&double.url(), ROOT).await).await;
}

#[tokio::test]
async fn a_secret_that_is_made_anew_has_no_previous_of_its_former_life() {
    let double = VaultDouble::start().await;
    let kv = Kv::at(&double.url(), ROOT).await;
    kv.put(Login(1)).await;
    kv.put(Login(2)).await;
    let mut store = kv.open();
    assert_eq!(&*read(&mut *store).await.credentials[1].user, "app_1");
    kv.harm(Fault::Missing).await;
    kv.put(Login(3)).await;
    kv.put(Login(4)).await;
    let reading = read(&mut *store).await;
    assert_eq!(leading(&reading), 4);
    assert_eq!(&*reading.credentials[1].user, "app_3");
}

/// The one suite of this file that a double can't stand in for: `VAULT_ADDR` (http) and `VAULT_TOKEN` name a
/// real Vault with a KV engine of version 2 at `secret/`, as `vault server -dev` has it.
#[tokio::test]
#[ignore = "needs a real Vault"]
async fn a_real_vault_keeps_the_contract() {
    let named = |variable| std::env::var(variable).expect("VAULT_ADDR and VAULT_TOKEN name a Vault");
    let (url, token) = (named("VAULT_ADDR"), named("VAULT_TOKEN"));
    keeps_everything(&Kv::at(&url, &token).await).await;
    is_followed_by_version(&Kv::at(&url, &token).await).await;
}
