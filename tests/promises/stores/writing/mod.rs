//! What every store promises that is written. A [`Place`] is one secret in one store, with what a test may do to it
//! behind the back of who writes.

#[cfg(feature = "aws")]
mod aws;
mod command;
mod file;
#[cfg(feature = "vault")]
mod vault;

use pgswivel::credentials::Password;
use pgswivel::stores::{self, Change, Holding, Login, NextPlace, WritableStore, WriteError};
use serde_json::{Value, json};

use super::contract::CANARY;

pub trait Place {
    fn open(&self) -> Box<dyn WritableStore>;
    /// Somebody else's write.
    async fn put(&self, text: &str);
    /// What a program would read now.
    async fn text(&self) -> String;
    /// Whether the store keeps the text itself, and not only what it means.
    const KEEPS_TEXT: bool = true;
}

fn login(user: &str, number: u32) -> Login {
    Login {
        user: user.into(),
        password: Password::new(format!("{CANARY}-{number}")),
    }
}

async fn look(store: &mut dyn WritableStore) -> Holding {
    stores::look(store).await.unwrap()
}

/// `{"current": …}` with a user, and with things around it that are nobody's business.
fn positions(user: &str, number: u32) -> String {
    format!(
        "{{\n  \"zone\": 1.50,\n  \"current\": {{\"host\": \"db\", \"username\": \"{user}\", \
         \"password\": \"{CANARY}-{number}\"}},\n  \"about\": [\"x\", {{}}]\n}}"
    )
}

async fn assert_text<P: Place>(place: &P, expected: &str) {
    let found = place.text().await;
    if P::KEEPS_TEXT {
        assert_eq!(found, expected);
    }
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(read(&found), read(expected));
}

pub async fn keeps_everything<P: Place>(place: &P) {
    goes_through_a_rotation_and_keeps_the_rest(place).await;
    takes_back_what_was_staged(place).await;
    notices_who_writes_between_two_steps(place).await;
    replaces_a_login_where_nothing_can_be_staged(place).await;
}

async fn goes_through_a_rotation_and_keeps_the_rest<P: Place>(place: &P) {
    let before = positions("app_a", 1);
    place.put(&before).await;
    let mut store = place.open();
    let seen = look(&mut *store).await;
    assert_eq!(seen.current, login("app_a", 1));
    assert_eq!((&seen.next, seen.next_place), (&None, NextPlace::AnyUser));
    assert_eq!(look(&mut *store).await.revision, seen.revision);

    let next = login("app_b", 2);
    let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen)
        .await
        .unwrap();
    assert_eq!(
        (&staged.current, staged.next.as_ref()),
        (&login("app_a", 1), Some(&next))
    );
    assert_ne!(staged.revision, seen.revision);
    let with_next = before.replace(
        "[\"x\", {}]",
        &format!(
            "[\"x\", {{}}],\n  \"next\": {{\"host\": \"db\", \"username\": \"app_b\", \"password\": \"{CANARY}-2\"}}"
        ),
    );
    assert_text(place, &with_next).await;
    let again = stores::write(&mut *store, &Change::Stage(next.clone()), &staged)
        .await
        .unwrap();
    assert_eq!(
        again.revision, staged.revision,
        "what is so already is not written again"
    );

    let promoted = stores::write(&mut *store, &Change::Promote(next.clone()), &staged)
        .await
        .unwrap();
    assert_eq!((&promoted.current, &promoted.next), (&next, &None));
    let mut after: Value = serde_json::from_str(&positions("app_b", 2)).unwrap();
    after["next"] = Value::Null;
    let found: Value = serde_json::from_str(&place.text().await).unwrap();
    assert_eq!(found, after);
    let printed = format!("{seen:?} {staged:?} {promoted:?} {}", promoted.revision);
    assert!(!printed.contains(CANARY), "{printed}");
}

async fn takes_back_what_was_staged<P: Place>(place: &P) {
    place.put(&positions("app_a", 1)).await;
    let mut store = place.open();
    let seen = look(&mut *store).await;
    let next = login("app_a", 2);
    let staged = stores::write(&mut *store, &Change::Stage(next.clone()), &seen)
        .await
        .unwrap();
    let another = Change::Stage(login("app_a", 3));
    let error = stores::write(&mut *store, &another, &staged).await.unwrap_err();
    assert_eq!(error, WriteError::NextIsTaken);
    let withdrawn = stores::write(&mut *store, &Change::Withdraw(next), &staged)
        .await
        .unwrap();
    assert_eq!((&withdrawn.current, &withdrawn.next), (&login("app_a", 1), &None));
}

async fn notices_who_writes_between_two_steps<P: Place>(place: &P) {
    for change in [
        Change::Stage(login("app_a", 2)),
        Change::Replace(login("app_b", 2)),
    ] {
        place.put(&positions("app_a", 1)).await;
        let mut store = place.open();
        let seen = look(&mut *store).await;
        let foreign = positions("app_a", 7);
        place.put(&foreign).await;
        let error = stores::write(&mut *store, &change, &seen).await.unwrap_err();
        assert!(matches!(error, WriteError::Foreign(_)), "{error}");
        assert!(!error.to_string().contains(CANARY), "{error}");
        assert_text(place, &foreign).await;
    }
}

async fn replaces_a_login_where_nothing_can_be_staged<P: Place>(place: &P) {
    let text = |user: &str, number: u32| {
        json!({ "engine": "postgres", "password": format!("{CANARY}-{number}"), "username": user })
            .to_string()
    };
    place.put(&text("app_a", 1)).await;
    let mut store = place.open();
    let seen = look(&mut *store).await;
    let next = login("app_b", 2);
    if seen.next_place == NextPlace::None {
        let error = stores::write(&mut *store, &Change::Stage(next.clone()), &seen).await;
        assert_eq!(error.unwrap_err(), WriteError::NoPlaceForNext);
        assert_text(place, &text("app_a", 1)).await;
    }
    let replaced = stores::write(&mut *store, &Change::Replace(next.clone()), &seen)
        .await
        .unwrap();
    assert_eq!(replaced.current, next);
    assert_text(place, &text("app_b", 2)).await;
}
