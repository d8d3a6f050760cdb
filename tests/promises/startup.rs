//! How a client begins: every way that Postgres takes, and every one that it refuses.

use std::time::Duration;

use crate::support::wire::{GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST, packet, startup};
use crate::support::{Message, Postgres, ServerError, Swivel, Wire, within};

const PARAMETERS: [(&str, &str); 2] = [("user", Swivel::USER), ("database", Postgres::DATABASE)];

/// Far less than any limit on how long a startup may take: what is refused is refused at once.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Logs in on a connection that is ready for a StartupMessage and runs one query.
async fn is_served(mut wire: Wire) {
    wire.startup(PROTOCOL_3_0, &PARAMETERS).await;
    wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
    wire.until(b'Z').await;
    assert_eq!(shown(&mut wire, "SELECT 'served'").await, "served");
}

/// The first column of the first row of what `sql` answers.
async fn shown(wire: &mut Wire, sql: &str) -> String {
    wire.query(sql).await;
    let answer = wire.until(b'Z').await;
    let row = answer.iter().find(|message| message.tag == b'D');
    row.unwrap_or_else(|| panic!("no row: {answer:?}"))
        .first_column()
        .unwrap()
}

/// The error that a StartupMessage gets, and the end of the connection.
async fn refusal(address: &str, packet: &[u8]) -> ServerError {
    let mut wire = Wire::connect(address).await;
    wire.send(packet).await;
    within(AT_ONCE, "the refusal", wire.refusal()).await
}

#[tokio::test]
async fn without_tls_of_its_own_it_says_no_to_encryption_in_any_order_and_serves() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let orders: [&[[u8; 8]]; 5] = [
        &[],
        &[SSL_REQUEST],
        &[GSSENC_REQUEST],
        &[SSL_REQUEST, GSSENC_REQUEST],
        &[GSSENC_REQUEST, SSL_REQUEST],
    ];
    for requests in orders {
        let mut wire = Wire::connect(&swivel.address()).await;
        for request in requests {
            assert_eq!(wire.ask(request).await, b'N');
        }
        is_served(wire).await;
    }
}

#[tokio::test]
async fn with_tls_of_its_own_it_serves_plain_clients_and_tls_clients_however_they_begin() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).with_tls().start().await;
    is_served(Wire::connect(&swivel.address()).await).await;

    let mut wire = Wire::connect(&swivel.address()).await;
    assert_eq!(wire.ask(&GSSENC_REQUEST).await, b'N');
    assert_eq!(wire.ask(&SSL_REQUEST).await, b'S');
    let config = swivel.authority().trusting_client(&[]);
    is_served(wire.start_tls(config).await.unwrap()).await;

    let config = swivel.authority().trusting_client(&["postgresql"]);
    let wire = Wire::connect(&swivel.address()).await.start_tls(config).await;
    is_served(wire.unwrap()).await;
}

#[tokio::test]
async fn direct_tls_without_alpn_is_refused_since_it_may_be_another_protocol() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).with_tls().start().await;
    for alpn in [&[][..], &["http/1.1"]] {
        let config = swivel.authority().trusting_client(alpn);
        if let Ok(mut wire) = Wire::connect(&swivel.address()).await.start_tls(config).await {
            wire.startup(PROTOCOL_3_0, &PARAMETERS).await;
            let answer = within(AT_ONCE, "the end", wire.rest()).await;
            assert!(answer.iter().all(|message| message.tag == b'E'), "{answer:?}");
        }
    }
    is_served(Wire::connect(&swivel.address()).await).await;
}

#[tokio::test]
async fn a_request_for_encryption_inside_tls_is_refused() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).with_tls().start().await;
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = Wire::connect(&swivel.address()).await;
        assert_eq!(wire.ask(&SSL_REQUEST).await, b'S');
        let config = swivel.authority().trusting_client(&[]);
        let mut wire = wire.start_tls(config).await.unwrap();
        wire.send(&request).await;
        wire.startup(PROTOCOL_3_0, &PARAMETERS).await;
        let answer = within(AT_ONCE, "the end", wire.rest()).await;
        assert!(answer.iter().all(|message| message.tag == b'E'), "{answer:?}");
    }
}

#[tokio::test]
async fn the_same_request_twice_is_refused() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = Wire::connect(&swivel.address()).await;
        assert_eq!(wire.ask(&request).await, b'N');
        wire.send(&request).await;
        let error = within(AT_ONCE, "the refusal", wire.refusal()).await;
        assert_eq!(error.severity, "FATAL");
    }
}

#[tokio::test]
async fn bytes_before_tls_are_never_part_of_the_session() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).with_tls().start().await;
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.send(&[&request[..], &startup(PROTOCOL_3_0, &PARAMETERS)].concat())
            .await;
        let answer = within(AT_ONCE, "the end", wire.raw(100_000)).await;
        let rest = match answer.first() {
            Some(b'S' | b'N') => &answer[1..],
            _ => &answer[..],
        };
        // An error in the clear, or TLS's own alert about a handshake that is none.
        assert!(matches!(rest.first(), None | Some(b'E' | 21)), "{rest:?}");
    }
}

#[tokio::test]
async fn a_startup_packet_is_as_large_as_postgres_takes_and_no_larger() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let filled = |length: usize| {
        let bare = startup(
            PROTOCOL_3_0,
            &[PARAMETERS[0], PARAMETERS[1], ("application_name", "")],
        );
        let name = "n".repeat(length - bare.len());
        startup(
            PROTOCOL_3_0,
            &[PARAMETERS[0], PARAMETERS[1], ("application_name", &name)],
        )
    };
    // 10,000 bytes without the four of the length.
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.send(&filled(10_004)).await;
    wire.expect(b'R').await;

    let mut wire = Wire::connect(&swivel.address()).await;
    wire.send(&filled(10_005)).await;
    let answer = within(AT_ONCE, "the end", wire.rest()).await;
    assert!(answer.iter().all(|message| message.tag == b'E'), "{answer:?}");
}

#[tokio::test]
async fn a_length_that_cannot_be_ends_the_connection_at_once() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    for length in [0, 1, 3, 4, 7, -1, i32::MIN, i32::MAX, 10_005] {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.send(&length.to_be_bytes()).await;
        wire.send(&PROTOCOL_3_0.to_be_bytes()).await;
        let answer = within(AT_ONCE, "the end", wire.rest()).await;
        assert_eq!(answer, [], "Postgres does not answer {length}");
    }
    // As drivers that have changed their mind say it.
    let mut wire = Wire::connect(&swivel.address()).await;
    wire.say(b'X', b"").await;
    assert!(within(AT_ONCE, "the end", wire.ends()).await);
    is_served(Wire::connect(&swivel.address()).await).await;
}

#[tokio::test]
async fn a_client_of_tomorrow_is_told_the_newest_version_and_what_is_not_known() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let cases = [
        (PROTOCOL_3_0 + 9, &[][..], Some(PROTOCOL_3_2)),
        (PROTOCOL_3_0 + 9, &["_pq_.one", "_pq_.two"], Some(PROTOCOL_3_2)),
        (PROTOCOL_3_2, &["_pq_.one"], Some(PROTOCOL_3_2)),
        (PROTOCOL_3_0, &["_pq_.one"], Some(PROTOCOL_3_0)),
        (PROTOCOL_3_2, &[], None),
        (PROTOCOL_3_0, &[], None),
    ];
    for (version, unknown, negotiated) in cases {
        let mut parameters = PARAMETERS.to_vec();
        parameters.extend(unknown.iter().map(|name| (*name, "on")));
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(version, &parameters).await;
        if let Some(negotiated) = negotiated {
            let body = wire.expect(b'v').await.body;
            let names: String = unknown.iter().map(|name| format!("{name}\0")).collect();
            let count = u32::try_from(unknown.len()).unwrap();
            let expected = [
                &negotiated.to_be_bytes()[..],
                &count.to_be_bytes(),
                names.as_bytes(),
            ]
            .concat();
            assert_eq!(body, expected, "{version} {unknown:?}");
        }
        wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
        wire.until(b'Z').await;
        assert_eq!(shown(&mut wire, "SELECT 'served'").await, "served");
    }
}

#[tokio::test]
async fn a_startup_that_postgres_refuses_is_refused_in_the_same_way() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let refused = [
        ("protocol 4.0", startup(4 << 16, &PARAMETERS)),
        ("no user", startup(PROTOCOL_3_0, &[("database", "orders")])),
        (
            "an empty user",
            startup(PROTOCOL_3_0, &[("user", ""), ("database", "orders")]),
        ),
        (
            "no terminator",
            packet(&[&PROTOCOL_3_0.to_be_bytes()[..], b"user\0app\0"].concat()),
        ),
    ];
    for (what, bytes) in refused {
        let through = refusal(&swivel.address(), &bytes).await;
        let direct = refusal(&postgres.address(), &bytes).await;
        assert_eq!(
            (through.severity, through.code, through.message),
            (direct.severity, direct.code, direct.message),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_client_of_protocol_2_is_told_why_it_is_refused() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    for address in [postgres.address(), swivel.address()] {
        let mut wire = Wire::connect(&address).await;
        wire.send(&startup(2 << 16, &PARAMETERS)).await;
        // Postgres answers in the format of protocol 2, which has no length.
        let answer = within(AT_ONCE, "the end", wire.raw(10_000)).await;
        assert_eq!(answer.first(), Some(&b'E'));
        let said = String::from_utf8_lossy(&answer).into_owned();
        assert!(said.contains("unsupported frontend protocol 2.0"), "{said}");
    }
}

/// What a login looks like from outside: every message of it, with what differs each time left out.
async fn login_shape(swivel: &Swivel, user: &str, password: &str) -> (Vec<(u8, usize)>, ServerError) {
    let mut wire = Wire::connect(&swivel.address()).await.remembering();
    wire.startup(PROTOCOL_3_0, &[("user", user), PARAMETERS[1]]).await;
    let error = wire.authenticate(password.as_bytes()).await.unwrap_err();
    assert!(wire.ends().await);
    let mut replay = Wire::over(std::io::Cursor::new(wire.heard().to_vec()));
    let shape = |message: Message| (message.tag, message.body.len());
    let shapes = replay.rest().await.into_iter().map(shape).collect();
    (shapes, error)
}

#[tokio::test]
async fn an_unknown_role_and_a_wrong_password_cannot_be_told_apart() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let (known, wrong) = login_shape(&swivel, Swivel::USER, "wrong").await;
    let (unknown, nobody) = login_shape(&swivel, "ppa", Swivel::PASSWORD).await;
    assert_eq!(known, unknown);
    assert_eq!((wrong.severity.as_str(), wrong.code.as_str()), ("FATAL", "28P01"));
    assert_eq!(
        wrong.message.replace(Swivel::USER, "ROLE"),
        nobody.message.replace("ppa", "ROLE")
    );
    assert_eq!(wrong.fields.len(), nobody.fields.len());
    assert!(!format!("{wrong:?}").contains(Postgres::USER));
}

#[tokio::test]
async fn a_role_that_is_not_known_is_offered_the_same_salt_each_time() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let mut salts = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &[("user", "nobody"), PARAMETERS[1]])
            .await;
        wire.expect(b'R').await;
        let initial = b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=rOprNGfwEbeRWgbNEkqO1234";
        wire.say(b'p', initial).await;
        let challenge = String::from_utf8(wire.expect(b'R').await.body.to_vec()).unwrap();
        salts.push(challenge.split(',').nth(1).unwrap().to_owned());
    }
    assert!(salts[0].starts_with("s="));
    assert_eq!(salts[0], salts[1]);
}

#[tokio::test]
async fn the_database_is_the_upstreams_if_it_names_one_and_else_the_clients() {
    let postgres = Postgres::start(18);
    postgres
        .admin()
        .await
        .batch_execute("CREATE DATABASE other")
        .await
        .unwrap();
    postgres
        .admin()
        .await
        .batch_execute("CREATE DATABASE app")
        .await
        .unwrap();
    let current = "SELECT current_database()";
    for (configured, asked, expected) in [
        (Some("orders"), None, "orders"),
        (Some("orders"), Some("orders"), "orders"),
        (None, Some("other"), "other"),
        (None, None, "app"),
    ] {
        let swivel = Swivel::in_front_of(&postgres).database(configured).start().await;
        let mut wire = Wire::connect(&swivel.address()).await;
        let mut parameters = vec![PARAMETERS[0]];
        parameters.extend(asked.map(|database| ("database", database)));
        wire.startup(PROTOCOL_3_0, &parameters).await;
        wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
        wire.until(b'Z').await;
        assert_eq!(
            shown(&mut wire, current).await,
            expected,
            "{configured:?} {asked:?}"
        );
    }
}

promise! {
    /// What it does there was meant for elsewhere: a tool that makes databases drops one in the wrong place.
    async fn who_asks_for_another_database_than_the_upstreams_is_refused(version) {
        let postgres = Postgres::start(version);
        let asking = async |swivel: &Swivel, parameters: &[(&str, &str)], password: &str| {
            let mut wire = Wire::connect(&swivel.address()).await;
            wire.startup(PROTOCOL_3_0, parameters).await;
            wire.authenticate(password.as_bytes()).await.map(|()| wire)
        };
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let user = ("user", Swivel::USER);
        for other in ["postgres", "template1", "Orders", "nowhere"] {
            let parameters = [user, ("database", other)];
            let error = match asking(&swivel, &parameters, Swivel::PASSWORD).await {
                Ok(mut wire) => within(AT_ONCE, "the refusal", wire.refusal()).await,
                Err(error) => error,
            };
            assert_eq!(error.code, "3D000", "{other}: {error:?}");
        }
        // Strangers are not told what there is.
        let error = asking(&swivel, &[user, ("database", "postgres")], "wrong").await.err().unwrap();
        assert_eq!(error.code, "28P01", "{error:?}");
        // Drivers fill in the user's name.
        for same in ["", Swivel::USER, Postgres::DATABASE] {
            let mut wire = asking(&swivel, &[user, ("database", same)], Swivel::PASSWORD).await.unwrap();
            wire.until(b'Z').await;
            assert_eq!(shown(&mut wire, "SELECT current_database()").await, Postgres::DATABASE, "{same:?}");
        }
        let lenient = Swivel::in_front_of(&postgres).upstream_line("other_database = \"ignore\"").start().await;
        let mut wire = asking(&lenient, &[user, ("database", "postgres")], Swivel::PASSWORD).await.unwrap();
        wire.until(b'Z').await;
        assert_eq!(shown(&mut wire, "SELECT current_database()").await, Postgres::DATABASE);
    }
}

promise! {
    async fn startup_parameters_reach_postgres_as_the_client_sent_them(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = Wire::connect(&swivel.address()).await;
        let parameters = [
            PARAMETERS[0],
            PARAMETERS[1],
            ("options", "-c work_mem=7MB -c app.tenant=a\\ b --geqo=off"),
            ("application_name", "promise"),
            ("DateStyle", "SQL, DMY"),
            ("search_path", "pg_catalog"),
        ];
        wire.startup(PROTOCOL_3_0, &parameters).await;
        wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
        let greeting = wire.until(b'Z').await;
        let statuses: Vec<_> = greeting
            .iter()
            .filter(|message| message.tag == b'S')
            .map(Message::parameter)
            .collect();
        for (name, value) in [("application_name", "promise"), ("DateStyle", "SQL, DMY")] {
            assert!(statuses.contains(&(name.to_owned(), value.to_owned())), "{statuses:?}");
        }
        for reset in ["SELECT 1", "SET work_mem = '1MB'; SET app.tenant = 'c'; RESET ALL", "DISCARD ALL"] {
            wire.query(reset).await;
            wire.until(b'Z').await;
            assert_eq!(shown(&mut wire, "SHOW work_mem").await, "7MB");
            assert_eq!(shown(&mut wire, "SHOW app.tenant").await, "a b");
            assert_eq!(shown(&mut wire, "SHOW search_path").await, "pg_catalog");
            assert_eq!(shown(&mut wire, "SHOW geqo").await, "off");
        }
        let source = "SELECT source FROM pg_settings WHERE name = 'work_mem'";
        assert_eq!(shown(&mut wire, source).await, "client");
    }
}

promise! {
    async fn a_session_begins_with_what_a_direct_one_begins_with(version) {
        let postgres = Postgres::start(version);
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut greetings = Vec::new();
        for (address, user, password) in [
            (postgres.address(), Postgres::USER, Postgres::PASSWORD),
            (swivel.address(), Swivel::USER, Swivel::PASSWORD),
        ] {
            let mut wire = Wire::connect(&address).await;
            wire.startup(PROTOCOL_3_0, &[("user", user), PARAMETERS[1]]).await;
            wire.authenticate(password.as_bytes()).await.unwrap();
            let mut greeting = wire.until(b'Z').await;
            let keys = greeting.iter().filter(|message| message.tag == b'K').count();
            assert_eq!(keys, 1);
            greeting.retain(|message| message.tag != b'K');
            greetings.push(greeting);
        }
        assert_eq!(greetings[0], greetings[1]);
    }
}

promise! {
    async fn a_replication_session_is_one_for_postgres_too(version) {
        let postgres = Postgres::start(version);
        postgres.execute(&format!("ALTER ROLE {} REPLICATION", Postgres::USER)).await;
        let swivel = Swivel::in_front_of(&postgres).start().await;
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &[PARAMETERS[0], PARAMETERS[1], ("replication", "database")]).await;
        wire.authenticate(Swivel::PASSWORD.as_bytes()).await.unwrap();
        wire.until(b'Z').await;
        let system = shown(&mut wire, "IDENTIFY_SYSTEM").await;
        let sql = "SELECT system_identifier::text FROM pg_control_system()";
        let row = postgres.admin().await.query_one(sql, &[]).await.unwrap();
        assert_eq!(system, row.get::<_, &str>(0));
    }
}
