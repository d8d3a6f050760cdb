use std::pin::pin;

use bytes::Bytes;
use futures_util::{SinkExt, TryStreamExt};
use tokio_postgres::Error;

use super::super::desk::{Desk, Trouble, check};
use super::Kind;

/// Rows of one COPY in, and lines of one COPY out.
const ROWS: usize = 20;
const LINES: usize = 2000;

/// COPY in both directions.
pub struct Copying;

impl Kind for Copying {
    const NAME: &'static str = "copying";

    async fn begin(_: &mut Desk) -> Result<Self, Trouble> {
        Ok(Self)
    }

    async fn step(&mut self, desk: &mut Desk) -> Result<(), Trouble> {
        // tokio-postgres loses count of the answers when a COPY fails before it has begun.
        if !desk.may_fail {
            let numbers: Vec<i64> = (0..ROWS).map(|_| desk.number()).collect();
            let copied = copy_in(desk, &numbers).await;
            let count = desk.told(&numbers, copied)?;
            check("rows copied", &count, &(ROWS as u64))?;
        }
        let sql = format!("COPY (SELECT n, n * 7 FROM generate_series(1, {LINES}) n) TO STDOUT");
        let stream = desk.client.copy_out(&sql).await?;
        let out: Vec<Bytes> = stream.try_collect().await?;
        let expected: Vec<String> = (1..=LINES).map(|n| format!("{n}\t{}\n", n * 7)).collect();
        check("what came out", &out.concat(), &expected.concat().into_bytes())
    }
}

async fn copy_in(desk: &Desk, numbers: &[i64]) -> Result<u64, Error> {
    let sink = desk.client.copy_in("COPY writes FROM STDIN").await?;
    let mut sink = pin!(sink);
    for number in numbers {
        let line = format!("{}\t{number}\n", desk.session);
        sink.send(Bytes::from(line)).await?;
    }
    sink.finish().await
}
