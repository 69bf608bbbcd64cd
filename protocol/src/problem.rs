//! Errors over HTTP: RFC 9457 `application/problem+json`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::api::AttemptOutcome;
use crate::status::words;

/// The media type of a [`Problem`].
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

words! {
    /// What went wrong, for a program.
    ProblemCode {
        /// Nobody is signed in, or the key or token is not good.
        Unauthenticated = "unauthenticated",
        /// Signed in, but not allowed.
        Forbidden = "forbidden",
        /// The request names no org.
        OrgRequired = "org_required",
        /// The org is suspended.
        OrgSuspended = "org_suspended",
        /// The org is cancelled.
        OrgCancelled = "org_cancelled",
        /// The agent is switched off.
        AgentDisabled = "agent_disabled",
        /// No such thing, or not for this caller.
        NotFound = "not_found",
        /// The path knows other methods.
        MethodNotAllowed = "method_not_allowed",
        /// It contradicts what is there.
        Conflict = "conflict",
        /// The plan's limit is reached.
        LimitReached = "limit_reached",
        /// The body was read, but its content is not good.
        ValidationFailed = "validation_failed",
        /// The body is no JSON.
        MalformedJson = "malformed_json",
        /// The request itself is malformed.
        BadRequest = "bad_request",
        /// The body is too big.
        PayloadTooLarge = "payload_too_large",
        /// The body has another media type than the one wanted.
        UnsupportedMediaType = "unsupported_media_type",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// The receiver did not accept the message.
        DeliveryFailed = "delivery_failed",
        /// The hub is at fault.
        Internal = "internal",
        /// The hub cannot answer now; try again.
        Unavailable = "unavailable",
    }
}

impl ProblemCode {
    /// The HTTP status it travels with.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::OrgRequired | Self::MalformedJson | Self::BadRequest => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden | Self::OrgSuspended | Self::OrgCancelled | Self::AgentDisabled => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::LimitReached => 409,
            Self::PayloadTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ValidationFailed => 422,
            Self::RateLimited => 429,
            Self::Internal => 500,
            Self::DeliveryFailed => 502,
            Self::Unavailable => 503,
        }
    }

    /// A short summary that never changes for the code.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Not signed in",
            Self::Forbidden => "Not allowed",
            Self::OrgRequired => "No organisation named",
            Self::OrgSuspended => "Organisation suspended",
            Self::OrgCancelled => "Organisation cancelled",
            Self::AgentDisabled => "Agent disabled",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::Conflict => "Conflict",
            Self::LimitReached => "Limit reached",
            Self::ValidationFailed => "Validation failed",
            Self::MalformedJson => "Malformed JSON",
            Self::BadRequest => "Bad request",
            Self::PayloadTooLarge => "Payload too large",
            Self::UnsupportedMediaType => "Unsupported media type",
            Self::RateLimited => "Too many requests",
            Self::DeliveryFailed => "Delivery failed",
            Self::Internal => "Internal error",
            Self::Unavailable => "Unavailable",
        }
    }
}

/// The body of every error answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Problem {
    /// `/problems/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's summary.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened here, and what to do.
    pub detail: String,
    /// What went wrong, for a program.
    pub code: ProblemCode,
    /// Also in the header `x-request-id`.
    pub request_id: String,
    /// Every fault of a body, for `validation_failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[ts(optional, as = "Option<_>")]
    pub errors: Vec<FieldError>,
    /// The limit that is reached, for `limit_reached`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub limit: Option<u64>,
    /// What is used of it, for `limit_reached`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub current: Option<u64>,
    /// What the receiver said, for `delivery_failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub receiver: Option<ReceiverAnswer>,
}

/// What a receiver made of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ReceiverAnswer {
    /// Whether it took the message, and if not whether it may later.
    pub outcome: AttemptOutcome,
    /// Its HTTP status, or the reply code of its mail server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub status: Option<u16>,
    /// The beginning of its answer, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub answer: Option<String>,
    /// How long it took.
    pub duration_ms: u64,
}

/// One fault of a body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct FieldError {
    /// The field, as a dotted path.
    pub field: String,
    /// `required`, `invalid`, `too_long`, `out_of_range`, `not_found`, `forbidden`.
    pub code: String,
    /// What to write instead.
    pub message: String,
}

impl FieldError {
    /// A fault of `field`.
    #[must_use]
    pub fn new(field: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { field: field.into(), code: code.to_owned(), message: message.into() }
    }
}
