//! Headers that every answer carries.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::request_id::{REQUEST_ID, header_value};

/// Own scripts, styles and connections only; `'self'` covers websockets of the same origin.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// One year, the least that preload lists take.
const STRICT_TRANSPORT: &str = "max-age=31536000";

/// Whether answers under this path are for programs, and must not be kept by anybody.
pub(crate) fn is_api(path: &str) -> bool {
    ["/api", "/ws", "/public", "/webhooks"].iter().any(|root| is_under(path, root))
        || matches!(path, "/healthz" | "/readyz" | "/metrics")
}

/// Whether `path` is `root` or lies below it.
pub(crate) fn is_under(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Adds what is missing; what a handler chose itself stays.
pub(crate) fn harden(headers: &mut HeaderMap, request_id: &str, is_page: bool, is_https: bool) {
    headers.insert(REQUEST_ID, header_value(request_id));
    set_default(headers, header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    set_default(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set_default(headers, header::REFERRER_POLICY, "same-origin");
    set_default(headers, header::X_FRAME_OPTIONS, "DENY");
    if is_https {
        set_default(headers, header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    if !is_page {
        set_default(headers, header::CACHE_CONTROL, "no-store");
    }
}

fn set_default(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    if !headers.contains_key(&name) {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
