//! A program that prints the payload, and another that takes a new one.

use std::time::Duration;

use super::CommandStore;
use crate::config::Fields;
use crate::stores::payload::change::Bytes;
use crate::stores::write::in_payload::{InPayload, Whole};
use crate::stores::write::{Revision, WritableStore, WriteError, foreign};
use crate::stores::{DigestKey, StoreError, StoreFuture};

/// `write` gets the whole payload on its standard input, exits with 0 when it is kept, and with something else when
/// nothing was changed.
pub fn writable(
    read: Vec<String>,
    write: Vec<String>,
    timeout: Duration,
    fields: Option<Fields>,
    digests: &DigestKey,
) -> Result<Box<dyn WritableStore>, StoreError> {
    let program = |argv| CommandStore::new(argv, timeout, None, digests.clone());
    Ok(Box::new(InPayload {
        whole: Programs {
            reader: program(read)?,
            writer: program(write)?,
            timeout,
        },
        fields,
    }))
}

struct Programs {
    reader: CommandStore,
    writer: CommandStore,
    timeout: Duration,
}

impl Programs {
    async fn read(&self) -> Result<(Bytes, Revision), StoreError> {
        let payload = self.reader.output(None).await?;
        let revision = Revision::new(self.reader.digests.name(&[&payload]));
        Ok((payload, revision))
    }
}

impl Whole for Programs {
    fn fetch(&mut self) -> StoreFuture<'_, Result<(Bytes, Revision), StoreError>> {
        Box::pin(self.read())
    }

    /// A program has no compare-and-set: somebody who writes in the moment between is not noticed here, but by the next
    /// look.
    fn replace<'a>(
        &'a mut self,
        payload: &'a Bytes,
        since: &'a Revision,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        Box::pin(async move {
            let (_, now) = self.read().await?;
            if now != *since {
                return Err(foreign(since, &now));
            }
            self.writer.output(Some(payload)).await?;
            Ok(())
        })
    }

    /// It is read, read again and written.
    fn time_max(&self) -> Duration {
        3 * self.timeout
    }
}
