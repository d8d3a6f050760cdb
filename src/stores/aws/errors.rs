use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_secretsmanager::config::http::HttpResponse;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};

use super::credentials_failure;
use crate::stores::{READ_TIME_MAX, Said, StoreError};

/// A wait that a store asks for is believed up to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What an error answer says about itself.
pub(super) struct Refusal<'a> {
    pub(super) status: u16,
    pub(super) code: Option<&'a str>,
    pub(super) message: Option<&'a str>,
    pub(super) retry_after: Option<&'a str>,
}

impl Refusal<'_> {
    pub(super) fn into_error(self) -> StoreError {
        let code = self.code.unwrap_or_default();
        let message = self.message.unwrap_or_default();
        let said = match (code, message) {
            ("", _) => Said::new(format_args!("HTTP {}", self.status)),
            (code, "") => Said::new(code),
            (code, message) => Said::new(format_args!("{code}: {message}")),
        };
        let retry_after = self.retry_after.and_then(|seconds| seconds.trim().parse().ok());
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        match (code, self.status) {
            (
                "ThrottlingException"
                | "Throttling"
                | "ThrottledException"
                | "TooManyRequestsException"
                | "RequestLimitExceeded"
                | "SlowDown"
                | "TooManyUpdates",
                _,
            )
            | (_, 429) => StoreError::Throttled { retry_after, said },
            (_, 500..) if retry_after.is_some() => StoreError::Throttled { retry_after, said },
            ("ResourceNotFoundException" | "ParameterNotFound" | "ParameterVersionNotFound", _) => {
                StoreError::Missing(said)
            }
            // The stage moved on between the description and this.
            ("InvalidRequestException", _) if message.contains("not associated") => StoreError::Unsettled,
            // A secret that waits for its deletion is there, and gives nothing.
            ("InvalidRequestException", _) if message.contains("delet") => StoreError::Missing(said),
            ("DecryptionFailure" | "InvalidKeyId" | "KMSAccessDeniedException", _) => {
                StoreError::Denied(said)
            }
            (code, _) if is_about_the_clock(code, message) => StoreError::Clock(said),
            (code, _) if is_about_the_keys(code) => StoreError::Expired(said),
            ("AccessDeniedException" | "AccessDenied" | "OptInRequired", _) | (_, 401 | 403) => {
                StoreError::Denied(said)
            }
            _ => StoreError::Failed(said),
        }
    }
}

/// A signature is good for minutes around its time, by the service's own clock.
fn is_about_the_clock(code: &str, message: &str) -> bool {
    match code {
        "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => true,
        "InvalidSignatureException" | "SignatureDoesNotMatch" => {
            message.contains("Signature expired") || message.contains("Signature not yet current")
        }
        _ => false,
    }
}

/// Who signed is not known, or not any more: another permission would not help, other keys do.
fn is_about_the_keys(code: &str) -> bool {
    matches!(
        code,
        "ExpiredToken"
            | "ExpiredTokenException"
            | "UnrecognizedClientException"
            | "UnrecognizedClient"
            | "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "IncompleteSignatureException"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
    )
}

/// Only the words of errors are used: the debug form of an SDK error holds the raw answer.
pub(super) fn from_sdk<E>(error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(context) => Refusal {
            status: context.raw().status().as_u16(),
            code: context.err().code(),
            message: context.err().message(),
            retry_after: context.raw().headers().get("retry-after"),
        }
        .into_error(),
        SdkError::ResponseError(context) => broken_answer(context.raw().status().as_u16()),
        error => from_transport(error),
    }
}

/// Everything that went wrong before there was an answer.
pub(super) fn from_transport<E: Error + 'static, R: std::fmt::Debug>(error: &SdkError<E, R>) -> StoreError {
    match error {
        SdkError::TimeoutError(_) => StoreError::Slow { limit: READ_TIME_MAX },
        SdkError::DispatchFailure(failure) => match failure.as_connector_error() {
            Some(connector) => match find_credentials_error(connector) {
                Some(error) => credentials_failure(error),
                None => StoreError::Unreachable(Said::chain(connector)),
            },
            None => StoreError::Unreachable(Said::new("the request could not be sent")),
        },
        SdkError::ConstructionFailure(_) => StoreError::Failed(Said::new("the request could not be made")),
        _ => broken_answer(0),
    }
}

fn find_credentials_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a CredentialsError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// An answer that is not what the service documents, such as a proxy's page. Its words are not repeated.
pub(super) fn broken_answer(status: u16) -> StoreError {
    match status {
        300.. => Refusal {
            status,
            code: None,
            message: None,
            retry_after: None,
        }
        .into_error(),
        _ => StoreError::Failed(Said::new("its answer can't be understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(status: u16, code: &str, message: &str) -> &'static str {
        let refusal = Refusal {
            status,
            code: (!code.is_empty()).then_some(code),
            message: Some(message),
            retry_after: None,
        };
        refusal.into_error().label()
    }

    #[test]
    fn each_refusal_has_its_kind() {
        assert_eq!(label(400, "ResourceNotFoundException", ""), "missing");
        assert_eq!(
            label(400, "InvalidRequestException", "it was marked for deletion"),
            "missing"
        );
        assert_eq!(
            label(400, "InvalidRequestException", "two staging labels"),
            "failed"
        );
        assert_eq!(label(400, "AccessDeniedException", ""), "denied");
        assert_eq!(label(400, "DecryptionFailure", ""), "denied");
        assert_eq!(label(403, "", ""), "denied");
        assert_eq!(label(400, "OptInRequired", ""), "denied");
        assert_eq!(label(400, "ThrottlingException", "Rate exceeded"), "throttled");
        assert_eq!(label(429, "", ""), "throttled");
        assert_eq!(label(500, "InternalServiceError", ""), "failed");
        assert_eq!(label(503, "", ""), "failed");
    }

    #[test]
    fn keys_that_ended_and_clocks_that_differ_are_no_matter_of_permissions() {
        for code in [
            "ExpiredToken",
            "ExpiredTokenException",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "IncompleteSignature",
            "InvalidSignatureException",
        ] {
            assert_eq!(
                label(400, code, "The security token is not good"),
                "expired",
                "{code}"
            );
            assert_eq!(label(403, code, ""), "expired", "{code}");
        }
        let skewed = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z";
        assert_eq!(label(400, "InvalidSignatureException", skewed), "clock");
        let early = "Signature not yet current: 20260101T002000Z is still later than 20260101T001500Z";
        assert_eq!(label(403, "SignatureDoesNotMatch", early), "clock");
        assert_eq!(label(403, "RequestTimeTooSkewed", ""), "clock");
    }

    #[test]
    fn a_server_error_that_names_a_wait_is_a_throttle() {
        let busy = |retry_after| {
            Refusal {
                status: 503,
                code: None,
                message: None,
                retry_after: Some(retry_after),
            }
            .into_error()
        };
        let StoreError::Throttled { retry_after, .. } = busy("7") else {
            panic!("not a throttle");
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)));
        let StoreError::Throttled { retry_after, .. } = busy("99999999") else {
            panic!("not a throttle");
        };
        assert_eq!(retry_after, Some(RETRY_AFTER_MAX));
        assert_eq!(busy("Fri, 31 Dec 1999 23:59:59 GMT").label(), "failed");
    }
}
