use std::hash::{BuildHasher, RandomState};

use pgswivel::config::VaultAuth;
use pgswivel::credentials::Password;
use pgswivel::stores::{self, Change, VaultKvStore, WritableStore, WriteError};

use super::{Place, keeps_everything, login, look};
use crate::support::vault::{ROOT, VaultDouble};

struct Kv {
    double: VaultDouble,
    path: String,
}

impl Kv {
    async fn new() -> Self {
        Self {
            double: VaultDouble::start().await,
            path: format!("prod/orders-{:016x}", RandomState::new().hash_one(())),
        }
    }
}

impl Place for Kv {
    /// Vault keeps what a text means.
    const KEEPS_TEXT: bool = false;

    fn open(&self) -> Box<dyn WritableStore> {
        let token = VaultAuth::Token(Password::new(ROOT));
        let vault = crate::stores::vault::vault(&self.double.url(), token);
        let store = VaultKvStore::new(vault, "secret".to_owned(), self.path.clone(), None);
        store.unwrap().writable()
    }

    async fn put(&self, text: &str) {
        let value = serde_json::from_str(text).unwrap();
        self.double.state().put_kv(&self.path, value);
    }

    async fn text(&self) -> String {
        self.double.state().last_kv(&self.path).to_string()
    }
}

#[tokio::test]
async fn a_vault_secret_keeps_the_contract_of_writing() {
    keeps_everything(&Kv::new().await).await;
}

#[tokio::test]
async fn a_vault_that_requires_check_and_set_is_written_and_refuses_what_is_late() {
    let kv = Kv::new().await;
    kv.put(&super::positions("app_a", 1)).await;
    kv.double.state().cas_required = true;
    let mut store = kv.open();
    let seen = look(&mut *store).await;
    let next = login("app_a", 2);
    let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen)
        .await
        .unwrap();
    // Somebody's write reaches Vault between our look and our write: only Vault itself can tell.
    let foreign = serde_json::from_str(&super::positions("app_a", 7)).unwrap();
    kv.double.state().overtaken_by = Some(foreign);
    let error = stores::write(&mut *store, &Change::Promote(next), &staged)
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Foreign(_)), "{error}");
    assert!(kv.text().await.contains("-7"));
}
