//! Secrets, as `--secret` writes them.

use super::*;

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

#[cfg(feature = "aws")]
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
            write: None,
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
    if cfg!(feature = "aws") {
        let expected = VaultAuth::Aws {
            mount: "aws".to_owned(),
            role: "r".to_owned(),
            region: None,
            server_id: Some("vault.internal".to_owned()),
        };
        let aws = in_file("{ aws = { role = 'r', server_id = 'vault.internal' } }");
        assert_eq!(auth(&aws), expected);
    }
    assert_eq!(
        in_file("{}").refused(),
        "secret.o.auth: set exactly one of token, approle, kubernetes and aws"
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

#[cfg(not(feature = "aws"))]
#[test]
fn a_store_that_was_left_out_says_so() {
    assert_eq!(
        flags().secret("aws-secretsmanager:x").refused(),
        "--secret: this pgswivel was built without the feature \"aws\" that aws-secretsmanager needs"
    );
}
