//! Defaults that change while a session is open are for the sessions that begin after that.

use crate::moves::{Carried, moving, rotate};
use crate::rescue::before;
use crate::support::{Postgres, eventually};

/// What a role may have by default, and a session without it does not get on its way.
const DEFAULTS: [(&str, &str); 14] = [
    ("search_path", "elsewhere"),
    ("TimeZone", "'Asia/Tokyo'"),
    ("DateStyle", "'German, DMY'"),
    ("IntervalStyle", "sql_standard"),
    ("default_transaction_isolation", "serializable"),
    ("default_transaction_read_only", "on"),
    ("default_transaction_deferrable", "on"),
    ("statement_timeout", "'77s'"),
    ("lock_timeout", "'78s'"),
    ("idle_in_transaction_session_timeout", "'79s'"),
    ("row_security", "off"),
    ("transform_null_equals", "on"),
    ("bytea_output", "escape"),
    ("role", "owner"),
];

/// A role that may be another, and a table that is not what it seems elsewhere.
async fn database(postgres: &Postgres) {
    let user = Postgres::USER;
    postgres
        .execute(&format!(
            "CREATE TABLE public.place AS SELECT 'here' AS name; CREATE SCHEMA elsewhere; \
             CREATE TABLE elsewhere.place AS SELECT 'there' AS name; CREATE ROLE owner; GRANT owner TO {user}; \
             GRANT USAGE ON SCHEMA elsewhere TO PUBLIC; GRANT SELECT ON public.place, elsewhere.place TO PUBLIC"
        ))
        .await;
}

async fn change_defaults(postgres: &Postgres) {
    for (name, value) in DEFAULTS {
        let sql = format!("ALTER ROLE {} SET {name} = {value}", Postgres::USER);
        postgres.execute(&sql).await;
    }
}

async fn in_force(session: &mut Carried) -> Vec<(&'static str, Vec<String>)> {
    let mut all = Vec::new();
    for (name, _) in DEFAULTS {
        all.push((name, session.query(&format!("SHOW {name}")).await));
    }
    all.push(("place", session.query("SELECT name FROM place").await));
    all
}

promise! {
    async fn an_open_session_keeps_what_it_had_when_the_defaults_change(version) {
        let postgres = Postgres::start(version);
        database(&postgres).await;
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        rescued.query("SET work_mem = '5MB'").await;
        rescued.is_surveyed(&postgres).await;
        let had = in_force(&mut rescued).await;
        change_defaults(&postgres).await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(in_force(&mut rescued).await, had);
        // Again: what was kept is in force, not set by the client.
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(in_force(&mut rescued).await, had);
        let mut fresh = Carried::through(&swivel, &postgres, "fresh", &[]).await;
        assert_eq!(fresh.query("SELECT name FROM place").await, ["there"]);
        rescued.query("RESET search_path").await;
        assert_eq!(rescued.query("SELECT name FROM place").await, ["there"]);
    }
}

promise! {
    async fn a_session_that_moves_keeps_what_it_had_when_the_defaults_change(version) {
        let postgres = Postgres::start(version);
        database(&postgres).await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut moved = Carried::through(&swivel, &postgres, "moved", &[]).await;
        let had = in_force(&mut moved).await;
        change_defaults(&postgres).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        moved.moves(&postgres).await;
        assert_eq!(in_force(&mut moved).await, had);
    }
}

promise! {
    async fn a_session_whose_own_defaults_are_taken_away_keeps_them(version) {
        let postgres = Postgres::start(version);
        database(&postgres).await;
        change_defaults(&postgres).await;
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        rescued.query("SET work_mem = '5MB'").await;
        rescued.is_surveyed(&postgres).await;
        let had = in_force(&mut rescued).await;
        postgres.execute(&format!("ALTER ROLE {} RESET ALL", Postgres::USER)).await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(in_force(&mut rescued).await, had);
    }
}

promise! {
    async fn a_session_that_was_never_asked_keeps_what_its_greeting_told(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        let show = "SELECT current_setting('TimeZone') || current_setting('DateStyle') || \
                    current_setting('IntervalStyle') || current_setting('default_transaction_read_only')";
        let had = rescued.query(show).await;
        change_defaults(&postgres).await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(rescued.query(show).await, had);
    }
}

promise! {
    async fn what_is_the_same_by_default_stays_a_default(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        rescued.query("SET work_mem = '5MB'").await;
        rescued.is_surveyed(&postgres).await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        let set = rescued.query("SELECT name FROM pg_settings WHERE source = 'session'").await;
        assert_eq!(set, ["work_mem"]);
    }
}

promise! {
    /// Postgres itself changes what it reads from its files under every session that has not set it.
    async fn what_a_server_reads_anew_from_its_files_holds_for_an_open_session_too(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        rescued.query("SET work_mem = '5MB'").await;
        rescued.is_surveyed(&postgres).await;
        postgres.execute("ALTER SYSTEM SET statement_timeout = '66s'").await;
        postgres.execute("ALTER SYSTEM SET search_path = 'pg_catalog'").await;
        postgres.execute("SELECT pg_reload_conf()").await;
        eventually("the server has read its files", async || {
            let row = postgres.connect().await.query_one("SHOW statement_timeout", &[]).await.unwrap();
            row.get::<_, &str>(0) == "66s"
        })
        .await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(rescued.query("SHOW statement_timeout").await, ["66s"]);
        assert_eq!(rescued.query("SHOW search_path").await, ["pg_catalog"]);
    }
}

promise! {
    /// Whoever the default is of.
    async fn an_open_session_keeps_what_it_had_when_a_database_has_other_defaults(version) {
        let postgres = Postgres::start(version);
        database(&postgres).await;
        let swivel = before(&postgres).await;
        for (number, of) in ["DATABASE", "ROLE", "ROLE ALL"].iter().enumerate() {
            let name = format!("rescued{number}");
            let mut rescued = Carried::through(&swivel, &postgres, &name, &[]).await;
            rescued.query("SET work_mem = '5MB'").await;
            rescued.is_surveyed(&postgres).await;
            let database = Postgres::DATABASE;
            let change = match *of {
                "DATABASE" => format!("ALTER DATABASE {database}"),
                "ROLE" => format!("ALTER ROLE {} IN DATABASE {database}", Postgres::USER),
                _ => "ALTER ROLE ALL".to_owned(),
            };
            postgres.execute(&format!("{change} SET search_path = elsewhere")).await;
            rescued.is_terminated(&postgres).await;
            rescued.moves(&postgres).await;
            assert_eq!(rescued.query("SELECT name FROM place").await, ["here"], "{of}");
            postgres.execute(&format!("{change} RESET search_path")).await;
        }
    }
}

promise! {
    /// At the time it was reset, the old default was in force.
    async fn what_was_reset_right_before_a_loss_is_what_it_was_reset_to(version) {
        let postgres = Postgres::start(version);
        let swivel = before(&postgres).await;
        for (number, reset) in ["RESET TimeZone; RESET statement_timeout", "RESET ALL", "DISCARD ALL"]
            .iter()
            .enumerate()
        {
            let name = format!("rescued{number}");
            let mut rescued = Carried::through(&swivel, &postgres, &name, &[]).await;
            let show = "SELECT current_setting('TimeZone') || ' ' || current_setting('statement_timeout')";
            rescued.query("SET work_mem = '5MB'").await;
            let had = rescued.query(show).await;
            rescued.is_surveyed(&postgres).await;
            for change in ["SET TimeZone = 'Asia/Tokyo'", "SET statement_timeout = '77s'"] {
                postgres.execute(&format!("ALTER ROLE {} {change}", Postgres::USER)).await;
            }
            rescued.query("SET TimeZone = 'Europe/Paris'; SET statement_timeout = '99s'").await;
            rescued.query(reset).await;
            rescued.is_terminated(&postgres).await;
            rescued.moves(&postgres).await;
            assert_eq!(rescued.query(show).await, had, "{reset}");
            postgres.execute(&format!("ALTER ROLE {} RESET ALL", Postgres::USER)).await;
        }
    }
}

promise! {
    async fn a_session_that_acts_as_another_role_goes_on_as_that_role(version) {
        let postgres = Postgres::start(version);
        database(&postgres).await;
        let user = Postgres::USER;
        postgres.execute(&format!("CREATE ROLE other; GRANT other TO {user}")).await;
        let swivel = before(&postgres).await;
        let mut rescued = Carried::through(&swivel, &postgres, "rescued", &[]).await;
        rescued.query("SET ROLE owner").await;
        rescued.is_surveyed(&postgres).await;
        postgres.execute(&format!("ALTER ROLE {user} SET role = other")).await;
        postgres.execute("ALTER ROLE owner SET search_path = elsewhere").await;
        rescued.is_terminated(&postgres).await;
        rescued.moves(&postgres).await;
        assert_eq!(rescued.query("SELECT current_user").await, ["owner"]);
        assert_eq!(rescued.query("SELECT name FROM place").await, ["here"]);
    }
}
