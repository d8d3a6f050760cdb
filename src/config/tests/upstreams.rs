//! Upstreams, as `--upstream` writes them.

use super::*;

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
             &connections_max=9&warm=2&reuse=false&again=false&md5=deny&other_database=ignore",
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
    assert!(!upstream.reuse && !upstream.again);
    assert_eq!(upstream.md5, Md5::Deny);
    assert_eq!(upstream.other_database, OtherDatabase::Ignore);
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

proptest::proptest! {
    #[test]
    fn no_url_panics(upstream in ".*", rest in ".*", store in 0..source::STORES.len()) {
        let store = source::STORES[store].name;
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
