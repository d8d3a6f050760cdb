use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgswivel::config::{Source, Vault, VaultAuth, VaultSecretId};
use pgswivel::credentials::Password;
use pgswivel::stores::{self, Operation, Store};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{host, pass, root, vault};
use crate::stores::contract::{Login, leading, read};
use crate::support::Authority;
use crate::support::http::{FaultProxy, HttpServer, Reply};
use crate::support::vault::{ROOT, VaultDouble};

pub fn app_role(secret_id: &str) -> VaultAuth {
    VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: "orders".to_owned(),
        secret_id: VaultSecretId::Literal(Password::new(secret_id)),
    }
}

/// A double whose static role holds the first login.
async fn started() -> VaultDouble {
    let double = VaultDouble::start().await;
    double.state().static_role = Some((Login(1).user(), Login(1).password()));
    double
}

fn store_of(vault: Vault) -> Box<dyn Store> {
    crate::stores::open(Source::VaultDbStatic {
        mount: "database".to_owned(),
        role: "orders".to_owned(),
        vault,
    })
}

fn store(double: &VaultDouble, auth: VaultAuth) -> Box<dyn Store> {
    store_of(vault(&double.url(), auth))
}

async fn label(store: &mut dyn Store) -> &'static str {
    stores::read(store).await.unwrap_err().label()
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, format!("{text}\n")).unwrap();
}

#[tokio::test]
async fn a_login_lasts_for_many_reads() {
    let double = started().await;
    let secret_id = double.state().secret_id.clone();
    let mut store = store(&double, app_role(&secret_id));
    for _ in 0..5 {
        assert_eq!(leading(&read(&mut *store).await), 1);
    }
    assert_eq!(store.calls().of(Operation::VaultLogin), 1);
    assert_eq!(store.calls().of(Operation::VaultRead), 5);
}

#[tokio::test]
async fn a_secret_id_in_a_file_is_read_anew_at_each_login() {
    let double = started().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret-id");
    write(&path, &double.state().secret_id);
    let auth = VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: "orders".to_owned(),
        secret_id: VaultSecretId::File(path.clone()),
    };
    let mut store = store(&double, auth);
    assert_eq!(leading(&read(&mut *store).await), 1);

    double.state().revoke_tokens();
    double.state().secret_id = "another".to_owned();
    assert_eq!(label(&mut *store).await, "denied");
    write(&path, "another");
    assert_eq!(leading(&read(&mut *store).await), 1);
}

#[tokio::test]
async fn a_service_account_s_token_is_read_anew_at_each_login() {
    let double = started().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    write(&path, &double.state().jwt);
    let auth = VaultAuth::Kubernetes {
        mount: "kubernetes".to_owned(),
        role: "orders".to_owned(),
        token_file: path.clone(),
    };
    let mut store = store(&double, auth);
    assert_eq!(leading(&read(&mut *store).await), 1);

    double.state().jwt = "projected-again".to_owned();
    write(&path, "projected-again");
    double.state().revoke_tokens();
    assert_eq!(leading(&read(&mut *store).await), 1);
    assert_eq!(store.calls().of(Operation::VaultLogin), 2);

    std::fs::remove_file(&path).unwrap();
    double.state().revoke_tokens();
    assert_eq!(label(&mut *store).await, "denied");
}

#[tokio::test]
async fn a_token_file_that_is_replaced_is_noticed_and_one_that_is_away_is_not_missed() {
    let double = started().await;
    let hour = Duration::from_secs(3600);
    double.state().add_token("first", hour, true);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sink");
    write(&path, "first");
    let mut store = store(&double, VaultAuth::TokenFile(path.clone()));
    assert_eq!(leading(&read(&mut *store).await), 1);

    std::fs::remove_file(&path).unwrap();
    assert_eq!(leading(&read(&mut *store).await), 1);

    double.state().revoke_tokens();
    double.state().add_token("second", hour, true);
    write(&path, "second");
    assert_eq!(leading(&read(&mut *store).await), 1);
    assert_eq!(store.calls().of(Operation::VaultLogin), 2);
}

#[tokio::test]
async fn a_token_that_was_revoked_costs_one_login_and_one_more_try() {
    let double = started().await;
    let secret_id = double.state().secret_id.clone();
    let mut store = store(&double, app_role(&secret_id));
    read(&mut *store).await;
    double.state().revoke_tokens();
    assert_eq!(leading(&read(&mut *store).await), 1);
    assert_eq!(store.calls().of(Operation::VaultLogin), 2);
    assert_eq!(store.calls().of(Operation::VaultRead), 3);
}

#[tokio::test]
async fn a_given_token_that_was_revoked_is_denied_without_a_storm() {
    let double = started().await;
    let hour = Duration::from_secs(3600);
    double.state().add_token("given", hour, true);
    let mut store = store(&double, VaultAuth::Token(Password::new("given")));
    let reading = read(&mut *store).await;
    assert_eq!(leading(&reading), 1);
    double.state().revoke_tokens();
    for _ in 0..3 {
        assert_eq!(label(&mut *store).await, "denied");
    }
    assert_eq!(store.calls().of(Operation::VaultRead), 4);
}

#[tokio::test]
async fn a_given_token_asks_to_be_read_in_time_for_its_renewal() {
    let double = started().await;
    let minute = Duration::from_secs(60);
    {
        let mut state = double.state();
        state.add_token("given", 2 * minute, true);
        state.token_renewed_ttl = 2 * minute;
        state.static_ttl = 3600;
    }
    let mut store = store(&double, VaultAuth::Token(Password::new("given")));
    for _ in 0..4 {
        let reading = read(&mut *store).await;
        assert!(reading.read_by.unwrap() <= minute);
        pass(minute).await;
    }
    assert_eq!(store.calls().of(Operation::VaultLogin), 1);
    assert_eq!(store.calls().of(Operation::VaultRenewToken), 3);
}

#[tokio::test]
async fn a_namespace_is_named_in_every_request() {
    let double = started().await;
    double.state().namespace = Some("team/orders".to_owned());
    let mut nowhere = store(&double, root());
    assert_eq!(label(&mut *nowhere).await, "missing");
    let secret_id = double.state().secret_id.clone();
    let mut store = store_of(Vault {
        namespace: Some("team/orders".to_owned()),
        ..vault(&double.url(), app_role(&secret_id))
    });
    assert_eq!(leading(&read(&mut *store).await), 1);
}

#[tokio::test]
async fn a_standby_sends_the_token_on_to_the_active_node_once() {
    let double = started().await;
    let active = double.url();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let standby = HttpServer::start(move |request| {
        count.fetch_add(1, Ordering::Relaxed);
        let place = format!("{active}{}", request.target);
        std::future::ready(Reply::json(307, &serde_json::Value::Null).with_header("location", place))
    })
    .await;
    let mut store = store_of(vault(&standby.url(), VaultAuth::Token(Password::new(ROOT))));
    assert_eq!(leading(&read(&mut *store).await), 1);
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// TLS in front of a double.
async fn over_tls(double: &VaultDouble, authority: &Authority) -> String {
    let acceptor = TlsAcceptor::from(authority.certified_server(&["localhost"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = host(&double.url());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, to) = (acceptor.clone(), to.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let mut plain = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut plain).await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn an_authority_of_one_s_own_is_trusted_when_it_is_named_and_not_otherwise() {
    let double = started().await;
    let authority = Authority::new();
    let url = over_tls(&double, &authority).await;
    let mut doubtful = store_of(vault(&url, root()));
    let error = stores::read(&mut *doubtful).await.unwrap_err();
    assert_eq!(error.label(), "unreachable", "{error}");

    let trusted = Vault {
        ca: Some(authority.file()),
        ..vault(&url, root())
    };
    assert_eq!(leading(&read(&mut *store_of(trusted)).await), 1);

    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let mut later = store_of(Vault {
        ca: Some(ca.clone()),
        ..vault(&url, root())
    });
    assert_eq!(label(&mut *later).await, "unreachable");
    std::fs::copy(authority.file(), ca).unwrap();
    assert_eq!(leading(&read(&mut *later).await), 1);
}

#[tokio::test]
async fn a_sealed_vault_is_out_of_reach_and_says_why() {
    let double = started().await;
    let proxy = FaultProxy::before(host(&double.url())).await;
    let mut store = store_of(vault(&proxy.url(), root()));
    let sealed = serde_json::json!({ "errors": ["Vault is sealed"] });
    proxy.answer(move |_| Some(Reply::json(503, &sealed)));
    let error = stores::read(&mut *store).await.unwrap_err();
    assert_eq!(error.label(), "unreachable");
    assert!(error.to_string().contains("Vault is sealed"), "{error}");
    proxy.carry_all();
    assert_eq!(leading(&read(&mut *store).await), 1);
}

#[tokio::test]
async fn an_address_that_is_none_is_said_so_before_anything_is_read() {
    let around = stores::Surroundings {
        endpoints: &[],
        digests: &stores::DigestKey::random(),
    };
    for address in ["vault.internal:8200", "file:///vault", ""] {
        let source = Source::VaultKv {
            mount: "secret".to_owned(),
            path: "orders".to_owned(),
            vault: vault(address, root()),
        };
        let error = stores::open(&crate::stores::secret(source, None), around)
            .err()
            .unwrap();
        assert_eq!(error.label(), "unsuitable", "{address}");
    }
}
