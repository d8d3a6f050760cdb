//! Statements whose own text tells all that they change of a session, and that can be said again.
//!
//! Only what is certain is read: in doubt a text is not plain, and a survey has to tell.

use super::blanks::skip;
use super::tokens::{Token, Tokens, Unreadable};

/// A text with more statements is not read.
const STATEMENTS_MAX: usize = 16;
/// As Postgres cuts names.
const NAME_MAX: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Its text, said again, has the same effect.
    Text { text: Box<[u8]>, effect: Effect },
    /// `SELECT set_config(…), …`
    SetConfig(Box<[Call]>),
    /// Begins or ends a transaction, or leaves nothing behind.
    Nothing,
    /// Beside plain ones: it does no more than its tag says.
    Other,
}

/// What a plain statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Sets or resets a setting; None: it is not a single one, or its name is of no use.
    Setting(Option<Box<[u8]>>),
    /// The same, until its transaction ends.
    Local(Option<Box<[u8]>>),
    Channels,
    /// PREPARE
    Makes(Box<[u8]>),
    /// DEALLOCATE
    Drops(Box<[u8]>),
    DropsAll,
    /// DISCARD ALL
    Discards,
}

/// One call of set_config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub name: Argument,
    pub value: Argument,
    pub local: Argument,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Argument {
    Value(Box<[u8]>),
    /// Counted from 1.
    Parameter(u16),
}

impl Plain {
    /// Whether parameters that a client declares to be of these types are what they look like: text, or a boolean where
    /// one is wanted.
    pub fn accepts(&self, types: impl Iterator<Item = u32>) -> bool {
        const TEXTS: [u32; 4] = [0, 25, 1043, 705];
        const BOOL: u32 = 16;
        let Self::SetConfig(calls) = self else {
            return true;
        };
        let is_text = |number: u16| {
            let texts = calls.iter().flat_map(|call| [&call.name, &call.value]);
            let mut numbers = texts.filter_map(|argument| match argument {
                Argument::Parameter(number) => Some(*number),
                Argument::Value(_) => None,
            });
            numbers.any(|text| text == number)
        };
        (1..)
            .zip(types)
            .all(|(number, kind)| TEXTS.contains(&kind) || kind == BOOL && !is_text(number))
    }
}

impl Effect {
    /// Whether what is said later may be read in another way than what was said before.
    pub fn reads(&self) -> bool {
        match self {
            Self::Setting(name) | Self::Local(name) => name.as_deref().is_none_or(is_read_by),
            Self::Channels => false,
            Self::Makes(_) | Self::Drops(_) | Self::DropsAll | Self::Discards => true,
        }
    }
}

/// Whether the setting has a say in how a statement's text is understood. Of those not known: yes.
fn is_read_by(name: &[u8]) -> bool {
    const OTHERS: [&[u8]; 18] = [
        b"application_name",
        b"work_mem",
        b"maintenance_work_mem",
        b"synchronous_commit",
        b"client_min_messages",
        b"extra_float_digits",
        b"bytea_output",
        b"random_page_cost",
        b"seq_page_cost",
        b"effective_cache_size",
        b"max_parallel_workers_per_gather",
        b"plan_cache_mode",
        b"hash_mem_multiplier",
        b"temp_buffers",
        b"temp_tablespaces",
        b"default_transaction_isolation",
        b"default_transaction_read_only",
        b"default_transaction_deferrable",
    ];
    let is_known = name.contains(&b'.')
        || name.ends_with(b"_timeout")
        || name.starts_with(b"enable_")
        || name.starts_with(b"log_")
        || name.starts_with(b"jit")
        || name.starts_with(b"geqo")
        || OTHERS.contains(&name);
    !is_known
}

/// Whether it is worth the while to [`read`] a text. `calls`: it may call set_config.
pub fn may_be_plain(text: &[u8], calls: bool) -> bool {
    let text = match text.first() {
        Some(byte) if byte.is_ascii_alphabetic() => text,
        _ => skip(text),
    };
    let Some(start) = text.first_chunk::<3>() else {
        return false;
    };
    match &start.map(|byte| byte.to_ascii_lowercase()) {
        b"set" | b"res" | b"lis" | b"unl" | b"pre" | b"dea" | b"dis" => true,
        b"sel" => calls,
        b"beg" | b"sta" => memchr::memchr(b';', text).is_some_and(|end| end + 1 < text.len()),
        _ => false,
    }
}

/// All statements of `text`, if each of them is plain, or does no more than its tag says beside one that is plain and
/// changes something. `is_bare`: whether that is so of a statement.
pub fn read(text: &[u8], is_bare: impl Fn(&[u8]) -> bool) -> Option<Vec<Plain>> {
    let mut all = Vec::new();
    for statement in statements(text) {
        if all.len() == STATEMENTS_MAX {
            return None;
        }
        let statement = statement.ok()?;
        let plain = one(statement).or_else(|| is_bare(statement).then_some(Plain::Other));
        all.push(plain?);
    }
    let changes = |plain: &Plain| matches!(plain, Plain::Text { .. } | Plain::SetConfig(_));
    if all.contains(&Plain::Other) && !all.iter().any(changes) {
        return None;
    }
    // As it was sent: Postgres shows what made a prepared statement.
    if let [Plain::Text { text: only, .. }] = all.as_mut_slice() {
        *only = text.into();
    }
    Some(all)
}

/// Whether a text does nothing that goes beyond its transaction, wherever it is said.
pub fn is_harmless(text: &[u8]) -> bool {
    let mut any = false;
    statements(text).all(|statement| {
        any = true;
        statement.is_ok_and(leaves_nothing)
    }) && any
}

/// Functions that every session may call and that change nothing.
const HARMLESS_FUNCTIONS: [&[u8]; 8] = [
    b"version",
    b"now",
    b"current_schema",
    b"current_database",
    b"current_setting",
    b"pg_backend_pid",
    b"pg_is_in_recovery",
    b"txid_current",
];

fn leaves_nothing(statement: &[u8]) -> bool {
    const WORDS: [&str; 10] = [
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
        "show",
        "select",
    ];
    let mut tokens = Tokens::of(statement);
    let Ok(Some(first)) = tokens.next() else {
        return false;
    };
    if !WORDS.iter().any(|word| first.is(word)) {
        return false;
    }
    let mut before = first;
    loop {
        let harmless = match tokens.next() {
            Ok(None) => return true,
            Err(Unreadable) => false,
            Ok(Some(token)) => {
                let harmless = match (token, before) {
                    (Token::Symbol(b'('), Token::Word(name)) => {
                        let name = name.to_ascii_lowercase();
                        HARMLESS_FUNCTIONS.contains(&&*name)
                    }
                    // A function's quoted name, or a query in a query.
                    (Token::Symbol(b'('), _) | (Token::Quoted(_), _) => false,
                    (Token::Symbol(b'.'), schema) => schema.is("pg_catalog"),
                    (word, _) => !["from", "into", "table"].iter().any(|risky| word.is(risky)),
                };
                before = token;
                harmless
            }
        };
        if !harmless {
            return false;
        }
    }
}

/// What stands between semicolons.
fn statements(text: &[u8]) -> impl Iterator<Item = Result<&[u8], Unreadable>> {
    let mut tokens = Tokens::of(text);
    let mut failed = false;
    std::iter::from_fn(move || {
        while tokens.rest().starts_with(b";") {
            tokens.next().ok()?;
        }
        let statement = tokens.rest();
        if statement.is_empty() || failed {
            return None;
        }
        loop {
            let end = statement.len() - tokens.rest().len();
            if tokens.rest().is_empty() || tokens.rest().starts_with(b";") {
                return Some(Ok(&statement[..end]));
            }
            if let Err(unreadable) = tokens.next() {
                failed = true;
                return Some(Err(unreadable));
            }
        }
    })
}

fn one(statement: &[u8]) -> Option<Plain> {
    let mut tokens = Tokens::of(statement);
    let first = tokens.next().ok()??;
    let Token::Word(word) = first else {
        return None;
    };
    let effect = match word.to_ascii_lowercase().as_slice() {
        b"set" => return set(statement, tokens),
        b"reset" => return reset(statement, tokens),
        b"listen" | b"unlisten" => Effect::Channels,
        b"prepare" => match tokens.next().ok()?? {
            token if token.is("transaction") => return Some(Plain::Nothing),
            token => Effect::Makes(statement_name(token)?),
        },
        b"deallocate" => deallocate(tokens)?,
        b"discard" => match tokens.next().ok()?? {
            token if token.is("all") => Effect::Discards,
            // What they drop is no part of what is carried.
            token if token.is("plans") || token.is("sequences") => return Some(Plain::Nothing),
            _ => return None,
        },
        b"select" => return set_config(tokens).map(|calls| Plain::SetConfig(calls.into())),
        b"begin" | b"start" | b"commit" | b"end" | b"rollback" | b"abort" | b"savepoint" | b"release" => {
            return Some(Plain::Nothing);
        }
        _ => return None,
    };
    Some(text(statement, effect))
}

fn text(statement: &[u8], effect: Effect) -> Plain {
    Plain::Text {
        text: statement.into(),
        effect,
    }
}

fn set(statement: &[u8], mut tokens: Tokens<'_>) -> Option<Plain> {
    let mut next = tokens.next().ok()??;
    // A setting of an extension may be called that.
    let is_scope = !tokens.rest().starts_with(b".");
    let is_local = is_scope && next.is("local");
    let made = |name| match is_local {
        true => Effect::Local(name),
        false => Effect::Setting(name),
    };
    if is_local || is_scope && next.is("session") {
        next = tokens.next().ok()??;
        if next.is("characteristics") || next.is("authorization") {
            return Some(text(statement, made(None)));
        }
        if next.is("session") && !tokens.rest().starts_with(b".") {
            return Some(text(statement, made(None)));
        }
    }
    if next.is("transaction") || next.is("constraints") {
        return Some(Plain::Nothing);
    }
    setting(statement, next, tokens, made)
}

fn reset(statement: &[u8], mut tokens: Tokens<'_>) -> Option<Plain> {
    let next = tokens.next().ok()??;
    if next.is("all") || next.is("session") && !tokens.rest().starts_with(b".") {
        return Some(text(statement, Effect::Setting(None)));
    }
    setting(statement, next, tokens, Effect::Setting)
}

fn setting(
    statement: &[u8],
    first: Token<'_>,
    mut tokens: Tokens<'_>,
    made: impl Fn(Option<Box<[u8]>>) -> Effect,
) -> Option<Plain> {
    let name = setting_name(first, &mut tokens)?;
    match &*name {
        // Each number that is drawn moves it on.
        b"seed" => None,
        // Of the transaction, whatever the text says.
        b"transaction_isolation" | b"transaction_read_only" | b"transaction_deferrable" => {
            Some(Plain::Nothing)
        }
        // TIME ZONE, NAMES, SCHEMA and their like.
        b"time" | b"names" | b"schema" | b"xml" | b"role" | b"session_authorization" => {
            Some(text(statement, made(None)))
        }
        _ => Some(text(statement, made(Some(name)))),
    }
}

/// In lower case, as Postgres compares them.
fn setting_name(first: Token<'_>, tokens: &mut Tokens<'_>) -> Option<Box<[u8]>> {
    let mut name = identifier(first)?.to_ascii_lowercase();
    while tokens.rest().starts_with(b".") {
        tokens.next().ok()?;
        name.push(b'.');
        name.extend(identifier(tokens.next().ok()??)?.to_ascii_lowercase());
    }
    Some(name.into())
}

fn identifier(token: Token<'_>) -> Option<&[u8]> {
    match token {
        Token::Word(name) => Some(name),
        Token::Quoted(name) if !name.contains(&b'"') => Some(name),
        _ => None,
    }
}

/// As the protocol would call it.
fn statement_name(token: Token<'_>) -> Option<Box<[u8]>> {
    let name = identifier(token)?;
    let is_certain = name.is_ascii() && name.len() <= NAME_MAX;
    let is_quoted = matches!(token, Token::Quoted(_));
    is_certain.then(|| match is_quoted {
        true => name.into(),
        false => name.to_ascii_lowercase().into(),
    })
}

fn deallocate(mut tokens: Tokens<'_>) -> Option<Effect> {
    let mut next = tokens.next().ok()??;
    if next.is("prepare") && !tokens.rest().is_empty() {
        next = tokens.next().ok()??;
    }
    match next.is("all") {
        true => Some(Effect::DropsAll),
        false => statement_name(next).map(Effect::Drops),
    }
}

/// What stands behind SELECT: calls of set_config, and of current_setting beside them.
fn set_config(mut tokens: Tokens<'_>) -> Option<Vec<Call>> {
    let mut calls = Vec::new();
    for _ in 0..STATEMENTS_MAX {
        let mut name = tokens.next().ok()??;
        if name.is("pg_catalog") && tokens.next().ok()?? == Token::Symbol(b'.') {
            name = tokens.next().ok()??;
        }
        if tokens.next().ok()?? != Token::Symbol(b'(') {
            return None;
        }
        if name.is("current_setting") {
            current_setting(&mut tokens)?;
        } else if name.is("set_config") {
            calls.push(call(&mut tokens)?);
        } else {
            return None;
        }
        let mut next = tokens.next().ok()?;
        if next.is_some_and(|token| token.is("as")) {
            identifier(tokens.next().ok()??)?;
            next = tokens.next().ok()?;
        }
        match next {
            None => return (!calls.is_empty()).then_some(calls),
            Some(Token::Symbol(b',')) => {}
            Some(_) => return None,
        }
    }
    None
}

fn call(tokens: &mut Tokens<'_>) -> Option<Call> {
    let call = Call {
        name: argument(tokens, b',')?,
        value: argument(tokens, b',')?,
        local: argument(tokens, b')')?,
    };
    let is_doubtful = matches!(&call.name, Argument::Value(name) if !is_certain(name));
    (!is_doubtful).then_some(call)
}

/// One name, and whether it may be missing.
fn current_setting(tokens: &mut Tokens<'_>) -> Option<()> {
    let mut here = *tokens;
    if argument(&mut here, b')').is_none() {
        here = *tokens;
        argument(&mut here, b',')?;
        argument(&mut here, b')')?;
    }
    *tokens = here;
    Some(())
}

/// A value or a parameter, which may be cast, and what ends it.
fn argument(tokens: &mut Tokens<'_>, end: u8) -> Option<Argument> {
    let argument = match tokens.next().ok()?? {
        Token::Text(text) => Argument::Value(undoubled(text)),
        Token::Parameter(number) if number > 0 => Argument::Parameter(number),
        token if token.is("true") => Argument::Value(b"true"[..].into()),
        token if token.is("false") => Argument::Value(b"false"[..].into()),
        _ => return None,
    };
    let mut next = tokens.next().ok()??;
    if next == Token::Symbol(b':') {
        if tokens.next().ok()?? != Token::Symbol(b':') {
            return None;
        }
        let kind = tokens.next().ok()??;
        if !["text", "varchar", "bool", "boolean"]
            .iter()
            .any(|name| kind.is(name))
        {
            return None;
        }
        next = tokens.next().ok()??;
    }
    (next == Token::Symbol(end)).then_some(argument)
}

fn undoubled(text: &[u8]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(*byte);
        if *byte == b'\'' {
            bytes.next();
        }
    }
    out.into()
}

/// Whether a setting is an extension's, or the application's own.
pub fn is_custom(name: &[u8]) -> bool {
    name.contains(&b'.')
}

/// Whether to say a value of this setting again does what it did.
pub fn is_certain(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    !name.starts_with(b"transaction_") && name != b"seed"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn effects(text: &str) -> Option<Vec<Effect>> {
        let effect = |plain| match plain {
            Plain::Text { effect, .. } => Some(effect),
            Plain::SetConfig(_) | Plain::Nothing | Plain::Other => None,
        };
        Some(
            read(text.as_bytes(), |_| false)?
                .into_iter()
                .filter_map(effect)
                .collect(),
        )
    }

    fn name(text: &str) -> Option<Box<[u8]>> {
        Some(text.as_bytes().into())
    }

    #[test]
    fn what_a_plain_statement_does_is_read() {
        let made = |text: &str| text.as_bytes().into();
        for (text, effect) in [
            ("SET work_mem = '5MB'", Effect::Setting(name("work_mem"))),
            (
                "/* a */ set Session app.Tenant to 'it''s;'",
                Effect::Setting(name("app.tenant")),
            ),
            ("SET \"app\".\"x\" = 1", Effect::Setting(name("app.x"))),
            ("SET session.x = 1", Effect::Setting(name("session.x"))),
            ("SET local.x = 1", Effect::Setting(name("local.x"))),
            ("SET LOCAL a.b = 1;", Effect::Local(name("a.b"))),
            ("SET LOCAL ROLE app", Effect::Local(None)),
            ("SET LOCAL SESSION AUTHORIZATION app", Effect::Local(None)),
            ("SET ROLE app", Effect::Setting(None)),
            ("SET SESSION AUTHORIZATION app", Effect::Setting(None)),
            (
                "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
                Effect::Setting(None),
            ),
            ("SET TIME ZONE 'UTC'", Effect::Setting(None)),
            ("SET NAMES 'UTF8'", Effect::Setting(None)),
            ("RESET ALL", Effect::Setting(None)),
            ("RESET SESSION AUTHORIZATION", Effect::Setting(None)),
            ("RESET work_mem", Effect::Setting(name("work_mem"))),
            ("LISTEN orders", Effect::Channels),
            ("UNLISTEN *", Effect::Channels),
            ("PREPARE P (int) AS SELECT 'a;b', $1", Effect::Makes(made("p"))),
            ("PREPARE \"P\" AS SELECT 1", Effect::Makes(made("P"))),
            ("DEALLOCATE p", Effect::Drops(made("p"))),
            ("DEALLOCATE PREPARE p", Effect::Drops(made("p"))),
            ("DEALLOCATE prepare", Effect::Drops(made("prepare"))),
            ("DEALLOCATE ALL", Effect::DropsAll),
            ("DISCARD ALL", Effect::Discards),
        ] {
            assert!(may_be_plain(text.as_bytes(), false), "{text}");
            assert_eq!(effects(text), Some(vec![effect]), "{text}");
        }
    }

    #[test]
    fn what_leaves_nothing_behind_is_plain() {
        for text in [
            "SET TRANSACTION READ ONLY",
            "SET transaction_read_only = on",
            "SET CONSTRAINTS ALL DEFERRED",
            "PREPARE TRANSACTION 'a'",
            "DISCARD PLANS",
            "BEGIN; SET TRANSACTION READ ONLY; COMMIT",
        ] {
            assert!(may_be_plain(text.as_bytes(), false), "{text}");
            assert_eq!(effects(text), Some(vec![]), "{text}");
        }
    }

    #[test]
    fn in_doubt_a_text_is_not_plain() {
        for text in [
            "SET seed = 0.5",
            "SET SESSION seed = 0.5",
            "RESET seed",
            "SET a = 'b\\c'",
            "SET a = E'b'",
            "SET a = 'b",
            "SET U&\"a\" = 1",
            "SET a = 1; SELECT f()",
            "SET a = 1; DO $$ BEGIN END $$",
            "DISCARD TEMP",
            "PREPARE \u{e9} AS SELECT 1",
            "SELECT set_config('a.b', f(), false)",
            "SELECT set_config('a.b', '1', false) FROM t",
            "SELECT other.set_config('a.b', '1', false)",
            "SELECT set_config('a.b', '1', f())",
            "SELECT set_config('seed', '0.5', false)",
            "SELECT set_config('a.b', 'x' 'y', false)",
            "SELECT set_config('a.b', '1'::mine, false)",
            "SELECT set_config('a.b', '1', false), f()",
            "SELECT set_config('a.b', '1', false), current_setting(f())",
            "SELECT current_setting('a.b')",
            "SELECT set_config('a.b', '1', false), current_setting('a', true, 1)",
            "INSERT INTO t VALUES (1)",
        ] {
            assert_eq!(read(text.as_bytes(), |_| false), None, "{text}");
        }
    }

    #[test]
    fn what_stands_beside_a_plain_statement_may_be_bare() {
        let is_bare = |statement: &[u8]| !statement.ends_with(b"()");
        for (text, expected) in [
            ("SET a = 1; SELECT n FROM t; RESET a", Some(vec!["a", "", "a"])),
            (
                "BEGIN; INSERT INTO t VALUES (1); SET a = 1; COMMIT",
                Some(vec!["", "", "a", ""]),
            ),
            ("SET a = 1; SELECT n FROM f()", None),
            (
                "SET seed = 1; SELECT n FROM t; SET a = 1",
                Some(vec!["", "", "a"]),
            ),
            ("BEGIN; INSERT INTO t VALUES (1); COMMIT", None),
            ("INSERT INTO t VALUES (1)", None),
            ("SET a = 1; SELECT E'a'", None),
        ] {
            let set = |plain| match plain {
                Plain::Text {
                    effect: Effect::Setting(Some(name)),
                    ..
                } => String::from_utf8(name.into()).unwrap(),
                _ => String::new(),
            };
            let read: Option<Vec<String>> =
                read(text.as_bytes(), is_bare).map(|all| all.into_iter().map(set).collect());
            assert_eq!(
                read,
                expected.map(|names| names.into_iter().map(String::from).collect()),
                "{text}"
            );
        }
    }

    #[test]
    fn calls_of_set_config_are_read() {
        let value = |text: &str| Argument::Value(text.as_bytes().into());
        let call = |name, value, local| Call { name, value, local };
        for (text, calls) in [
            (
                "select set_config('a.b', 'it''s', false)",
                vec![call(value("a.b"), value("it's"), value("false"))],
            ),
            (
                "SELECT pg_catalog.set_config($1, $2::text, $3) AS a, set_config('c.d', $4, TRUE);",
                vec![
                    call(
                        Argument::Parameter(1),
                        Argument::Parameter(2),
                        Argument::Parameter(3),
                    ),
                    call(value("c.d"), Argument::Parameter(4), value("true")),
                ],
            ),
            (
                "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
                vec![call(value("jit"), value("off"), value("false"))],
            ),
            (
                "SELECT set_config('a.b', $1, false), current_setting($2, true)",
                vec![call(value("a.b"), Argument::Parameter(1), value("false"))],
            ),
        ] {
            assert!(may_be_plain(text.as_bytes(), true) && !may_be_plain(text.as_bytes(), false));
            assert_eq!(
                read(text.as_bytes(), |_| false),
                Some(vec![Plain::SetConfig(calls.into())]),
                "{text}"
            );
        }
    }

    #[test]
    fn what_most_clients_say_first_is_harmless_before_anything_is_learned() {
        for text in [
            "SELECT 1",
            "BEGIN",
            "select pg_catalog.version();",
            "SHOW transaction isolation level",
            "SELECT current_schema()",
            "begin; select 1; commit",
        ] {
            assert!(is_harmless(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            "SELECT * FROM v",
            "SELECT f()",
            "SELECT mine.version()",
            "SELECT \"version\"()",
            "SELECT (SELECT 1)",
            "TABLE t",
            "SELECT 1 INTO t",
            "INSERT INTO t VALUES (1)",
            "SELECT 1; CALL p()",
            "SELECT E'a'",
        ] {
            assert!(!is_harmless(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_texts_never_panic(text in "(set|select set_config|prepare|;|'|\\(|\\$|[a-z.,\"]| ){0,20}") {
            let _ = (read(text.as_bytes(), |_| true), is_harmless(text.as_bytes()), may_be_plain(text.as_bytes(), true));
        }
    }
}
