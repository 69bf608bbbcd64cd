//! Websocket sessions: one actor per socket, on the thread that holds it.
//!
//! A session knows frames, windows and deadlines, never rules: what a frame means is decided at the org's home.

pub mod agent;
pub mod dashboard;
mod fragments;
pub mod limits;
mod outbox;
pub(crate) mod upgrade;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web_actors::ws;
use pulse_protocol::agent::CloseCode;
use pulse_protocol::problem::ProblemCode;

use crate::error::ApiError;

/// The reason to close with, as the framework wants it.
fn close_reason(code: CloseCode, description: &str) -> ws::CloseReason {
    ws::CloseReason { code: code.code().into(), description: Some(description.to_owned()) }
}

/// Whether the request asks for a websocket that speaks `protocol`.
fn check_upgrade(request: &HttpRequest, protocol: &str) -> Result<(), ApiError> {
    let refuse = |detail: String| Err(ApiError::new(ProblemCode::BadRequest, detail));
    if let Err(error) = ws::handshake(request) {
        return refuse(format!("this path is a websocket: {error}"));
    }
    let offered = request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|offered| offered.trim() == protocol);
    if offered { Ok(()) } else { refuse(format!("offer the websocket subprotocol `{protocol}`")) }
}
