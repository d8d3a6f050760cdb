use std::collections::HashMap;
use std::ffi::OsString;
use std::sync::{Arc, Mutex};

use pgswivel::stores::{DigestKey, EnvStore, Store, Warning};

use super::contract::{self, Fault, Login, World};

/// Variables of no process.
#[derive(Default)]
struct Variables {
    set: Arc<Mutex<HashMap<&'static str, OsString>>>,
    login: Mutex<Option<Login>>,
}

impl World for Variables {
    fn open(&self) -> Box<dyn Store> {
        let set = Arc::clone(&self.set);
        let lookup = move |name: &str| set.lock().unwrap().get(name).cloned();
        let digests = DigestKey::random();
        Box::new(EnvStore::reading_from(
            lookup,
            "POSTGRES_USER",
            "POSTGRES_PASSWORD",
            digests,
        ))
    }

    async fn put(&self, login: Login) {
        let mut set = self.set.lock().unwrap();
        set.insert("POSTGRES_USER", login.user().into());
        set.insert("POSTGRES_PASSWORD", login.password().into());
        *self.login.lock().unwrap() = Some(login);
    }

    async fn harm(&self, fault: Fault) {
        let mut set = self.set.lock().unwrap();
        match fault {
            Fault::Missing => drop(set.remove("POSTGRES_PASSWORD")),
            Fault::Empty => drop(set.insert("POSTGRES_PASSWORD", OsString::new())),
            Fault::Large => drop(set.insert("POSTGRES_PASSWORD", contract::large().into())),
            fault => panic!("variables can't be {fault:?}"),
        }
    }

    async fn heal(&self) {
        let login = self.login.lock().unwrap().unwrap();
        self.put(login).await;
    }
}

#[tokio::test]
async fn variables_keep_the_contract() {
    let world = Variables::default();
    contract::gives_what_is_there_and_names_it_stably(&world).await;
    contract::says_what_is_wrong_and_recovers(&world, &[Fault::Missing, Fault::Empty, Fault::Large]).await;
}

#[tokio::test]
async fn variables_say_that_they_cannot_rotate() {
    let store = Variables::default().open();
    assert_eq!(store.warning(), Some(Warning::CannotRotate));
}
