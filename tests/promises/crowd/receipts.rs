//! What sessions were told of their writes, and what became of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::Deserialize;

use crate::support::Postgres;

/// Without a unique key: a write that is there twice is to be seen.
pub const TABLE: &str =
    "CREATE TABLE writes (session int, number bigint); CREATE INDEX ON writes (session, number)";

/// Of differences that are told.
const TOLD_MAX: usize = 20;

/// What a session was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Acknowledged,
    RolledBack,
    Unknown,
}

/// Everybody's writes, by session and number.
#[derive(Clone, Default)]
pub struct Receipts(Arc<Mutex<BTreeMap<(i32, i64), Fate>>>);

impl Receipts {
    pub fn note(&self, session: i32, number: i64, fate: Fate) {
        let before = self.lock().insert((session, number), fate);
        assert_eq!(before, None, "session {session} used number {number} twice");
    }

    /// What a session was told of the numbers after `after`.
    pub fn of(&self, session: i32, after: i64) -> Vec<(i64, Fate)> {
        let all = self.lock();
        let since = all.range((session, after + 1)..(session + 1, i64::MIN));
        since.map(|((_, number), fate)| (*number, *fate)).collect()
    }

    pub fn count(&self, fate: Fate) -> usize {
        self.lock().values().filter(|told| **told == fate).count()
    }

    /// What was acknowledged is there once, what was rolled back is not there, and nothing else is.
    pub async fn are_kept(&self, postgres: &Postgres) {
        let admin = postgres.admin_of(Postgres::DATABASE).await;
        let sql = "SELECT session, number, count(*) FROM writes GROUP BY session, number";
        let rows = admin.query(sql, &[]).await.unwrap();
        let mut there: BTreeMap<(i32, i64), i64> = (rows.iter())
            .map(|row| ((row.get(0), row.get(1)), row.get(2)))
            .collect();
        let mut differences = Vec::new();
        for (write, fate) in &*self.lock() {
            let count = there.remove(write).unwrap_or(0);
            let is_kept = match fate {
                Fate::Acknowledged => count == 1,
                Fate::RolledBack => count == 0,
                Fate::Unknown => count <= 1,
            };
            if !is_kept {
                differences.push(format!("{write:?} was {fate:?} and is there {count} times"));
            }
        }
        differences.extend(there.keys().map(|write| format!("nobody knows of {write:?}")));
        assert!(
            differences.is_empty(),
            "{} writes are not what was said of them: {:#?}",
            differences.len(),
            &differences[..differences.len().min(TOLD_MAX)]
        );
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(i32, i64), Fate>> {
        self.0.lock().unwrap()
    }
}
