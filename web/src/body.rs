//! Bodies of requests.
//!
//! A handler takes [`Body`] beside its [`Tenant`](crate::tenant::Tenant) and reads it itself: nobody's body is
//! read before it is known who they are.

use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::future::{Ready, ready};
use pulse_protocol::problem::{FieldError, ProblemCode};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::error::ApiError;

/// Largest body of a request: a device with hundreds of checks fits, and many such at once are no burden.
const BYTES_MAX: usize = 256 * 1024;

/// A body that was not read yet.
pub(crate) struct Body {
    is_json: bool,
    payload: web::Payload,
}

impl FromRequest for Body {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        ready(
            web::Payload::from_request(request, payload)
                .into_inner()
                .map(|payload| Self { is_json, payload }),
        )
    }
}

impl Body {
    /// Reads the body as JSON.
    ///
    /// # Errors
    ///
    /// 415 for another media type, 413 above 256 KiB, 400 for no JSON, 422 for JSON of another shape.
    pub(crate) async fn json<T: DeserializeOwned>(self) -> Result<T, ApiError> {
        if !self.is_json {
            return Err(ApiError::unsupported_media_type());
        }
        let bytes = self
            .payload
            .to_bytes_limited(BYTES_MAX)
            .await
            .map_err(|_| {
                ApiError::new(
                    ProblemCode::PayloadTooLarge,
                    format!("a body may be {} KiB long", BYTES_MAX / 1024),
                )
            })?
            .map_err(|_| ApiError::new(ProblemCode::BadRequest, "the body ended early"))?;
        parse(&bytes)
    }
}

fn is_json(request: &HttpRequest) -> bool {
    request.headers().contains_key(header::CONTENT_TYPE)
        && request
            .mime_type()
            .ok()
            .flatten()
            .is_some_and(|mime| mime.essence_str() == "application/json")
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(ApiError::new(
            ProblemCode::MalformedJson,
            "the body is no JSON: it is not UTF-8",
        ));
    };
    // Shape and syntax are told apart by looking at the syntax alone first.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(ApiError::new(
            ProblemCode::MalformedJson,
            format!("the body is no JSON: line {}, column {}", error.line(), error.column()),
        ));
    }
    serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(text))
        .map_err(|error| ApiError::invalid(vec![fault(&error)]))
}

fn fault(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let message = error.inner().to_string();
    // The position says nothing that the path does not say better.
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text);
    match message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        Some(missing) if path.is_empty() => FieldError::new(missing, "required", "is required"),
        Some(missing) => FieldError::new(format!("{path}.{missing}"), "required", "is required"),
        None if path.is_empty() => FieldError::new("body", "invalid", message),
        None => FieldError::new(path, "invalid", message),
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::api::{NewAgent, NewDevice};

    use super::*;

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(body: &str) -> (ProblemCode, String) {
        let error = parse::<T>(body.as_bytes()).unwrap_err();
        (error.code(), error.to_string())
    }

    #[test]
    fn syntax_and_content_are_told_apart() {
        assert_eq!(refusal::<NewAgent>("{").0, ProblemCode::MalformedJson);
        assert_eq!(refusal::<NewAgent>("").0, ProblemCode::MalformedJson);
        // The wrong type comes first in the text, but the text is no JSON at all.
        assert_eq!(refusal::<NewAgent>("{\"name\": 5,").0, ProblemCode::MalformedJson);
        assert_eq!(refusal::<NewAgent>("{\"name\": 5}").0, ProblemCode::ValidationFailed);
        assert_eq!(refusal::<NewAgent>("[]").0, ProblemCode::ValidationFailed);
    }

    #[test]
    fn the_fault_names_its_field() {
        assert!(refusal::<NewAgent>("{}").1.starts_with("`name`"));
        let body = r#"{"agent_id": "agt_01h2xcejqtf2nbrexx3vqjhp41", "address": "a", "checks": [{"check": "x"}]}"#;
        assert!(refusal::<NewDevice>(body).1.starts_with("`checks[0].check`"));
        let body =
            r#"{"agent_id": "agt_01h2xcejqtf2nbrexx3vqjhp41", "address": "a", "checks": [{}]}"#;
        assert!(refusal::<NewDevice>(body).1.starts_with("`checks[0].check`"));
    }
}
