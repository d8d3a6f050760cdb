//! The same, where the secret is in a store that is not a file; and several servers in one rotation.

#[cfg(any(feature = "aws", feature = "vault"))]
use serde_json::Value;
#[cfg(feature = "aws")]
use serde_json::json;

use super::scene::{A, B, FIRST, Held, Scene, Style, held, people};
use crate::rotation::Application;
use crate::support::Postgres;
#[cfg(feature = "aws")]
use crate::support::aws::{Aws, REGION, StandIn};
#[cfg(feature = "vault")]
use crate::support::vault::{ROOT, VaultDouble};

/// Two rotations, the second of which is killed at a point and goes on.
async fn rotates(scene: &mut Scene, text: impl AsyncFn() -> String, point: u32) {
    let swivel = scene.swivel().await;
    let application = Application::of(&swivel).await;
    let before = held(&text().await);
    let (code, words) = scene.run().await;
    assert_eq!(code, Some(0), "{words}");
    let first = held(&text().await);
    assert_ne!(before.password, first.password);
    agrees(scene, &first, &before).await;

    let stopped = scene
        .run_up_to(point, &["run", "orders", "--yes", "--within", "20s"])
        .await
        .unwrap();
    let words = stopped.kill();
    let (code, more) = scene.run().await;
    assert_eq!(code, Some(0), "{words}\n{more}");
    let second = held(&text().await);
    assert_ne!(first.password, second.password, "{words}\n{more}");
    agrees(scene, &second, &first).await;
    application.is_served().await;
    assert_eq!(application.leave().await.errors, [""; 0]);
}

async fn agrees(scene: &Scene, now: &Held, before: &Held) {
    assert!(scene.logs_in(&now.user, &now.password).await);
    assert!(!scene.logs_in(&before.user, &before.password).await);
    if scene.style.takes_turns() {
        let other = if now.user == A { B } else { A };
        assert!(!scene.can_login(other).await);
    }
}

/// Points at which something waits in the store, and at which it is current already.
const POINTS: [u32; 2] = [4, 10];

#[cfg(feature = "aws")]
promise! {
    async fn secrets_manager_is_rotated_by_its_stages(version) {
        let aws = Aws::of(StandIn::Moto).await;
        for (style, point) in [(Style::Single, POINTS[0]), (Style::Alternating, POINTS[1])] {
            let mut scene = Scene::of(version, style).await;
            let secret = aws.name_a_secret();
            secret.create(&json!({ "username": A, "password": FIRST, "host": "db", "port": 5432 }).to_string()).await;
            scene.secret = format!("store = \"aws-secretsmanager\"\nid = \"{}\"\n", secret.name);
            for (name, value) in [
                ("AWS_ENDPOINT_URL", aws.url().as_str()),
                ("AWS_REGION", REGION),
                ("AWS_ACCESS_KEY_ID", "AKID"),
                ("AWS_SECRET_ACCESS_KEY", "SECRET"),
            ] {
                scene.environment.push((name.to_owned(), value.to_owned()));
            }
            let text = async || {
                let value = secret.call("GetSecretValue", json!({ "VersionStage": "AWSCURRENT" })).await;
                let text = value["SecretString"].as_str().unwrap().to_owned();
                let kept: Value = serde_json::from_str(&text).unwrap();
                assert_eq!((&kept["host"], &kept["port"]), (&json!("db"), &json!(5432)));
                text
            };
            rotates(&mut scene, text, point).await;
        }
    }
}

#[cfg(feature = "vault")]
promise! {
    async fn vault_is_rotated_by_check_and_set(version) {
        for (style, point) in [(Style::Single, POINTS[0]), (Style::Next, POINTS[0]), (Style::Alternating, POINTS[1])] {
            let mut scene = Scene::of(version, style).await;
            let vault = VaultDouble::start().await;
            vault.state().cas_required = true;
            let payload: Value = serde_json::from_str(&style.payload()).unwrap();
            vault.state().put_kv("prod/orders", payload);
            scene.secret = "store = \"vault-kv\"\nid = \"secret/prod/orders\"\n".to_owned();
            scene.environment.push(("VAULT_ADDR".to_owned(), vault.url()));
            scene.environment.push(("VAULT_TOKEN".to_owned(), ROOT.to_owned()));
            let text = async || vault.state().last_kv("prod/orders").to_string();
            rotates(&mut scene, text, point).await;
        }
    }
}

promise! {
    async fn what_a_program_keeps_is_rotated_by_another_program(version) {
        let mut scene = Scene::of(version, Style::Alternating).await;
        let path = scene.path("orders.json");
        let put = scene.path("put");
        let script = format!("#!/bin/sh\nset -e\ncat > '{0}.new'\nmv '{0}.new' '{0}'\n", path.display());
        std::fs::write(&put, script).unwrap();
        std::fs::set_permissions(&put, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        scene.secret = format!("store = \"command\"\nid = \"/bin/cat {}\"\n", path.display());
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(64), "{words}");
        assert!(words.contains("`write`"), "{words}");
        scene.secret.push_str(&format!("write = [\"{}\"]\n", put.display()));
        rotates(&mut scene, async || std::fs::read_to_string(&path).unwrap(), POINTS[1]).await;
    }
}

promise! {
    async fn several_servers_change_together_or_not_at_all(version) {
        for style in [Style::Single, Style::Alternating] {
            let mut scene = Scene::of(version, style).await;
            let other = Postgres::start(version);
            people(&other, style).await;
            scene.upstreams.push_str(", \"shared\"");
            let upstream = format!("[upstream.shared]\nhosts = \"{}\"\ndatabase = \"orders\"\n", other.address());
            scene.sections.push_str(&upstream);
            let before = held(&std::fs::read_to_string(scene.path("orders.json")).unwrap());
            // The second of them refuses the new one.
            let user = if style == Style::Single { A } else { B };
            other.set_hba(&format!("host all {user} all reject\nhost all all all scram-sha-256")).await;
            let (code, words) = scene.run().await;
            assert!(matches!(code, Some(1 | 2)), "{style:?}: {words}");
            other.set_hba("host all all all scram-sha-256").await;
            let (code, words) = scene.rotate(&["rollback", "orders", "--yes"]).await;
            assert!(code == Some(0) || words.contains("nothing is half-done"), "{words}");
            let after = held(&std::fs::read_to_string(scene.path("orders.json")).unwrap());
            assert_eq!((&after.user, &after.password, &after.next), (&before.user, &before.password, &None));
            for postgres in [&scene.postgres, &other] {
                let mut config = postgres.config();
                let connected = config.user(A).password(FIRST).connect(tokio_postgres::NoTls).await;
                assert!(connected.is_ok(), "{style:?}");
            }
            assert!(!scene.can_login(B).await);

            let (code, words) = scene.run().await;
            assert_eq!(code, Some(0), "{style:?}: {words}");
            let now = held(&std::fs::read_to_string(scene.path("orders.json")).unwrap());
            for postgres in [&scene.postgres, &other] {
                let mut config = postgres.config();
                let connected = config.user(&now.user).password(&now.password).connect(tokio_postgres::NoTls).await;
                assert!(connected.is_ok(), "{style:?}");
                let mut config = postgres.config();
                let connected = config.user(A).password(FIRST).connect(tokio_postgres::NoTls).await;
                assert!(connected.is_err(), "{style:?}");
            }
        }
    }
}
