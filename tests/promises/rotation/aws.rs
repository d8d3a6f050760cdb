use std::time::Duration;

use serde_json::json;

use super::{Application, MOMENT, ONE_AT_A_TIME, Window, found_out};
use crate::support::aws::{Aws, REGION, Secret, StandIn};
use crate::support::http::{FaultProxy, Reply};
use crate::support::swivel::Unstarted;
use crate::support::{Postgres, Swivel, Version, eventually};

const NEXT: &str = "upstream-secret-2";

/// Each stand-in meets another PostgreSQL.
fn version(aws: &Aws) -> Version {
    match aws.stand_in {
        StandIn::Moto => 15,
        StandIn::Ministack => 18,
    }
}

/// A secret as RDS and the rotation templates write it.
fn login(user: &str, password: &str) -> String {
    json!({ "username": user, "password": password }).to_string()
}

/// One whose secret is behind `url`. It is read every five minutes, unless something happens.
fn before(postgres: &Postgres, secret: &Secret<'_>, url: &str) -> Unstarted {
    Swivel::in_front_of(postgres)
        .trusting()
        .section(ONE_AT_A_TIME)
        .store("aws-secretsmanager", &secret.name)
        .environment("AWS_ENDPOINT_URL", url)
        .environment("AWS_REGION", REGION)
        .environment("AWS_ACCESS_KEY_ID", "AKID")
        .environment("AWS_SECRET_ACCESS_KEY", "SECRET")
}

/// A secret that holds what Postgres takes.
async fn secret(aws: &Aws) -> Secret<'_> {
    let secret = aws.name_a_secret();
    secret.create(&login(Postgres::USER, Postgres::PASSWORD)).await;
    secret
}

aws_promise! {
    /// createSecret, setSecret, testSecret, finishSecret, as RDS and the Lambda templates do it.
    async fn the_four_steps_of_a_rotation_a_second_apart(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        let swivel = before(&postgres, &secret, &aws.url()).start().await;
        let application = Application::of(&swivel).await;
        let second = Duration::from_secs(1);

        let pending = secret.put_pending(&login(Postgres::USER, NEXT)).await;
        tokio::time::sleep(second).await;
        postgres.change_password(Postgres::USER, NEXT).await;
        application.is_served().await;
        tokio::time::sleep(second).await;
        let tested = postgres.config().password(NEXT).connect(tokio_postgres::NoTls).await;
        drop(tested.unwrap());
        tokio::time::sleep(second).await;
        secret.promote(&pending).await;
        swivel.refresh();
        application.is_served().await;
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 1, "the old one, once");
    }
}

aws_promise! {
    /// finishSecret never comes: AWSCURRENT stays wrong for ever.
    async fn a_rotation_that_stops_half_way_is_survived_and_said(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        secret.put_pending(&login(Postgres::USER, NEXT)).await;
        let swivel = before(&postgres, &secret, &aws.url()).secret_line("poll = \"200ms\"").start().await;
        let application = Application::of(&swivel).await;
        postgres.change_password(Postgres::USER, NEXT).await;
        Window::open().pass().await;
        application.is_served().await;
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 1, "the old one, once");
        assert_eq!(swivel.said("the store's current credential does not work and this one does"), 1);
    }
}

aws_promise! {
    async fn either_side_may_be_first_without_a_pending_version(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        let swivel = before(&postgres, &secret, &aws.url()).start().await;
        let application = Application::of(&swivel).await;

        let window = Window::open();
        postgres.change_password(Postgres::USER, NEXT).await;
        window.pass().await;
        secret.put(&login(Postgres::USER, NEXT)).await;
        let window = window.close();
        application.is_served().await;

        let refused = postgres.refusals();
        secret.put(&login(Postgres::USER, "third")).await;
        swivel.refresh();
        eventually("the new password is tried too early", async || postgres.refusals() > refused).await;
        postgres.change_password(Postgres::USER, "third").await;
        application.is_served().await;
        application.leave().await.is_untroubled(found_out(window) + MOMENT);
        assert!(postgres.refusals() <= refused + 2, "{} refused", postgres.refusals());
    }
}

aws_promise! {
    async fn a_cold_start_between_set_secret_and_finish_secret(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        let pending = secret.put_pending(&login(Postgres::USER, NEXT)).await;
        postgres.change_password(Postgres::USER, NEXT).await;
        let swivel = before(&postgres, &secret, &aws.url()).start().await;
        let application = Application::of(&swivel).await;
        secret.promote(&pending).await;
        swivel.refresh();
        application.is_served().await;
        application.leave().await.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 1, "AWSCURRENT, once");
    }
}

aws_promise! {
    /// Two users take turns, and the objects they make belong to one owner.
    async fn alternating_users_are_followed_and_own_nothing_themselves(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        let owner = "CREATE ROLE orders_owner; GRANT CREATE ON SCHEMA public TO orders_owner;
                     GRANT orders_owner TO orders_v1";
        postgres.execute(owner).await;
        let swivel = before(&postgres, &secret, &aws.url()).role_line("set_role = \"orders_owner\"");
        let swivel = swivel.secret_line("poll = \"200ms\"").start().await;
        let application = Application::asking(&swivel, "SELECT session_user::text").await;
        make_tables(&swivel, "first").await;

        // setSecret of the multi-user template makes the other user a copy of the first.
        let clone = "orders_v1_clone";
        let pending = secret.put_pending(&login(clone, NEXT)).await;
        postgres.create_user(clone, NEXT).await;
        postgres.execute(&format!("GRANT orders_owner TO {clone}")).await;
        secret.promote(&pending).await;
        application.is_served_as(clone).await;
        make_tables(&swivel, "second").await;

        let pending = secret.put_pending(&login(Postgres::USER, "third")).await;
        postgres.change_password(Postgres::USER, "third").await;
        secret.promote(&pending).await;
        application.is_served_as(Postgres::USER).await;
        make_tables(&swivel, "third").await;

        let report = application.leave().await;
        report.is_untroubled(MOMENT);
        assert_eq!(postgres.refusals(), 0);
        let sql = "SELECT count(*), count(DISTINCT tableowner), min(tableowner)::text
                   FROM pg_tables WHERE schemaname = 'public'";
        let row = postgres.admin_of(Postgres::DATABASE).await.query_one(sql, &[]).await.unwrap();
        assert_eq!((row.get(0), row.get(1)), (12_i64, 1_i64));
        assert_eq!(row.get::<_, &str>(2), "orders_owner");
    }
}

/// Whatever a session does to its role.
async fn make_tables(swivel: &Swivel, name: &str) {
    let client = swivel.connect().await;
    for (step, sql) in [
        "SELECT 1",
        "SET ROLE none; RESET ROLE",
        "DISCARD ALL",
        "RESET ALL",
    ]
    .iter()
    .enumerate()
    {
        client.batch_execute(sql).await.unwrap();
        let table = format!("CREATE TABLE {name}_{step} ()");
        client.batch_execute(&table).await.unwrap();
    }
}

/// What a rotation that went wrong can leave at AWSPENDING.
#[derive(Clone, Copy, Debug)]
enum Pending {
    Absent,
    WithoutValue,
    EqualToCurrent,
    OnCurrent,
    Dead,
}

aws_promise! {
    async fn whatever_is_pending_is_neither_tried_nor_promoted_nor_an_error(aws) {
        let postgres = Postgres::start(version(aws));
        for pending in [
            Pending::Absent, Pending::WithoutValue, Pending::EqualToCurrent, Pending::OnCurrent, Pending::Dead,
        ] {
            let secret = secret(aws).await;
            let proxy = FaultProxy::before(aws.address.clone()).await;
            leave(&secret, &proxy, pending).await;
            let swivel = before(&postgres, &secret, &proxy.url()).start().await;
            let application = Application::of(&swivel).await;
            let reads = proxy.count("DescribeSecret");
            for read in 1..=3 {
                swivel.refresh();
                eventually("it is read again", async || proxy.count("DescribeSecret") >= reads + read).await;
                application.is_served().await;
            }
            application.leave().await.is_untroubled(MOMENT);
            assert_eq!(postgres.refusals(), 0, "{pending:?}");
            assert_eq!(swivel.said("credential.leading"), 1, "{pending:?}");
            assert_eq!(swivel.said("WARN") + swivel.said("ERROR"), 0, "{pending:?}");
        }
    }
}

aws_promise! {
    /// It has been there for long when the database changes, and is no more use then.
    async fn a_dead_pending_version_is_hardly_tried_when_the_password_changes(aws) {
        let postgres = Postgres::start(version(aws));
        let secret = secret(aws).await;
        secret.put_pending(&login(Postgres::USER, "never set")).await;
        let swivel = before(&postgres, &secret, &aws.url()).start().await;
        let application = Application::of(&swivel).await;
        secret.put(&login(Postgres::USER, NEXT)).await;
        postgres.change_password(Postgres::USER, NEXT).await;
        application.is_served().await;
        application.leave().await.is_untroubled(MOMENT);
        let refused = postgres.refusals();
        // The old one; the dead one if the store was just read; both again if it is slow.
        assert!((1..=4).contains(&refused), "{refused} refused");
    }
}

async fn leave(secret: &Secret<'_>, proxy: &FaultProxy, pending: Pending) {
    match pending {
        Pending::Absent => {}
        Pending::WithoutValue => {
            secret.put_pending(&login(Postgres::USER, "never seen")).await;
            proxy.answer(|asked| {
                let is_pending = asked.is_for("GetSecretValue")
                    && String::from_utf8_lossy(&asked.body).contains("AWSPENDING");
                let words =
                    "Secrets Manager can't find the specified secret value for staging label: AWSPENDING";
                let error = json!({ "__type": "ResourceNotFoundException", "message": words });
                is_pending.then(|| Reply::json(400, &error))
            });
        }
        Pending::EqualToCurrent => {
            secret
                .put_pending(&login(Postgres::USER, Postgres::PASSWORD))
                .await;
        }
        Pending::OnCurrent => {
            let current = secret.current_version().await;
            secret.move_stage("AWSPENDING", None, Some(&current)).await;
        }
        Pending::Dead => {
            secret.put_pending(&login(Postgres::USER, "never set")).await;
        }
    }
}

aws_promise! {
    async fn a_poll_costs_one_description_and_a_change_one_value_a_stage(aws) {
        const POLL: Duration = Duration::from_millis(200);
        let postgres = Postgres::start(version(aws));
        postgres.create_user("orders_v2", NEXT).await;
        let secret = secret(aws).await;
        let proxy = FaultProxy::before(aws.address.clone()).await;
        let start = std::time::Instant::now();
        let swivel = before(&postgres, &secret, &proxy.url()).secret_line("poll = \"200ms\"").start().await;
        let application = Application::of(&swivel).await;
        eventually("it is read a few times", async || proxy.count("DescribeSecret") >= 6).await;
        assert_eq!(proxy.count("GetSecretValue"), 1, "AWSCURRENT, once");

        let pending = secret.put_pending(&login("orders_v2", NEXT)).await;
        eventually("the pending version is seen", async || proxy.count("GetSecretValue") > 1).await;
        let reads = proxy.count("DescribeSecret");
        eventually("it is read a few times", async || proxy.count("DescribeSecret") >= reads + 4).await;
        secret.promote(&pending).await;
        application.is_served_as("orders_v2").await;
        let reads = proxy.count("DescribeSecret");
        eventually("it is read a few times", async || proxy.count("DescribeSecret") >= reads + 4).await;

        let (descriptions, values) = (proxy.count("DescribeSecret"), proxy.count("GetSecretValue"));
        let polls = start.elapsed().as_secs_f64() / (POLL.as_secs_f64() * 0.9);
        let hour = descriptions as f64 / polls * 3600.0 / 270.0;
        println!(
            "{:?}: {descriptions} descriptions in {polls:.0} polls and {values} values for one rotation: \
             at most {hour:.1} descriptions an hour at a poll of 5 minutes",
            aws.stand_in
        );
        application.leave().await.is_untroubled(MOMENT);
        assert!(descriptions as f64 <= polls + 1.0, "{descriptions} in {polls} polls");
        assert_eq!(values, 2, "the first one and the pending one, which became current");
    }
}
