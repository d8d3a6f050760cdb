//! `pgswivel status` and `pgswivel health`.

use std::process::Output;

use serde_json::Value;

use crate::support::http::{HttpServer, Reply};
use crate::support::{Port, Postgres, Process, Swivel, eventually};

fn asked(swivel: &Swivel, arguments: &[&str]) -> Output {
    let address = format!("127.0.0.1:{}", swivel.admin_port());
    let arguments = [arguments, &["--admin", &address]].concat();
    Swivel::output(&arguments, &[])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn health_is_silent_when_all_is_well_and_says_in_one_line_when_not() {
    let mut postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    postgres.vanish();
    let swivel = unstarted.start().await;
    let unwell = asked(&swivel, &["health"]);
    assert_eq!(unwell.status.code(), Some(1));
    let why = text(&unwell.stderr);
    assert!(
        why.starts_with("not ready: secret.orders: ") && why.lines().count() == 1,
        "{why}"
    );
    assert!(unwell.stdout.is_empty());
    postgres.start_again();
    eventually("it is well", async || {
        asked(&swivel, &["health"]).status.success()
    })
    .await;
    let well = asked(&swivel, &["health"]);
    assert_eq!(
        (text(&well.stdout), text(&well.stderr)),
        (String::new(), String::new())
    );
}

#[tokio::test]
async fn nobody_there_is_not_healthy_and_can_not_be_asked() {
    let address = format!("127.0.0.1:{}", Port::free().number());
    let health = Swivel::output(&["health"], &[("PGSWIVEL_ADMIN", &address)]);
    assert_eq!(health.status.code(), Some(1));
    assert_eq!(text(&health.stderr).lines().count(), 1);
    let status = Swivel::output(&["status"], &[("PGSWIVEL_ADMIN", &address)]);
    assert_eq!(status.status.code(), Some(69));
    let wrong = Swivel::output(&["status", "--admin", "nowhere"], &[]);
    assert_eq!(wrong.status.code(), Some(64));
}

#[tokio::test]
async fn a_file_that_is_broken_changed_or_gone_makes_nobody_unhealthy() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let file = swivel.directory().join("pgswivel.toml");
    let asked = |question: &[&str]| {
        let arguments = [question, &["--config", file.to_str().unwrap()]].concat();
        Swivel::output(&arguments, &[]).status.code()
    };
    eventually("it is ready", async || asked(&["health"]) == Some(0)).await;
    let sound = std::fs::read_to_string(&file).unwrap();
    let (bound, other) = (swivel.admin_port().to_string(), Port::free().number().to_string());
    let moved = sound.replace(&format!("127.0.0.1:{bound}"), &format!("127.0.0.1:{other}"));
    for text in ["[listen", "\u{0}", &moved, "[admin]\naddress = 7"] {
        std::fs::write(&file, text).unwrap();
        for question in [&["health"][..], &["health", "--live"], &["status"]] {
            assert_eq!(asked(question), Some(0), "{question:?} with {text:?}");
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert_eq!(asked(&["health"]), Some(0), "the file is gone");
    swivel.signal(nix::sys::signal::Signal::SIGTERM);
    assert!(swivel.wait().success());
    assert_eq!(asked(&["health"]), Some(1), "nobody is there");
    std::fs::write(&file, sound).unwrap();
    assert_eq!(asked(&["health"]), Some(1), "nobody is there");
}

#[tokio::test]
async fn what_is_not_ready_may_be_alive() {
    let mut postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    postgres.vanish();
    let swivel = unstarted.start().await;
    assert_eq!(asked(&swivel, &["health"]).status.code(), Some(1));
    let alive = asked(&swivel, &["health", "--live"]);
    assert_eq!(
        (alive.status.code(), text(&alive.stderr)),
        (Some(0), String::new())
    );
}

/// What has started has started for good, however it is with readiness; but what does not answer has not.
#[tokio::test]
async fn health_tells_whether_it_has_started() {
    let mut postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres);
    let late = unstarted.directory().join("late.json");
    postgres.vanish();
    let swivel = unstarted
        .section(&format!(
            "[secret.late]\nstore = \"file\"\nid = \"{}\"\n\
             [role.late]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"late\"",
            late.display()
        ))
        .start()
        .await;
    let started = || asked(&swivel, &["health", "--started"]);
    eventually("only the late one was not read", async || {
        let not_yet = started();
        assert_eq!(not_yet.status.code(), Some(1), "{not_yet:?}");
        text(&not_yet.stderr) == "not started: secret.late: nothing could be read yet\n"
    })
    .await;
    std::fs::write(&late, "{\"username\":\"app\",\"password\":\"word\"}").unwrap();
    eventually("it has started", async || started().status.success()).await;
    assert_eq!(text(&started().stderr), "");
    assert_eq!(
        asked(&swivel, &["health"]).status.code(),
        Some(1),
        "nothing works"
    );
    swivel
        .add(
            "[secret.never]\nstore = \"file\"\nid = \"/nowhere/at/all\"\n\
             [role.never]\nauth = \"trust\"\nupstream = \"orders\"\nsecret = \"never\"",
        )
        .await;
    assert_eq!(
        started().status.code(),
        Some(0),
        "what is added begins nothing anew"
    );
    swivel.signal(nix::sys::signal::Signal::SIGSTOP);
    let stopped = started();
    swivel.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!(
        stopped.status.code(),
        Some(1),
        "who does not live has not started"
    );
}

/// Another program has the address by now, and is content with whatever it is asked.
#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_at_the_admin_address_is_taken_for_nobody_healthy_or_unused() {
    for body in [
        "",
        "ok",
        "{}",
        "{\"status\":\"up\"}",
        "{\"ok\":1}",
        "<html>fine</html>",
    ] {
        let other = HttpServer::start(move |_| async move {
            Reply::Say {
                status: 200,
                headers: Vec::new(),
                body: body.into(),
            }
        })
        .await;
        let address = other.url().replace("http://", "");
        for (question, code) in [
            (&["health"][..], 1),
            (&["health", "--live"], 1),
            (&["health", "--started"], 1),
            (&["status"], 69),
            (&["status", "--json"], 69),
            (&["status", "--unused", "orders_v1"], 1),
            (&["status", "--unused", "orders_v1", "--fresh"], 1),
            (&["status", "--unused", "orders_v1", "--json"], 1),
        ] {
            let output = Swivel::output(&[question, &["--admin", &address]].concat(), &[]);
            let why = text(&output.stderr);
            assert_eq!(output.status.code(), Some(code), "{question:?} {body:?}: {why}");
            assert!(
                why.contains("does not answer as pgswivel does"),
                "{question:?} {body:?}: {why}"
            );
            assert_eq!(text(&output.stdout), "", "{question:?} {body:?}");
        }
    }
}

#[tokio::test]
async fn the_address_comes_from_the_configuration_even_where_its_passwords_do_not() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let file = swivel.directory().join("elsewhere.toml");
    // 0.0.0.0 is asked on loopback, and what else is wrong with the file is nobody's business here.
    let toml = format!(
        "[admin]\naddress = \"0.0.0.0:{}\"\n[role.app]\npassword = {{ env = \"NOT_SET_HERE\" }}\n",
        swivel.admin_port()
    );
    std::fs::write(&file, toml).unwrap();
    let status = Swivel::output(&["status", "--config", file.to_str().unwrap()], &[]);
    assert!(status.status.success(), "{}", text(&status.stderr));
}

#[tokio::test]
async fn status_says_in_a_terminal_whether_the_old_credential_is_safe_to_revoke() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let swivel = Swivel::in_front_of(&postgres)
        .secret_line("grace = \"1s\"")
        .secret_line("max_age = \"90d\"")
        .start()
        .await;
    let client = swivel.connect().await;
    client.batch_execute("CREATE TEMP TABLE t (n int)").await.unwrap();
    let shown = || text(&asked(&swivel, &["status"]).stdout);
    eventually("it has nothing to say", async || {
        shown().contains("safe to revoke: nothing: no other user was in use here")
    })
    .await;
    swivel.write_secret("orders_v2", "second");
    eventually("it says what holds the session", async || {
        shown().contains("stays because of temporary objects")
    })
    .await;
    for words in [
        "ready; 1 clients, 0 logins held",
        "Secret orders (file), for app: new sessions use orders_v2",
        "safe to revoke: not orders_v1 yet",
        "within max_age",
        "1 of 100 connections to 127.0.0.1:",
    ] {
        // Besides the session's there may be a connection that learns what functions do.
        eventually(&format!("it says {words:?}"), async || shown().contains(words)).await;
    }
    drop(client);
    eventually("it is safe", async || {
        shown().contains("safe to revoke: orders_v1, as of the store's state at 2")
    })
    .await;
    let json = asked(&swivel, &["status", "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["secrets"][0]["safe_to_revoke"], true);
}

#[tokio::test]
async fn whoever_watches_sees_the_rotation_go_on_and_the_end_of_what_is_watched() {
    let postgres = Postgres::start(18);
    postgres.create_user("orders_v2", "second").await;
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let mut watch = Swivel::binary();
    let address = format!("127.0.0.1:{}", swivel.admin_port());
    watch.args(["status", "--watch", "--admin", &address]);
    let mut watching = Process::start(watch, &swivel.directory().join("watched"));
    let shows = async |words: &str| {
        eventually(&format!("it shows {words:?}"), async || {
            watching.log().contains(words)
        })
        .await;
    };
    shows("safe to revoke: nothing: no other user was in use here").await;
    swivel.write_secret("orders_v2", "second");
    shows("safe to revoke: orders_v1, as of the store's state at 2").await;
    swivel.kill();
    shows("can't be asked").await;
    assert_eq!(watching.exited(), None);
}
