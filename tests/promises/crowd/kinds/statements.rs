//! The ways to run a statement.

use futures_util::future::join_all;
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

use super::super::desk::{Desk, Trouble, check};
use super::Kind;

const INSERT: &str = "INSERT INTO writes VALUES ($1, $2) RETURNING number";

/// Simple queries, of several statements each, and DDL now and then.
pub struct Simple {
    /// The last that it set a setting to.
    set: Option<i64>,
}

impl Kind for Simple {
    const NAME: &'static str = "simple";

    async fn begin(_: &mut Desk) -> Result<Self, Trouble> {
        Ok(Self { set: None })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        if let Some(set) = self.set {
            check(
                "a setting",
                &desk.simple("SHOW crowd.step").await?,
                &vec![set.to_string()],
            )?;
        }
        let (session, number) = (desk.session, desk.number());
        self.set = None;
        let set = if desk.may_fail {
            String::new()
        } else {
            format!("SET crowd.step = '{number}';")
        };
        let insert = format!("INSERT INTO writes VALUES ({session}, {number}) RETURNING number");
        if desk.is_single {
            let answer = desk.simple(&insert).await;
            let rows = desk.told(&[number], answer)?;
            return check("an answer", &rows, &vec![number.to_string()]);
        }
        let sql = format!("{insert}; {set} SELECT 'naïve 𝄞 {number}'");
        let answer = desk.simple(&sql).await;
        let rows = desk.told(&[number], answer)?;
        self.set = (!desk.may_fail).then_some(number);
        check(
            "two answers",
            &rows,
            &vec![number.to_string(), format!("naïve 𝄞 {number}")],
        )?;
        if number % 16 == 0 && !desk.may_fail {
            let table = format!("made_by_{session}");
            let sql = format!(
                "CREATE TABLE {table} AS SELECT {number} AS n; \
                 SELECT n || tableowner FROM {table}, pg_tables WHERE tablename = '{table}'; DROP TABLE {table}"
            );
            check(
                "a table",
                &desk.simple(&sql).await?,
                &vec![format!("{number}orders_owner")],
            )?;
        }
        Ok(())
    }
}

/// Statements of the extended protocol that live for one query, with and without a name.
pub struct Extended;

impl Kind for Extended {
    const NAME: &'static str = "extended";

    async fn begin(_: &mut Desk) -> Result<Self, Trouble> {
        Ok(Self)
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let number = desk.number();
        let answer = desk.client.query_one(INSERT, &[&desk.session, &number]).await;
        let row = desk.told(&[number], answer)?;
        check("a named statement", &row.get::<_, i64>(0), &number)?;
        let number = desk.number();
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
            [(&desk.session, Type::INT4), (&number, Type::INT8)];
        let answer = desk.client.query_typed(INSERT, &parameters).await;
        let rows = desk.told(&[number], answer)?;
        check("an unnamed statement", &rows[0].get::<_, i64>(0), &number)
    }
}

/// Statements that are kept, of both protocols.
pub struct Prepared {
    insert: Statement,
    add: Statement,
}

impl Kind for Prepared {
    const NAME: &'static str = "prepared";

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        desk.client
            .batch_execute("PREPARE doubled (int) AS SELECT $1 * 2")
            .await?;
        Ok(Self {
            insert: desk.client.prepare(INSERT).await?,
            add: desk
                .client
                .prepare("SELECT $1::int8 + 1, $2::text || '!'")
                .await?,
        })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let number = desk.number();
        let answer = desk
            .client
            .query_one(&self.insert, &[&desk.session, &number])
            .await;
        let row = desk.told(&[number], answer)?;
        check("what was inserted", &row.get::<_, i64>(0), &number)?;
        let row = desk.client.query_one(&self.add, &[&number, &"naïve"]).await?;
        let sums: (i64, String) = (row.get(0), row.get(1));
        check("a sum", &sums, &(number + 1, "naïve!".to_owned()))?;
        if desk.may_fail {
            return Ok(());
        }
        let doubled = desk.simple(&format!("EXECUTE doubled ({number})")).await?;
        check("a double", &doubled, &vec![(number * 2).to_string()])?;
        let sql =
            "SELECT string_agg(statement, ';' ORDER BY from_sql, statement) FROM pg_prepared_statements";
        let expected = "INSERT INTO writes VALUES ($1, $2) RETURNING number;SELECT $1::int8 + 1, $2::text || '!';\
                        PREPARE doubled (int) AS SELECT $1 * 2";
        check(
            "what is prepared",
            &desk.simple(sql).await?,
            &vec![expected.to_owned()],
        )
    }
}

/// Many requests on their way at once.
pub struct Pipelined {
    insert: Statement,
}

impl Kind for Pipelined {
    const NAME: &'static str = "pipelined";

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        let insert = desk.client.prepare(INSERT).await?;
        Ok(Self { insert })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let numbers: Vec<i64> = (0..8).map(|_| desk.number()).collect();
        let inserts = numbers.iter().map(async |number| {
            let answer = desk
                .client
                .query_one(&self.insert, &[&desk.session, number])
                .await;
            desk.told(&[*number], answer).map(|row| row.get::<_, i64>(0))
        });
        for (answer, number) in join_all(inserts).await.into_iter().zip(&numbers) {
            check("an answer in its place", &answer?, number)?;
        }
        Ok(())
    }
}
