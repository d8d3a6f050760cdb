mod write;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_smithy_runtime::client::orchestrator::operation::Operation as Exchange;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, SensitiveOutput};
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_runtime_api::client::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_smithy_types::config_bag::Layer;
use aws_smithy_types::timeout::TimeoutConfig;
use serde::Deserialize;
use zeroize::Zeroizing;

use self::write::SsmWhole;
use super::errors::{Refusal, broken_answer, from_transport};
use super::sign::Signer;
use crate::config::{Aws, Fields};
use crate::stores::write::WritableStore;
use crate::stores::write::in_payload::InPayload;
use crate::stores::{
    Calls, Operation, Reading, Store, StoreError, StoreFuture, Unsuitable, check_size, payload,
};

/// One parameter of the Parameter Store. Three calls are all it takes, so they are signed here and sent by the SDK's own
/// machinery, instead of bringing in the SDK for a thousand others.
pub struct SsmStore {
    id: String,
    aws: Aws,
    fields: Option<Fields>,
    settings: Option<SdkConfig>,
    connection: Option<Connection>,
    calls: Arc<Calls>,
}

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);

impl SsmStore {
    pub fn new(id: String, aws: Aws, fields: Option<Fields>) -> Self {
        Self {
            id,
            aws,
            fields,
            settings: None,
            connection: None,
            calls: Arc::default(),
        }
    }

    /// Takes settings and credentials that are known already, instead of asking the machine for them.
    pub fn with_settings(self, settings: SdkConfig) -> Self {
        Self {
            settings: Some(settings),
            ..self
        }
    }

    pub fn writable(self) -> Box<dyn WritableStore> {
        let fields = self.fields.clone();
        Box::new(InPayload {
            whole: SsmWhole(self),
            fields,
        })
    }

    async fn take(&mut self) -> Result<Reading, StoreError> {
        let parameter = self.parameter().await?;
        let changed_at = parameter.changed_at();
        let value = Zeroizing::new(parameter.value.into_bytes());
        check_size(&value)?;
        let payload = payload::parse(&value, self.fields.as_ref())?;
        let version = Arc::from(parameter.version.to_string());
        let pairs = payload.pairs.into_iter();
        let reading = Reading::of(pairs.map(|pair| pair.versioned(&version)).collect());
        Ok(Reading {
            host: payload.host,
            ..reading.made_at(changed_at)
        })
    }

    async fn parameter(&mut self) -> Result<Parameter, StoreError> {
        let body = serde_json::json!({ "Name": self.id, "WithDecryption": true });
        let answer = self.call(Operation::GetParameter, "GetParameter", &body).await?;
        answer.parameter()
    }

    async fn call(
        &mut self,
        operation: Operation,
        name: &str,
        body: &serde_json::Value,
    ) -> Result<Answer, StoreError> {
        if self.connection.is_none() {
            let config = match &self.settings {
                Some(config) => config.clone(),
                None => super::load(&self.aws, &self.id).await?,
            };
            self.connection = Some(Connection::new(config, self.aws.endpoint.as_deref()));
        }
        let connection = self.connection.as_ref().expect("made just above");
        let request = connection.request(name, body).await?;
        self.calls.count(operation);
        let answer = connection.exchange.invoke(request).await;
        answer.map_err(|error| from_transport(&error))
    }
}

impl Store for SsmStore {
    fn read(&mut self) -> StoreFuture<'_, Result<Reading, StoreError>> {
        Box::pin(async {
            let reading = self.take().await;
            let region = self
                .connection
                .as_ref()
                .and_then(|connection| connection.config.region());
            let reading = reading.map_err(|error| match region {
                Some(region) => error.looked_for_in(region.as_ref()),
                None => error,
            });
            if let Err(StoreError::Expired(_)) = &reading {
                // With it goes the identity that it holds: a file or an endpoint has another one, or will.
                self.connection = None;
            }
            reading
        })
    }

    fn calls(&self) -> Arc<Calls> {
        Arc::clone(&self.calls)
    }
}

struct Connection {
    config: SdkConfig,
    address: String,
    exchange: Exchange<Signed, Answer, Infallible>,
}

impl Connection {
    fn new(config: SdkConfig, endpoint: Option<&str>) -> Self {
        let mut secrecy = Layer::new("ssm");
        secrecy.store_put(SensitiveOutput);
        let exchange = Exchange::builder()
            .service_name("ssm")
            .operation_name("Parameter")
            .behavior_version(aws_config::BehaviorVersion::latest())
            .no_auth()
            .no_retry()
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIME_MAX).build())
            .runtime_plugin(StaticRuntimePlugin::new().with_config(secrecy.freeze()))
            .serializer(|Signed(request)| Ok(HttpRequest::try_from(request)?))
            .deserializer(|response| Ok(Answer::of(response)));
        let address = address(&config, endpoint);
        let exchange = exchange.endpoint_url(&address).build();
        Self {
            config,
            address,
            exchange,
        }
    }

    async fn request(&self, operation: &str, body: &serde_json::Value) -> Result<Signed, StoreError> {
        let credentials = super::credentials(&self.config).await?;
        let body = body.to_string();
        let mut request = http::Request::post(&self.address)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .body(body.into_bytes())
            .map_err(|_| StoreError::Unsuitable(Unsuitable::Address))?;
        let signer = Signer {
            credentials: &credentials,
            region: self.config.region().map(AsRef::as_ref).unwrap_or_default(),
            service: "ssm",
            now: SystemTime::now(),
        };
        signer.sign_headers(&mut request)?;
        Ok(Signed(request.map(Into::into)))
    }
}

/// Where Parameter Store answers: as configured, by the SDKs' own variable, or by region.
fn address(config: &SdkConfig, endpoint: Option<&str>) -> String {
    let own = std::env::var("AWS_ENDPOINT_URL_SSM")
        .ok()
        .filter(|url| !url.is_empty());
    if let Some(url) = endpoint.or(own.as_deref()).or(config.endpoint_url()) {
        return format!("{}/", url.trim_end_matches('/'));
    }
    let region = config.region().map(AsRef::as_ref).unwrap_or_default();
    let fips = if config.use_fips() == Some(true) {
        "-fips"
    } else {
        ""
    };
    let domain = match (config.use_dual_stack() == Some(true), region.starts_with("cn-")) {
        (false, false) => "amazonaws.com",
        (false, true) => "amazonaws.com.cn",
        (true, false) => "api.aws",
        (true, true) => "api.amazonwebservices.com.cn",
    };
    format!("https://ssm{fips}.{region}.{domain}/")
}

/// A request that carries an authorisation: never printed.
struct Signed(http::Request<aws_smithy_types::body::SdkBody>);

impl fmt::Debug for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signed(***)")
    }
}

struct Answer {
    status: u16,
    retry_after: Option<String>,
    body: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetParameterAnswer {
    parameter: Parameter,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Parameter {
    value: String,
    version: i64,
    /// Seconds since 1970.
    #[serde(default)]
    last_modified_date: Option<f64>,
}

impl Parameter {
    fn changed_at(&self) -> Option<SystemTime> {
        let since = Duration::try_from_secs_f64(self.last_modified_date?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(since)
    }
}

#[derive(Default, Deserialize)]
struct ErrorAnswer {
    #[serde(rename = "__type")]
    kind: Option<String>,
    message: Option<String>,
    /// Some answers have it in this spelling, some in both.
    #[serde(rename = "Message")]
    capital_message: Option<String>,
}

impl Answer {
    fn of(response: &HttpResponse) -> Self {
        Self {
            status: response.status().as_u16(),
            retry_after: response.headers().get("retry-after").map(str::to_owned),
            body: Zeroizing::new(response.body().bytes().unwrap_or_default().to_vec()),
        }
    }

    fn parameter(&self) -> Result<Parameter, StoreError> {
        if self.status == 200 {
            let answer = serde_json::from_slice::<GetParameterAnswer>(&self.body);
            return answer
                .map(|answer| answer.parameter)
                .map_err(|_| broken_answer(self.status));
        }
        Err(self.refusal())
    }

    fn refusal(&self) -> StoreError {
        let error: ErrorAnswer = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = error
            .kind
            .as_deref()
            .map(|kind| kind.rsplit('#').next().unwrap_or(kind));
        Refusal {
            status: self.status,
            code: kind,
            message: error.message.as_deref().or(error.capital_message.as_deref()),
            retry_after: self.retry_after.as_deref(),
        }
        .into_error()
    }
}

#[cfg(test)]
mod tests {
    use aws_config::Region;

    use super::*;

    fn region(name: &'static str) -> SdkConfig {
        SdkConfig::builder().region(Region::new(name)).build()
    }

    #[test]
    fn the_address_follows_the_region_unless_it_is_given() {
        assert_eq!(
            address(&region("eu-west-1"), None),
            "https://ssm.eu-west-1.amazonaws.com/"
        );
        assert_eq!(
            address(&region("cn-north-1"), None),
            "https://ssm.cn-north-1.amazonaws.com.cn/"
        );
        assert_eq!(
            address(&region("eu-west-1"), Some("http://127.0.0.1:4566")),
            "http://127.0.0.1:4566/"
        );
    }

    #[test]
    fn an_answer_never_shows_its_body() {
        let answer = Answer {
            status: 200,
            retry_after: None,
            body: Zeroizing::new(br#"{"Parameter":{"Value":"hunter2","Version":3}}"#.to_vec()),
        };
        assert!(!format!("{answer:?}").contains("104, 117"));
        assert_eq!(answer.parameter().unwrap().version, 3);
        let refused = Answer {
            status: 400,
            retry_after: None,
            body: Zeroizing::new(br#"{"__type":"com.amazonaws.ssm#ParameterNotFound"}"#.to_vec()),
        };
        assert_eq!(refused.parameter().err().unwrap().label(), "missing");
    }
}
