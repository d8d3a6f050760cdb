//! A client goes by what it was told of a statement. Postgres refuses a statement whose result has become another.

use super::detail;
use crate::moves::{Carried, moving, rotate};
use crate::rescue::before;
use crate::support::{Postgres, eventually};

const CHANGES: &str = "ALTER TABLE t DROP COLUMN a; ALTER TABLE t ADD COLUMN c text DEFAULT 'c'";

async fn table(postgres: &Postgres) {
    let user = Postgres::USER;
    postgres
        .execute(&format!(
            "CREATE TABLE t AS SELECT 1 AS a, 2 AS b; ALTER TABLE t OWNER TO {user}"
        ))
        .await;
}

promise! {
    async fn a_statement_whose_columns_have_changed_does_not_survive_its_backend(version) {
        for (name, is_surveyed) in [("all", false), ("all", true), ("", false)] {
            let postgres = Postgres::start(version);
            table(&postgres).await;
            let swivel = before(&postgres).await;
            let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
            session.prepares(name, "SELECT * FROM t").await;
            assert_eq!(session.reads(name).await, "1");
            if is_surveyed {
                session.query("SET work_mem = '5MB'").await;
                session.is_surveyed(&postgres).await;
            }
            postgres.execute(CHANGES).await;
            let error = session.does_not_survive(&postgres).await;
            assert!(detail(&error).contains("prepared statement"), "{name}: {error:?}");
        }
    }
}

promise! {
    async fn a_statement_whose_parameters_have_changed_does_not_survive_its_backend(version) {
        let postgres = Postgres::start(version);
        table(&postgres).await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
        session.prepares("one", "SELECT b FROM t WHERE a = $1").await;
        postgres.execute("ALTER TABLE t ALTER COLUMN a TYPE text").await;
        let error = session.does_not_survive(&postgres).await;
        assert!(detail(&error).contains("prepared statement"), "{error:?}");
    }
}

promise! {
    /// A table that was made anew as it was is none the wiser; and who was told nothing misses nothing.
    async fn statements_that_give_what_they_gave_survive_their_backend(version) {
        let postgres = Postgres::start(version);
        table(&postgres).await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
        session.prepares("all", "SELECT * FROM t").await;
        session.prepares("none", "SET work_mem = '5MB'").await;
        session.prepares("", "SELECT b FROM t").await;
        let user = Postgres::USER;
        postgres
            .execute(&format!(
                "DROP TABLE t; CREATE TABLE t AS SELECT 3 AS a, 4 AS b; ALTER TABLE t OWNER TO {user}"
            ))
            .await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("").await, "4");
        assert_eq!(session.reads("all").await, "3");
        // Made anew under the same name: what was told before is nobody's any more.
        session.extended(&[(b'C', b"Sall\0")]).await;
        session.prepares("all", "SELECT b FROM t").await;
        session.is_terminated(&postgres).await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("all").await, "4");
    }
}

promise! {
    async fn an_unnamed_statement_whose_columns_have_changed_keeps_its_session(version) {
        let postgres = Postgres::start(version);
        table(&postgres).await;
        let swivel = moving(&postgres, Postgres::USER).await;
        let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
        let mut free = Carried::through(&swivel, &postgres, "free", &[]).await;
        session.prepares("", "SELECT * FROM t").await;
        assert_eq!(session.reads("").await, "1");
        postgres.execute(CHANGES).await;
        rotate(&postgres, &swivel, Postgres::USER, "next").await;
        free.moves(&postgres).await;
        eventually("its pin is named", async || {
            crate::support::admin::status(&swivel).await.to_string().contains("unreplayable_statement")
        })
        .await;
        assert!(session.stayed(&postgres).await);
        let answer = session.executes("").await;
        assert_eq!(answer[0].error().message, "cached plan must not change result type");
        session.prepares("", "SELECT b FROM t").await;
        session.moves(&postgres).await;
        assert_eq!(session.reads("").await, "2");
    }
}

promise! {
    /// Whatever way its client got to know what it gives; and whoever made it.
    async fn a_statement_that_was_described_in_another_way_does_not_survive_other_columns(version) {
        for way in ["its portal", "by its name from SQL"] {
            let postgres = Postgres::start(version);
            table(&postgres).await;
            let swivel = before(&postgres).await;
            let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
            let described = match way {
                "its portal" => {
                    let answer = session
                        .extended(&[
                            (b'P', b"all\0SELECT * FROM t\0\0\0"),
                            (b'B', b"\0all\0\0\0\0\0\0\0"),
                            (b'D', b"P\0"),
                            (b'E', b"\0\0\0\0\0"),
                        ])
                        .await;
                    // And not again, as drivers do that keep it in mind.
                    assert_eq!(session.reads("all").await, "1");
                    answer
                }
                _ => {
                    session.query("PREPARE \"all\" AS SELECT * FROM t").await;
                    session.extended(&[(b'D', b"Sall\0")]).await
                }
            };
            assert!(described.iter().any(|message| message.tag == b'T'), "{way}: {described:?}");
            session.query("SET work_mem = '5MB'").await;
            session.is_surveyed(&postgres).await;
            postgres.execute(CHANGES).await;
            let error = session.does_not_survive(&postgres).await;
            assert!(detail(&error).contains("prepared statement"), "{way}: {error:?}");
        }
    }
}

promise! {
    async fn a_statement_of_a_type_that_was_made_anew_does_not_survive_its_backend(version) {
        let postgres = Postgres::start(version);
        let user = Postgres::USER;
        let make = format!(
            "CREATE TYPE mood AS ENUM ('glad'); CREATE TABLE t AS SELECT 'glad'::mood AS m; \
             ALTER TYPE mood OWNER TO {user}; ALTER TABLE t OWNER TO {user}"
        );
        postgres.execute(&make).await;
        let swivel = before(&postgres).await;
        let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
        session.prepares("mood", "SELECT m FROM t").await;
        postgres.execute(&format!("DROP TABLE t; DROP TYPE mood; {make}")).await;
        let error = session.does_not_survive(&postgres).await;
        assert!(detail(&error).contains("prepared statement"), "{error:?}");
    }
}

promise! {
    /// DEALLOCATE and DISCARD take with them what was told.
    async fn what_was_told_of_statements_that_are_gone_ends_nobody(version) {
        for gone in ["DEALLOCATE ALL", "DISCARD ALL", "DEALLOCATE \"all\""] {
            let postgres = Postgres::start(version);
            table(&postgres).await;
            let swivel = before(&postgres).await;
            let mut session = Carried::through(&swivel, &postgres, "told", &[]).await;
            session.prepares("all", "SELECT * FROM t").await;
            session.query("SET work_mem = '5MB'").await;
            session.is_surveyed(&postgres).await;
            postgres.execute(CHANGES).await;
            session.query(gone).await;
            session.is_terminated(&postgres).await;
            session.moves(&postgres).await;
            session.prepares("all", "SELECT b FROM t").await;
            assert_eq!(session.reads("all").await, "2");
        }
    }
}
