//! Those who do nothing for a long time, and those who never pause.

use tokio_postgres::Statement;

use super::super::desk::{Desk, Trouble, check};
use super::Kind;

/// Has many settings, and looks at them from time to time.
pub struct Resting {
    settings: Vec<String>,
}

const SETTINGS: &str = "SELECT name || '=' || setting FROM pg_settings WHERE source IN ('session', 'client') \
                        AND name NOT IN ('role') ORDER BY 1";

impl Kind for Resting {
    const NAME: &'static str = "resting";
    const PAUSE_MS: u64 = 1000;

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        for sql in [
            "SET DateStyle = 'German'; SET search_path = public, \"odd \"\" name\"",
            "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE; SET default_transaction_isolation = serializable",
            "DO $$ BEGIN PERFORM set_config('crowd.hidden', 'in a DO', false); END $$",
            "BEGIN; SET crowd.undone = 'never'; ROLLBACK",
        ] {
            desk.client.batch_execute(sql).await?;
        }
        let settings = desk.simple(SETTINGS).await?;
        Ok(Self { settings })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        check("its settings", &desk.simple(SETTINGS).await?, &self.settings)?;
        let sql =
            "SELECT current_setting('crowd.hidden') || coalesce(current_setting('crowd.undone', true), '')";
        check(
            "its own settings",
            &desk.simple(sql).await?,
            &vec!["in a DO".to_owned()],
        )?;
        let number = desk.number();
        let sql = format!("INSERT INTO writes VALUES ({}, {number})", desk.session);
        let answer = desk.simple(&sql).await;
        desk.told(&[number], answer).map(drop)
    }
}

/// One query after the other.
pub struct Restless {
    echo: Statement,
    count: i32,
}

impl Kind for Restless {
    const NAME: &'static str = "restless";
    const PAUSE_MS: u64 = 0;

    async fn begin(desk: &mut Desk) -> Result<Self, Trouble> {
        let echo = desk.client.prepare("SELECT $1::int").await?;
        Ok(Self { echo, count: 0 })
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        self.count += 1;
        let row = desk.client.query_one(&self.echo, &[&self.count]).await?;
        check("an echo", &row.get(0), &self.count)?;
        if self.count % 50 == 0 {
            let number = desk.number();
            let sql = format!("INSERT INTO writes VALUES ({}, {number})", desk.session);
            let answer = desk.simple(&sql).await;
            desk.told(&[number], answer)?;
        }
        Ok(())
    }
}
