//! The ways in which a file changes, each with the database ahead of it, so that somebody waits.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::{Application, MOMENT, Window};
use crate::stores::contract::{Habitable, Login, World};
use crate::stores::file::{OneFile, Volume};
use crate::support::{Postgres, Swivel, eventually};

/// The same user with other passwords.
fn json(password: &str) -> String {
    serde_json::json!({ "username": Login(1).user(), "password": password }).to_string()
}

async fn postgres() -> Postgres {
    let postgres = Postgres::start(15);
    postgres.create_user(&Login(1).user(), &Login(1).password()).await;
    postgres
}

/// Changes the password in the database, and after a while by `write` in the file.
async fn is_followed(path: &Path, mut write: impl AsyncFnMut(&str)) {
    let postgres = postgres().await;
    write(&Login(1).password()).await;
    let swivel = Swivel::in_front_of(&postgres).trusting();
    let swivel = swivel.store("file", path.to_str().unwrap()).start().await;
    let application = Application::of(&swivel).await;
    let mut longest = Duration::ZERO;
    for password in ["second", "third"] {
        let window = Window::open();
        postgres.change_password(&Login(1).user(), password).await;
        window.pass().await;
        write(password).await;
        longest = longest.max(window.close());
        application.is_served().await;
    }
    application.leave().await.is_untroubled(longest + MOMENT);
}

#[tokio::test]
async fn a_file_that_is_written_in_place() {
    let file = OneFile::new();
    is_followed(&file.path(), async |password| {
        std::fs::write(file.path(), json(password)).unwrap();
    })
    .await;
}

/// By somebody who takes their time: half of it stands there for a while.
#[tokio::test]
async fn a_file_that_is_written_slowly() {
    let file = OneFile::new();
    is_followed(&file.path(), async |password| {
        let text = json(password);
        let (first, second) = text.split_at(text.len() - 9);
        let mut writing = std::fs::File::create(file.path()).unwrap();
        writing.write_all(first.as_bytes()).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        writing.write_all(second.as_bytes()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_renamed_over_the_old_one() {
    let file = OneFile::new();
    let beside = file.path().with_extension("new");
    is_followed(&file.path(), async |password| {
        std::fs::write(&beside, json(password)).unwrap();
        std::fs::rename(&beside, file.path()).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_link_that_points_elsewhere() {
    let file = OneFile::new();
    let directory = file.path().parent().unwrap().to_owned();
    is_followed(&file.path(), async |password| {
        let value = directory.join(password);
        std::fs::write(&value, json(password)).unwrap();
        let link = directory.join("link");
        std::os::unix::fs::symlink(&value, &link).unwrap();
        std::fs::rename(&link, file.path()).unwrap();
    })
    .await;
}

/// The kubelet swaps `..data`; user and password change together.
#[tokio::test]
async fn a_volume_whose_data_is_swapped() {
    let postgres = postgres().await;
    let volume = Volume::new();
    volume.put(Login(1)).await;
    let swivel = volume
        .settle(Swivel::in_front_of(&postgres).trusting())
        .start()
        .await;
    let application = Application::of(&swivel).await;
    let mut longest = Duration::ZERO;
    for number in [2, 3] {
        let (before, login) = (Login(number - 1), Login(number));
        postgres.create_user(&login.user(), &login.password()).await;
        let window = Window::open();
        postgres
            .execute(&format!("ALTER ROLE {} NOLOGIN", before.user()))
            .await;
        window.pass().await;
        volume.put(login).await;
        longest = longest.max(window.close());
        application.is_served_as(&login.user()).await;
    }
    application.leave().await.is_untroubled(longest + MOMENT);
    eventually("the last user leads", async || {
        swivel.said("now using rotated credentials") == 2
    })
    .await;
}
