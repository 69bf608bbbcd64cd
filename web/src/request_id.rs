//! What every request passes: its id, its span, its failure as a problem, its count, its hardened answer.

use std::time::Instant;

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::error::InternalError;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpResponse, web};
use tracing::{Instrument, Span, debug, field, info_span};
use uuid::Uuid;

use crate::WebState;
use crate::error::ApiError;
use crate::headers;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client or proxy: room for a UUID with a prefix, no more.
const LEN_MAX: usize = 64;

/// The id of a request, among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(pub String);

/// The outermost middleware.
///
/// # Errors
///
/// Passes on an error that a service did not answer itself, rendered as a problem already.
pub async fn around<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let id = given_id(&request).unwrap_or_else(|| Uuid::now_v7().simple().to_string());
    let state = request.app_data::<web::Data<WebState>>().cloned();
    let is_https = state.as_ref().is_some_and(|state| state.settings.is_https());
    let is_page = !headers::is_api(request.path());
    let method = request.method().to_string();
    let span = info_span!(
        "http.request",
        request.id = %id,
        method,
        route = field::Empty,
        status = field::Empty,
        duration_ms = field::Empty,
    );
    request.extensions_mut().insert(RequestId(id.clone()));

    let started = Instant::now();
    let answered = next.call(request).instrument(span.clone()).await;
    let _entered = span.enter();
    let mut response = match answered {
        Ok(response) => with_problem(response, &id),
        Err(error) => {
            let mut response = problem_of(&error, &id);
            headers::harden(response.headers_mut(), &id, is_page, is_https);
            return Err(InternalError::from_response(error, response).into());
        }
    };
    headers::harden(response.headers_mut(), &id, is_page, is_https);

    let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
    let status = response.status().as_u16();
    record(&span, &route, status, started);
    if let Some(state) = state {
        state.metrics.count_request(&method, &route, status, started.elapsed());
    }
    Ok(response)
}

fn given_id(request: &ServiceRequest) -> Option<String> {
    let text = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let is_sane = (1..=LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    is_sane.then(|| text.to_owned())
}

fn with_problem<B: MessageBody>(
    response: ServiceResponse<B>,
    id: &str,
) -> ServiceResponse<EitherBody<B>> {
    match response.response().error().map(|error| problem_of(error, id)) {
        Some(problem) => response.into_response(problem).map_into_right_body(),
        None => response.map_into_left_body(),
    }
}

fn problem_of(error: &Error, id: &str) -> HttpResponse {
    let foreign;
    let problem = match error.as_error::<ApiError>() {
        Some(problem) => problem,
        None => {
            foreign = ApiError::of_status(error.as_response_error().status_code());
            &foreign
        }
    };
    problem.log();
    problem.render(id)
}

fn record(span: &Span, route: &str, status: u16, started: Instant) {
    let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    span.record("route", route).record("status", status).record("duration_ms", duration_ms);
    debug!("answered");
}

/// The id as a header's value; ids are checked or made here, so every one of them is.
pub(crate) fn header_value(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}
