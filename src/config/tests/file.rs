//! What the file promises.

use super::*;

#[test]
fn three_mistakes_in_one_file_give_three_messages_with_paths() {
    let stage = Stage::with_file(
        r#"
        [role.app]
        password = "hunter2"
        upstream = "orders"
        secret = "ordes"
        [upstream.orders]
        hosts = ["db.internal:5432"]
        conections_max = 10
        [secret.orders]
        store = "file"
        id = "/run/secrets/orders.json"
        poll = "5 minutes"
        "#,
    );
    let expected = "\
upstream.orders.conections_max: unknown key; did you mean \"connections_max\"?
secret.orders.poll: \"5 minutes\": a duration is a whole number and a unit (ms, s, m, h or d), such as \"5m\"
role.app.secret: no secret named \"ordes\"; did you mean \"orders\"?";
    assert_eq!(stage.refused(), expected);
}

#[test]
fn wrong_types_and_numbers_out_of_range_are_named() {
    let stage = file_with(
        "[limits]\nclients = 0\nmoves = 'many'\nqueue_wait = 5\n[listen]\ninsecure = 1\naddress = [1]\n[log]\nformat = 1.5\n",
    );
    let expected = "\
listen.address: expected a list of text, found a number
listen.insecure: expected true or false, found a number
limits.clients: must be from 1 to 1000000
limits.queue_wait: expected a duration such as \"5m\", found a number
limits.moves: expected a number, found text
log.format: expected text, found a fraction";
    assert_eq!(stage.refused(), expected);
}

#[test]
fn a_syntax_error_gives_its_place_and_not_the_line() {
    let refused = Stage::with_file("[role.app]\npassword = hunter2\n").refused();
    assert!(
        refused.starts_with("/etc/pgswivel.toml: line 2, column 12: "),
        "{refused}"
    );
    assert!(
        !refused.contains("hunter2") && !refused.contains('\n'),
        "{refused}"
    );
    let refused = Stage::with_file("[role.app]\npassword = \"hunter2\n\"").refused();
    assert!(
        !refused.contains("hunter2") && refused.contains("line "),
        "{refused}"
    );
}

#[test]
fn no_syntax_error_quotes_a_password() {
    let lines = [
        "password = hunter2",
        "password = 'hunter2",
        "password = \"hunter2\\q\"",
        "password = 'hunter2' hunter2",
        "password = 'hunter2'\npassword = 'hunter2'",
        "password 'hunter2'",
        "password = 'hunter2\u{1}'",
        "password = { file = hunter2 }",
        "password = 9hunter2",
        "password = [hunter2",
    ];
    for line in lines {
        let refused = Stage::with_file(&format!("[role.app]\n{line}\n")).refused();
        assert!(refused.starts_with("/etc/pgswivel.toml: line "), "{refused}");
        assert!(
            !refused.contains("hunter2") && !refused.contains('\n'),
            "{line}: {refused}"
        );
    }
}

#[test]
fn a_reference_to_what_is_itself_wrong_is_reported_once() {
    let stage = Stage::with_file(
        "upstream.orders = 5\n[role.app]\npassword = 'x'\nupstream = 'orders'\n[secret.s]\nstore = 'file'\nid = '/s'\n",
    );
    assert_eq!(
        stage.refused(),
        "upstream.orders: expected a table, found a number"
    );
}

#[test]
fn a_socket_and_a_directory_are_told_apart() {
    let config = file_with("[listen]\naddress = ['unix:/run', 'unix:/tmp/.s.PGSQL.1']\n").loaded();
    assert_eq!(
        config.listen.addresses,
        [
            ListenAddress::Unix("/run/.s.PGSQL.6432".into()),
            ListenAddress::Unix("/tmp/.s.PGSQL.1".into())
        ]
    );
    let twice = file_with("[listen]\naddress = ['unix:/run', 'unix:/run/.s.PGSQL.6432']\n");
    assert_eq!(
        twice.refused(),
        "listen.address: unix:/run/.s.PGSQL.6432 is given twice"
    );
}

#[test]
fn systemd_stands_for_an_address() {
    let config = file_with("[listen]\naddress = ['systemd', 'systemd:web', 'systemd.internal:1']\n");
    let config = config
        .variable("PGSWIVEL_PASSWORD", "hunter2")
        .load()
        .map(|config| config.listen.addresses);
    let refused = config.expect_err("others can reach systemd.internal");
    assert!(
        refused
            .to_string()
            .contains("others can reach systemd.internal:1")
    );
    let config = file_with("[listen]\naddress = ['systemd', 'systemd:web']\n").loaded();
    let passed = |name: Option<&str>| ListenAddress::Passed(name.map(str::to_owned));
    assert_eq!(config.listen.addresses, [passed(None), passed(Some("web"))]);
    assert_eq!(config.listen.addresses[1].to_string(), "systemd:web");
    let unnamed = file_with("[listen]\naddress = 'systemd:'\n");
    assert!(
        unnamed
            .refused()
            .starts_with("listen.address: systemd: is followed")
    );
}

#[test]
fn what_is_not_written_has_these_defaults() {
    let config = file_with("").loaded();
    let limits = Limits {
        clients: 10_000,
        startups: 1000,
        startup_time: seconds(60),
        cancels: 64,
        logins_per_endpoint: 8,
        queue_wait: seconds(30),
        statement_bytes: 1_048_576,
        again_bytes: 65_536,
        moves: 8,
        warm: 50,
        admin_connections: 64,
        refused_logins_per_minute: 10,
    };
    assert_eq!(config.limits, limits);
    let login = LoginPolicy {
        patience: seconds(30),
        refused_retry: seconds(30),
    };
    assert_eq!(config.login, login);
    assert_eq!((config.log.format, config.log.level.as_str()), (None, "info"));
    assert_eq!(config.listen.scram_iterations, 4096);
    let upstream = only(&config.upstreams);
    assert_eq!(
        (upstream.connections_max, upstream.warm, upstream.reuse),
        (100, 1, true)
    );
    assert_eq!(
        (upstream.connect_timeout, upstream.user_timeout),
        (seconds(10), seconds(60))
    );
    let keepalive = Keepalive {
        idle: seconds(60),
        interval: seconds(10),
        count: 6,
    };
    assert_eq!((upstream.keepalive, upstream.md5), (keepalive, Md5::Guarded));
    let secret = only(&config.secrets);
    assert_eq!((secret.poll, secret.grace), (seconds(300), seconds(30)));
    assert_eq!((secret.sessions, secret.max_age), (SessionsPolicy::Auto, None));
}

#[test]
fn a_file_that_is_not_there_is_a_problem_of_the_flag() {
    let mut stage = Stage::default();
    stage.flags.config = Some("/none".into());
    assert_eq!(stage.refused(), "--config: can't read /none: entity not found");
    let stage = Stage::default().variable("PGSWIVEL_CONFIG", "/none");
    assert_eq!(
        stage.refused(),
        "PGSWIVEL_CONFIG: can't read /none: entity not found"
    );
}

#[test]
fn a_listener_that_others_can_reach_needs_tls_or_a_written_word() {
    let open = "[listen]\naddress = ['127.0.0.1:1', '0.0.0.0:6432']\n";
    assert_eq!(
        file_with(open).refused(),
        "listen.address: others can reach 0.0.0.0:6432: set listen.tls, or listen.insecure = true to go without"
    );
    assert!(
        file_with(&format!("{open}insecure = true\n"))
            .loaded()
            .listen
            .insecure
    );
    let tls = format!("{open}tls = {{ certificate = '/c', key = '/k' }}\n");
    let config = file_with(&tls).file("/c", "").file("/k", "").loaded();
    assert!(config.listen.tls.is_some() && !config.listen.insecure);
    assert_eq!(
        file_with(&tls).refused().lines().next(),
        Some("listen.tls.certificate: can't read /c: entity not found")
    );
}

#[test]
fn trust_is_only_for_this_machine() {
    let trusting = |listen: &str| {
        Stage::with_file(&format!(
            "[role.app]\nauth = 'trust'\n[upstream.o]\nhosts = 'db'\n[secret.o]\nstore = 'file'\nid = '/s'\n[listen]\n{listen}"
        ))
    };
    let local = trusting("address = ['localhost:1', '[::1]:1', 'unix:/run']\n").loaded();
    assert_eq!(local.roles["app"].auth, Auth::Trust);
    assert_eq!(
        trusting("address = '[::]:1'\ninsecure = true\n").refused(),
        "role.app.auth: trust is only for loopback and Unix listeners, and others can reach [::]:1"
    );
    let by_default = Stage::with_file(
        "[listen]\nauth = 'trust'\n[role.app]\n[role.report]\npassword = 'x'\n[upstream.o]\nhosts = 'db'\n[secret.o]\nstore = 'file'\nid = '/s'\n",
    )
    .loaded();
    assert_eq!(by_default.roles["app"].auth, Auth::Trust);
    assert!(matches!(by_default.roles["report"].auth, Auth::Scram(_)));
    let both = file_with("").loaded();
    assert!(matches!(both.roles["app"].auth, Auth::Scram(_)));
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let level = |level: &str| file_with(&format!("[log]\nlevel = '{level}'\n"));
    assert_eq!(
        level("info,pgswivel::keeper=debug").loaded().log.level,
        "info,pgswivel::keeper=debug"
    );
    assert_eq!(
        level("inof").refused(),
        "log.level: \"inof\" is not a level or module=level; did you mean \"info\"?"
    );
}

#[test]
fn debug_of_a_configuration_shows_no_password() {
    let config = Stage::with_file(
        "[role.a]\npassword = 'hunter2'\n[role.b]\npassword = { file = '/p' }\n[role.c]\npassword = { env = 'P' }\n\
         [upstream.o]\nhosts = 'db'\n[secret.o]\nstore = 'file'\nid = '/s'\n",
    )
    .file("/p", "hunter2")
    .variable("P", "hunter2")
    .loaded();
    let shown = format!("{config:?} {config:#?}");
    assert!(shown.contains("***") && !shown.contains("hunter2"), "{shown}");
}
