use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;

use super::sign::{Signer, percent_encode};
use crate::config::Aws;
use crate::credentials::Position;
use crate::names::Endpoint;
use crate::stores::payload::Pair;
use crate::stores::{Calls, DigestKey, Operation, Reading, Said, Store, StoreError, StoreFuture, Unsuitable};

/// A password that RDS accepts instead of one it knows: a signed address, good for 15 minutes at login.
///
/// Every read signs a new one, without any call to AWS but those that the credentials themselves need. Two
/// reads fit into the life of a token, so that one may fail.
pub struct RdsIamStore {
    user: String,
    host: Arc<str>,
    port: u16,
    aws: Aws,
    digests: DigestKey,
    settings: Option<SdkConfig>,
    config: Option<SdkConfig>,
    calls: Arc<Calls>,
}

/// What RDS accepts, and no more.
const TOKEN_LIFE: Duration = Duration::from_secs(15 * 60);

/// A login with a token takes time too.
const TOKEN_USE: Duration = Duration::from_secs(14 * 60);

const SIGN_EVERY: Duration = Duration::from_secs(6 * 60);

/// Credentials that end sooner end their tokens with them.
const SIGN_EVERY_MIN: Duration = Duration::from_secs(5);

impl RdsIamStore {
    /// A token names one host and port, so there must be exactly one to log in to.
    pub fn new(
        user: String,
        aws: Aws,
        endpoints: &[Endpoint],
        digests: DigestKey,
    ) -> Result<Self, StoreError> {
        let mut hosts = endpoints.iter().filter_map(|endpoint| match endpoint {
            Endpoint::Tcp { host, port } => Some((Arc::clone(host), *port)),
            Endpoint::Unix(_) => None,
        });
        let (host, port) = hosts
            .next()
            .ok_or(StoreError::Unsuitable(Unsuitable::NoEndpoint))?;
        if endpoints.len() > 1 {
            return Err(StoreError::Unsuitable(Unsuitable::SeveralEndpoints));
        }
        Ok(Self {
            user,
            host,
            port,
            aws,
            digests,
            settings: None,
            config: None,
            calls: Arc::default(),
        })
    }

    /// Takes settings and credentials that are known already, instead of asking the machine for them.
    pub fn with_settings(self, settings: SdkConfig) -> Self {
        Self {
            settings: Some(settings),
            ..self
        }
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        if self.config.is_none() {
            self.config = Some(match &self.settings {
                Some(config) => config.clone(),
                None => super::load(&self.aws, "").await?,
            });
        }
        let config = self.config.as_ref().expect("loaded just above");
        let credentials = super::credentials(config).await?;
        self.calls.count(Operation::SignToken);
        let now = SystemTime::now();
        let region = config.region().map(AsRef::as_ref).unwrap_or_default();
        let token = self.token(&credentials, region, now)?;
        let life = credentials
            .expiry()
            .and_then(|end| end.duration_since(now).ok())
            .map_or(TOKEN_USE, |left| left.min(TOKEN_USE));
        let pair = Pair::new(Position::Current, &self.user, token)?;
        Ok(Reading {
            next_read: Some(SIGN_EVERY.min(life / 2).max(SIGN_EVERY_MIN)),
            logins_for: Some(life),
            ..Reading::of(vec![pair.digested(&self.digests)])
        })
    }

    fn token(&self, credentials: &Credentials, region: &str, now: SystemTime) -> Result<String, StoreError> {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.to_string(),
        };
        let user = percent_encode(&self.user);
        let address = format!("https://{host}:{}/?Action=connect&DBUser={user}", self.port);
        let mut request = http::Request::get(address)
            .body(Vec::new())
            .map_err(|error| StoreError::Failed(Said::chain(&error)))?;
        let signer = Signer {
            credentials,
            region,
            service: "rds-db",
            now,
        };
        signer.presign(&mut request, TOKEN_LIFE)?;
        let signed = request.uri().to_string();
        Ok(signed.strip_prefix("https://").unwrap_or(&signed).to_owned())
    }
}

impl Store for RdsIamStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(self.take())
    }

    /// Nobody but the database says that the keys behind a token have ended: a file may have others by now.
    fn refused(&mut self, _version: &str) {
        self.config = None;
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str) -> Endpoint {
        Endpoint::Tcp {
            host: host.into(),
            port: 5432,
        }
    }

    fn store(user: &str, endpoints: &[Endpoint]) -> Result<RdsIamStore, StoreError> {
        RdsIamStore::new(user.to_owned(), Aws::default(), endpoints, DigestKey::random())
    }

    fn refusal(endpoints: &[Endpoint]) -> Option<StoreError> {
        store("app", endpoints).err()
    }

    #[test]
    fn a_token_is_for_one_host() {
        let unix = Endpoint::Unix(Arc::new("/run/.s.PGSQL.5432".into()));
        assert_eq!(refusal(&[tcp("a")]), None);
        let several = StoreError::Unsuitable(Unsuitable::SeveralEndpoints);
        assert_eq!(refusal(&[tcp("a"), tcp("b")]), Some(several));
        let none = StoreError::Unsuitable(Unsuitable::NoEndpoint);
        assert_eq!(refusal(&[unix]), Some(none.clone()));
        assert_eq!(refusal(&[]), Some(none));
    }

    /// The expected signature was made by botocore's `generate_db_auth_token` at the same moment.
    #[test]
    fn a_token_is_what_other_aws_tools_make() {
        let store = store("app+x@y", &[tcp("orders.cluster-x.eu-west-1.rds.amazonaws.com")]).unwrap();
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            Some("session/token+=".to_owned()),
            None,
            "test",
        );
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let token = store.token(&credentials, "eu-west-1", now).unwrap();
        let (address, query) = token.split_once("/?").unwrap();
        assert_eq!(address, "orders.cluster-x.eu-west-1.rds.amazonaws.com:5432");
        let mut query: Vec<&str> = query.split('&').collect();
        query.sort_unstable();
        assert_eq!(query, BOTOCORE);
    }

    const BOTOCORE: [&str; 9] = [
        "Action=connect",
        "DBUser=app%2Bx%40y",
        "X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "X-Amz-Credential=AKIDEXAMPLE%2F20231114%2Feu-west-1%2Frds-db%2Faws4_request",
        "X-Amz-Date=20231114T221320Z",
        "X-Amz-Expires=900",
        "X-Amz-Security-Token=session%2Ftoken%2B%3D",
        "X-Amz-Signature=18ac134d180f1b80e7df14f0343dfac062a90632c58c07b8a0e9a5a7e626c305",
        "X-Amz-SignedHeaders=host",
    ];
}
