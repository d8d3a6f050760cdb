//! Transactions of many statements.

use std::time::Duration;

use tokio_postgres::{Client, Error, Statement};

use super::super::desk::{Desk, Trouble, check};
use super::Kind;

const INSERT: &str = "INSERT INTO writes VALUES ($1, $2)";

/// Cursors of SQL and portals of the protocol.
pub struct Cursors {
    insert: Statement,
    count: Statement,
}

impl Kind for Cursors {
    const NAME: &'static str = "cursors";

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        Ok(Self {
            insert: desk.client.prepare(INSERT).await?,
            count: desk.client.prepare("SELECT generate_series(1, 1000)").await?,
        })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let numbers = [desk.number()];
        in_transaction(desk, &self.insert, &numbers, async |desk| {
            let declare = "DECLARE numbers CURSOR FOR SELECT n FROM generate_series(1, 1000) n";
            desk.client.batch_execute(declare).await?;
            let mut sum = 0;
            for _ in 0..10 {
                let rows = desk.simple("FETCH 100 FROM numbers").await?;
                sum += rows.iter().map(|row| row.parse::<i64>().unwrap()).sum::<i64>();
            }
            check("a sum over a cursor", &sum, &500_500)
        })
        .await?;
        let (session, number) = (desk.session, desk.number());
        match self.through_a_portal(&mut desk.client, session, number).await {
            Ok((sum, committed)) => {
                desk.told(&[number], committed)?;
                check("a sum over a portal", &sum, &500_500)
            }
            Err(error) => {
                desk.undone(&[number]);
                Err(error.into())
            }
        }
    }
}

impl Cursors {
    /// What was read, and what came of the COMMIT.
    async fn through_a_portal(
        &self,
        client: &mut Client,
        session: i32,
        number: i64,
    ) -> Result<(i64, Result<(), Error>), Error> {
        let transaction = client.transaction().await?;
        transaction.execute(&self.insert, &[&session, &number]).await?;
        let portal = transaction.bind(&self.count, &[]).await?;
        let mut sum = 0;
        for _ in 0..10 {
            let rows = transaction.query_portal(&portal, 100).await?;
            sum += rows
                .iter()
                .map(|row| i64::from(row.get::<_, i32>(0)))
                .sum::<i64>();
        }
        Ok((sum, transaction.commit().await))
    }
}

/// Transactions that stay open for a while.
pub struct Long {
    insert: Statement,
}

impl Kind for Long {
    const NAME: &'static str = "long";

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        let insert = desk.client.prepare(INSERT).await?;
        Ok(Self { insert })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        let numbers = [desk.number(), desk.number(), desk.number()];
        in_transaction(desk, &self.insert, &numbers, async |desk| {
            let last = numbers[2];
            let began = desk.simple("SELECT now()::text || pg_current_xact_id()").await?;
            if !desk.may_fail {
                desk.simple(&format!("SET LOCAL crowd.local = '{last}'")).await?;
            }
            desk.simple("SAVEPOINT a").await?;
            desk.client.execute(&self.insert, &[&-1, &last]).await?;
            for _ in 0..2 + last % 4 {
                desk.simple("SELECT pg_sleep(0.05)").await?;
                // Idle in its transaction.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            desk.simple("ROLLBACK TO a").await?;
            let now = desk.simple("SELECT now()::text || pg_current_xact_id()").await?;
            check("one transaction", &now, &began)?;
            if desk.may_fail {
                return Ok(());
            }
            let local = desk.simple("SHOW crowd.local").await?;
            check("a local setting", &local, &vec![last.to_string()])
        })
        .await
    }
}

/// Writes these numbers in one transaction around `work`.
async fn in_transaction(
    desk: &mut Desk,
    insert: &Statement,
    numbers: &[i64],
    work: impl AsyncFnOnce(&Desk) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    let desk = &*desk;
    let worked = async {
        desk.client.batch_execute("BEGIN").await?;
        for number in numbers {
            desk.client.execute(insert, &[&desk.session, number]).await?;
        }
        work(desk).await
    };
    if let Err(trouble) = worked.await {
        desk.undone(numbers);
        return Err(trouble);
    }
    let committed = desk.client.batch_execute("COMMIT").await;
    desk.told(numbers, committed)
}
