//! A rotation that was told of no sidecar, and finds them by what they say themselves.

use super::run::is_whole;
use super::scene::{A, FIRST, Scene, Style, read};
use crate::support::{Swivel, eventually};

const FLEET: &str = "[fleet]\nchannel = \"orders\"\n";
const KEY: &str = "version_key = \"orders of the fleet\"\n";

async fn scene(version: crate::support::Version) -> Scene {
    let mut scene = Scene::of(version, Style::Alternating).await;
    KEY.clone_into(&mut scene.top);
    FLEET.clone_into(&mut scene.sections);
    scene
}

async fn member(scene: &Scene, name: &str) -> Swivel {
    let swivel = Swivel::in_front_of(&scene.postgres)
        .store("file", &scene.path("orders.json").display().to_string())
        .top_line(KEY)
        .secret_line("grace = \"1s\"")
        .section(&format!("{FLEET}instance = \"{name}\"\n"))
        .start()
        .await;
    eventually("it says where it stands", async || {
        words(scene)
            .await
            .iter()
            .any(|word| word.starts_with(&format!("pgswivel:{name} ")) && word.ends_with("=c"))
    })
    .await;
    swivel
}

async fn words(scene: &Scene) -> Vec<String> {
    let admin = scene.postgres.admin().await;
    let ask = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgswivel:%'";
    let rows = admin.query(ask, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

promise! {
    async fn without_any_list_a_run_waits_for_the_pinned_session_and_names_its_process(version) {
        let scene = scene(version).await;
        let mut members = Vec::new();
        for name in ["one", "two", "three"] {
            members.push(member(&scene, name).await);
        }
        let (free, pinned) = (members[0].connect().await, members[1].connect().await);
        pinned.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
        let (code, said) = scene.rotate(&["run", "orders", "--yes", "--within", "6s"]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("by 3 of 3 of the fleet"), "{said}");
        assert!(said.contains("fleet two: sessions on a replaced user: 1, 1 of them pinned"), "{said}");
        assert!(!said.contains("fleet one") && !said.contains("fleet three"), "{said}");
        assert!(scene.can_login(A).await, "nothing was closed");

        pinned.batch_execute("DROP TABLE t").await.unwrap();
        let (code, said) = scene.run().await;
        assert_eq!(code, Some(0), "{said}");
        is_whole(&scene).await;
        for client in [free, pinned] {
            client.batch_execute("SELECT 1").await.unwrap();
        }
    }
}

promise! {
    async fn what_somebody_else_says_in_a_process_name_changes_no_verdict(version) {
        let scene = scene(version).await;
        let swivel = member(&scene, "one").await;
        let client = swivel.connect().await;
        let word = words(&scene).await.pop().unwrap();
        let (_, said) = word.split_once(' ').unwrap();
        let (secret, _) = said.split_once('@').unwrap();
        let mut config = scene.postgres.config();
        config.application_name(format!("pgswivel:ghost {secret}@0000=m99.9"));
        let (ghost, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (code, said) = scene.run().await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("gone on without ghost of the fleet"), "{said}");
        is_whole(&scene).await;

        // And nobody is let go who is there, though nobody says so.
        let mut config = scene.postgres.config();
        let current = read(&scene.path("orders.json"));
        config.user(&current.user).password(&current.password).application_name("quiet");
        let (quiet, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let (code, said) = scene.rotate(&["run", "orders", "--yes", "--within", "3s"]).await;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("application \"quiet\""), "{said}");
        assert!(!scene.logs_in(A, FIRST).await);
        for client in [client, ghost, quiet] {
            client.simple_query("SELECT 1").await.unwrap();
        }
    }
}
