//! Flags, environment variables and the file together.

use super::*;

#[test]
fn flags_alone_are_enough() {
    let config = flags().loaded();
    let role = only(&config.roles);
    assert_eq!(role.name.as_str(), "app");
    assert_eq!(role.auth, Auth::Scram(Password::new("hunter2")));
    let upstream = &config.upstreams[&role.upstream];
    assert_eq!(
        upstream.hosts,
        [Endpoint::Tcp {
            host: "db.internal".into(),
            port: 5432
        }]
    );
    assert_eq!(upstream.database.as_deref(), Some("orders"));
    let path = "/run/secrets/orders.json".into();
    assert_eq!(config.secrets[&role.secret].source, Source::File { path });
    let here = ListenAddress::Tcp {
        host: "127.0.0.1".to_owned(),
        port: 6432,
    };
    assert_eq!(config.listen.addresses, [here]);
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9632");
    assert_eq!(config.drain, seconds(25));
}

#[test]
fn nothing_at_all_says_everything_that_is_missing() {
    let expected = "\
role.app.password: no password: set PGSWIVEL_PASSWORD, PGSWIVEL_PASSWORD_FILE or role.app.password
upstream: none is given: set --upstream, PGSWIVEL_UPSTREAM or [upstream.NAME]
secret: none is given: set --secret, PGSWIVEL_SECRET or [secret.NAME]";
    assert_eq!(Stage::default().refused(), expected);
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let stage = || file_with("[listen]\naddress = '127.0.0.1:1'\n[admin]\naddress = '127.0.0.1:1'\n");
    let port = |config: Config| config.admin.address.port();
    assert_eq!(port(stage().loaded()), 1);
    let with_variable = || stage().variable("PGSWIVEL_ADMIN", "127.0.0.1:2");
    assert_eq!(port(with_variable().loaded()), 2);
    let with_both = with_variable().flag(|flags| flags.admin = Some("localhost:3".to_owned()));
    assert_eq!(port(with_both.loaded()), 3);
    let listen = stage().variable("PGSWIVEL_LISTEN", "localhost:7, unix:/run/pgswivel");
    assert_eq!(
        listen.loaded().listen.addresses,
        [
            ListenAddress::Tcp {
                host: "localhost".to_owned(),
                port: 7
            },
            ListenAddress::Unix("/run/pgswivel/.s.PGSQL.7".into()),
        ]
    );
}

#[test]
fn problems_of_flags_and_variables_carry_their_names() {
    let stage = flags()
        .upstream("postgres://db/orders?sslmode=verify")
        .variable("PGSWIVEL_LISTEN", "here:there")
        .flag(|flags| flags.admin = Some("db:1".to_owned()));
    let expected = "\
--upstream: sslmode: \"verify\" is not one of disable, prefer, require, verify-ca, verify-full; did you mean \"verify-ca\"?
PGSWIVEL_LISTEN: a port is a number from 0 to 65535
--admin: expected an IP address and a port, such as 0.0.0.0:9632";
    assert_eq!(stage.refused(), expected);
}

#[test]
fn flags_replace_what_the_file_says_of_the_only_role() {
    let config = file_with("").upstream("postgres://other:5433").loaded();
    let role = only(&config.roles);
    assert_eq!(role.upstream.as_str(), "default");
    assert_eq!(role.secret.as_str(), "orders");
    assert_eq!(
        config.upstreams[&role.upstream].hosts[0].to_string(),
        "other:5433"
    );
}

#[test]
fn flags_say_which_of_several_roles_they_describe() {
    let several = || file_with("[role.report]\npassword = 'x'\n").upstream("postgres://other");
    assert_eq!(
        several().refused().lines().next(),
        Some("--upstream: the file has several roles (app, report); say which one with --role")
    );
    let config = file_with("[role.report]\npassword = 'x'\nupstream = 'orders'\n")
        .upstream("postgres://other")
        .flag(|flags| flags.role = Some("app".to_owned()))
        .loaded();
    assert_eq!(config.roles["app"].upstream.as_str(), "default");
    assert_eq!(config.roles["report"].upstream.as_str(), "orders");
    let unknown = file_with("").flag(|flags| flags.role = Some("ap".to_owned()));
    assert_eq!(
        unknown.refused(),
        "--role: no role named \"ap\" in the file; did you mean \"app\"?"
    );
}

#[test]
fn a_password_file_loses_the_newline_of_its_editor_and_nothing_else() {
    let stage = |bytes: &[u8]| {
        Stage::default()
            .upstream("postgres://db")
            .secret("file:/s")
            .variable("PGSWIVEL_PASSWORD_FILE", "/run/password")
            .file("/run/password", bytes)
    };
    let password = |bytes: &[u8]| only(&stage(bytes).loaded().roles).auth.clone();
    assert_eq!(password(b"hunter2\n"), Auth::Scram(Password::new("hunter2")));
    assert_eq!(password(b"hunter2\r\n"), Auth::Scram(Password::new("hunter2")));
    assert_eq!(password(b" a\n\n"), Auth::Scram(Password::new(" a\n")));
    assert_eq!(password(b"\xff"), Auth::Scram(Password::new([0xff])));
    assert_eq!(
        stage(b"\n").refused(),
        "PGSWIVEL_PASSWORD_FILE: /run/password is empty"
    );
}

#[test]
fn the_environment_fills_in_missing_passwords_and_overrides_the_only_role() {
    let auth = |stage: Stage, role: &str| stage.loaded().roles[role].auth.clone();
    let from_environment = Auth::Scram(Password::new("env"));
    let from_file = Auth::Scram(Password::new("hunter2"));
    let one = || file_with("").variable("PGSWIVEL_PASSWORD", "env");
    assert_eq!(auth(one(), "app"), from_environment);
    let two = || file_with("[role.report]\n").variable("PGSWIVEL_PASSWORD", "env");
    assert_eq!(auth(two(), "app"), from_file);
    assert_eq!(auth(two(), "report"), from_environment);
    let both = one().variable("PGSWIVEL_PASSWORD_FILE", "/p").refused();
    assert_eq!(
        both,
        "PGSWIVEL_PASSWORD: set either this or PGSWIVEL_PASSWORD_FILE, not both"
    );
    let empty = file_with("").variable("PGSWIVEL_PASSWORD", "").refused();
    assert_eq!(empty, "PGSWIVEL_PASSWORD: is empty");
}

#[test]
fn names_that_deployments_already_speak_are_understood() {
    let names = || {
        Stage::default()
            .variable("PGSWIVEL_PASSWORD", "hunter2")
            .variable("POSTGRES_HOST", "db.internal")
            .variable("POSTGRES_PORT", "5433")
            .variable("POSTGRES_DB", "orders")
            .variable("POSTGRES_USER", "u")
            .variable("POSTGRES_PASSWORD", "p")
            .variable("POSTGRES_SSL", "true")
            .variable("POSTGRES_POOL_SIZE", "7")
    };
    let config = names().loaded();
    let upstream = only(&config.upstreams);
    assert_eq!(upstream.hosts[0].to_string(), "db.internal:5433");
    assert_eq!(upstream.database.as_deref(), Some("orders"));
    assert_eq!(upstream.tls.mode, TlsMode::Require);
    assert_eq!(upstream.connections_max, 7);
    assert!(matches!(only(&config.secrets).source, Source::Env { .. }));
    // Kubernetes makes this of a service named "postgres".
    let linked = names().variable("POSTGRES_PORT", "tcp://10.0.0.1:5432").loaded();
    assert_eq!(only(&linked.upstreams).hosts[0].to_string(), "db.internal:5432");
    let wrong = names()
        .variable("POSTGRES_SSL", "maybe")
        .variable("POSTGRES_POOL_SIZE", "0");
    let refused = wrong.refused();
    assert!(
        refused.starts_with("POSTGRES_POOL_SIZE: must be from 1 to"),
        "{refused}"
    );
    assert!(
        refused.contains("\nPOSTGRES_SSL: \"maybe\" is not one of"),
        "{refused}"
    );
    let own = names().upstream("postgres://other").loaded();
    assert_eq!(only(&own.upstreams).hosts[0].to_string(), "other:5432");
    let in_file = Stage {
        variables: names().variables,
        ..file_with("")
    };
    assert_eq!(only(&in_file.loaded().upstreams).hosts[0].to_string(), "db:5432");
}

#[cfg(feature = "aws")]
#[test]
fn a_secret_id_of_a_deployment_goes_before_its_password() {
    let stage = flags()
        .flag(|flags| flags.secret = None)
        .variable("POSTGRES_USER", "u")
        .variable("POSTGRES_PASSWORD", "p")
        .variable("DB_SECRET_ID", "prod/orders")
        .variable("DB_SECRET_REFRESH_INTERVAL_MS", "60000");
    let config = stage.loaded();
    let secret = only(&config.secrets);
    assert_eq!(secret.poll, seconds(60));
    let id = "prod/orders".to_owned();
    let aws = Aws::default();
    assert_eq!(secret.source, Source::AwsSecretsManager { id, aws });
    assert_eq!(
        stage.variable("DB_SECRET_REFRESH_INTERVAL_MS", "0").refused(),
        "DB_SECRET_REFRESH_INTERVAL_MS: must be from 100ms to 1d"
    );
}
