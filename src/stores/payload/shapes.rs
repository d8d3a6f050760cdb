use std::fmt;

use super::{Json, Pair, Part, Payload, PayloadError};
use crate::config::{FieldPair, Fields};
use crate::credentials::Position;
use crate::stores::HostInSecret;

/// What people call the user of a login.
pub(super) const USER_KEYS: [&str; 3] = ["username", "user", "login"];

/// More candidates than this are no list of credentials, and would be tried one by one.
const LIST_MAX: usize = 64;

/// The known shapes, as an error names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeName {
    /// `{"username","password"}`
    Plain,
    /// `{"DB_USER","DB_PASS_CURRENT","DB_PASS_NEXT"}`
    Variables,
    /// `{"current":{…},"next":{…},"previous":{…}}`
    Positions,
    /// `[{"username","password"},…]`
    List,
}

impl fmt::Display for ShapeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "username/password",
            Self::Variables => "DB_USER/DB_PASS_CURRENT",
            Self::Positions => "current/next/previous",
            Self::List => "a list",
        })
    }
}

pub(super) struct Shape(pub(super) ShapeName);

impl Shape {
    const BY_KEY: [(ShapeName, &[&str]); 3] = [
        (ShapeName::Plain, &["username", "user", "login", "password"]),
        (
            ShapeName::Variables,
            &["DB_USER", "DB_PASS_CURRENT", "DB_PASS_NEXT"],
        ),
        (ShapeName::Positions, &["current", "next", "previous"]),
    ];

    pub(super) fn recognise(json: &Json) -> Result<Self, PayloadError> {
        if let Json::List(_) = json {
            return Ok(Self(ShapeName::List));
        }
        let mut found = Self::BY_KEY
            .iter()
            .filter(|(_, keys)| keys.iter().any(|key| json.get(key).is_some()))
            .map(|(name, _)| *name);
        match (found.next(), found.next()) {
            (Some(one), None) => Ok(Self(one)),
            (Some(one), Some(other)) => Err(PayloadError::Ambiguous(one, other)),
            (None, _) => Err(PayloadError::Unrecognised),
        }
    }

    pub(super) fn credentials(&self, json: &Json) -> Result<Payload, PayloadError> {
        match self.0 {
            ShapeName::Plain => Ok(Payload {
                pairs: vec![plain(json, Position::Current)?],
                host: host(json),
            }),
            ShapeName::Variables => by_fields(&variable_fields(), |name| text_at(json, name), host(json)),
            ShapeName::Positions => positions(json),
            ShapeName::List => list(json),
        }
    }
}

/// A value that stands for nothing: absent, null, or an empty text.
fn text_of(json: &Json) -> Result<Option<&str>, NotText> {
    match json {
        Json::Text(text) => Ok(Some(text)),
        Json::Null => Ok(None),
        _ => Err(NotText),
    }
}

pub(super) struct NotText;

pub(super) fn text_at<'a>(json: &'a Json, path: &str) -> Result<Option<&'a str>, NotText> {
    json.at(path).map_or(Ok(None), text_of)
}

/// An object with one user key and a password.
fn plain(json: &Json, position: Position) -> Result<Pair, PayloadError> {
    let mut users = USER_KEYS.iter().filter_map(|key| json.get(key));
    let user = users.next();
    if users.next().is_some() {
        return Err(PayloadError::Ambiguous(ShapeName::Plain, ShapeName::Plain));
    }
    let user = required(user, position, Part::User)?;
    let password = required(json.get("password"), position, Part::Password)?;
    Pair::new(position, user, password)
}

fn required(value: Option<&Json>, position: Position, part: Part) -> Result<&str, PayloadError> {
    value
        .map_or(Ok(None), text_of)
        .map_err(|NotText| PayloadError::PartNotText { position, part })?
        .ok_or(PayloadError::Absent { position, part })
}

fn positions(json: &Json) -> Result<Payload, PayloadError> {
    let current = json.get("current").ok_or(PayloadError::Absent {
        position: Position::Current,
        part: Part::User,
    })?;
    let mut pairs = vec![plain(current, Position::Current)?];
    for (key, position) in [("next", Position::Next), ("previous", Position::Previous)] {
        match json.get(key) {
            None | Some(Json::Null) => {}
            Some(object) => pairs.push(plain(object, position)?),
        }
    }
    Ok(Payload {
        pairs,
        host: host(json).or_else(|| host(current)),
    })
}

fn list(json: &Json) -> Result<Payload, PayloadError> {
    let Json::List(items) = json else {
        return Err(PayloadError::Unrecognised);
    };
    if items.is_empty() {
        return Err(PayloadError::EmptyList);
    }
    if items.len() > LIST_MAX {
        return Err(PayloadError::LongList { max: LIST_MAX });
    }
    let pairs = (0..)
        .zip(items)
        .map(|(index, item)| plain(item, Position::Index(index)));
    Ok(Payload {
        pairs: pairs.collect::<Result<_, _>>()?,
        host: items.iter().find_map(host),
    })
}

pub(super) fn variable_fields() -> Fields {
    let pair = |password: &str| FieldPair {
        user: "DB_USER".to_owned(),
        password: password.to_owned(),
    };
    Fields {
        current: pair("DB_PASS_CURRENT"),
        next: Some(pair("DB_PASS_NEXT")),
        previous: None,
    }
}

/// Credentials by the names of their parts. Next and previous are there when their password is.
pub(super) fn by_fields<'a>(
    fields: &Fields,
    text: impl Fn(&str) -> Result<Option<&'a str>, NotText>,
    host: Option<HostInSecret>,
) -> Result<Payload, PayloadError> {
    let part_of = |name: &str, position, part| {
        text(name).map_err(|NotText| PayloadError::PartNotText { position, part })
    };
    let mut pairs = Vec::new();
    for (pair, position) in [
        (Some(&fields.current), Position::Current),
        (fields.next.as_ref(), Position::Next),
        (fields.previous.as_ref(), Position::Previous),
    ] {
        let Some(pair) = pair else { continue };
        let absent = |part| PayloadError::Absent { position, part };
        let password = part_of(&pair.password, position, Part::Password)?;
        let password = match (position, password) {
            (Position::Current, password) => password.ok_or(absent(Part::Password))?,
            (_, None | Some("")) => continue,
            (_, Some(password)) => password,
        };
        let user = part_of(&pair.user, position, Part::User)?.ok_or(absent(Part::User))?;
        pairs.push(Pair::new(position, user, password)?);
    }
    Ok(Payload { pairs, host })
}

/// `host` and `port` as rotation templates write them; a port is a number or a text. What is not understood
/// is left out: it is only reported.
pub(super) fn host(json: &Json) -> Option<HostInSecret> {
    let Json::Text(host) = json.get("host")? else {
        return None;
    };
    let port = match json.get("port") {
        Some(Json::Number(Some(port))) => u16::try_from(*port).ok(),
        Some(Json::Text(port)) => port.trim().parse().ok(),
        _ => None,
    };
    (!host.is_empty()).then(|| HostInSecret {
        host: String::clone(host),
        port,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::parse;
    use super::*;
    use crate::credentials::Password;

    fn pairs(text: &str) -> Vec<(Position, String, Password)> {
        parse(text.as_bytes(), None)
            .unwrap()
            .pairs
            .into_iter()
            .map(|pair| (pair.position, pair.user.to_string(), pair.password))
            .collect()
    }

    fn pair(position: Position, user: &str, password: &str) -> (Position, String, Password) {
        (position, user.to_owned(), Password::new(password))
    }

    fn error(text: &str) -> PayloadError {
        parse(text.as_bytes(), None).unwrap_err()
    }

    #[test]
    fn a_managed_secret_and_a_rotation_template_are_plain() {
        let managed = r#"{"username":"app","password":"p\u0000\"q"}"#;
        assert_eq!(pairs(managed), [pair(Position::Current, "app", "p\0\"q")]);
        for port in ["5433", "\"5433\""] {
            let template = format!(
                "\u{feff}{{\"engine\":\"postgres\",\r\n\"host\":\"db.internal\",\"username\":\"app\",\
                 \"password\":\"x\",\"dbname\":\"orders\",\"port\":{port}}}\r\n"
            );
            let payload = parse(template.as_bytes(), None).unwrap();
            let host = HostInSecret {
                host: "db.internal".to_owned(),
                port: Some(5433),
            };
            assert_eq!(payload.host, Some(host));
        }
    }

    #[test]
    fn each_shape_gives_its_positions_in_order() {
        let variables = r#"{"DB_USER":"app","DB_PASS_CURRENT":"a","DB_PASS_NEXT":"b","OTHER":1}"#;
        assert_eq!(
            pairs(variables),
            [
                pair(Position::Current, "app", "a"),
                pair(Position::Next, "app", "b")
            ]
        );
        for nothing in ["", ",\"DB_PASS_NEXT\":\"\"", ",\"DB_PASS_NEXT\":null"] {
            let alone = format!(r#"{{"DB_USER":"app","DB_PASS_CURRENT":"a"{nothing}}}"#);
            assert_eq!(pairs(&alone), [pair(Position::Current, "app", "a")]);
        }
        let positions = r#"{"previous":{"user":"o","password":"1"},"next":null,
            "current":{"username":"n","password":"2"}}"#;
        assert_eq!(
            pairs(positions),
            [
                pair(Position::Current, "n", "2"),
                pair(Position::Previous, "o", "1")
            ]
        );
        let list = r#"[{"login":"a","password":"1"},{"user":"b","password":"2"}]"#;
        assert_eq!(
            pairs(list),
            [
                pair(Position::Index(0), "a", "1"),
                pair(Position::Index(1), "b", "2")
            ]
        );
    }

    #[test]
    fn keys_of_two_shapes_are_never_mixed() {
        let mixed = r#"{"username":"app","password":"a","DB_PASS_NEXT":"b"}"#;
        assert_eq!(
            error(mixed),
            PayloadError::Ambiguous(ShapeName::Plain, ShapeName::Variables)
        );
        let mixed = r#"{"password":"a","current":{"username":"app","password":"a"}}"#;
        assert_eq!(
            error(mixed),
            PayloadError::Ambiguous(ShapeName::Plain, ShapeName::Positions)
        );
        let two_users = r#"{"username":"app","user":"other","password":"a"}"#;
        assert_eq!(
            error(two_users),
            PayloadError::Ambiguous(ShapeName::Plain, ShapeName::Plain)
        );
    }

    #[test]
    fn half_a_credential_is_none() {
        let position = Position::Current;
        let (user, password) = (Part::User, Part::Password);
        assert_eq!(
            error(r#"{"username":"a"}"#),
            PayloadError::Absent {
                position,
                part: password
            }
        );
        assert_eq!(
            error(r#"{"password":"a"}"#),
            PayloadError::Absent { position, part: user }
        );
        assert_eq!(
            error(r#"{"username":"a","password":""}"#),
            PayloadError::EmptyPart {
                position,
                part: password
            }
        );
        assert_eq!(
            error(r#"{"username":"","password":"x"}"#),
            PayloadError::EmptyPart { position, part: user }
        );
        assert_eq!(
            error(r#"{"username":"a","password":7}"#),
            PayloadError::PartNotText {
                position,
                part: password
            }
        );
        assert_eq!(
            error(r#"{"username":"a\u0000b","password":"x"}"#),
            PayloadError::NulInUser { position }
        );
        assert_eq!(error("[]"), PayloadError::EmptyList);
        assert_eq!(error("{}"), PayloadError::Unrecognised);
        assert_eq!(error("\"hunter2\""), PayloadError::Unrecognised);
        assert_eq!(
            error(r#"{"current":{"username":"a","password":"b"},"next":{"username":"a"}}"#),
            PayloadError::Absent {
                position: Position::Next,
                part: password
            }
        );
    }

    #[test]
    fn fields_choose_from_json_and_from_variables() {
        let choose = |user: &str, password: &str| FieldPair {
            user: user.to_owned(),
            password: password.to_owned(),
        };
        let fields = Fields {
            current: choose("db.user", "db.now"),
            next: Some(choose("db.user", "db.then")),
            previous: None,
        };
        let json = br#"{"db":{"user":"app","now":"a","then":"b"},"username":"other","DB_USER":"third"}"#;
        let payload = parse(json, Some(&fields)).unwrap();
        assert_eq!(payload.pairs.len(), 2);
        assert_eq!(payload.pairs[1].password, Password::new("b"));

        let fields = Fields {
            current: choose("DB_USER", "DB_PASS_CURRENT"),
            next: Some(choose("DB_USER", "DB_PASS_NEXT")),
            previous: None,
        };
        let text = b"export DB_USER=app\nDB_PASS_CURRENT='a b'\nDB_PASS_NEXT=\n";
        let payload = parse(text, Some(&fields)).unwrap();
        assert_eq!(payload.pairs.len(), 1);
        assert_eq!(payload.pairs[0].password, Password::new("a b"));
        let part = Part::Password;
        let position = Position::Current;
        let missing = parse(b"DB_USER=app", Some(&fields)).unwrap_err();
        assert_eq!(missing, PayloadError::Absent { position, part });
    }

    #[test]
    fn text_without_fields_says_that_fields_would_help() {
        let error = error("USER=app\nPASSWORD=hunter2\n");
        assert!(error.to_string().contains("`fields`"));
        assert_eq!(parse(b"\xff\xfe{", None), Err(PayloadError::NotText));
    }

    fn any_fields() -> impl Strategy<Value = Option<Fields>> {
        let pair =
            ("[a-z.0-9]{0,6}", "[A-Z_.]{0,6}").prop_map(|(user, password)| FieldPair { user, password });
        proptest::option::of(
            (pair.clone(), proptest::option::of(pair)).prop_map(|(current, next)| Fields {
                current,
                next,
                previous: None,
            }),
        )
    }

    /// Pieces that make nearly valid payloads likely.
    fn nearly_a_payload() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("{".to_owned()),
            Just("}".to_owned()),
            Just("[".to_owned()),
            Just("]".to_owned()),
            Just(",".to_owned()),
            Just(":".to_owned()),
            Just("\"".to_owned()),
            Just("=".to_owned()),
            Just("\n".to_owned()),
            Just("\r".to_owned()),
            Just("null".to_owned()),
            Just("\"username\":\"a\"".to_owned()),
            Just("\"password\":\"b\"".to_owned()),
            Just("\"current\":{".to_owned()),
            Just("export A='".to_owned()),
            "\\PC{0,4}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256), fields in any_fields()) {
            let _ = parse(&bytes, fields.as_ref());
        }

        #[test]
        fn no_text_makes_it_panic_or_give_half_a_credential(text in nearly_a_payload(), fields in any_fields()) {
            if let Ok(payload) = parse(text.as_bytes(), fields.as_ref()) {
                prop_assert!(!payload.pairs.is_empty());
                for pair in payload.pairs {
                    prop_assert!(!pair.user.is_empty() && !pair.password.is_empty());
                }
            }
        }

        #[test]
        fn any_pair_survives_json_and_never_shows_its_password(
            user in "[^\\x00]{1,40}",
            password in "[0-9a-f]{16}\\PC{0,300}",
        ) {
            let text = serde_json::json!({"username": user, "password": password}).to_string();
            let payload = parse(text.as_bytes(), None).unwrap();
            prop_assert_eq!(&*payload.pairs[0].user, user.as_str());
            prop_assert_eq!(payload.pairs[0].password.expose(), password.as_bytes());
            let shown = format!("{payload:?}");
            prop_assert!(!shown.contains(&password));
        }
    }
}
