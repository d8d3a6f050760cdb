//! What `pgswivel check` says about what is configured, and what it does not do while it finds out.

use std::process::Output;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::swivel::Unstarted;
use crate::support::{Authority, Forged, ForgedScram, Port, Postgres, Stop, Swivel};

const LOG_EVERYTHING: &str = "[log]\nlevel = \"trace\"";

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}{}", text(output), complaints(output)))
}

fn exits(output: &Output, code: i32) {
    let (text, complaints) = (text(output), complaints(output));
    assert_eq!(output.status.code(), Some(code), "{text}{complaints}");
}

/// The only line that holds all of these.
fn line<'a>(text: &'a str, parts: &[&str]) -> &'a str {
    let mut lines = text
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)));
    let found = lines
        .next()
        .unwrap_or_else(|| panic!("no line with {parts:?} in\n{text}"));
    assert_eq!(lines.next(), None, "several lines with {parts:?} in\n{text}");
    found
}

fn refused_logins(postgres: &Postgres) -> usize {
    postgres.log().matches("password authentication failed").count()
}

/// A JSON file with what a list of (user, password) pairs, or anything else, says.
fn secret_file(directory: &std::path::Path, name: &str, contents: &Value) -> String {
    let path = directory.join(name);
    std::fs::write(&path, contents.to_string()).unwrap();
    path.display().to_string()
}

promise! {
    async fn a_configuration_that_works_is_told_row_by_row(version) {
        let postgres = Postgres::version(version).start();
        postgres.execute("CREATE ROLE orders_owner; GRANT orders_owner TO orders_v1").await;
        let swivel = Swivel::in_front_of(&postgres)
            .verifying(postgres.authority())
            .role_line("set_role = \"orders_owner\"");
        let output = swivel.check(&[]);
        exits(&output, 0);
        let said = text(&output);
        let address = postgres.address();
        line(&said, &["orders", "file", "current", "orders_v1", "0s"]);
        let server = format!("{version}.");
        line(&said, &["orders", &address, "yes", "TLSv1.3, verified", &server]);
        line(&said, &["orders", &address, "current", "orders_v1", "accepted"]);
        line(&said, &["SET ROLE \"orders_owner\": works"]);
        line(&said, &["app", "a password (SCRAM)", "orders", "orders_owner", "works"]);
        line(&said, &["clients", "127.0.0.1:", "no"]);
        line(&said, &["admin", "127.0.0.1:"]);
        assert_eq!(refused_logins(&postgres), 0);
    }
}

#[test]
fn a_wrong_password_is_tried_once_and_explained() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).credential(Postgres::USER, "not the password");
    let output = swivel.check(&[]);
    exits(&output, 1);
    let said = text(&output);
    line(&said, &["orders", &postgres.address(), "refused", "28P01"]);
    line(
        &said,
        &[
            "password authentication failed for user",
            "ALTER ROLE \"orders_v1\" PASSWORD",
        ],
    );
    line(&said, &["app", "fails"]);
    assert_eq!(refused_logins(&postgres), 1, "{}", postgres.log());
}

#[test]
fn json_holds_the_same_facts_under_stable_names() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).verifying(postgres.authority());
    let output = swivel.check(&["--json"]);
    exits(&output, 0);
    let found = json(&output);
    assert_eq!(found["result"], "fine");
    assert_eq!(found["secrets"][0]["state"], "read");
    assert_eq!(found["secrets"][0]["credentials"][0]["user"], Postgres::USER);
    assert!(
        found["secrets"][0]["credentials"][0]["age_seconds"].is_u64(),
        "{found:#}"
    );
    let endpoint = &found["endpoints"][0];
    assert_eq!(endpoint["endpoint"], postgres.address());
    assert_eq!(endpoint["tls"]["protocol"], "TLSv1.3");
    assert_eq!(endpoint["tls"]["verified"], true);
    assert!(
        endpoint["tls"]["certificate"]
            .as_str()
            .unwrap()
            .starts_with("sha256:")
    );
    assert!(endpoint["server_version"].as_str().unwrap().starts_with("18."));
    assert_eq!(found["logins"][0]["result"], "accepted");
    assert_eq!(found["logins"][0]["sqlstate"], Value::Null);
    assert_eq!(found["roles"][0]["role"], Swivel::USER);
    assert_eq!(found["roles"][0]["auth"], "scram");
    assert_eq!(found["listeners"][0]["purpose"], "clients");

    let refused = Swivel::in_front_of(&postgres).credential(Postgres::USER, "not the password");
    let output = refused.check(&["--json"]);
    exits(&output, 1);
    let found = json(&output);
    assert_eq!(found["result"], "failed");
    assert_eq!(found["logins"][0]["result"], "refused");
    assert_eq!(found["logins"][0]["sqlstate"], "28P01");
    assert_eq!(found["logins"][0]["trouble"]["kind"], "bad_password");
    assert_eq!(found["roles"][0]["trouble"]["kind"], "no_credential_works");
}

#[test]
fn what_does_not_answer_is_told_from_what_refuses() {
    let port = Port::free();
    let output = Swivel::in_front_of_port(port.number()).check(&[]);
    exits(&output, 69);
    let said = text(&output);
    let address = format!("127.0.0.1:{}", port.number());
    line(&said, &["orders", &address, "no"]);
    line(
        &said,
        &[
            "can't reach",
            "check that the server runs, its listen_addresses and port",
        ],
    );
    line(&said, &["app", "unreachable"]);
}

#[test]
fn a_server_that_stops_is_worth_another_check() {
    let mut postgres = Postgres::start(18);
    postgres.stop(Stop::Fast);
    exits(&Swivel::in_front_of(&postgres).check(&[]), 69);
    postgres.start_again();
    exits(&Swivel::in_front_of(&postgres).check(&[]), 0);
}

#[test]
fn a_secret_that_cannot_be_read_is_explained_and_the_endpoint_is_looked_at_all_the_same() {
    let postgres = Postgres::start(18);
    let missing = "id = \"/nonexistent/orders.json\"\nstore = \"file\"";
    let toml = |secret: &str| {
        let address = postgres.address();
        format!(
            "[role.app]\npassword = {{ env = \"APP\" }}\n[upstream.orders]\nhosts = [\"{address}\"]\n\
             [secret.orders]\n{secret}\n"
        )
    };
    let check = |secret: &str| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgswivel.toml");
        std::fs::write(&path, toml(secret)).unwrap();
        let path = path.display().to_string();
        Swivel::output(&["check", "--config", &path], &[("APP", "local"), ("BAD", "")])
    };
    let output = check(missing);
    exits(&output, 1);
    let said = text(&output);
    line(&said, &["orders", "file", "unread"]);
    line(&said, &["no such secret", "secret.orders.id"]);
    line(&said, &["orders", &postgres.address(), "yes", "TLSv1.3"]);
    line(&said, &["app", "fails"]);

    let output = check("store = \"command\"\nid = [\"echo\", \"no shape that is known\"]");
    exits(&output, 1);
    line(&text(&output), &["can't be understood", "secret.orders.fields"]);

    let output = check("store = \"env\"\nuser = \"APP\"\npassword = \"BAD\"");
    exits(&output, 1);
    let said = text(&output);
    line(&said, &["the secret is empty"]);
    line(&said, &["warning: it cannot rotate"]);
    assert_eq!(refused_logins(&postgres), 0);

    let output = check("store = \"command\"\nid = [\"sleep\", \"60\"]\ntimeout = \"200ms\"");
    exits(&output, 69);
    line(
        &text(&output),
        &["did not answer within", "secret.orders.timeout"],
    );
}

#[test]
fn a_dead_credential_beside_one_that_works_is_shown_and_is_no_failure() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres);
    let secret = secret_file(
        swivel.directory(),
        "positions.json",
        &serde_json::json!({
            "host": "elsewhere.internal",
            "current": { "username": Postgres::USER, "password": Postgres::PASSWORD },
            "next": { "username": Postgres::USER, "password": "not yet" },
            "previous": { "username": Postgres::USER, "password": "no more" },
        }),
    );
    let secret = format!(
        "\n[role.second]\npassword = {{ env = \"APP\" }}\nupstream = \"orders\"\nsecret = \"positions\"\n[secret.positions]\nstore = \"file\"\nid = \"{secret}\""
    );
    let swivel = swivel.section(&secret).environment("APP", "local");
    let output = swivel.check(&[]);
    exits(&output, 0);
    let said = text(&output);
    line(&said, &["positions", "current", "accepted"]);
    line(&said, &["positions", "next", "refused", "28P01"]);
    line(&said, &["positions", "previous", "refused", "28P01"]);
    line(
        &said,
        &["warning", "elsewhere.internal", "not configured and not followed"],
    );
    line(&said, &["second", "works"]);
    assert_eq!(refused_logins(&postgres), 2, "{}", postgres.log());
    // The same login stands in two secrets, and one connection answers for both.
    let logins = postgres
        .log()
        .matches("connection authorized: user=orders_v1")
        .count();
    assert_eq!(logins, 1, "{}", postgres.log());
}

#[test]
fn a_credential_that_should_have_been_rotated_is_pointed_at() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres);
    let login = serde_json::json!({ "username": Postgres::USER, "password": Postgres::PASSWORD });
    let old = secret_file(swivel.directory(), "old.json", &login);
    let long_ago = SystemTime::now() - Duration::from_secs(100 * 86_400);
    std::fs::File::options()
        .write(true)
        .open(&old)
        .and_then(|file| file.set_modified(long_ago))
        .unwrap();
    let swivel = swivel.environment("APP", "local").section(&format!(
        "[role.second]\npassword = {{ env = \"APP\" }}\nupstream = \"orders\"\nsecret = \"old\"\n\
         [secret.old]\nstore = \"file\"\nid = \"{old}\"\nmax_age = \"90d\""
    ));
    let output = swivel.check(&[]);
    exits(&output, 0);
    let said = text(&output);
    line(&said, &["old", "file", "current", "100d"]);
    line(&said, &["warning", "100d old", "secret.old.max_age"]);
}

#[test]
fn a_refused_login_is_not_repeated_for_another_upstream_or_secret() {
    let postgres = Postgres::start(18);
    let address = postgres.address();
    let swivel = Swivel::in_front_of(&postgres)
        .credential(Postgres::USER, "not the password")
        .environment("APP", "local")
        .section(&format!(
            "\n[upstream.same]\nhosts = [\"{address}\"]\n\
             [role.second]\npassword = {{ env = \"APP\" }}\nupstream = \"same\"\nsecret = \"orders\"\n"
        ));
    let output = swivel.check(&[]);
    exits(&output, 1);
    let said = text(&output);
    line(
        &said,
        &[" orders ", &address, "  orders  ", "orders_v1  orders", "refused"],
    );
    line(
        &said,
        &[" same ", &address, "  orders  ", "orders_v1  postgres", "refused"],
    );
    line(&said, &["password authentication failed", "(not sent again)"]);
    assert_eq!(refused_logins(&postgres), 1, "{}", postgres.log());
}

#[test]
fn a_list_of_dead_passwords_does_not_lock_the_account() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres);
    let dead: Vec<_> = (0..30)
        .map(|n| serde_json::json!({ "username": Postgres::USER, "password": format!("dead {n}") }))
        .collect();
    let list = secret_file(swivel.directory(), "list.json", &Value::from(dead));
    let swivel = swivel.environment("APP", "local").section(&format!(
        "\n[role.second]\npassword = {{ env = \"APP\" }}\nupstream = \"orders\"\nsecret = \"list\"\n\
         [secret.list]\nstore = \"file\"\nid = \"{list}\"\n[limits]\nrefused_logins_per_minute = 3"
    ));
    let output = swivel.check(&["--json"]);
    exits(&output, 1);
    assert_eq!(refused_logins(&postgres), 3, "{}", postgres.log());
    let found = json(&output);
    let results: Vec<&Value> = found["logins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|login| &login["result"])
        .collect();
    assert_eq!(results.iter().filter(|result| **result == "refused").count(), 3);
    assert!(results.iter().filter(|result| **result == "not_tried").count() > 3);
}

#[tokio::test]
async fn what_comes_after_the_password_is_checked_too() {
    let postgres = Postgres::start(18);
    let nowhere = Swivel::in_front_of(&postgres)
        .database(Some("nowhere"))
        .check(&[]);
    exits(&nowhere, 1);
    let said = text(&nowhere);
    line(&said, &["nowhere", "unusable", "3D000"]);
    line(
        &said,
        &["database \"nowhere\" does not exist", "upstream.orders.database"],
    );

    postgres.execute("CREATE ROLE orders_owner").await;
    for (role, sqlstate, advice) in [
        ("orders_owner", "42501", "GRANT \"orders_owner\" TO \"orders_v1\""),
        ("nobody", "22023", "CREATE ROLE \"nobody\""),
    ] {
        let swivel = Swivel::in_front_of(&postgres).role_line(&format!("set_role = \"{role}\""));
        let output = swivel.check(&[]);
        exits(&output, 1);
        let said = text(&output);
        line(&said, &["SET ROLE", role, sqlstate, advice]);
        line(&said, &["no credential that works", "can set its role"]);
    }

    postgres.execute("ALTER ROLE orders_v1 CONNECTION LIMIT 0").await;
    let full = Swivel::in_front_of(&postgres).check(&[]);
    exits(&full, 1);
    line(&text(&full), &["too many connections", "CONNECTION LIMIT"]);

    postgres
        .execute("ALTER ROLE orders_v1 CONNECTION LIMIT -1; ALTER ROLE orders_v1 NOLOGIN")
        .await;
    let barred = Swivel::in_front_of(&postgres).check(&[]);
    exits(&barred, 1);
    let said = text(&barred);
    line(&said, &["refused", "28000"]);
    line(
        &said,
        &[
            "not permitted to log in",
            "pg_hba.conf",
            "ALTER ROLE \"orders_v1\" LOGIN",
        ],
    );
}

#[tokio::test]
async fn clients_may_name_a_database_that_proofs_may_not_enter() {
    let postgres = Postgres::start(18);
    postgres
        .execute("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        .await;
    let output = Swivel::in_front_of(&postgres).database(None).check(&[]);
    exits(&output, 0);
    line(&text(&output), &["app", "the client's", "works"]);
}

#[test]
fn tls_that_cannot_be_had_or_believed_says_what_would_help() {
    let postgres = Postgres::start(18);
    let stranger = Authority::new();
    let ca = stranger.file();
    let tls = format!("{{ mode = \"verify-full\", ca = \"{}\" }}", ca.display());
    let swivel = Swivel::in_front_of(&postgres).upstream_tls(&tls);
    let output = swivel.check(&["--json"]);
    exits(&output, 1);
    let found = json(&output);
    let trouble = &found["endpoints"][0]["trouble"];
    assert_eq!(trouble["kind"], "certificate");
    assert_eq!(found["endpoints"][0]["reachable"], true);
    let advice = trouble["advice"].as_str().unwrap();
    // It was just found untrusted: that it is shown proves nothing.
    assert!(
        advice.contains("only once you have compared its fingerprint"),
        "{advice}"
    );
    let pin = advice
        .split_once("upstream.orders.tls.pin = ")
        .expect("it names a pin")
        .1;

    // What it advises is taken as it is.
    let tls = format!("{{ mode = \"verify-full\", pin = {pin} }}");
    exits(&Swivel::in_front_of(&postgres).upstream_tls(&tls).check(&[]), 0);

    let plain = Postgres::version(18).setting("ssl", "off").start();
    let output = Swivel::in_front_of(&plain)
        .upstream_tls("{ mode = \"require\" }")
        .check(&[]);
    exits(&output, 1);
    line(
        &text(&output),
        &["does not offer TLS", "turn ssl on in the server"],
    );
}

/// What is wrong is said once, in words of this trade, and what to do about it behind the arrow.
#[tokio::test(flavor = "multi_thread")]
async fn what_newcomers_get_wrong_is_explained() {
    let check = |swivel: Unstarted| {
        let output = tokio::task::block_in_place(|| swivel.check(&[]));
        assert_ne!(output.status.code(), Some(0));
        text(&output)
    };
    let postgres = Postgres::version(18)
        .hba("hostssl all orders_v1 127.0.0.1/32 scram-sha-256")
        .start();
    let said = check(Swivel::in_front_of(&postgres));
    line(
        &said,
        &["no encryption -> if the server wants TLS, set upstream.orders.tls.mode = \"require\""],
    );

    let ca = postgres.authority().file();
    let tls = format!(
        "{{ mode = \"verify-full\", ca = \"{}\", server_name = \"db.internal\" }}",
        ca.display()
    );
    let said = check(Swivel::in_front_of(&postgres).upstream_tls(&tls));
    line(
        &said,
        &[
            "it is for localhost",
            "not for db.internal -> name one of its names in",
        ],
    );

    let swivel = Swivel::in_front_of(&postgres);
    let broken = swivel.directory().join("broken.json");
    std::fs::write(&broken, "{\n  \"username\": \"a\",\n  \"password\": \"b\",\n}\n").unwrap();
    let said = check(swivel.store("file", broken.to_str().unwrap()));
    line(
        &said,
        &["its JSON is broken at line 4, column 1 -> correct it there"],
    );

    let silent = Forged::start(async |mut wire| {
        wire.rest().await;
        wire
    })
    .await;
    let swivel = Swivel::in_front_of_port(silent.port()).upstream_line("connect_timeout = \"300ms\"");
    line(
        &check(swivel),
        &["within connect_timeout -> check that Postgres is what answers there"],
    );
}

#[test]
fn a_password_in_clear_text_is_not_given() {
    let postgres = Postgres::version(18).hba("host all all all password").start();
    let output = Swivel::in_front_of(&postgres).check(&[]);
    exits(&output, 1);
    let said = text(&output);
    line(&said, &["orders", "orders_v1", "failed"]);
    line(&said, &["clear text", "tls.mode = \"verify-full\""]);
    assert!(!postgres.log().contains("connection authorized: user=orders_v1"));
}

#[test]
fn files_that_cannot_be_used_are_all_named_and_nothing_is_tried() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres);
    let garbage = secret_file(swivel.directory(), "garbage.pem", &Value::from("no certificate"));
    let swivel = swivel
        .upstream_tls(&format!("{{ mode = \"verify-full\", ca = \"{garbage}\" }}"))
        .listen_line(&format!(
            "tls = {{ certificate = \"{garbage}\", key = \"{garbage}\" }}"
        ));
    let output = swivel.check(&[]);
    exits(&output, 64);
    let said = complaints(&output);
    line(&said, &["listen.tls", &garbage, "certificates"]);
    line(&said, &["upstream.orders.tls", &garbage, "root"]);
    assert!(text(&output).is_empty());
    assert!(!postgres.log().contains("connection received: host=127.0.0.1"));

    let output = Swivel::output(&["check", "--secret", "file:/nonexistent"], &[]);
    exits(&output, 64);
    line(&complaints(&output), &["PGSWIVEL_UPSTREAM"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_printed_at_any_level() {
    const CANARY: &str = "canary-5f1b";
    // It repeats to everybody what it was told, as no Postgres would.
    let parrot = Forged::start(async |mut wire| {
        wire.packet().await;
        let scram = ForgedScram::honest(CANARY.as_bytes());
        if scram.play(&mut wire).await {
            let said = format!("SFATAL\0VFATAL\0CXX000\0Mgot {CANARY} and keep it\0\0");
            wire.say(b'E', said.as_bytes()).await;
        }
        wire
    })
    .await;
    let postgres = Postgres::start(18);
    for (port, code) in [(parrot.port(), 1), (postgres.port(), 1)] {
        for arguments in [&[][..], &["--json"]] {
            let swivel = Swivel::in_front_of_port(port)
                .credential(Postgres::USER, CANARY)
                .section(LOG_EVERYTHING);
            let output = tokio::task::block_in_place(|| swivel.check(arguments));
            exits(&output, code);
            for said in [text(&output), complaints(&output)] {
                for secret in [CANARY, Swivel::PASSWORD] {
                    assert!(!said.contains(secret), "{secret} is in\n{said}");
                }
            }
        }
    }
}

#[cfg(feature = "aws")]
#[tokio::test(flavor = "multi_thread")]
async fn who_has_old_keys_or_a_wrong_clock_is_not_told_to_change_policies() {
    use crate::support::http::{HttpServer, Reply};

    for (code, message, advice) in [
        (
            "ExpiredTokenException",
            "The security token is expired",
            "who renews these keys",
        ),
        (
            "InvalidSignatureException",
            "Signature expired: 1 is now earlier than 2",
            "NTP",
        ),
    ] {
        let service = HttpServer::start(move |_| async move {
            let body = serde_json::json!({ "__type": code, "message": message });
            Reply::json(400, &body).with_header("x-amzn-errortype", code)
        })
        .await;
        let unstarted = Swivel::in_front_of_port(Port::free().number())
            .store("aws-secretsmanager", "prod/orders")
            .secret_line(&format!("endpoint = \"{}\"", service.url()))
            .environment("AWS_REGION", "eu-west-1")
            .environment("AWS_ACCESS_KEY_ID", "AKID")
            .environment("AWS_SECRET_ACCESS_KEY", "SECRET");
        let output = tokio::task::block_in_place(|| unstarted.check(&[]));
        exits(&output, 1);
        let said = text(&output);
        assert!(said.contains(advice), "{said}");
        assert!(!said.contains("secretsmanager:GetSecretValue"), "{said}");
    }
}

/// There is no file in which `upstream.default.tls.ca` could be written.
#[test]
fn whoever_used_flags_is_told_of_flags() {
    let (port, listen, admin) = (Port::free(), Port::free(), Port::free());
    let directory = tempfile::tempdir().unwrap();
    let login = serde_json::json!({ "username": "a", "password": "b" });
    let secret = secret_file(directory.path(), "secret.json", &login);
    let url = format!("postgres://127.0.0.1:{}/orders", port.number());
    let (listen, admin) = (
        format!("127.0.0.1:{}", listen.number()),
        format!("127.0.0.1:{}", admin.number()),
    );
    let secret = format!("file:{secret}");
    let flags = [
        "check", "--listen", &listen, "--admin", &admin, "--secret", &secret,
    ];
    for (place, arguments, environment) in [
        ("--upstream", [&flags[..], &["--upstream", &url]].concat(), None),
        (
            "PGSWIVEL_UPSTREAM",
            flags.to_vec(),
            Some(("PGSWIVEL_UPSTREAM", &*url)),
        ),
    ] {
        let environment: Vec<_> = [("PGSWIVEL_PASSWORD", "local")]
            .into_iter()
            .chain(environment)
            .collect();
        let output = Swivel::output(&arguments, &environment);
        exits(&output, 69);
        let said = text(&output);
        assert!(said.contains(&format!("the host in {place}")), "{said}");
        assert!(!said.contains("upstream.default"), "{said}");
    }
    // Without a file, nobody else brings the password.
    let output = Swivel::output(&[&flags[..], &["--upstream", &url]].concat(), &[]);
    exits(&output, 64);
    assert!(
        complaints(&output).contains("no password"),
        "{}",
        complaints(&output)
    );
}

#[tokio::test]
async fn an_address_that_is_taken_is_found_out_and_one_that_a_pgswivel_has_is_not_taken() {
    let postgres = Postgres::start(18);
    for (which, other) in [("clients", "admin"), ("admin", "clients")] {
        let swivel = Swivel::in_front_of(&postgres);
        exits(&swivel.check(&[]), 0);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let variable = if which == "clients" {
            "PGSWIVEL_LISTEN"
        } else {
            "PGSWIVEL_ADMIN"
        };
        let output = swivel
            .environment(variable, &address.to_string())
            .check(&["--json"]);
        exits(&output, 1);
        let found = json(&output);
        for listener in found["listeners"].as_array().unwrap() {
            let expected = match listener["purpose"] == which {
                true => Value::from("address_taken"),
                false => Value::Null,
            };
            assert_eq!(
                listener["trouble"]["kind"], expected,
                "{which} and not {other}: {found}"
            );
        }
    }
    // The first thing to do when something is wrong with one that runs.
    let running = Swivel::in_front_of(&postgres).start().await;
    let file = running.config_file();
    let output = Swivel::output(&["check", "--config", file.to_str().unwrap()], &[]);
    exits(&output, 0);
    let said = text(&output);
    assert_eq!(
        said.matches("a pgswivel that runs here has it").count(),
        2,
        "{said}"
    );
}

/// As root, beside a service whose unit alone has the local password and the socket.
#[test]
fn what_only_the_unit_has_is_said_to_be_unseen() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres);
    exits(&swivel.check(&[]), 0);
    let file = swivel.directory().join("pgswivel.toml");
    let written = std::fs::read_to_string(&file).unwrap();
    let without: Vec<&str> = (written.lines())
        .filter(|line| !line.starts_with("password = "))
        .collect();
    let without = without.join("\n");
    let address = without
        .lines()
        .find(|line| line.starts_with("address = ["))
        .unwrap()
        .to_owned();
    std::fs::write(&file, without.replace(&address, "address = \"systemd\"")).unwrap();
    let check = ["check", "--config", file.to_str().unwrap()];
    let output = Swivel::output(&check, &[]);
    exits(&output, 0);
    let said = text(&output);
    line(
        &said,
        &[
            "its local password can't be seen from here",
            "PGSWIVEL_PASSWORD_FILE",
        ],
    );
    line(&said, &["systemd binds it, so it was not tried"]);
    // Who starts with it does need one.
    let (status, said) = Swivel::command(&["run", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(status.code(), Some(64), "{said}");
    assert!(said.contains("role.app.password: no password"), "{said}");
}
