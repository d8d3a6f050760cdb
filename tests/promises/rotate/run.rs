//! A rotation from its beginning to its end.

use super::scene::{A, B, FIRST, Scene, Style, read};
use crate::rotation::Application;
use crate::support::Postgres;

/// Store and server agree, and nothing is half done.
pub async fn is_whole(scene: &Scene) {
    let held = read(&scene.path("orders.json"));
    assert!(
        scene.logs_in(&held.user, &held.password).await,
        "{} is locked out",
        held.user
    );
    if scene.style != Style::Next {
        assert_eq!(held.next, None, "something still waits in the store");
    }
    if let Some(next) = &held.next {
        assert!(
            !scene.logs_in(&held.user, next).await,
            "what comes next is in force"
        );
    }
    if scene.style.takes_turns() {
        let other = if held.user == A { B } else { A };
        assert!(!scene.can_login(other).await, "{other} can still log in");
    }
}

async fn an_application_sees_nothing(version: crate::support::Version, style: Style) {
    let mut scene = Scene::of(version, style).await;
    let swivel = scene.swivel().await;
    let application = Application::of(&swivel).await;
    let mut seen = vec![FIRST.to_owned()];
    for round in 0..2 {
        let before = read(&scene.path("orders.json"));
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(0), "{words}");
        let after = read(&scene.path("orders.json"));
        assert_ne!(before.password, after.password, "round {round}");
        assert_eq!(style.takes_turns(), before.user != after.user, "{words}");
        assert!(
            !scene.logs_in(&before.user, &before.password).await,
            "the old one is dead"
        );
        is_whole(&scene).await;
        seen.push(after.password);
        for password in &seen {
            assert!(!words.contains(password.as_str()), "{words}");
        }
    }
    application.is_served().await;
    let report = application.leave().await;
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert!(report.connections > 10);
    for password in &seen {
        assert!(
            !scene.postgres.log().contains(password.as_str()),
            "it is in the server's log"
        );
    }
}

promise! {
    async fn an_application_sees_nothing_of_a_new_password_of_its_user(version) {
        an_application_sees_nothing(version, Style::Single).await;
    }
}

promise! {
    async fn an_application_sees_nothing_of_a_password_that_waits_beside_the_current_one(version) {
        an_application_sees_nothing(version, Style::Next).await;
    }
}

promise! {
    async fn an_application_sees_nothing_of_users_that_take_turns(version) {
        an_application_sees_nothing(version, Style::Alternating).await;
    }
}

promise! {
    async fn an_application_sees_nothing_of_users_that_take_turns_in_a_plain_secret(version) {
        an_application_sees_nothing(version, Style::Plain).await;
    }
}

promise! {
    async fn a_plan_says_each_step_and_changes_nothing(version) {
        for style in Style::ALL {
            let scene = Scene::of(version, style).await;
            let before = std::fs::read_to_string(scene.path("orders.json")).unwrap();
            let (code, words) = scene.rotate(&["plan", "orders"]).await;
            assert_eq!(code, Some(0), "{words}");
            assert!(words.contains("nothing is under way"), "{words}");
            assert!(words.contains("PASSWORD ***") && !words.contains(FIRST), "{words}");
            let (code, json) = scene.rotate(&["plan", "orders", "--json"]).await;
            assert_eq!(code, Some(0), "{json}");
            let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(plan["situation"], "rest", "{plan}");
            assert!(plan["steps"].as_array().unwrap().iter().any(|step| step["step"] == "promote"), "{plan}");
            let (code, dry) = scene.rotate(&["run", "orders", "--dry-run"]).await;
            assert_eq!((code, dry), (Some(0), words));
            let (code, words) = scene.rotate(&["run", "orders"]).await;
            assert_eq!(code, Some(64), "{words}");
            assert!(words.contains("--yes"), "{words}");
            assert_eq!(scene.rotate(&["show", "orders"]).await.0, Some(0));
            assert_eq!(std::fs::read_to_string(scene.path("orders.json")).unwrap(), before);
            assert!(!scene.postgres.has_user(B).await);
        }
    }
}

promise! {
    async fn nothing_is_done_before_it_is_due(version) {
        let mut scene = Scene::of(version, Style::Single).await;
        let due = ["run", "orders", "--yes", "--if-due"];
        let (code, words) = scene.rotate(&due).await;
        assert_eq!(code, Some(64), "{words}");
        assert!(words.contains("min_interval"), "{words}");
        scene.more.push_str("min_interval = \"1h\"\n");
        let (code, words) = scene.rotate(&due).await;
        assert_eq!((code, words.trim()), (Some(0), "nothing is due"));
        let path = scene.path("orders.json");
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(7200)).unwrap();
        let (code, words) = scene.rotate(&due).await;
        assert_eq!(code, Some(0), "{words}");
        assert_ne!(read(&path).password, FIRST);
    }
}

promise! {
    async fn a_password_that_a_person_brings_is_used_if_it_can_not_be_guessed(version) {
        let scene = Scene::of(version, Style::Single).await;
        let brought = scene.path("brought");
        let run = ["run", "orders", "--yes", "--password-from", brought.to_str().unwrap()];
        std::fs::write(&brought, "hunter2\n").unwrap();
        let (code, words) = scene.rotate(&run).await;
        assert_eq!(code, Some(64), "{words}");
        assert!(words.contains("it could be guessed") && !words.contains("hunter2"), "{words}");
        std::fs::write(&brought, "correct horse battery staple\n").unwrap();
        let (code, words) = scene.rotate(&run).await;
        assert_eq!(code, Some(0), "{words}");
        assert_eq!(read(&scene.path("orders.json")).password, "correct horse battery staple");
        is_whole(&scene).await;
    }
}

promise! {
    async fn no_password_is_anywhere_but_in_the_store(version) {
        for style in [Style::Single, Style::Alternating] {
            let postgres = Postgres::version(version).setting("log_statement", "all").start();
            let mut scene = Scene::on(postgres, style).await;
            scene.more.push_str(&format!(
                "audit = \"{}\"\nreport = \"{}\"\n",
                scene.path("audit").display(),
                scene.directory.path().display()
            ));
            let mut point = 0;
            let mut looked = 0;
            while let Some(stopped) = scene.run_up_to(point, &["run", "orders", "--yes"]).await {
                let held = std::fs::read_to_string(scene.path("orders.json")).unwrap();
                // The first one is in the log, since it was set by hand.
                let secrets: Vec<String> = secrets_in(&held).into_iter().filter(|secret| secret != FIRST).collect();
                let pid = stopped.child.id();
                let activity = scene.postgres.admin().await;
                let rows = activity.query("SELECT coalesce(query, '') FROM pg_stat_activity", &[]).await.unwrap();
                let mut places: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
                for file in ["cmdline", "environ"] {
                    let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                    places.push(String::from_utf8_lossy(&bytes).into_owned());
                }
                places.push(scene.postgres.log());
                places.push(stopped.said());
                places.push(std::fs::read_to_string(scene.path("audit")).unwrap_or_default());
                for secret in &secrets {
                    assert!(places.iter().all(|place| !place.contains(secret.as_str())), "at {point}");
                }
                looked += secrets.len();
                stopped.go_on().await;
                point += 1;
            }
            assert!(looked > 5 && point > 5, "{looked} secrets at {point} points");
            let audit = std::fs::read_to_string(scene.path("audit")).unwrap();
            let steps: Vec<serde_json::Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert!(steps.iter().any(|step| step["step"] == "password" && step["ok"] == true), "{audit}");
            assert!(steps.iter().all(|step| step["time"].is_string() && step["by"].is_string()), "{audit}");
            let reports = std::fs::read_dir(scene.directory.path()).unwrap();
            let reports = reports.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "md"));
            assert!(reports.count() > 0);
        }
    }
}

/// Every password of a payload.
fn secrets_in(text: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let pairs = ["current", "next", "previous"].map(|key| value[key]["password"].as_str().map(str::to_owned));
    pairs.into_iter().flatten().collect()
}
