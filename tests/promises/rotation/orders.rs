//! The order in which the database and the store learn of a new password.

use super::{Application, MOMENT, ONE_AT_A_TIME, Window, found_out};
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Forged, Postgres, Swivel, Wire, eventually};

const NEXT: &str = "upstream-secret-2";

promise! {
    async fn first_the_database_then_the_store(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).trusting().section(ONE_AT_A_TIME).start().await;
        let application = Application::of(&swivel).await;

        let window = Window::open();
        postgres.change_password(Postgres::USER, NEXT).await;
        window.pass().await;
        swivel.write_secret(Postgres::USER, NEXT);
        let window = window.close();
        application.is_served().await;
        application.leave().await.is_untroubled(window + MOMENT);
        assert!(postgres.refusals() <= 3, "{} refused", postgres.refusals());
    }
}

promise! {
    async fn first_the_store_then_the_database(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).trusting().section(ONE_AT_A_TIME).start().await;
        let application = Application::of(&swivel).await;

        swivel.write_secret(Postgres::USER, NEXT);
        eventually("the new password is found not to work yet", async || postgres.refusals() > 0).await;
        application.is_served().await;
        postgres.change_password(Postgres::USER, NEXT).await;
        application.is_served().await;
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 2, "the new one too early, the old one too late");
        eventually("the new password leads", async || swivel.said("now using rotated credentials") == 1).await;
    }
}

promise! {
    async fn a_cold_start_while_the_store_is_behind_waits_for_it(version) {
        let postgres = Postgres::start(version);
        postgres.change_password(Postgres::USER, NEXT).await;
        let swivel = Swivel::in_front_of(&postgres).trusting().start().await;
        let window = Window::open();
        let application = Application::waiting_for(&swivel);
        eventually("the stale password is refused", async || postgres.refusals() > 0).await;
        window.pass().await;
        swivel.write_secret(Postgres::USER, NEXT);
        let window = window.close();
        application.is_served().await;
        application.leave().await.is_untroubled(window + MOMENT);
    }
}

promise! {
    async fn a_cold_start_while_the_database_is_behind_waits_for_it(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).trusting();
        let swivel = swivel.credential(Postgres::USER, NEXT).start().await;
        let window = Window::open();
        let application = Application::waiting_for(&swivel);
        eventually("the new password is refused", async || postgres.refusals() > 0).await;
        window.pass().await;
        postgres.change_password(Postgres::USER, NEXT).await;
        let window = window.close();
        application.is_served().await;
        application.leave().await.is_untroubled(found_out(window) + MOMENT);
    }
}

promise! {
    /// Passwords were stored one way, and the next ones are stored another way.
    async fn a_rotation_from_md5_to_scram(version) {
        let postgres = Postgres::version(version).hba("host all all all md5").start();
        let store = |how: &str, password: &str| {
            let user = Postgres::USER;
            format!("SET password_encryption = '{how}'; ALTER ROLE {user} PASSWORD '{password}'")
        };
        postgres.execute(&store("md5", Postgres::PASSWORD)).await;
        let swivel = Swivel::in_front_of(&postgres).trusting().start().await;
        let application = Application::of(&swivel).await;
        for (how, password) in [("md5", "second"), ("scram-sha-256", "third"), ("md5", "fourth")] {
            postgres.execute(&store(how, password)).await;
            swivel.write_secret(Postgres::USER, password);
            application.is_served().await;
        }
        application.leave().await.is_untroubled(MOMENT);
    }
}

/// Vault may drop a user at any moment, and Postgres then lets it in and finds it gone.
#[tokio::test]
async fn a_user_that_is_dropped_between_authentication_and_session_is_refused_like_any_other() {
    let forged = Forged::start(|mut wire| async move {
        let Some(startup) = wire.packet().await else {
            return wire;
        };
        wire.say(b'R', &[0; 4]).await;
        if startup.windows(4).any(|word| word == b"gone") {
            let fields = b"SFATAL\0VFATAL\0C28000\0Mrole \"gone\" does not exist\0\0";
            wire.say(b'E', fields).await;
        } else {
            wire.say(b'Z', b"I").await;
            wire.rest().await;
        }
        wire
    })
    .await;
    let swivel = Swivel::in_front_of_port(forged.port()).trusting();
    let list = swivel.directory().join("list.json");
    let users = r#"[{"user":"gone","password":"1"},{"user":"here","password":"2"}]"#;
    std::fs::write(&list, users).unwrap();
    let swivel = swivel.store("file", list.to_str().unwrap()).start().await;
    for _ in 0..3 {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &[("user", Swivel::USER), ("database", "orders")])
            .await;
        wire.authenticate(b"").await.unwrap();
        wire.until(b'Z').await;
    }
}
