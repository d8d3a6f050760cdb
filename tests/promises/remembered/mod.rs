//! What a session was told, what its statements were read under, and what was in force without having been set: after a
//! move or a loss it is what it was, or the session does not go on as if it were.

mod defaults;
mod read_under;
mod refused;
mod told;

use crate::moves::Carried;
use crate::support::{Message, Postgres, ServerError};

impl Carried {
    /// Parses a statement and asks what it takes and gives, as drivers do.
    async fn prepares(&mut self, name: &str, sql: &str) {
        let parse = format!("{name}\0{sql}\0\0\0");
        let describe = format!("S{name}\0");
        let messages = [(b'P', parse.as_bytes()), (b'D', describe.as_bytes())];
        let answer = self.extended(&messages).await;
        // Not without a warning, perhaps.
        assert!(
            answer.iter().any(|message| message.tag == b'1'),
            "{sql}: {answer:?}"
        );
    }

    /// Runs a prepared statement that takes nothing.
    async fn executes(&mut self, name: &str) -> Vec<Message> {
        let bind = format!("\0{name}\0\0\0\0\0\0\0");
        self.extended(&[(b'B', bind.as_bytes()), (b'E', b"\0\0\0\0\0")])
            .await
    }

    /// The first column of the first row of a prepared statement.
    async fn reads(&mut self, name: &str) -> String {
        let answer = self.executes(name).await;
        let row = answer.iter().find(|message| message.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("{name}: {answer:?}"));
        row.first_column().expect("a value")
    }

    /// Loses its backend, and is ended for it.
    async fn does_not_survive(&mut self, postgres: &Postgres) -> ServerError {
        self.is_terminated(postgres).await;
        let error = self.wire.next().await.expect("a word about it").error();
        assert_eq!(error.severity, "FATAL", "{error:?}");
        error
    }
}

/// What stands in the error's detail.
fn detail(error: &ServerError) -> &str {
    let detail = error.fields.iter().find(|(code, _)| *code == 'D');
    detail.map_or("", |(_, said)| said)
}
