use std::cell::Cell;
use std::time::{Duration, SystemTime};

use pgswivel::config::{Source, VaultAuth};
use pgswivel::stores::{Lease, Operation, Store};

use super::{harm, host, pass, root, vault};
use crate::stores::contract::{self, Fault, Login, World, leading, read};
use crate::support::http::FaultProxy;
use crate::support::vault::VaultDouble;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Static,
    Dynamic,
}

/// The database engine of a double behind a proxy.
struct Database {
    double: VaultDouble,
    proxy: FaultProxy,
    kind: Kind,
    login: Cell<Login>,
    auth: VaultAuth,
}

impl Database {
    async fn new(kind: Kind) -> Self {
        let double = VaultDouble::start().await;
        let proxy = FaultProxy::before(host(&double.url())).await;
        Self {
            double,
            proxy,
            kind,
            login: Cell::new(Login(0)),
            auth: root(),
        }
    }

    fn with_app_role(mut self) -> Self {
        let secret_id = self.double.state().secret_id.clone();
        self.auth = super::auth::app_role(&secret_id);
        self
    }

    /// Without revoking what was given out before.
    fn offer(&self, login: Login) {
        self.login.set(login);
        let value = Some((login.user(), login.password()));
        let mut state = self.double.state();
        match self.kind {
            Kind::Static => state.static_role = value,
            Kind::Dynamic => state.dynamic_role = value,
        }
    }
}

impl World for Database {
    fn open(&self) -> Box<dyn Store> {
        let mount = "database".to_owned();
        let role = "orders".to_owned();
        let vault = vault(&self.proxy.url(), self.auth.clone());
        crate::stores::open(match self.kind {
            Kind::Static => Source::VaultDbStatic { mount, role, vault },
            Kind::Dynamic => Source::VaultDb { mount, role, vault },
        })
    }

    async fn put(&self, login: Login) {
        self.offer(login);
        self.double.state().revoke_leases();
    }

    async fn harm(&self, fault: Fault) {
        match fault {
            Fault::Missing => {
                let mut state = self.double.state();
                state.static_role = None;
                state.dynamic_role = None;
                state.revoke_leases();
            }
            Fault::Partial => {
                self.offer(Login(9));
                let mut state = self.double.state();
                for (_, password) in state.static_role.iter_mut() {
                    password.clear();
                }
                for (_, password) in state.dynamic_role.iter_mut() {
                    password.clear();
                }
                state.revoke_leases();
                drop(state);
                self.login.set(Login(7));
            }
            fault => harm(&self.proxy, fault),
        }
    }

    async fn heal(&self) {
        self.proxy.carry_all();
        self.put(self.login.get()).await;
    }
}

const FAULTS: [Fault; 6] = [
    Fault::Missing,
    Fault::Denied,
    Fault::Partial,
    Fault::Slow,
    Fault::Unreachable,
    Fault::Throttled,
];

#[tokio::test]
async fn a_static_role_keeps_the_contract() {
    let database = Database::new(Kind::Static).await;
    contract::gives_what_is_there_and_names_it_stably(&database).await;
    contract::says_what_is_wrong_and_recovers(&database, &FAULTS).await;
    contract::logs_no_secret(&database).await;
}

#[tokio::test]
async fn a_dynamic_role_keeps_the_contract() {
    let database = Database::new(Kind::Dynamic).await;
    contract::gives_what_is_there_and_names_it_stably(&database).await;
    contract::says_what_is_wrong_and_recovers(&database, &FAULTS).await;
    contract::logs_no_secret(&database).await;
}

#[tokio::test]
async fn a_static_role_is_read_again_a_second_after_it_rotates() {
    let database = Database::new(Kind::Static).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    database.double.state().static_ttl = 60;
    let reading = read(&mut *store).await;
    assert_eq!(reading.read_by, Some(Duration::from_secs(61)));
    assert_eq!(
        reading.next_read, None,
        "a poll may find that somebody rotated it by hand"
    );
    assert_eq!(reading.lease, None);
    let made = &reading.made[0];
    assert_eq!(made.version, reading.credentials[0].version);
    assert_eq!(
        made.at,
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_557_174_402)
    );
}

#[tokio::test]
async fn a_static_role_whose_rotation_does_not_come_is_read_ever_more_rarely() {
    let database = Database::new(Kind::Static).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    for ttl in [0, -5] {
        database.double.state().static_ttl = ttl;
        let mut waits = Vec::new();
        for _ in 0..6 {
            waits.push(read(&mut *store).await.read_by.unwrap().as_secs_f64());
        }
        assert!(waits[0] < 1.5, "{waits:?}");
        assert!(waits[5] > 20.0, "{waits:?}");
        // It came after all.
        database.double.state().static_ttl = 60;
        assert_eq!(read(&mut *store).await.read_by, Some(61 * SECOND));
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

fn left(lease: Option<Lease>) -> Duration {
    lease.expect("a dynamic role has a lease").left
}

#[tokio::test]
async fn a_lease_is_renewed_at_half_its_time_and_keeps_its_user() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    let first = read(&mut *store).await;
    assert!(left(first.lease) > HOUR - 5 * SECOND);
    assert!(first.read_by.unwrap() > HOUR / 2 - 5 * SECOND && first.read_by.unwrap() <= HOUR / 2);
    assert_eq!(first.next_read, None, "polls go on");

    database.offer(Login(2));
    for _ in 0..5 {
        pass(HOUR / 2).await;
        let reading = read(&mut *store).await;
        assert_eq!(reading.credentials, first.credentials);
        assert!(left(reading.lease) > HOUR - 5 * SECOND);
    }
    assert_eq!(store.calls().of(Operation::VaultIssue), 1);
    assert_eq!(store.calls().of(Operation::VaultRenewLease), 5);
}

#[tokio::test]
async fn a_new_user_is_had_when_renewal_stops_extending() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    read(&mut *store).await;
    database.offer(Login(2));
    database.double.state().lease_renewed_ttl = HOUR / 2;
    pass(HOUR / 2).await;
    let reading = read(&mut *store).await;
    assert_eq!(leading(&reading), 2);
    assert!(left(reading.lease) > HOUR - 5 * SECOND);
}

#[tokio::test]
async fn a_lease_that_cannot_be_renewed_is_followed_by_another_at_two_thirds() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    database.double.state().lease_is_renewable = false;
    let mut store = database.open();
    let first = read(&mut *store).await;
    let read_by = first.read_by.unwrap();
    assert!(read_by > HOUR * 2 / 3 - 5 * SECOND && read_by <= HOUR * 2 / 3);
    database.offer(Login(2));
    pass(HOUR / 2).await;
    assert_eq!(leading(&read(&mut *store).await), 1);
    pass(HOUR / 6 + SECOND).await;
    assert_eq!(leading(&read(&mut *store).await), 2);
    assert_eq!(store.calls().of(Operation::VaultRenewLease), 0);
}

#[tokio::test]
async fn a_lease_that_somebody_revoked_is_followed_by_another_at_the_next_read() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    read(&mut *store).await;
    database.put(Login(2)).await;
    assert_eq!(leading(&read(&mut *store).await), 2);
}

#[tokio::test]
async fn a_refused_user_is_replaced_but_users_are_not_made_without_end() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    let first = read(&mut *store).await;
    let version = &*first.credentials[0].version;
    database.offer(Login(2));
    store.refused("another");
    pass(HOUR / 2).await;
    assert_eq!(leading(&read(&mut *store).await), 1);

    store.refused(version);
    assert_eq!(leading(&read(&mut *store).await), 2);
    database.offer(Login(3));
    for _ in 0..5 {
        let reading = read(&mut *store).await;
        assert_eq!(leading(&reading), 2);
        store.refused(&reading.credentials[0].version);
    }
    pass(31 * SECOND).await;
    assert_eq!(leading(&read(&mut *store).await), 3);
    assert_eq!(store.calls().of(Operation::VaultIssue), 3);
}

/// A lease ends with the token that asked for it.
#[tokio::test]
async fn a_lease_is_never_said_to_outlive_its_token() {
    let database = Database::new(Kind::Dynamic).await.with_app_role();
    database.put(Login(1)).await;
    {
        let mut state = database.double.state();
        state.token_ttl = HOUR / 4;
        state.token_renewed_ttl = HOUR / 4;
    }
    let mut store = database.open();
    let reading = read(&mut *store).await;
    assert!(left(reading.lease) <= HOUR / 4);
    assert!(reading.read_by.unwrap() <= HOUR / 8);

    // The token reaches its last day: another one comes in time, and with it another user.
    database.offer(Login(2));
    database.double.state().token_renewed_ttl = HOUR / 8;
    pass(HOUR / 8).await;
    let reading = read(&mut *store).await;
    assert_eq!(leading(&reading), 2);
    assert_eq!(store.calls().of(Operation::VaultLogin), 2);
    assert!(left(reading.lease) > HOUR / 4 - 5 * SECOND);
}

#[tokio::test]
async fn a_token_that_was_revoked_took_its_leases_along() {
    let database = Database::new(Kind::Dynamic).await.with_app_role();
    database.put(Login(1)).await;
    let mut store = database.open();
    read(&mut *store).await;
    database.offer(Login(2));
    database.double.state().revoke_tokens();
    assert_eq!(leading(&read(&mut *store).await), 2);
    assert_eq!(store.calls().of(Operation::VaultLogin), 2);
}

#[tokio::test]
async fn a_store_that_goes_leaves_its_lease() {
    let database = Database::new(Kind::Dynamic).await;
    database.put(Login(1)).await;
    let mut store = database.open();
    read(&mut *store).await;
    drop(store);
    let mut other = database.open();
    read(&mut *other).await;
    assert_eq!(database.double.state().leases(), 2);
}
