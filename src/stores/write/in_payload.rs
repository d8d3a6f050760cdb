//! Writes of stores that keep a payload in one piece.

use std::time::Duration;

use super::{Change, Holding, Revision, WritableStore, WriteError, foreign};
use crate::config::Fields;
use crate::stores::payload::change::{self, Bytes};
use crate::stores::{READ_TIME_MAX, Said, StoreError, StoreFuture, check_size};

/// A store that keeps a payload in one piece.
pub(in crate::stores) trait Whole: Send {
    fn fetch(&mut self) -> StoreFuture<'_, Result<(Bytes, Revision), StoreError>>;

    /// Only if it is still as it was at this revision.
    fn replace<'a>(
        &'a mut self,
        payload: &'a Bytes,
        since: &'a Revision,
    ) -> StoreFuture<'a, Result<(), WriteError>>;

    fn other_writer(&self) -> Option<Said> {
        None
    }

    fn time_max(&self) -> Duration {
        READ_TIME_MAX
    }
}

/// Changes credentials within a payload, whatever keeps it.
pub(in crate::stores) struct InPayload<W> {
    pub(in crate::stores) whole: W,
    pub(in crate::stores) fields: Option<Fields>,
}

impl<W: Whole> InPayload<W> {
    async fn take(&mut self) -> Result<Holding, StoreError> {
        let (payload, revision) = self.whole.fetch().await?;
        check_size(&payload)?;
        let found = change::find(&payload, self.fields.as_ref())?;
        Ok(Holding {
            current: found.current,
            next: found.next,
            previous: found.previous,
            next_place: found.next_place,
            revision,
            other_writer: self.whole.other_writer(),
        })
    }

    async fn put(&mut self, wanted: &Change, since: &Holding) -> Result<(), WriteError> {
        let (payload, revision) = self.whole.fetch().await?;
        if revision != since.revision {
            return Err(foreign(&since.revision, &revision));
        }
        let payload = change::change(&payload, self.fields.as_ref(), wanted)?;
        self.whole.replace(&payload, &revision).await
    }
}

impl<W: Whole> WritableStore for InPayload<W> {
    fn look(&mut self) -> StoreFuture<'_, Result<Holding, StoreError>> {
        Box::pin(self.take())
    }

    fn change<'a>(
        &'a mut self,
        change: &'a Change,
        since: &'a Holding,
    ) -> StoreFuture<'a, Result<(), WriteError>> {
        Box::pin(self.put(change, since))
    }

    fn time_max(&self) -> Duration {
        self.whole.time_max()
    }
}
