//! No secret is in anything that pgswivel says, to whomever, however much it is asked to say.

use std::os::unix::process::ExitStatusExt;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::Application;
use crate::support::admin::ask;
use crate::support::swivel::Unstarted;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Swivel, Wire, eventually};

/// Each secret holds a word that nothing else holds.
fn canary(name: &str) -> String {
    format!("canary-{name}-9d1f")
}

/// What stands in every canary.
const CANARY: &str = "-9d1f";

/// Says all it can, and gives up soon, so that it has something to say.
fn talkative(swivel: Unstarted, format: &str) -> Unstarted {
    let audit = swivel.directory().join("audit");
    let audit = format!("audit = \"{}\"", audit.display());
    swivel
        .password(&canary("local"))
        .section("[login]\npatience = \"3s\"")
        .section(&format!(
            "[log]\nlevel = \"trace\"\nformat = \"{format}\"\n{audit}"
        ))
}

async fn postgres() -> Postgres {
    let postgres = Postgres::start(18);
    postgres.change_password(Postgres::USER, &canary("current")).await;
    postgres
}

fn login(user: &str, word: &str) -> Value {
    json!({ "username": user, "password": canary(word) })
}

/// Everything that can go wrong at a login, and what clients are told.
async fn misfortunes(swivel: &Swivel, postgres: &Postgres) -> String {
    let mut told = String::new();
    // A wrong local password, and one that is another role's secret.
    for (user, password) in [("app", canary("guess")), ("nobody", canary("current"))] {
        let mut wire = Wire::connect(&swivel.address()).await;
        wire.startup(PROTOCOL_3_0, &[("user", user), ("database", "orders")])
            .await;
        told += &format!(
            "{:?}\n",
            wire.authenticate(password.as_bytes()).await.unwrap_err()
        );
    }
    // Something that Postgres refuses after the login.
    let mut config = swivel.config();
    let refused = config
        .options("-c nonsense=1")
        .connect(tokio_postgres::NoTls)
        .await;
    told += &format!("{:?}\n", refused.map(|_| ()).unwrap_err());
    // Nothing is accepted for longer than patience lasts.
    postgres
        .execute(&format!("ALTER ROLE {} NOLOGIN", Postgres::USER))
        .await;
    let refused = swivel.try_connect().await.map(|_| ());
    told += &format!("{:?}\n", refused.unwrap_err());
    told
}

/// Nothing was said in any way; then it dies as hard as a program can.
async fn is_silent(mut swivel: Swivel, told: &str) {
    let mut shown = String::new();
    for page in ["/status", "/metrics", "/", "/readyz"] {
        shown += &ask(&swivel, &format!("GET {page}")).await.body;
    }
    let admin = format!("127.0.0.1:{}", swivel.admin_port());
    let status = Swivel::output(&["status", "--admin", &admin], &[]).stdout;
    assert!(shown.contains("pgswivel_logins_total") && shown.contains("What happened"));
    shown += &String::from_utf8(status).unwrap();
    let audit = std::fs::read_to_string(swivel.directory().join("audit")).unwrap();
    assert!(audit.contains("credential.leading"));
    let log = swivel.log();
    assert!(
        log.contains("TRACE") || log.contains("DEBUG"),
        "it did not say all it can:\n{log}"
    );
    assert!(log.contains("credential.leading"), "it did not rotate:\n{log}");
    let process = |file: &str| std::fs::read(format!("/proc/{}/{file}", swivel.pid())).unwrap();
    let text = |file: &str| String::from_utf8_lossy(&process(file)).into_owned();
    for (what, said) in [
        ("the log", log),
        ("what clients were told", told.to_owned()),
        ("what the admin server shows", shown),
        ("the audit file", audit),
        ("its arguments", text("cmdline")),
        ("its environment", text("environ")),
    ] {
        let line = said.lines().find(|line| line.contains(CANARY));
        assert_eq!(line, None, "a secret is in {what}");
    }
    let limits = text("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let values: Vec<&str> = core.split_whitespace().skip(4).collect();
    assert_eq!(values[..2], ["0", "0"], "{core}");
    swivel.signal(Signal::SIGABRT);
    let status = swivel.wait();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32));
    assert!(!status.core_dumped(), "it left a core file");
}

#[tokio::test]
async fn a_rotation_by_file_says_no_secret() {
    let postgres = postgres().await;
    let swivel = Swivel::in_front_of(&postgres).credential(Postgres::USER, &canary("current"));
    let swivel = talkative(swivel, "text").start().await;
    let application = Application::of(&swivel).await;
    let beside = swivel.directory().join("secret.new");
    let write = |text: &str| {
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, swivel.directory().join("secret.json")).unwrap();
    };
    let user = Postgres::USER;
    let value = json!({
        "current": login(user, "next"), "next": login(user, "never"), "previous": login(user, "current"),
    });
    write(&value.to_string());
    postgres.change_password(user, &canary("next")).await;
    application.is_served().await;
    // Broken in ways that a parser likes to quote.
    let half = format!("{{\"username\":\"{user}\",\"password\":\"{}", canary("half"));
    let twice = format!(
        "{{\"username\":\"{0}\",\"username\":\"{0}\",\"password\":\"{0}\"}}",
        canary("twice")
    );
    let types = format!(
        "{{\"username\":[\"{0}\"],\"password\":{{\"{0}\":1}}}}",
        canary("types")
    );
    for (times, broken) in [half, twice, types, canary("plain")].iter().enumerate() {
        write(broken);
        eventually("it says that this is wrong", async || {
            swivel.said("the store can't be read") > times
        })
        .await;
        write(&value.to_string());
        eventually("it says that this is over", async || {
            swivel.said("the store can be read again") > times
        })
        .await;
    }
    // What went wrong, if anything: patience is short here.
    let mut told = application.leave().await.errors.join("\n");
    told += &misfortunes(&swivel, &postgres).await;
    is_silent(swivel, &told).await;
}

#[cfg(feature = "vault")]
#[tokio::test]
async fn a_rotation_by_vault_says_no_secret() {
    use crate::stores::contract::Fault;
    use crate::stores::vault::{harm, host};
    use crate::support::http::FaultProxy;
    use crate::support::vault::VaultDouble;

    let postgres = postgres().await;
    let vault = VaultDouble::start().await;
    vault.state().secret_id = canary("secret-id");
    vault.state().token_prefix = canary("token");
    vault
        .state()
        .put_kv("prod/orders", login(Postgres::USER, "current"));
    let proxy = FaultProxy::before(host(&vault.url())).await;
    let swivel = Swivel::in_front_of(&postgres).store("vault-kv", "secret/prod/orders");
    let secret_id = swivel.directory().join("secret-id");
    std::fs::write(&secret_id, canary("secret-id")).unwrap();
    let auth = format!(
        "auth = {{ approle = {{ role_id = \"orders\", secret_id = {{ file = \"{}\" }} }} }}",
        secret_id.display()
    );
    let swivel = swivel.secret_line(&auth).secret_line("poll = \"200ms\"");
    let swivel = talkative(swivel.environment("VAULT_ADDR", &proxy.url()), "json")
        .start()
        .await;
    let application = Application::of(&swivel).await;
    vault.state().put_kv("prod/orders", login(Postgres::USER, "next"));
    postgres.change_password(Postgres::USER, &canary("next")).await;
    application.is_served().await;
    for (times, fault) in [Fault::Denied, Fault::Unreachable, Fault::Throttled]
        .into_iter()
        .enumerate()
    {
        harm(&proxy, fault);
        eventually("it says that this is wrong", async || {
            swivel.said("the store can't be read") > times
        })
        .await;
        proxy.carry_all();
        eventually("it says that this is over", async || {
            swivel.said("the store can be read again") > times
        })
        .await;
    }
    // What went wrong, if anything: patience is short here.
    let mut told = application.leave().await.errors.join("\n");
    told += &misfortunes(&swivel, &postgres).await;
    is_silent(swivel, &told).await;
}

#[cfg(feature = "aws")]
#[tokio::test]
async fn a_rotation_by_secrets_manager_says_no_secret() {
    use crate::support::aws::{Aws, REGION, StandIn};

    let postgres = postgres().await;
    let aws = Aws::of(StandIn::Moto).await;
    let secret = aws.name_a_secret();
    secret.create(&login(Postgres::USER, "current").to_string()).await;
    let swivel = Swivel::in_front_of(&postgres).store("aws-secretsmanager", &secret.name);
    let keys = swivel.directory().join("aws-credentials");
    let key = canary("aws-key");
    std::fs::write(
        &keys,
        format!("[default]\naws_access_key_id = AKID\naws_secret_access_key = {key}\n"),
    )
    .unwrap();
    let swivel = swivel
        .environment("AWS_SHARED_CREDENTIALS_FILE", keys.to_str().unwrap())
        .environment("AWS_REGION", REGION)
        .environment("AWS_ENDPOINT_URL", &aws.url())
        .secret_line("poll = \"200ms\"");
    let swivel = talkative(swivel, "json").start().await;
    let application = Application::of(&swivel).await;
    let pending = secret
        .put_pending(&login(Postgres::USER, "next").to_string())
        .await;
    postgres.change_password(Postgres::USER, &canary("next")).await;
    application.is_served().await;
    secret.promote(&pending).await;
    secret.put_pending(&canary("garbage")).await;
    eventually("it says that the pending version is garbage", async || {
        swivel.said("this position of the secret can't be used") > 0
    })
    .await;
    // What went wrong, if anything: patience is short here.
    let mut told = application.leave().await.errors.join("\n");
    told += &misfortunes(&swivel, &postgres).await;
    is_silent(swivel, &told).await;
}

/// Passwords that somebody put where they do not belong are not repeated to them.
#[test]
fn a_configuration_with_a_password_in_the_wrong_place_says_no_secret() {
    let secret = canary("misplaced");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = [
        file(
            "syntax.toml",
            &format!("[role.app]\npassword = \"{secret}\nupstream = 1"),
        ),
        file("value.toml", &format!("[role.app]\npassword = {secret}\n")),
        file(
            "shape.toml",
            &format!("[role.app]\npassword = {{ text = \"{secret}\" }}\n"),
        ),
        file(
            "number.toml",
            &format!("[role.app]\npassword = [\"{secret}\"]\nset_role = 7\n"),
        ),
        file(
            "twice.toml",
            &format!("[role.app]\npassword = \"{secret}\"\npassword = \"{secret}\"\n"),
        ),
    ];
    let url = format!("postgres://app:{secret}@127.0.0.1/orders");
    let mut runs: Vec<Vec<&str>> = files.iter().map(|file| vec!["--config", file]).collect();
    runs.push(vec!["--upstream", &url]);
    runs.push(vec!["--secret", &url]);
    let listen = format!("app:{secret}@127.0.0.1:6432");
    runs.push(vec!["--listen", &listen]);
    let vault = format!("vault-kv:secret/orders?address=http://x:{secret}@127.0.0.1:8200");
    runs.push(vec!["--secret", &vault]);
    for arguments in runs {
        let arguments = [&["run"], arguments.as_slice()].concat();
        let (status, said) = Swivel::command(&arguments, &[("PGSWIVEL_PASSWORD", &secret)]);
        assert_eq!(status.code(), Some(64), "{arguments:?}: {said}");
        assert!(!said.contains(CANARY), "{arguments:?}: {said}");
    }
}
