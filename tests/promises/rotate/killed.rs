//! Killed at any point, what goes on or back finds store and servers as they are.

use std::time::Duration;

use super::run::is_whole;
use super::scene::{A, B, FIRST, Scene, Stopped, Style, read};
use crate::rotation::Application;
use crate::support::{Version, is_long};

/// More points than any rotation has.
const POINTS_MAX: u32 = 60;

/// Kills a run at each of its points, or at every third, another one on each server, and does this after it.
async fn killed_at_every_point(version: Version, style: Style, after: &[&str]) {
    let mut scene = Scene::of(version, style).await;
    let swivel = scene.swivel().await;
    let application = Application::of(&swivel).await;
    let mut points = 0;
    let (first, step) = match is_long() {
        true => (0, 1),
        false => (u32::from(version) % 3, 3),
    };
    for point in (first..POINTS_MAX).step_by(step) {
        let Some(stopped) = scene
            .run_up_to(point, &["run", "orders", "--yes", "--within", "20s"])
            .await
        else {
            break;
        };
        points += 1;
        let before = stopped.kill();
        let held = read(&scene.path("orders.json"));
        let reached = scene.logs_in(&held.user, &held.password).await;
        let by_next = match &held.next {
            Some(next) => scene.logs_in(&held.user, next).await,
            None => false,
        };
        assert!(
            reached || by_next,
            "point {point}: nobody can log in with what the store holds\n{before}"
        );
        let (code, words) = scene.rotate(after).await;
        let nothing_half_done = code == Some(1) && words.contains("nothing is half-done");
        assert!(
            code == Some(0) || nothing_half_done,
            "point {point}: {code:?}\n{before}\n{words}"
        );
        is_whole(&scene).await;
        let (code, words) = scene.rotate(&["show", "orders"]).await;
        assert_eq!(code, Some(0), "point {point}: {words}");
    }
    assert!(points * step > 6, "{points}");
    is_whole(&scene).await;
    application.is_served().await;
    let report = application.leave().await;
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}

const RESUME: [&str; 5] = ["resume", "orders", "--yes", "--within", "20s"];
const ROLLBACK: [&str; 5] = ["rollback", "orders", "--yes", "--within", "20s"];

promise! {
    async fn a_new_password_of_one_user_goes_on_from_every_point(version) {
        killed_at_every_point(version, Style::Single, &RESUME).await;
    }
}

promise! {
    async fn a_new_password_of_one_user_goes_back_from_every_point(version) {
        killed_at_every_point(version, Style::Single, &ROLLBACK).await;
    }
}

promise! {
    async fn a_password_that_waits_goes_on_from_every_point(version) {
        killed_at_every_point(version, Style::Next, &RESUME).await;
    }
}

promise! {
    async fn users_that_take_turns_go_on_from_every_point(version) {
        killed_at_every_point(version, Style::Alternating, &RESUME).await;
    }
}

promise! {
    async fn users_that_take_turns_go_back_from_every_point(version) {
        killed_at_every_point(version, Style::Alternating, &ROLLBACK).await;
    }
}

promise! {
    async fn users_that_take_turns_in_a_plain_secret_go_on_from_every_point(version) {
        killed_at_every_point(version, Style::Plain, &RESUME).await;
    }
}

/// `PGSWIVEL_KILLS`: how often, for `make rotate-kills`.
fn kills() -> u32 {
    std::env::var("PGSWIVEL_KILLS").map_or(6, |text| text.parse().unwrap())
}

promise! {
    async fn a_run_that_is_killed_at_random_moments_goes_on_or_back(version) {
        for style in Style::ALL {
            let mut scene = Scene::of(version, style).await;
            let swivel = scene.swivel().await;
            let application = Application::of(&swivel).await;
            let mut took = Duration::from_millis(1500);
            for kill in 0..kills() {
                let mut run = scene.command(&["run", "orders", "--yes", "--within", "20s"]).spawn().unwrap();
                let begun = std::time::Instant::now();
                // Somewhere in what the last whole one took.
                let moment = took.mul_f64(f64::from(kill * 7919 % 101) / 100.0);
                tokio::time::sleep(moment).await;
                let _ = run.kill();
                run.wait().unwrap();
                let back = kill % 3 == 2;
                let (code, words) = scene.rotate(if back { &ROLLBACK } else { &RESUME }).await;
                let nothing_half_done = back && words.contains("nothing is half-done");
                assert!(code == Some(0) || nothing_half_done, "{style:?}, kill {kill}: {words}");
                is_whole(&scene).await;
                took = begun.elapsed().min(Duration::from_secs(4));
            }
            application.is_served().await;
            let report = application.leave().await;
            assert!(report.errors.is_empty(), "{style:?}: {:?}", report.errors);
        }
    }
}

promise! {
    async fn a_foreign_writer_between_any_two_steps_is_noticed(version) {
        let scene = Scene::of(version, Style::Single).await;
        let path = scene.path("orders.json");
        for point in 1..POINTS_MAX {
            let Some(stopped) = scene.run_up_to(point, &["run", "orders", "--yes"]).await else {
                break;
            };
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("\"about\":\"orders", "\"about\":\"orders, changed")).unwrap();
            let pauses = stopped.said();
            let (code, words) = Stopped::go_on(stopped).await;
            // Before the first look nothing is known yet, and after the last nothing more is done.
            let is_over = pauses.contains("done: every server: the old credential");
            if code == Some(0) {
                assert!(is_over, "point {point}: {words}");
            } else {
                assert!(words.contains("somebody else changed the secret"), "point {point}: {words}");
            }
            let (code, words) = scene.run().await;
            assert_eq!(code, Some(0), "point {point}: {words}");
            is_whole(&scene).await;
        }
    }
}

promise! {
    async fn one_of_two_at_once_does_it_and_the_other_names_it(version) {
        let scene = Scene::of(version, Style::Alternating).await;
        let stopped = scene.run_up_to(4, &["run", "orders", "--yes"]).await.unwrap();
        let (code, words) = scene.run().await;
        assert_eq!(code, Some(1), "{words}");
        let pid = stopped.child.id();
        assert!(words.contains("is being rotated by somebody else: \"pgswivel rotate orders"), "{words}");
        assert!(words.contains(&format!(":{pid}\" from 127.0.0.1 since 2")), "{words}");
        // A role is that of all databases.
        let (code, words) = scene.run_with("database = \"orders\"", "database = \"postgres\"").await;
        assert_eq!(code, Some(1), "{words}");
        assert!(words.contains(&format!(":{pid}\" from 127.0.0.1 since 2")), "{words}");
        let (code, words) = stopped.go_on().await;
        assert_eq!(code, Some(0), "{words}");
        is_whole(&scene).await;
        assert_eq!(read(&scene.path("orders.json")).user, B);
        assert!(!scene.logs_in(A, FIRST).await);
    }
}
