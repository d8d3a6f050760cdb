//! Roles, upstreams, certificates: what a client that comes after the change finds.

use tokio_postgres::{Client, Error, NoTls};

use crate::support::{Authority, Postgres, Swivel, eventually};

async fn one(client: &Client) -> i32 {
    client.query_one("SELECT 1", &[]).await.unwrap().get(0)
}

async fn connect_as(swivel: &Swivel, role: &str, password: &str) -> Result<Client, Error> {
    let mut config = swivel.config();
    let (client, connection) = config.user(role).password(password).connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn sqlstate(result: Result<Client, Error>) -> String {
    let error = result.expect_err("it was let in");
    error
        .code()
        .map_or_else(|| error.to_string(), |code| code.code().to_owned())
}

#[tokio::test]
async fn a_new_role_logs_in_and_a_removed_one_is_refused_while_its_session_lives_on() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let report = "[role.report]\npassword = \"reports-only\"\nupstream = \"orders\"\nsecret = \"orders\"\n";
    assert_eq!(
        sqlstate(connect_as(&swivel, "report", "reports-only").await),
        "28P01"
    );
    let before = swivel.written();
    swivel.add(report).await;
    assert_eq!(swivel.said("role.report added"), 1);
    let session = connect_as(&swivel, "report", "reports-only").await.unwrap();
    swivel.reconfigure(&before).await;
    assert_eq!(swivel.said("role.report removed"), 1);
    assert_eq!(
        sqlstate(connect_as(&swivel, "report", "reports-only").await),
        "28P01"
    );
    assert_eq!(one(&session).await, 1);
    assert_eq!(one(&swivel.connect().await).await, 1);
}

#[tokio::test]
async fn a_changed_password_file_is_noticed_by_itself() {
    let postgres = Postgres::start(18);
    let mut swivel = Swivel::in_front_of(&postgres).start().await;
    let session = swivel.connect().await;
    std::fs::write(swivel.directory().join("password"), "another").unwrap();
    eventually("the old password is refused", async || {
        swivel.try_connect().await.is_err()
    })
    .await;
    assert_eq!(sqlstate(swivel.try_connect().await), "28P01");
    swivel.set_password("another");
    assert_eq!(one(&swivel.connect().await).await, 1);
    assert_eq!(one(&session).await, 1);
}

#[tokio::test]
async fn new_sessions_go_to_the_new_upstream_and_old_ones_stay() {
    let (first, second) = (Postgres::start(18), Postgres::start(15));
    let swivel = Swivel::in_front_of(&first).start().await;
    let version = async |client: &Client| {
        let row = client.query_one("SHOW server_version_num", &[]).await.unwrap();
        row.get::<_, String>(0)[..2].to_owned()
    };
    let session = swivel.connect().await;
    swivel.rewrite(&first.address(), &second.address()).await;
    assert_eq!(version(&swivel.connect().await).await, "15");
    assert_eq!(version(&session).await, "18");
}

#[tokio::test]
async fn a_new_certificate_is_seen_by_the_next_client_and_ends_no_session() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).with_tls().start().await;
    let connect = async |tls: crate::support::TlsConnector| {
        let mut config = swivel.config();
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(tls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    };
    let session = connect(swivel.tls()).await.expect("the first certificate");
    let another = Authority::new();
    another
        .server(&["localhost"])
        .write(swivel.directory(), "listener");
    let trusting = || crate::support::TlsConnector::new(another.trusting_client(&[]), "localhost");
    eventually("the new certificate is served", async || {
        connect(trusting()).await.is_some()
    })
    .await;
    assert!(connect(swivel.tls()).await.is_none(), "the old one is not");
    assert_eq!(one(&session).await, 1);
    assert!(swivel.said("listener.pem") > 0);
}

#[tokio::test]
async fn a_new_authority_of_the_upstream_counts_from_the_next_login_on() {
    let postgres = Postgres::start(18);
    let stranger = Authority::new();
    let unstarted = Swivel::in_front_of(&postgres);
    let file = unstarted.directory().join("roots.pem");
    std::fs::write(&file, stranger.pem()).unwrap();
    let tls = format!(
        "{{ mode = \"verify-full\", ca = \"{}\", server_name = \"localhost\" }}",
        file.display()
    );
    let swivel = unstarted.upstream_tls(&tls).start().await;
    assert!(
        swivel.try_connect().await.is_err(),
        "nobody vouches for the server"
    );
    std::fs::write(&file, postgres.authority().pem()).unwrap();
    eventually("the server is trusted", async || {
        swivel.try_connect().await.is_ok()
    })
    .await;
}

/// Who cleans up too much, or mounts anew: what was read is good until something else can be.
#[tokio::test]
async fn certificates_that_are_deleted_stay_in_use_and_are_found_again() {
    let postgres = Postgres::start(18);
    let unstarted = Swivel::in_front_of(&postgres).with_tls();
    let roots = unstarted.directory().join("roots.pem");
    std::fs::write(&roots, postgres.authority().pem()).unwrap();
    let tls = format!(
        "{{ mode = \"verify-full\", ca = \"{}\", server_name = \"localhost\" }}",
        roots.display()
    );
    let swivel = unstarted.upstream_tls(&tls).start().await;
    let connect = async |tls: crate::support::TlsConnector| {
        let mut config = swivel.config();
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        let (client, connection) = config.connect(tls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    };
    let session = connect(swivel.tls()).await.expect("all is well");
    let listener = swivel.directory().join("listener.pem");
    for (round, file) in [&roots, &listener].into_iter().enumerate() {
        std::fs::remove_file(file).unwrap();
        eventually("it is said", async || swivel.said("ignored") == round + 1).await;
        swivel.refresh();
        assert_eq!(one(&session).await, 1);
        assert_eq!(one(&connect(swivel.tls()).await.expect("a new one")).await, 1);
        assert_eq!(swivel.status_of("/readyz").await, 200);
        let another = Authority::new();
        match round {
            0 => std::fs::write(file, postgres.authority().pem()).unwrap(),
            _ => drop(
                another
                    .server(&["localhost"])
                    .write(swivel.directory(), "listener"),
            ),
        }
        eventually("it is valid again", async || {
            swivel.said("configuration valid again") + swivel.said("configuration changed") > round
        })
        .await;
        if round == 1 {
            let trusting = || crate::support::TlsConnector::new(another.trusting_client(&[]), "localhost");
            eventually("the new certificate is served", async || {
                connect(trusting()).await.is_some()
            })
            .await;
        }
    }
    assert_eq!(one(&session).await, 1);
}

#[tokio::test]
async fn what_is_not_valid_is_said_once_with_all_that_is_wrong_and_changes_nothing() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let sound = swivel.written();
    let broken = sound
        .replace("secret = \"orders\"", "secret = \"ordes\"")
        .replace("[admin]", "[limits]\nclients = 0\n[admin]");
    swivel.write_config(&broken);
    eventually("it is said", async || swivel.said("ignored") == 1).await;
    assert_eq!(swivel.said("configuration not valid"), 2);
    for problem in ["did you mean \\\"orders\\\"", "limits.clients"] {
        assert_eq!(swivel.said(problem), 1, "{problem}");
    }
    assert_eq!(one(&swivel.connect().await).await, 1);
    // A file beside it moves, and every look sees the same invalid configuration.
    for round in 0..5 {
        std::fs::write(swivel.directory().join("beside"), round.to_string()).unwrap();
        assert_eq!(one(&swivel.connect().await).await, 1);
    }
    swivel.refresh();
    eventually("who asks is answered", async || swivel.said("ignored") == 2).await;
    assert_eq!(swivel.said("configuration not valid"), 4);
    swivel.write_config(&sound);
    eventually("it is valid again", async || {
        swivel.said("configuration valid again") == 1
    })
    .await;
    assert_eq!(one(&swivel.connect().await).await, 1);
    assert_eq!(swivel.said("configuration not valid"), 4);
}

#[tokio::test]
async fn what_needs_a_restart_says_so_once_and_the_rest_is_changed() {
    let postgres = Postgres::start(18);
    let swivel = Swivel::in_front_of(&postgres).start().await;
    let admin = format!("127.0.0.1:{}", swivel.admin_port());
    let text = format!("workers = 2\n{}", swivel.written());
    let text = text.replace(&admin, "127.0.0.1:1") + "[log]\nformat = \"text\"\n";
    swivel.reconfigure(&text).await;
    eventually("it is said", async || {
        swivel.said("\"keys\":\"workers, admin.address, log.format\"") == 1
    })
    .await;
    swivel.add("[login]\npatience = \"29s\"\n").await;
    swivel.refresh();
    eventually("it is read again", async || {
        swivel.said("nothing has changed") == 1
    })
    .await;
    assert_eq!(swivel.said("needs a restart"), 1);
    assert_eq!(swivel.status_of("/livez").await, 200);
}
