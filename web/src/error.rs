//! Refusals and failures, as `application/problem+json`.
//!
//! Client text and internal text are kept apart: `detail` is shown, `source` is logged. A handler returns an
//! [`ApiError`]; [`request_id::around`](crate::request_id::around) renders it under the request's id and is
//! the one place that logs a failure of the hub.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpResponse, ResponseError};
use pulse_actors::directory::AskError;
use pulse_actors::ports::StoreError;
use pulse_domain::request::Refusal;
use pulse_protocol::problem::{
    FieldError, PROBLEM_MEDIA_TYPE, Problem, ProblemCode, ReceiverAnswer,
};
use tracing::{error, warn};

/// How long a client is asked to wait when the hub cannot answer now.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);
/// How long an agent of a closed org is asked to stay away.
const CLOSED_ORG_RETRY: Duration = Duration::from_secs(300);

/// Why a request was not answered with what it asked for.
#[derive(Debug)]
pub struct ApiError {
    code: ProblemCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldError>,
    limit: Option<Box<(u64, u64)>>,
    retry_after_s: Option<u32>,
    allow: Option<Box<str>>,
    receiver: Option<Box<ReceiverAnswer>>,
    status: Option<StatusCode>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl ApiError {
    /// A problem with this code; `detail` is shown to the client.
    #[must_use]
    pub fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            limit: None,
            retry_after_s: None,
            allow: None,
            receiver: None,
            status: None,
            source: None,
        }
    }

    /// Nobody is signed in.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(
            ProblemCode::Unauthenticated,
            "sign in, or send an API token as `Authorization: Bearer`",
        )
    }

    /// There is no such `what` for this caller.
    #[must_use]
    pub fn no_such(what: &str) -> Self {
        Self::new(ProblemCode::NotFound, format!("there is no such {what}"))
    }

    /// The content is not good; every fault is listed.
    #[must_use]
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("`{}` is not valid: {}", one.field, one.message),
            many => format!("{} fields are not valid", many.len()),
        };
        Self { errors, ..Self::new(ProblemCode::ValidationFailed, detail) }
    }

    /// The hub cannot answer now.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(ProblemCode::Unavailable, "the hub cannot answer now; try again shortly")
            .retry_after(UNAVAILABLE_RETRY)
    }

    /// The hub is at fault; `source` is logged and not shown.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(
                ProblemCode::Internal,
                "the hub failed to answer; report the request id if it happens again",
            )
        }
    }

    /// The org's home answered a question that was not asked.
    #[must_use]
    pub fn mismatched_reply() -> Self {
        Self::internal("the org's home sent a reply of another kind")
    }

    /// Asks the client to wait this long, in whole seconds of at least 1.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        let seconds = wait.as_millis().div_ceil(1_000);
        self.retry_after_s = Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
        self
    }

    /// Answers with another status than the code's own, where the protocol says so.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Tells what a receiver said.
    #[must_use]
    pub fn receiver(mut self, answer: ReceiverAnswer) -> Self {
        self.receiver = Some(Box::new(answer));
        self
    }

    /// Names the methods that the path knows.
    #[must_use]
    pub fn allow(mut self, methods: String) -> Self {
        self.allow = Some(methods.into());
        self
    }

    /// Keeps the cause for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What went wrong, for a program.
    #[must_use]
    pub const fn code(&self) -> ProblemCode {
        self.code
    }

    /// The nearest problem for a failure that the framework itself answered with `status`.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => {
                Self::new(ProblemCode::NotFound, "there is nothing at this path")
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(ProblemCode::MethodNotAllowed, "the path does not know this method")
            }
            StatusCode::PAYLOAD_TOO_LARGE => {
                Self::new(ProblemCode::PayloadTooLarge, "the body is too large")
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported_media_type(),
            status if status.is_client_error() => {
                Self::new(ProblemCode::BadRequest, "the request is malformed")
            }
            StatusCode::SERVICE_UNAVAILABLE => Self::unavailable(),
            status => Self::internal(format!("a service answered {status}")),
        }
    }

    /// The body is not JSON by its media type.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(
            ProblemCode::UnsupportedMediaType,
            "send the body as `content-type: application/json`",
        )
    }

    /// The whole answer, under the id of its request.
    #[must_use]
    pub fn render(&self, request_id: &str) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.content_type(PROBLEM_MEDIA_TYPE);
        if let Some(wait_s) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, wait_s.to_string()));
        }
        if let Some(methods) = &self.allow {
            response.insert_header((header::ALLOW, &**methods));
        }
        if self.code == ProblemCode::Unauthenticated {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        response.json(self.problem(request_id))
    }

    /// Logs a failure of the hub itself; refusals are the client's business.
    pub(crate) fn log(&self) {
        let cause = self.source.as_deref().map(chain).unwrap_or_default();
        match self.code {
            ProblemCode::Internal => error!(error = cause, "the request failed"),
            ProblemCode::Unavailable => warn!(error = cause, "the request was put off"),
            _ => {}
        }
    }

    fn problem(&self, request_id: &str) -> Problem {
        Problem {
            kind: format!("/problems/{}", self.code),
            title: self.code.title().to_owned(),
            status: self.status_code().as_u16(),
            detail: self.detail.to_string(),
            code: self.code,
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
            limit: self.limit.as_ref().map(|reached| reached.0),
            current: self.limit.as_ref().map(|reached| reached.1),
            receiver: self.receiver.as_deref().cloned(),
        }
    }
}

/// An error with its causes, outermost first.
fn chain(error: &(dyn StdError + Send + Sync + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
            .or_else(|| StatusCode::from_u16(self.code.status()).ok())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Without the request's id, which is not known here; the middleware renders it again with the id.
    fn error_response(&self) -> HttpResponse {
        self.render("")
    }
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::NoSuchOrg => Self::no_such("organisation"),
            AskError::Refused(refusal) => refusal.into(),
            AskError::Unavailable => Self::unavailable().caused_by(error),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NotFound { .. } => Self::new(ProblemCode::NotFound, detail),
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::Conflict { .. } => Self::new(ProblemCode::Conflict, detail),
            Refusal::LimitReached { limit, current, .. } => Self {
                limit: Some(Box::new((limit, current))),
                ..Self::new(ProblemCode::LimitReached, detail)
            },
            Refusal::OrgSuspended => {
                Self::new(ProblemCode::OrgSuspended, detail).retry_after(CLOSED_ORG_RETRY)
            }
            Refusal::OrgCancelled => {
                Self::new(ProblemCode::OrgCancelled, detail).retry_after(CLOSED_ORG_RETRY)
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            // A home that lost its place starts anew; the request may be sent again as it is.
            StoreError::Unavailable(_)
            | StoreError::Conflict { .. }
            | StoreError::Fenced { .. } => Self::unavailable().caused_by(error),
            StoreError::Exists { .. } => Self::new(ProblemCode::Conflict, error.to_string()),
            StoreError::Corrupt { .. } => Self::internal(error),
        }
    }
}
