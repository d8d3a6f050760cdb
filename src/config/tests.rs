//! What `load` promises, from the outside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::credentials::Password;
use crate::names::Endpoint;

const FILE: &str = "/etc/pgswivel.toml";

/// Surroundings made of what a test says.
#[derive(Default)]
pub(super) struct Stage {
    flags: Flags,
    variables: HashMap<String, OsString>,
    files: HashMap<PathBuf, Vec<u8>>,
}

impl Stage {
    pub(super) fn with_file(text: &str) -> Self {
        let mut stage = Self::default().file(FILE, text);
        stage.flags.config = Some(FILE.into());
        stage
    }

    pub(super) fn file(mut self, path: &str, text: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.into(), text.as_ref().to_owned());
        self
    }

    pub(super) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    fn flag(mut self, set: impl FnOnce(&mut Flags)) -> Self {
        set(&mut self.flags);
        self
    }

    fn upstream(self, url: &str) -> Self {
        self.flag(|flags| flags.upstream = Some(url.to_owned()))
    }

    fn secret(self, url: &str) -> Self {
        self.flag(|flags| flags.secret = Some(url.to_owned()))
    }

    pub(super) fn load(&self) -> Result<Config, Problems> {
        super::load(&self.flags, self)
    }

    #[track_caller]
    pub(super) fn loaded(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}"))
    }

    #[track_caller]
    fn refused(&self) -> String {
        match self.load() {
            Ok(_) => panic!("it was accepted"),
            Err(problems) => problems.to_string(),
        }
    }
}

impl Surroundings for Stage {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = self.files.get(path).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

/// Enough flags to start.
fn flags() -> Stage {
    Stage::default()
        .upstream("postgres://db.internal/orders")
        .secret("file:/run/secrets/orders.json")
        .variable("PGSWIVEL_PASSWORD", "hunter2")
}

/// A file in which only the given lines are unusual.
fn file_with(lines: &str) -> Stage {
    Stage::with_file(&format!(
        "[role.app]\npassword = 'hunter2'\n[upstream.orders]\nhosts = 'db'\n[secret.orders]\nstore = 'file'\nid = '/s'\n{lines}"
    ))
}

fn only<K: Ord, T>(named: &std::collections::BTreeMap<K, T>) -> &T {
    assert_eq!(named.len(), 1);
    named.values().next().expect("one was counted")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

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
fn upstream_urls_are_read_with_libpqs_names() {
    let stage = flags()
        .file("/etc/ssl/rds.pem", "")
        .file("/c", "")
        .file("/k", "")
        .upstream(
            "postgresql://h1:1,[::1]:2,%2Frun%2Fpg/my%20db?sslmode=verify-full&sslrootcert=/etc/ssl/rds.pem\
             &sslcert=/c&sslkey=/k&sslnegotiation=direct&channel_binding=require&connect_timeout=3\
             &keepalives_idle=4&keepalives_interval=5&keepalives_count=7&tcp_user_timeout=1500\
             &connections_max=9&warm=2&reuse=false&md5=deny",
        );
    let config = stage.loaded();
    let upstream = only(&config.upstreams);
    let hosts: Vec<String> = upstream.hosts.iter().map(Endpoint::to_string).collect();
    assert_eq!(hosts, ["h1:1", "[::1]:2", "unix:/run/pg/.s.PGSQL.5432"]);
    assert_eq!(upstream.database.as_deref(), Some("my db"));
    assert_eq!(upstream.tls.mode, TlsMode::VerifyFull);
    assert_eq!(upstream.tls.ca.as_deref(), Some(Path::new("/etc/ssl/rds.pem")));
    assert_eq!(upstream.tls.negotiation, TlsNegotiation::Direct);
    assert_eq!(upstream.tls.channel_binding, ChannelBinding::Require);
    assert!(upstream.tls.client.is_some());
    assert_eq!(upstream.connect_timeout, seconds(3));
    let keepalive = Keepalive {
        idle: seconds(4),
        interval: seconds(5),
        count: 7,
    };
    assert_eq!(upstream.keepalive, keepalive);
    assert_eq!(upstream.user_timeout, Duration::from_millis(1500));
    assert_eq!((upstream.connections_max, upstream.warm), (9, 2));
    assert!(!upstream.reuse);
    assert_eq!(upstream.md5, Md5::Deny);
}

#[test]
fn hosts_and_ports_may_be_parameters() {
    let hosts = |url: &str| {
        let config = flags().upstream(url).loaded();
        let hosts = &only(&config.upstreams).hosts;
        hosts.iter().map(Endpoint::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        hosts("postgres:///db?host=/run/pg&port=5433"),
        ["unix:/run/pg/.s.PGSQL.5433"]
    );
    assert_eq!(hosts("postgres:///db?host=a,::1&port=1,2"), ["a:1", "[::1]:2"]);
    assert_eq!(hosts("postgres://a,b?port=1"), ["a:1", "b:1"]);
}

#[test]
fn no_problem_of_a_url_quotes_a_password() {
    let upstreams = [
        "postgres://me:hunter2@db/orders",
        "postgres://me:hun/ter2?hunter2=x@db/orders",
        "postgres://me:hunter2/orders",
        "postgres://db/orders?user=me&password=hunter2",
        "postgres://db/orders?password=a&hunter2=b",
        "me:hunter2@db/orders",
        "hunter2",
        "mysql://hunter2",
        "postgres://db/orders?hunter2",
        "postgres://hunter2%zz",
    ];
    for url in upstreams {
        let refused = flags().upstream(url).refused();
        assert!(refused.starts_with("--upstream: "), "{refused}");
        assert!(
            !refused.contains("hunter2") && !refused.contains('\n'),
            "{url}: {refused}"
        );
    }
    let secrets = [
        "hunter2",
        "me:hunter2@store",
        "vault-kv://me:hunter2@vault/secret",
        "vault-kv:secret/orders?address=https://me:hunter2@vault&hunter=2",
        "env:?user=me&password=hunter2",
        "aws-secretsmanager:x?endpoint=https://me:hunter2@aws",
    ];
    for url in secrets {
        let refused = flags()
            .secret(url)
            .variable("me", "x")
            .variable("VAULT_TOKEN", "t")
            .refused();
        assert!(refused.starts_with("--secret: "), "{refused}");
        assert!(!refused.contains("hunter2"), "{url}: {refused}");
    }
}

#[test]
fn upstream_urls_with_mistakes_say_which() {
    let table = [
        ("postgres:///orders", "names no host"),
        (
            "postgres://db?sslmod=require",
            "sslmod: unknown parameter; did you mean \"sslmode\"?",
        ),
        (
            "postgres://db?application_name=x",
            "application_name: comes from the client, not from the upstream's URL",
        ),
        (
            "postgres://db?connect_timeout=5s",
            "connect_timeout: \"5s\" is not a whole number of seconds",
        ),
        (
            "postgres://db?connect_timeout=0",
            "connect_timeout: must be from 1ms to 1h",
        ),
        (
            "postgres://db?sslmode=require&sslmode=disable",
            "sslmode: is given twice",
        ),
        ("postgres://db?port=1,2", "names more or fewer ports than hosts"),
        ("postgres://db:1?port=2", "names a host's port twice"),
        ("postgres://db,db:5432", "db:5432 is given twice"),
        ("postgres://db:0", "no Postgres listens on port 0"),
        (
            "postgres://db?sslnegotiation=direct",
            "sslnegotiation: direct needs mode require, verify-ca or verify-full",
        ),
        (
            "postgres://db?sslcert=/c",
            "sslcert: can't read /c: entity not found\n--upstream: key: must be set, since certificate is",
        ),
    ];
    for (url, expected) in table {
        assert_eq!(
            flags().upstream(url).refused(),
            format!("--upstream: {expected}"),
            "{url}"
        );
    }
}

#[test]
fn tls_modes_follow_libpq() {
    let load = |tls: &str| {
        let url = format!("postgres://db?{tls}");
        flags().file("/ca", "").upstream(&url).load()
    };
    let mode = |tls: &str| only(&load(tls).expect("it is right").upstreams).tls.mode;
    assert_eq!(mode(""), TlsMode::Prefer);
    assert_eq!(mode("sslmode=require"), TlsMode::Require);
    assert_eq!(mode("sslmode=require&sslrootcert=/ca"), TlsMode::VerifyCa);
    assert_eq!(mode("sslrootcert=system"), TlsMode::VerifyFull);
    assert!(load("sslmode=require&sslrootcert=system").is_err());
}

#[test]
fn a_pin_is_the_digest_of_a_certificate() {
    let digest = "AB:".repeat(31) + "cd";
    let load = |pin: &str| {
        let url = format!("postgres://db?sslmode=require&pin={pin}");
        flags().upstream(&url).load()
    };
    let mut expected = [0xab; 32];
    expected[31] = 0xcd;
    let config = load(&format!("sha256:{digest}")).expect("it is right");
    assert_eq!(only(&config.upstreams).tls.pin, Some(expected));
    for wrong in ["md5:00", "sha256:00", &digest] {
        let problems = load(wrong).expect_err("it is wrong").to_string();
        assert_eq!(
            problems,
            "--upstream: pin: expected \"sha256:\" and 64 hexadecimal digits"
        );
    }
}

fn source(url: &str) -> Source {
    let stage = flags()
        .secret(url)
        .variable("VAULT_ADDR", "https://vault:8200")
        .variable("VAULT_TOKEN", "hunter2")
        .variable("POSTGRES_USER", "u")
        .variable("POSTGRES_PASSWORD", "p")
        .variable("A", "u")
        .variable("B", "p");
    only(&stage.loaded().secrets).source.clone()
}

fn aws(region: &str) -> Aws {
    Aws {
        region: (!region.is_empty()).then(|| region.to_owned()),
        endpoint: None,
    }
}

#[test]
fn secrets_that_need_no_cloud_are_read_from_their_urls() {
    let file = |path: &str| Source::File { path: path.into() };
    let env = |user: &str, password: &str| Source::Env {
        user: user.to_owned(),
        password: password.to_owned(),
    };
    assert_eq!(source("file:/run/s.json"), file("/run/s.json"));
    assert_eq!(source("file:///run/secrets/"), file("/run/secrets/"));
    assert_eq!(source("file:a%3Fb"), file("a?b"));
    assert_eq!(source("env:"), env("POSTGRES_USER", "POSTGRES_PASSWORD"));
    assert_eq!(source("env:?user=A&password=B"), env("A", "B"));
    assert_eq!(
        source("command:/bin/get-secret orders?x=%1"),
        Source::Command {
            argv: vec!["/bin/get-secret".to_owned(), "orders?x=%1".to_owned()],
            timeout: seconds(10),
        }
    );
}

#[test]
fn the_fields_of_a_payload_can_be_named_in_a_url() {
    let config = flags()
        .secret("file:/s.env?user=DB_USER&password=DB_PASS&next_password=DB_NEXT&poll=1s&sessions=cut")
        .loaded();
    let secret = only(&config.secrets);
    let pair = |password: &str| FieldPair {
        user: "DB_USER".to_owned(),
        password: password.to_owned(),
    };
    let fields = Fields {
        current: pair("DB_PASS"),
        next: Some(pair("DB_NEXT")),
        previous: None,
    };
    assert_eq!(secret.fields, Some(fields));
    assert_eq!(secret.poll, seconds(1));
    assert_eq!(secret.sessions, SessionsPolicy::Cut);
}

#[cfg(feature = "aws")]
#[test]
fn aws_secrets_are_read_from_their_urls() {
    let secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/orders-AbCdEf";
    let parameter = "arn:aws:ssm:eu-west-1:123456789012:parameter/prod/orders";
    let manager = |id: &str, region: &str| Source::AwsSecretsManager {
        id: id.to_owned(),
        aws: aws(region),
    };
    let ssm = |id: &str, region: &str| Source::AwsSsm {
        id: id.to_owned(),
        aws: aws(region),
    };
    assert_eq!(
        source("aws-secretsmanager:prod/orders"),
        manager("prod/orders", "")
    );
    assert_eq!(
        source("aws-secretsmanager:x?region=us-east-1"),
        manager("x", "us-east-1")
    );
    assert_eq!(source(secret), manager(secret, "eu-west-1"));
    assert_eq!(
        source(&format!("aws-secretsmanager:{secret}")),
        manager(secret, "eu-west-1")
    );
    assert_eq!(source("aws-ssm:/prod/orders"), ssm("/prod/orders", ""));
    assert_eq!(source(parameter), ssm(parameter, "eu-west-1"));
    let conflict = flags().secret(&format!("{secret}?region=us-east-1")).refused();
    assert_eq!(
        conflict,
        "--secret: region: differs from the ARN's, \"eu-west-1\""
    );
}

#[cfg(feature = "aws")]
#[test]
fn iam_tokens_only_go_to_a_verified_server() {
    let stage = |sslmode: &str| {
        flags()
            .secret("aws-rds-iam:app?region=eu-west-1")
            .upstream(&format!("postgres://db?sslmode={sslmode}"))
    };
    let config = stage("verify-full").loaded();
    let user = "app".to_owned();
    let aws = aws("eu-west-1");
    assert_eq!(only(&config.secrets).source, Source::AwsRdsIam { user, aws });
    assert_eq!(
        stage("require").refused(),
        "--upstream: tls: must verify the server (mode verify-full): role \"app\" sends it IAM tokens"
    );
}

#[cfg(feature = "vault")]
#[test]
fn vault_secrets_are_read_from_their_urls() {
    let vault = Vault {
        address: "https://vault:8200".to_owned(),
        namespace: None,
        ca: None,
        auth: VaultAuth::Token(Password::new("hunter2")),
    };
    let words = |mount: &str, rest: &str| (mount.to_owned(), rest.to_owned(), vault.clone());
    let (mount, path, vault) = words("secret", "prod/orders");
    assert_eq!(
        source("vault-kv:secret/prod/orders"),
        Source::VaultKv { mount, path, vault }
    );
    let (mount, path, vault) = words("kv/team", "orders");
    assert_eq!(
        source("vault-kv:orders?mount=kv/team"),
        Source::VaultKv { mount, path, vault }
    );
    let (mount, role, vault) = words("database", "orders");
    assert_eq!(
        source("vault-db-static:database/orders"),
        Source::VaultDbStatic { mount, role, vault }
    );
    let (mount, role, vault) = words("database", "orders");
    assert_eq!(
        source("vault-db:database/orders"),
        Source::VaultDb { mount, role, vault }
    );
}

#[cfg(feature = "vault")]
#[test]
fn vault_is_logged_in_to_as_its_variables_or_the_file_say() {
    let auth = |stage: &Stage| match &only(&stage.loaded().secrets).source {
        Source::VaultKv { vault, .. } => vault.auth.clone(),
        other => panic!("{other:?}"),
    };
    let bare = || {
        flags()
            .secret("vault-kv:secret/orders")
            .variable("VAULT_ADDR", "http://vault")
    };
    assert_eq!(
        bare().refused(),
        "--secret: auth: must be set, or VAULT_TOKEN, or VAULT_ROLE_ID and VAULT_SECRET_ID, or VAULT_K8S_ROLE"
    );
    let approle = bare()
        .variable("VAULT_ROLE_ID", "r")
        .variable("VAULT_SECRET_ID", "s");
    let expected = VaultAuth::AppRole {
        mount: "approle".to_owned(),
        role_id: "r".to_owned(),
        secret_id: VaultSecretId::Literal(Password::new("s")),
    };
    assert_eq!(auth(&approle), expected);
    let kubernetes = bare().variable("VAULT_K8S_ROLE", "orders");
    assert!(matches!(auth(&kubernetes), VaultAuth::Kubernetes { role, .. } if role == "orders"));
    let in_file = |auth: &str| {
        Stage::with_file(&format!(
            "[role.app]\npassword = 'x'\n[upstream.o]\nhosts = 'db'\n[secret.o]\nstore = 'vault-kv'\nid = 'secret/o'\naddress = 'https://vault'\nauth = {auth}\n"
        ))
    };
    assert_eq!(
        auth(&in_file("{ token = { file = '/t' } }")),
        VaultAuth::TokenFile("/t".into())
    );
    let approle = in_file("{ approle = { role_id = 'r', secret_id = { file = '/s' }, mount = 'm' } }");
    let expected = VaultAuth::AppRole {
        mount: "m".to_owned(),
        role_id: "r".to_owned(),
        secret_id: VaultSecretId::File("/s".into()),
    };
    assert_eq!(auth(&approle), expected);
    assert_eq!(
        in_file("{}").refused(),
        "secret.o.auth: set exactly one of token, approle and kubernetes"
    );
}

#[test]
fn secrets_with_mistakes_say_which() {
    let table = [
        ("fil:/s", "no store named \"fil\"; did you mean \"file\"?"),
        (
            "file:",
            "id: must be set: where in the store; for command text or a list of arguments",
        ),
        ("file:/s?pol=1s", "pol: unknown parameter; did you mean \"poll\"?"),
        ("file:/s?poll=1s&poll=2s", "poll: is given twice"),
        (
            "file:/s?region=x",
            "region: has no meaning together with the other keys here",
        ),
        ("file://host/s", "write \"file:\" without \"//\" after it"),
        (
            "env:",
            "user: the environment variable POSTGRES_USER is not set\n--secret: password: the environment variable POSTGRES_PASSWORD is not set",
        ),
        (
            "command:",
            "id: must be set: where in the store; for command text or a list of arguments",
        ),
        (
            "command:sh -c 'x'",
            "no shell reads this: write a list in the file for arguments that need quotes",
        ),
    ];
    for (url, expected) in table {
        assert_eq!(
            flags().secret(url).refused(),
            format!("--secret: {expected}"),
            "{url}"
        );
    }
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

#[cfg(not(feature = "aws"))]
#[test]
fn a_store_that_was_left_out_says_so() {
    assert_eq!(
        flags().secret("aws-secretsmanager:x").refused(),
        "--secret: this pgswivel was built without the feature \"aws\" that aws-secretsmanager needs"
    );
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

proptest::proptest! {
    #[test]
    fn no_url_panics(upstream in ".*", rest in ".*", store in 0..keys::STORES.len()) {
        let store = keys::STORES[store].name;
        let _ = flags().upstream(&upstream).secret(&format!("{store}:{rest}")).load();
        let _ = flags().upstream(&format!("postgres://{rest}")).secret(&upstream).load();
    }

    #[test]
    fn a_password_in_an_upstream_url_is_never_quoted(
        before in "[a-z0-9:/?&=%]{0,12}",
        after in "[a-z0-9:/?&=%]{0,12}",
    ) {
        let refused = flags().upstream(&format!("postgres://{before}HUNTER2{after}@db/orders")).refused();
        proptest::prop_assert!(!refused.contains("HUNTER2"));
    }
}
