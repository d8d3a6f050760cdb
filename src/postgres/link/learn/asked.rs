//! What a database is asked about its functions, views and tables, over a link of pgswivel's own.

use std::panic;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::postgres::state::risky_names::Digest;
use crate::postgres::talk::exchange::{Aside, Broken, Exchange, Script, SqlState};
use crate::postgres::talk::stream::MessageStream;
use crate::postgres::talk::survey::{BEGIN, COMMIT};
use crate::postgres::wire::read::{Malformed, row};
use crate::postgres::wire::state_words::{
    DEFINED, DEFINITIONS_MAX, Definition, LEARN_QUERY, Learned, counted, learn,
};

const DIGEST_QUERY: &str = include_str!("digest.sql");
/// Whoever logged in may have limits and an encoding of its own.
const OUR_TERMS: [&str; 2] = [
    "/* pgswivel */ SET LOCAL statement_timeout = '30s'",
    "/* pgswivel */ SET LOCAL client_encoding = 'UTF8'",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskStep {
    Terms,
    Question,
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Lost(Broken<AskStep>),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The link is as it was before.
    #[error("the server refused with {0}")]
    Refused(SqlState),
}

impl From<Broken<AskStep>> for AskError {
    fn from(broken: Broken<AskStep>) -> Self {
        match broken {
            Broken::Refused { state, .. } => Self::Refused(state),
            broken => Self::Lost(broken),
        }
    }
}

fn ask(question: &str) -> Exchange<AskStep> {
    let mut script = Script::new();
    script.run(AskStep::Terms, BEGIN);
    for terms in OUR_TERMS {
        script.run(AskStep::Terms, terms);
    }
    script.run(AskStep::Question, question);
    script.run(AskStep::Terms, COMMIT);
    script.finish(AskStep::Terms)
}

/// What the server's counters say of it: less than a digest, and at next to no cost.
pub async fn defined<S>(talk: &mut MessageStream<S>, aside: &mut Aside) -> Result<u64, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut exchange = ask(&format!("/* pgswivel */ SELECT\n{DEFINED}"));
    let mut defined = None;
    while let Some(message) = exchange.next_row(talk, aside).await? {
        let [text] = row(message.body())?;
        defined = Some(counted(text.unwrap_or_default()));
    }
    Ok(defined.ok_or(Malformed("DataRow"))?)
}

/// What there is, a thousandth of the work of learning it.
pub async fn digest<S>(talk: &mut MessageStream<S>, aside: &mut Aside) -> Result<Digest, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut exchange = ask(DIGEST_QUERY);
    let mut digest = None;
    while let Some(message) = exchange.next_row(talk, aside).await? {
        let number = |column: Option<&[u8]>| {
            let column = column.map_or(Some([0; 8]), |column| column.try_into().ok());
            column.map(i64::from_be_bytes).ok_or(Malformed("DataRow"))
        };
        let [count, marks] = row::<2>(message.body())?;
        digest = Some(Digest {
            count: number(count)?,
            marks: number(marks)?,
        });
    }
    Ok(digest.ok_or(Malformed("DataRow"))?)
}

/// What all of it does.
pub async fn definitions<S>(talk: &mut MessageStream<S>, aside: &mut Aside) -> Result<Learned, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut exchange = ask(LEARN_QUERY);
    let mut rows: Vec<[Option<String>; 3]> = Vec::new();
    while let Some(message) = exchange.next_row(talk, aside).await? {
        let columns = row::<3>(message.body())?;
        rows.push(columns.map(|column| column.map(|text| String::from_utf8_lossy(text).into_owned())));
    }
    // A few hundred milliseconds of work, in the worst case, on whose thread sessions run.
    let learning = tokio::task::spawn_blocking(move || {
        let definitions = rows.iter().map(|[name, language, body]| Definition {
            name: name.as_deref().unwrap_or_default(),
            language: language.as_deref().unwrap_or_default(),
            body: body.as_deref(),
        });
        let mut learned = learn(definitions);
        learned.complete &= rows.len() < DEFINITIONS_MAX;
        learned
    });
    // What it panics with, this task panics with.
    let learned = learning.await;
    Ok(learned.unwrap_or_else(|error| panic::resume_unwind(error.into_panic())))
}
