//! A session on a link that is lent begins as one on a new link would.

use std::collections::BTreeMap;

use super::{ask, backend, is_washed, leave, lending, login};
use crate::support::admin::Scrape;
use crate::support::wire::PROTOCOL_3_0;
use crate::support::{Postgres, Stop, Swivel, Wire, eventually};

/// What the server reported at a login.
type Greeting = BTreeMap<String, String>;

async fn greeted(address: &str, user: &str, password: &str) -> (Wire, Greeting) {
    let mut wire = Wire::connect(address).await;
    wire.startup(PROTOCOL_3_0, &[("user", user), ("database", Postgres::DATABASE)])
        .await;
    wire.authenticate(password.as_bytes()).await.unwrap();
    let messages = wire.until(b'Z').await;
    let reported = messages.iter().filter(|message| message.tag == b'S');
    let greeting = reported.map(|message| message.parameter()).collect();
    (wire, greeting)
}

async fn through(swivel: &Swivel) -> (Wire, Greeting) {
    greeted(&swivel.address(), Swivel::USER, Swivel::PASSWORD).await
}

async fn direct(postgres: &Postgres) -> (Wire, Greeting) {
    greeted(&postgres.address(), Postgres::USER, Postgres::PASSWORD).await
}

/// Settings that differ from what they are by default.
const SETTINGS: &str = "SELECT string_agg(concat_ws(' ', name, setting, source), ',' ORDER BY name) FROM pg_settings \
     WHERE name IN ('work_mem', 'statement_timeout', 'TimeZone', 'DateStyle', 'search_path', 'in_hot_standby', \
     'default_transaction_read_only')";

/// A session comes and goes, so that there is a link that could be lent. Its backend.
async fn comes_and_goes(postgres: &Postgres, swivel: &Swivel) -> i32 {
    let mut wire = login(swivel, &[]).await;
    let left = backend(&mut wire).await;
    leave(wire).await;
    is_washed(postgres, left).await;
    left
}

/// Waits until a new session of the server itself would be told so.
async fn begins_with(postgres: &Postgres, setting: &str, value: &str) {
    eventually(value, async || {
        let (mut wire, _) = direct(postgres).await;
        ask(&mut wire, &format!("SHOW {setting}")).await.unwrap() == value
    })
    .await;
}

promise! {
    async fn what_changed_since_a_link_was_opened_is_in_force_for_its_next_session(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let user = Postgres::USER;
        for change in [
            format!("ALTER ROLE {user} SET work_mem = '5MB'"),
            format!("ALTER ROLE {user} SET work_mem = '6MB'"),
            "ALTER DATABASE orders SET statement_timeout = '77s'".to_owned(),
            format!("ALTER ROLE {user} IN DATABASE orders SET TimeZone = 'Asia/Tokyo'"),
            "ALTER ROLE ALL SET DateStyle = 'German, DMY'".to_owned(),
            format!("ALTER ROLE {user} RESET work_mem"),
            format!("ALTER ROLE {user} IN DATABASE orders RESET ALL"),
            format!("ALTER ROLE {user} SET default_transaction_read_only = on"),
        ] {
            comes_and_goes(&postgres, &swivel).await;
            postgres.execute(&change).await;
            let (mut through, told) = through(&swivel).await;
            let (mut direct, expected) = direct(&postgres).await;
            assert_eq!(told, expected, "{change}");
            assert_eq!(ask(&mut through, SETTINGS).await, ask(&mut direct, SETTINGS).await, "{change}");
            leave(through).await;
        }
        let unchanged = comes_and_goes(&postgres, &swivel).await;
        assert_eq!(comes_and_goes(&postgres, &swivel).await, unchanged, "what is as it was is lent");
    }
}

promise! {
    async fn a_changed_configuration_of_the_server_is_in_force_for_the_next_session(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        for (change, setting, value) in [
            ("ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'", "TimeZone", "Asia/Tokyo"),
            ("ALTER SYSTEM SET DateStyle = 'German, DMY'", "DateStyle", "German, DMY"),
            ("ALTER SYSTEM SET statement_timeout = '77s'", "statement_timeout", "77s"),
        ] {
            comes_and_goes(&postgres, &swivel).await;
            let admin = postgres.admin().await;
            admin.batch_execute(change).await.unwrap();
            admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
            begins_with(&postgres, setting, value).await;
            let (mut through, told) = through(&swivel).await;
            let (mut direct, expected) = direct(&postgres).await;
            assert_eq!(told, expected, "{change}");
            assert_eq!(ask(&mut through, SETTINGS).await, ask(&mut direct, SETTINGS).await, "{change}");
            leave(through).await;
        }
    }
}

promise! {
    async fn who_comes_after_a_promotion_is_told_so(version) {
        let mut postgres = Postgres::start(version);
        postgres.stop(Stop::Fast);
        postgres.begin_as_a_standby();
        postgres.start_again();
        let swivel = lending(&postgres, &["reuse = true"]).await;
        comes_and_goes(&postgres, &swivel).await;
        let (standby, told) = through(&swivel).await;
        assert_eq!(told["in_hot_standby"], "on");
        leave(standby).await;
        postgres.admin().await.query("SELECT pg_promote()", &[]).await.unwrap();
        begins_with(&postgres, "in_hot_standby", "off").await;
        let (_, told) = through(&swivel).await;
        assert_eq!(told["in_hot_standby"], "off");
    }
}

promise! {
    async fn who_may_not_log_in_any_more_is_lent_nothing(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        for (forbids, allows) in [
            (format!("ALTER ROLE {user} NOLOGIN"), format!("ALTER ROLE {user} LOGIN")),
            (format!("ALTER ROLE {user} VALID UNTIL '2001-01-01'"), format!("ALTER ROLE {user} VALID UNTIL 'infinity'")),
            (
                "REVOKE CONNECT ON DATABASE orders FROM PUBLIC; ALTER DATABASE orders OWNER TO postgres".to_owned(),
                format!("GRANT CONNECT ON DATABASE orders TO {user}"),
            ),
        ] {
            let swivel = Swivel::in_front_of(&postgres)
                .trusting()
                .credential(user, Postgres::PASSWORD)
                .upstream_line("reuse = true")
                .section("[login]\npatience = \"1s\"")
                .start()
                .await;
            comes_and_goes(&postgres, &swivel).await;
            postgres.execute(&forbids).await;
            assert!(swivel.try_connect().await.is_err(), "{forbids}");
            postgres.execute(&allows).await;
        }
    }
}

promise! {
    async fn custom_settings_of_the_last_client_are_absent(version) {
        let postgres = Postgres::start(version);
        postgres
            .execute(
                "CREATE FUNCTION remember() RETURNS void LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM set_config('app.user_id', '7', false); END $$; \
                 CREATE FUNCTION within() RETURNS void LANGUAGE plpgsql SET app.user_id = '8' AS $$ BEGIN END $$",
            )
            .await;
        let swivel = lending(&postgres, &["reuse = true"]).await;
        for (count, set) in [
            "SET app.user_id = '1'",
            "SET SESSION \"App\".\"USER_ID\" = '2'",
            "SELECT set_config('app.user_id', '3', false)",
            "SELECT set_config('app.user_id', '4', true)",
            "BEGIN; SET LOCAL app.user_id = '5'; COMMIT",
            "BEGIN; SET app.user_id = '6'; ROLLBACK",
            "SELECT remember()",
            "SELECT within()",
            "DO $$ BEGIN PERFORM set_config('app.user_id', '9', false); END $$",
        ]
        .into_iter()
        .enumerate()
        {
            let mut first = login(&swivel, &[]).await;
            ask(&mut first, set).await;
            leave(first).await;
            let not_lent = ["reason=\"custom_setting\""];
            eventually("the link is not lent", async || {
                Scrape::of(&swivel).await.sum("pgswivel_links_not_lent_total", &not_lent) > count as f64
            })
            .await;
            let mut second = login(&swivel, &[]).await;
            let asked = "SELECT coalesce(current_setting('app.user_id', true), 'absent')";
            assert_eq!(ask(&mut second, asked).await.unwrap(), "absent", "{set}");
            leave(second).await;
        }
    }
}

promise! {
    /// It counts from the last answer, and that was for somebody else.
    async fn who_may_be_idle_for_so_long_may_be_from_the_beginning(version) {
        let postgres = Postgres::start(version);
        postgres.execute(&format!("ALTER ROLE {} SET idle_session_timeout = '100s'", Postgres::USER)).await;
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let mut first = login(&swivel, &[]).await;
        let left = backend(&mut first).await;
        leave(first).await;
        let mut second = login(&swivel, &[]).await;
        assert_ne!(backend(&mut second).await, left);
    }
}

promise! {
    async fn what_runs_at_each_login_runs_for_each_session(version) {
        let postgres = Postgres::start(version);
        if version < 17 {
            return;
        }
        postgres
            .execute(
                "CREATE TABLE logins (); GRANT ALL ON logins TO PUBLIC; \
                 CREATE FUNCTION note() RETURNS event_trigger LANGUAGE plpgsql AS \
                 $$ BEGIN IF session_user = 'orders_v1' AND current_setting('application_name') = 'counted' \
                 THEN INSERT INTO logins DEFAULT VALUES; END IF; END $$",
            )
            .await;
        let swivel = lending(&postgres, &["reuse = true"]).await;
        let counted = [("application_name", "counted")];
        let mut before = login(&swivel, &counted).await;
        let left = backend(&mut before).await;
        leave(before).await;
        is_washed(&postgres, left).await;
        postgres.execute("CREATE EVENT TRIGGER note ON login EXECUTE FUNCTION note()").await;
        for times in ["1", "2", "3"] {
            let mut wire = login(&swivel, &counted).await;
            assert_eq!(ask(&mut wire, "SELECT count(*) FROM logins").await.unwrap(), times);
            leave(wire).await;
        }
    }
}

promise! {
    async fn a_link_on_which_an_unknown_function_was_called_is_not_lent(version) {
        let postgres = Postgres::start(version);
        let swivel = lending(&postgres, &["reuse = true"]).await;
        // What the database has is learned by then.
        let known = comes_and_goes(&postgres, &swivel).await;
        assert_eq!(comes_and_goes(&postgres, &swivel).await, known);
        let mut first = login(&swivel, &[]).await;
        let left = backend(&mut first).await;
        postgres
            .execute(
                "CREATE FUNCTION sow() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM setseed(0.5); END $$",
            )
            .await;
        ask(&mut first, "SELECT sow()").await;
        leave(first).await;
        let mut second = login(&swivel, &[]).await;
        assert_ne!(backend(&mut second).await, left);
        leave(second).await;
        // By now it is known for what it does.
        for _ in 0..3 {
            let mut wire = login(&swivel, &[]).await;
            let left = backend(&mut wire).await;
            ask(&mut wire, "SELECT sow()").await;
            leave(wire).await;
            let mut next = login(&swivel, &[]).await;
            assert_ne!(backend(&mut next).await, left);
            leave(next).await;
        }
    }
}
