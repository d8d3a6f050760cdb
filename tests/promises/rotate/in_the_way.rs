//! Who and what can be in the way of a rotation, and what is said of it.

use super::run::is_whole;
use super::scene::{A, B, FIRST, OWNER, ROTATOR, Scene, Style, read};
use crate::rotation::Application;
use crate::support::{Postgres, Stop};

/// Somebody who has never heard of pgswivel.
async fn stranger(scene: &Scene) -> tokio_postgres::Client {
    let mut config = scene.postgres.config();
    config.user(A).password(FIRST).application_name("nightly report");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

promise! {
    async fn who_is_not_behind_pgswivel_stops_a_run_before_the_old_users_end_and_is_named(version) {
        let mut scene = Scene::of(version, Style::Alternating).await;
        let swivel = scene.swivel().await;
        let application = Application::of(&swivel).await;
        let outside = stranger(&scene).await;
        let (code, words) = scene.rotate(&["run", "orders", "--yes", "--within", "4s"]).await;
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains("stopped half-way") && words.contains("application \"nightly report\", from 127.0.0.1"), "{words}");
        assert!(words.contains("pgswivel rotate run orders"), "{words}");
        assert!(scene.can_login(A).await, "nothing was closed");
        assert_eq!(read(&scene.path("orders.json")).user, B);
        let (code, shown) = scene.rotate(&["show", "orders"]).await;
        assert_eq!(code, Some(2), "{shown}");
        outside.simple_query("SELECT 1").await.unwrap();

        drop(outside);
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(0), "{words}");
        is_whole(&scene).await;
        assert_eq!(read(&scene.path("orders.json")).user, B, "it was only brought to its end");
        application.is_served().await;
        assert!(application.leave().await.errors.is_empty());
    }
}

promise! {
    async fn with_force_whoever_is_left_is_named_and_ended(version) {
        let scene = Scene::of(version, Style::Alternating).await;
        let outside = stranger(&scene).await;
        let (code, words) = scene.rotate(&["run", "orders", "--yes", "--force"]).await;
        assert_eq!(code, Some(0), "{words}");
        assert!(words.contains("ending backend") && words.contains("nightly report"), "{words}");
        assert!(outside.simple_query("SELECT 1").await.is_err());
        assert_eq!(scene.backends(A).await, 0);
        is_whole(&scene).await;
    }
}

promise! {
    async fn before_the_promotion_a_rotation_that_fails_is_taken_back(version) {
        for style in [Style::Single, Style::Alternating] {
            let scene = Scene::of(version, style).await;
            let before = read(&scene.path("orders.json"));
            // The new login is refused: what is in pg_hba.conf is for the old one only, or for nobody.
            let stopped = scene.run_up_to(4, &["run", "orders", "--yes"]).await.unwrap();
            let user = if style == Style::Single { A } else { B };
            let hba = format!("host all {user} all reject\nhost all all all scram-sha-256");
            scene.postgres.set_hba(&hba).await;
            let (code, words) = stopped.go_on().await;
            assert!(words.contains("taken back"), "{words}");
            scene.postgres.set_hba("host all all all scram-sha-256").await;
            match style {
                // The current one can't be proven either while everybody is refused.
                Style::Single => assert_eq!(code, Some(2), "{words}"),
                _ => assert_eq!(code, Some(1), "{words}"),
            }
            let (code, words) = scene.rotate(&["rollback", "orders", "--yes"]).await;
            assert!(code == Some(0) || words.contains("nothing is half-done"), "{words}");
            let after = read(&scene.path("orders.json"));
            assert_eq!((after.user, after.password, after.next), (before.user, before.password, None));
            is_whole(&scene).await;
            assert_eq!(scene.run().await.0, Some(0));
        }
    }
}

promise! {
    async fn what_a_rotation_can_not_do_is_said_before_it_begins(version) {
        let scene = Scene::of(version, Style::Alternating).await;
        let take = match scene.postgres.major() {
            16.. => format!("REVOKE {A} FROM {ROTATOR}"),
            _ => format!("ALTER ROLE {ROTATOR} NOCREATEROLE"),
        };
        scene.postgres.execute(&take).await;
        let owned = format!("CREATE TABLE mine (n int); ALTER TABLE mine OWNER TO {A}");
        scene.postgres.execute(&owned).await;
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("nothing was done"), "{words}");
        assert!(words.contains(&format!("{ROTATOR} may not change {A}")), "{words}");
        assert!(words.contains(&format!("REASSIGN OWNED BY \"{A}\" TO \"{OWNER}\"")), "{words}");
        assert_eq!(read(&scene.path("orders.json")).next, None);

        // Who is on the twin is named before its password is overwritten.
        let scene = Scene::of(version, Style::Alternating).await;
        scene.postgres.execute(&format!("CREATE ROLE {B} LOGIN PASSWORD '{FIRST}' IN ROLE {OWNER}")).await;
        if scene.postgres.major() >= 16 {
            scene.postgres.execute(&format!("GRANT {B} TO {ROTATOR} WITH ADMIN OPTION")).await;
        }
        let mut config = scene.postgres.config();
        config.user(B).password(FIRST).application_name("forgotten job");
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (code, words) = scene.rotate(&["run", "orders", "--yes", "--within", "0s"]).await;
        assert_ne!(code, Some(0), "{words}");
        assert!(words.contains("forgotten job"), "{words}");
        client.simple_query("SELECT 1").await.unwrap();
        assert!(scene.logs_in(B, FIRST).await);
    }
}

promise! {
    async fn a_server_that_trusts_everybody_proves_nothing(version) {
        let postgres = Postgres::version(version).hba("host all rotator all scram-sha-256\nhost all all all trust").start();
        let scene = Scene::on(postgres, Style::Single).await;
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains("whatever the password"), "{words}");
    }
}

promise! {
    async fn a_store_that_refuses_and_a_server_that_dies_leave_something_to_go_on_with(version) {
        let mut scene = Scene::of(version, Style::Single).await;
        scene.postgres.stop(Stop::Fast);
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(69), "{words}");
        scene.postgres.start_again();

        let mut stopped_at = 0;
        for point in 2..40 {
            let Some(stopped) = scene.run_up_to(point, &["run", "orders", "--yes"]).await else {
                break;
            };
            scene.postgres.stop(Stop::Immediate);
            let (code, words) = stopped.go_on().await;
            scene.postgres.start_again();
            assert!(matches!(code, Some(0..=2)), "point {point}: {code:?} {words}");
            if code == Some(2) {
                assert!(words.contains("pgswivel rotate run orders"), "point {point}: {words}");
                stopped_at += 1;
            }
            let (code, words) = scene.run().await;
            assert_eq!(code, Some(0), "point {point}: {words}");
            is_whole(&scene).await;
        }
        assert!(stopped_at > 3);
    }
}

promise! {
    async fn in_an_emergency_nobody_is_left_on_it_and_sessions_behind_pgswivel_live_on(version) {
        for style in [Style::Single, Style::Alternating] {
            let mut scene = Scene::of(version, style).await;
            let swivel = scene.swivel().await;
            let application = Application::of(&swivel).await;
            let session = swivel.connect().await;
            session.batch_execute("SET timezone = 'Asia/Tokyo'").await.unwrap();
            let outside = stranger(&scene).await;
            let (code, words) = scene.rotate(&["emergency", "orders", "--role", A, "--yes"]).await;
            assert_eq!(code, Some(0), "{style:?}: {words}");
            let first = words.lines().next().unwrap();
            assert!(first.contains("connections on orders_a"), "{words}");
            assert!(words.contains("application \"nightly report\""), "{words}");
            assert!(words.contains("the last was gone") && words.contains("s after the command"), "{words}");
            assert!(outside.simple_query("SELECT 1").await.is_err(), "{style:?}");
            assert!(!scene.logs_in(A, FIRST).await);
            let row = session.query_one("SHOW timezone", &[]).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), "Asia/Tokyo");
            application.is_served().await;
            assert!(application.leave().await.errors.is_empty());
            is_whole(&scene).await;
        }
    }
}

promise! {
    async fn what_rotates_others_rotates_itself(version) {
        let mut scene = Scene::of(version, Style::Single).await;
        let config = scene.config();
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains("admin = \"rotator\""));
        let payload = std::fs::read_to_string(scene.path("rotator.json")).unwrap();
        let pair: serde_json::Value = serde_json::from_str(&payload).unwrap();
        let payload = serde_json::json!({ "current": pair, "next": null });
        std::fs::write(scene.path("orders.json"), payload.to_string()).unwrap();
        scene.more.push_str("# itself\n");
        let (code, words) = scene.rotate_itself().await;
        assert_eq!(code, Some(0), "{words}");
        let held = read(&scene.path("orders.json"));
        assert_eq!(held.user, ROTATOR);
        assert!(scene.logs_in(ROTATOR, &held.password).await);
        assert_ne!(Some(held.password.as_str()), pair["password"].as_str());
    }
}

promise! {
    async fn a_user_that_is_at_its_connection_limit_or_has_settings_of_its_own_is_rotated(version) {
        let scene = Scene::of(version, Style::Alternating).await;
        let sql = format!(
            "ALTER ROLE {A} CONNECTION LIMIT 1; ALTER ROLE {A} SET statement_timeout = '60s'; \
             ALTER ROLE {A} SET default_transaction_read_only = 'true'; ALTER ROLE {A} SET search_path = public, \"a,b\""
        );
        scene.postgres.execute(&sql).await;
        let full = stranger(&scene).await;
        let (code, words) = scene.rotate(&["run", "orders", "--yes", "--force"]).await;
        assert_eq!(code, Some(0), "{words}");
        assert!(full.simple_query("SELECT 1").await.is_err());
        let settings = "SELECT array_to_string(setconfig, ' | ') FROM pg_db_role_setting s \
                        JOIN pg_roles r ON r.oid = s.setrole WHERE rolname = $1";
        let admin = scene.postgres.admin().await;
        let of = async |user: &str| -> String { admin.query_one(settings, &[&user]).await.unwrap().get(0) };
        let (mut one, mut other) = (of(A).await, of(B).await);
        for list in [&mut one, &mut other] {
            let mut parts: Vec<&str> = list.split(" | ").collect();
            parts.sort_unstable();
            *list = parts.join(" | ");
        }
        assert_eq!(one, other);
    }
}
