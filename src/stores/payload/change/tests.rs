use proptest::prelude::*;

use super::*;

fn login(user: &str, password: &str) -> Login {
    Login {
        user: user.into(),
        password: Password::new(password),
    }
}

fn changed(text: &str, fields: Option<&Fields>, wanted: &Change) -> String {
    let bytes = change(text.as_bytes(), fields, wanted).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn refused(text: &str, fields: Option<&Fields>, wanted: &Change) -> WriteError {
    change(text.as_bytes(), fields, wanted).unwrap_err()
}

fn pair(user: &str, password: &str) -> FieldPair {
    FieldPair {
        user: user.to_owned(),
        password: password.to_owned(),
    }
}

#[test]
fn variables_get_their_next_password_and_keep_everything_else() {
    let text = "{\n  \"HOST\": \"db\",\n  \"DB_USER\": \"app\",\n  \"RATIO\": 1.50e3,\n  \"DB_PASS_CURRENT\": \"one\"\n}\n";
    let next = login("app", "t\"wo");
    let staged = changed(text, None, &Change::Stage(next.clone()));
    assert_eq!(
        staged,
        "{\n  \"HOST\": \"db\",\n  \"DB_USER\": \"app\",\n  \"RATIO\": 1.50e3,\n  \"DB_PASS_CURRENT\": \"one\",\n  \
         \"DB_PASS_NEXT\": \"t\\\"wo\"\n}\n"
    );
    let promoted = changed(&staged, None, &Change::Promote(next.clone()));
    assert_eq!(
        promoted,
        staged
            .replace("\"one\"", "\"t\\\"wo\"")
            .replace("NEXT\": \"t\\\"wo\"", "NEXT\": \"\"")
    );
    let withdrawn = changed(&staged, None, &Change::Withdraw(next));
    assert_eq!(withdrawn, staged.replace("NEXT\": \"t\\\"wo\"", "NEXT\": \"\""));
    let another = login("other", "two");
    assert_eq!(
        refused(text, None, &Change::Stage(another.clone())),
        WriteError::NextIsOfSameUser
    );
    let replaced = changed(&staged, None, &Change::Replace(another));
    assert_eq!(
        replaced,
        staged
            .replace("\"app\"", "\"other\"")
            .replace("\"one\"", "\"two\"")
            .replace("NEXT\": \"t\\\"wo\"", "NEXT\": \"\"")
    );
}

#[test]
fn a_plain_payload_has_no_place_for_a_next_one_and_is_replaced_whole() {
    let text = r#"{"engine":"postgres","username":"a","password":"1","port":5432}"#;
    let next = login("b", "2");
    assert_eq!(
        refused(text, None, &Change::Stage(next.clone())),
        WriteError::NoPlaceForNext
    );
    assert_eq!(
        changed(text, None, &Change::Replace(next)),
        r#"{"engine":"postgres","username":"b","password":"2","port":5432}"#
    );
    assert_eq!(find(text.as_bytes(), None).unwrap().next_place, NextPlace::None);
}

#[test]
fn positions_get_a_next_like_the_current_and_lose_it_again() {
    let text = r#"{"current": {"user": "a", "host": "db", "password": "1"}, "previous": {"user":"z","password":"0"}}"#;
    let next = login("b", "2");
    let staged = changed(text, None, &Change::Stage(next.clone()));
    let with_next = text.replace(
        "\"0\"}}",
        "\"0\"}, \"next\": {\"user\": \"b\", \"host\": \"db\", \"password\": \"2\"}}",
    );
    assert_eq!(staged, with_next);
    assert_eq!(
        changed(&staged, None, &Change::Promote(next.clone())),
        r#"{"current": {"user": "b", "host": "db", "password": "2"}, "previous": {"user": "a", "host": "db", "password": "1"}, "next": null}"#
    );
    let withdrawn = changed(&staged, None, &Change::Withdraw(next.clone()));
    assert!(withdrawn.ends_with("\"next\": null}"));
    assert_eq!(changed(&withdrawn, None, &Change::Stage(next)), with_next);
    assert_eq!(
        refused(&staged, None, &Change::Stage(login("c", "3"))),
        WriteError::NextIsTaken
    );
    assert_eq!(
        refused(&staged, None, &Change::Promote(login("c", "3"))),
        WriteError::NextIsAnother
    );
}

#[test]
fn a_list_has_what_comes_next_second() {
    let text = "[\n  {\"login\": \"a\", \"password\": \"1\", \"note\": [1, 2]}\n]\n";
    let next = login("b", "2");
    let staged = changed(text, None, &Change::Stage(next.clone()));
    assert_eq!(
        staged,
        "[\n  {\"login\": \"a\", \"password\": \"1\", \"note\": [1, 2]},\n  {\"login\": \"b\", \"password\": \"2\", \"note\": [1, 2]}\n]\n"
    );
    assert_eq!(
        changed(&staged, None, &Change::Promote(next.clone())),
        "[\n  {\"login\": \"b\", \"password\": \"2\", \"note\": [1, 2]}\n]\n"
    );
    assert_eq!(changed(&staged, None, &Change::Withdraw(next)), text);
}

#[test]
fn fields_change_what_they_name_in_json_and_in_variables() {
    let fields = Fields {
        current: pair("db.user", "db.now"),
        next: Some(pair("db.next.user", "db.next.password")),
        previous: Some(pair("db.user", "db.was")),
    };
    let text = r#"{"db":{"user":"a","now":"1","next":{},"was":""},"other":"x"}"#;
    let next = login("b", "2");
    let staged = changed(text, Some(&fields), &Change::Stage(next.clone()));
    assert_eq!(
        staged,
        r#"{"db":{"user":"a","now":"1","next":{"user":"b","password":"2"},"was":""},"other":"x"}"#
    );
    assert_eq!(
        changed(&staged, Some(&fields), &Change::Promote(next)),
        r#"{"db":{"user":"b","now":"2","next":{"user":"b","password":""},"was":""},"other":"x"}"#
    );
    let same = login("a", "2");
    let staged = changed(text, Some(&fields), &Change::Stage(same.clone()));
    let promoted = changed(&staged, Some(&fields), &Change::Promote(same));
    assert!(
        promoted.contains(r#""now":"2""#) && promoted.contains(r#""was":"1""#),
        "{promoted}"
    );

    let fields = Fields {
        current: pair("U", "P"),
        next: Some(pair("U", "N")),
        previous: None,
    };
    let text = "# mine\nexport U=a\nP='1' # now\nX=\"kept\"\n";
    let next = login("a", "2");
    let staged = changed(text, Some(&fields), &Change::Stage(next.clone()));
    assert_eq!(staged, format!("{text}N=2\n"));
    assert_eq!(
        changed(&staged, Some(&fields), &Change::Promote(next)),
        "# mine\nexport U=a\nP='2' # now\nX=\"kept\"\nN=\n"
    );
    let nowhere = Fields { next: None, ..fields };
    assert_eq!(
        refused(text, Some(&nowhere), &Change::Stage(login("a", "2"))),
        WriteError::NoPlaceForNext
    );
}

#[test]
fn a_password_that_is_no_text_is_refused_before_anything_is_written() {
    let raw = Login {
        user: "a".into(),
        password: Password::new(vec![0xff]),
    };
    let text = r#"{"username":"a","password":"1"}"#;
    assert_eq!(
        refused(text, None, &Change::Replace(raw)),
        WriteError::PasswordIsNotText
    );
}

fn payloads() -> impl Strategy<Value = String> {
    let value = prop_oneof!["[a-z]{1,4}", "\\PC{1,6}"];
    (value.clone(), value, 0..4_u8, any::<bool>()).prop_map(|(user, password, shape, pretty)| {
        let one = serde_json::json!({"x": [1, {"y": null}], "username": user, "password": password});
        let json = match shape {
            0 => one,
            1 => serde_json::json!({"k": 1, "current": one, "z": "}"}),
            2 => serde_json::json!([one]),
            _ => serde_json::json!({"DB_USER": user, "DB_PASS_CURRENT": password, "Z": [[]]}),
        };
        match pretty {
            true => format!("{json:#}\n"),
            false => json.to_string(),
        }
    })
}

proptest! {
    #[test]
    fn whatever_is_staged_is_found_and_what_is_promoted_leads(text in payloads(), password in "\\PC{1,20}") {
        let found = find(text.as_bytes(), None).unwrap();
        let next = Login { user: found.current.user.clone(), password: Password::new(password.as_str()) };
        if found.next_place == NextPlace::None {
            let replaced = change(text.as_bytes(), None, &Change::Replace(next.clone())).unwrap();
            prop_assert_eq!(find(&replaced, None).unwrap().current, next);
            return Ok(());
        }
        let staged = change(text.as_bytes(), None, &Change::Stage(next.clone())).unwrap();
        let seen = find(&staged, None).unwrap();
        prop_assert_eq!(&seen.current, &found.current);
        prop_assert_eq!(seen.next.as_ref(), Some(&next));
        let withdrawn = find(&change(&staged, None, &Change::Withdraw(next.clone())).unwrap(), None).unwrap();
        prop_assert_eq!(&withdrawn.current, &found.current);
        prop_assert!(withdrawn.next.is_none());
        let promoted = find(&change(&staged, None, &Change::Promote(next.clone())).unwrap(), None).unwrap();
        prop_assert_eq!(promoted.current, next);
        prop_assert!(promoted.next.is_none());
    }
}
