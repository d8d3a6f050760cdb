mod chain;
mod rds_iam;
pub mod secrets_manager;
mod ssm;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;

use super::contract::{Fault, PAUSE};
use crate::support::aws::REGION;
use crate::support::http::{FaultProxy, Reply};

/// What the SDK would find on a machine with keys of its own.
pub fn settings(credentials: Credentials) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

pub fn keys() -> Credentials {
    Credentials::new("AKID", "SECRET", None, None, "test")
}

/// What AWS says, or does not say, when it is troubled.
pub fn harm(proxy: &FaultProxy, fault: Fault) {
    proxy.answer(move |_| Some(trouble(fault)));
}

fn trouble(fault: Fault) -> Reply {
    match fault {
        Fault::Denied => refusal(
            400,
            "AccessDeniedException",
            "User: x is not authorized to perform: y",
        ),
        Fault::Throttled => refusal(429, "ThrottlingException", "Rate exceeded")
            .with_header("retry-after", PAUSE.as_secs().to_string()),
        Fault::Slow => Reply::Silence,
        Fault::Unreachable => Reply::HangUp,
        fault => panic!("AWS has no answer that means {fault:?}"),
    }
}

fn refusal(status: u16, kind: &str, message: &str) -> Reply {
    Reply::json(status, &serde_json::json!({ "__type": kind, "message": message }))
        .with_header("x-amzn-errortype", kind)
}
