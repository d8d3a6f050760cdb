use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use super::payload::Pair;
use super::{Calls, DigestKey, Reading, Said, Store, StoreError, StoreFuture, Warning};
use crate::credentials::Position;

type Variables = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// Two environment variables of this process.
pub struct EnvStore {
    user: String,
    password: String,
    digests: DigestKey,
    variables: Variables,
    calls: Arc<Calls>,
}

impl EnvStore {
    pub fn new(user: &str, password: &str, digests: DigestKey) -> Self {
        Self::reading_from(|name| std::env::var_os(name), user, password, digests)
    }

    /// The same over other variables than this process's own.
    pub fn reading_from(
        variables: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
        user: &str,
        password: &str,
        digests: DigestKey,
    ) -> Self {
        Self {
            user: user.to_owned(),
            password: password.to_owned(),
            digests,
            variables: Box::new(variables),
            calls: Arc::default(),
        }
    }

    fn variable(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let value = (self.variables)(name)
            .ok_or_else(|| StoreError::Missing(Said::new(format_args!("{name} is not set"))))?;
        if value.len() > super::PAYLOAD_BYTES_MAX {
            return Err(StoreError::TooLarge {
                limit: super::PAYLOAD_BYTES_MAX,
            });
        }
        if value.is_empty() {
            return Err(StoreError::Empty);
        }
        Ok(value.into_vec())
    }

    fn take(&self) -> Result<Reading, StoreError> {
        let user = self.variable(&self.user)?;
        let password = self.variable(&self.password)?;
        let pair = Pair::from_bytes(Position::Current, &user, password)?;
        Ok(Reading::of(vec![pair.digested(&self.digests)]))
    }
}

impl Store for EnvStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        let result = self.take();
        Box::pin(std::future::ready(result))
    }

    fn warning(&self) -> Option<Warning> {
        Some(Warning::CannotRotate)
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}
