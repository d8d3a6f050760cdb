use std::time::Duration;

use serde_json::json;

use super::{Application, MOMENT, ONE_AT_A_TIME, Window, found_out};
use crate::stores::contract::Fault;
use crate::stores::vault::{harm, host};
use crate::support::http::FaultProxy;
use crate::support::swivel::Unstarted;
use crate::support::vault::{ROOT, VaultDouble};
use crate::support::{Postgres, Swivel, eventually, sts};

/// One whose secret is in a Vault at `url`, which it trusts to say when it wants to be read.
fn before(postgres: &Postgres, store: &str, id: &str, url: &str) -> Unstarted {
    Swivel::in_front_of(postgres)
        .trusting()
        .section(ONE_AT_A_TIME)
        .store(store, id)
        .environment("VAULT_ADDR", url)
        .environment("VAULT_TOKEN", ROOT)
}

fn set(current: &str, next: &str) -> serde_json::Value {
    json!({ "DB_USER": Postgres::USER, "DB_PASS_CURRENT": current, "DB_PASS_NEXT": next })
}

promise! {
    /// What is next is known, so that nobody waits for the store.
    async fn a_next_password_works_from_the_database_s_change_to_its_promotion_and_after(version) {
        let postgres = Postgres::start(version);
        let vault = VaultDouble::start().await;
        vault.state().put_kv("prod/orders", set(Postgres::PASSWORD, "second"));
        let swivel = before(&postgres, "vault-kv", "secret/prod/orders", &vault.url());
        let swivel = swivel.start().await;
        let application = Application::of(&swivel).await;

        for [current, next] in [["second", "third"], ["third", "fourth"]] {
            postgres.change_password(Postgres::USER, current).await;
            application.is_served().await;
            Window::open().pass().await;
            vault.state().put_kv("prod/orders", set(current, next));
            swivel.refresh();
            application.is_served().await;
        }
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 2, "one for each change");
    }
}

promise! {
    /// Vault says when it will rotate, and may be wrong.
    async fn a_static_role_rotates_when_it_said_and_when_it_did_not(version) {
        let postgres = Postgres::start(version);
        let vault = VaultDouble::start().await;
        let set = |password: &str, ttl| {
            let mut state = vault.state();
            state.static_role = Some((Postgres::USER.to_owned(), password.to_owned()));
            state.static_ttl = ttl;
        };
        set(Postgres::PASSWORD, 3600);
        let swivel = before(&postgres, "vault-db-static", "database/orders", &vault.url());
        let swivel = swivel.start().await;
        let application = Application::of(&swivel).await;

        // Vault writes down what it is about to set.
        for (password, ttl) in [("second", 1), ("third", 3600)] {
            set(password, ttl);
            postgres.change_password(Postgres::USER, password).await;
            application.is_served().await;
        }
        application.leave().await.is_untroubled(MOMENT);
    }
}

promise! {
    async fn a_lease_is_renewed_and_then_followed_by_another_user(version) {
        let postgres = Postgres::start(version);
        let mut vault = VaultDouble::start().await;
        vault.make_users_in(&postgres).await;
        vault.state().lease_ttl = Duration::from_secs(6);
        vault.state().lease_renewed_ttl = Duration::from_secs(6);
        let swivel = before(&postgres, "vault-db", "database/orders", &vault.url());
        let swivel = swivel.start().await;
        let application = Application::of(&swivel).await;
        eventually("the lease is renewed", async || vault.state().lease_renewals > 0).await;
        assert_eq!(vault.state().leases(), 1);

        // The most that Vault allows is near: the first user has three more seconds, and the second lasts.
        vault.state().lease_renewed_ttl = Duration::from_secs(3);
        vault.state().lease_ttl = Duration::from_secs(60);
        let first = vault.state().dynamic_role.clone().unwrap().0;
        eventually("the first user is dropped", async || !postgres.has_user(&first).await).await;
        let second = vault.state().dynamic_role.clone().unwrap().0;
        application.is_served_as(&second).await;
        let report = application.leave().await;
        report.is_untroubled(MOMENT);
        assert!(report.users.contains(&first) && report.users.contains(&second));
        assert_eq!(postgres.refusals(), 0);
    }
}

promise! {
    /// Vault is away when the lease ought to be renewed, and then the user is.
    async fn a_lease_that_ended_is_followed_by_another_as_soon_as_vault_is_back(version) {
        let postgres = Postgres::start(version);
        let mut vault = VaultDouble::start().await;
        vault.make_users_in(&postgres).await;
        vault.state().lease_ttl = Duration::from_secs(2);
        let proxy = FaultProxy::before(host(&vault.url())).await;
        let swivel = before(&postgres, "vault-db", "database/orders", &proxy.url());
        let swivel = swivel.start().await;
        // Who is dropped between login and question can't say who they are.
        let application = Application::asking(&swivel, "SELECT 'served'").await;
        let first = vault.state().dynamic_role.clone().unwrap().0;

        harm(&proxy, Fault::Unreachable);
        let window = Window::open();
        eventually("the first user is dropped", async || !postgres.has_user(&first).await).await;
        window.pass().await;
        proxy.carry_all();
        let window = window.close();
        application.is_served().await;
        application.leave().await.is_untroubled(found_out(window) + MOMENT);
        let second = vault.state().dynamic_role.clone().unwrap().0;
        assert_ne!(first, second);
        assert!(postgres.has_user(&second).await);
    }
}

#[tokio::test]
async fn a_token_that_lasts_long_does_not_put_off_the_next_poll() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let vault = VaultDouble::start().await;
    let day = Duration::from_secs(24 * 60 * 60);
    vault.state().add_token("lasting", day, true);
    let login = |user, password| json!({ "username": user, "password": password });
    vault
        .state()
        .put_kv("prod/orders", login(Postgres::USER, Postgres::PASSWORD));
    let swivel = before(&postgres, "vault-kv", "secret/prod/orders", &vault.url());
    let swivel = swivel
        .environment("VAULT_TOKEN", "lasting")
        .secret_line("poll = \"200ms\"");
    let swivel = swivel.start().await;
    let application = Application::of(&swivel).await;
    vault.state().put_kv("prod/orders", login("orders_v2", "second"));
    application.is_served_as("orders_v2").await;
    application.leave().await.is_untroubled(MOMENT);
}

/// With Vault's token away, who this runs as at AWS is enough; who else it might be is not.
#[tokio::test]
async fn a_vault_is_logged_in_to_as_an_aws_role() {
    let postgres = Postgres::start(18);
    let vault = VaultDouble::start().await;
    vault
        .state()
        .put_kv("prod/orders", set(Postgres::PASSWORD, "second"));
    let auth = format!(
        "auth = {{ aws = {{ role = \"orders\", server_id = \"{}\" }} }}",
        sts::SERVER_ID
    );
    let before = |secret_key: &str| {
        Swivel::in_front_of(&postgres)
            .trusting()
            .store("vault-kv", "secret/prod/orders")
            .secret_line(&auth)
            .environment("VAULT_ADDR", &vault.url())
            .environment("AWS_ACCESS_KEY_ID", sts::KEY_ID)
            .environment("AWS_SECRET_ACCESS_KEY", secret_key)
    };
    let swivel = before(sts::SECRET_KEY).start().await;
    assert_eq!(
        swivel.connect().await.query("SELECT 1", &[]).await.unwrap().len(),
        1
    );

    let stranger = before("another-secret-key").start().await;
    eventually("Vault has refused", async || {
        stranger.log().contains("SignatureDoesNotMatch")
    })
    .await;
    assert!(!stranger.log().contains("another-secret-key"));
}
