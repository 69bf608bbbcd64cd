//! The dashboard, embedded in the binary.

use actix_web::http::Method;
use actix_web::http::header::{self, AcceptEncoding, Encoding, Header, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::ApiError;
use crate::headers::is_under;
use pulse_protocol::problem::ProblemCode;

/// What Vite built; without it the hub runs and says so where the dashboard would be.
#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Dashboard;

/// Paths that are no pages, so that a mistyped call does not get one.
const NO_PAGES: &[&str] =
    &["/api", "/ws", "/webhooks", "/public", "/install", "/releases", "/assets"];
/// An asset's name holds a hash of its content: it never changes.
const KEEP_FOREVER: &str = "public, max-age=31536000, immutable";
/// A page names the assets of one build: it is asked for each time, and answered with 304 mostly.
const ASK_AGAIN: &str = "no-cache";

/// `GET /assets/…`
pub(crate) async fn asset(
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    serve(&request, &format!("assets/{path}"), KEEP_FOREVER).ok_or_else(nothing)
}

/// Every path that the URL map does not know: a file of the dashboard, or its one page, which finds out from
/// the path what to show.
pub(crate) async fn page(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    let may_be_page = matches!(*request.method(), Method::GET | Method::HEAD)
        && !NO_PAGES.iter().any(|root| is_under(path, root));
    if !may_be_page {
        return Err(nothing());
    }
    let name = path.trim_start_matches('/');
    if let Some(file) = serve(&request, name, ASK_AGAIN) {
        return Ok(file);
    }
    if !takes_html(&request) {
        return Err(nothing());
    }
    serve(&request, "index.html", ASK_AGAIN).ok_or_else(|| {
        ApiError::new(
            ProblemCode::NotFound,
            "this hub was built without its dashboard; build it with `make`",
        )
    })
}

/// A path where nothing can be.
pub(crate) async fn nothing_here() -> Result<HttpResponse, ApiError> {
    Err(nothing())
}

fn nothing() -> ApiError {
    ApiError::new(ProblemCode::NotFound, "there is nothing at this path")
}

fn takes_html(request: &HttpRequest) -> bool {
    request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn serve(request: &HttpRequest, name: &str, cache: &str) -> Option<HttpResponse> {
    // The folder's own name and unfinished names are no files.
    let plain = Dashboard::get(name).filter(|_| !name.is_empty())?;
    let etag = format!("\"{}\"", hex::encode(plain.metadata.sha256_hash()));
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::ETAG, etag.as_str()))
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::VARY, "accept-encoding"));
    if is_known(request, &etag) {
        return Some(response.status(actix_web::http::StatusCode::NOT_MODIFIED).finish());
    }
    response.content_type(plain.metadata.mimetype());
    let (file, encoding) = smallest(request, name, plain);
    if let Some(encoding) = encoding {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static(encoding)));
    }
    Some(response.body(file.data.into_owned()))
}

/// The smallest form of a file that the client takes, of those that were built.
fn smallest(
    request: &HttpRequest,
    name: &str,
    plain: EmbeddedFile,
) -> (EmbeddedFile, Option<&'static str>) {
    let accepted = AcceptEncoding::parse(request).ok();
    let takes = |encoding: Encoding| {
        accepted.as_ref().is_some_and(|accepted| {
            accepted.negotiate([encoding.clone(), Encoding::identity()].iter()) == Some(encoding)
        })
    };
    for (encoding, suffix, token) in
        [(Encoding::brotli(), "br", "br"), (Encoding::gzip(), "gz", "gzip")]
    {
        if takes(encoding)
            && let Some(packed) = Dashboard::get(&format!("{name}.{suffix}"))
        {
            return (packed, Some(token));
        }
    }
    (plain, None)
}

fn is_known(request: &HttpRequest, etag: &str) -> bool {
    request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).is_some_and(
        |known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag),
    )
}
