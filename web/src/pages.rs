//! The dashboard, embedded in the binary.

use actix_web::http::header::{self, AcceptEncoding, Encoding, Header, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use pulse_protocol::problem::ProblemCode;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::error::ApiError;
use crate::headers::is_under;

/// What Vite built; without it the hub runs and says so where the dashboard would be.
#[derive(RustEmbed)]
#[folder = "ui/dist"]
#[allow_missing = true]
struct Dashboard;

/// Paths that are no pages, so that a mistyped call does not get one.
const NO_PAGES: &[&str] =
    &["/api", "/ws", "/webhooks", "/public", "/install", "/releases", "/assets", "/metrics"];
/// An asset's name holds a hash of its content: it never changes.
const KEEP_FOREVER: &str = "public, max-age=31536000, immutable";
/// A page names the assets of one build: it is asked for each time, and answered with 304 mostly.
const ASK_AGAIN: &str = "no-cache";

/// `GET /assets/…`
pub(crate) async fn asset(
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, ApiError> {
    serve::<Dashboard>(&request, &format!("assets/{path}"), KEEP_FOREVER).ok_or_else(nothing)
}

/// Every path that the URL map does not know: a file of the dashboard, or its one page, which finds out from
/// the path what to show.
pub(crate) async fn page(request: HttpRequest) -> Result<HttpResponse, ApiError> {
    page_of::<Dashboard>(&request)
}

fn page_of<Files: RustEmbed>(request: &HttpRequest) -> Result<HttpResponse, ApiError> {
    let path = request.path();
    let may_be_page = matches!(*request.method(), Method::GET | Method::HEAD)
        && !NO_PAGES.iter().any(|root| is_under(path, root));
    if !may_be_page {
        return Err(nothing());
    }
    if let Some(file) = serve::<Files>(request, path.trim_start_matches('/'), ASK_AGAIN) {
        return Ok(file);
    }
    // At the root there is nothing else to ask for; elsewhere a program that mistyped a path must be told.
    if path != "/" && !takes_html(request) {
        return Err(nothing());
    }
    serve::<Files>(request, "index.html", ASK_AGAIN).ok_or_else(|| {
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

fn serve<Files: RustEmbed>(request: &HttpRequest, name: &str, cache: &str) -> Option<HttpResponse> {
    // The folder's own name and unfinished names are no files.
    let plain = Files::get(name).filter(|_| !name.is_empty())?;
    let etag = format!("\"{}\"", hex::encode(plain.metadata.sha256_hash()));
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::ETAG, etag.as_str()))
        .insert_header((header::CACHE_CONTROL, cache))
        .insert_header((header::VARY, "accept-encoding"));
    if is_known(request, &etag) {
        return Some(response.status(StatusCode::NOT_MODIFIED).finish());
    }
    response.content_type(plain.metadata.mimetype());
    let (file, encoding) = smallest::<Files>(request, name, plain);
    if let Some(encoding) = encoding {
        response.insert_header((header::CONTENT_ENCODING, HeaderValue::from_static(encoding)));
    }
    Some(response.body(file.data.into_owned()))
}

/// The smallest form of a file that the client takes, of those that were built.
fn smallest<Files: RustEmbed>(
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
            && let Some(packed) = Files::get(&format!("{name}.{suffix}"))
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

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;

    use super::*;

    /// Stands in for a built dashboard.
    #[derive(RustEmbed)]
    #[folder = "tests/dashboard"]
    struct Sample;

    /// The status, the body and a header of what a request gets.
    async fn fetch(
        request: TestRequest,
        answer: impl Fn(&HttpRequest) -> Result<HttpResponse, ApiError>,
    ) -> (u16, String, HttpResponse<()>) {
        let response =
            answer(&request.to_http_request()).unwrap_or_else(|error| error.error_response());
        let (head, body) = response.into_parts();
        let body = to_bytes(body).await.unwrap();
        (head.status().as_u16(), String::from_utf8_lossy(&body).into_owned(), head)
    }

    fn page(path: &str) -> TestRequest {
        TestRequest::get().uri(path).insert_header(("accept", "text/html,*/*;q=0.8"))
    }

    fn header(head: &HttpResponse<()>, name: &str) -> String {
        head.headers().get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    #[actix_web::test]
    async fn every_page_is_the_one_page_and_is_asked_for_again() {
        for path in ["/", "/orgs/acme/devices", "/apiary", "/wsx"] {
            let (status, body, head) = fetch(page(path), page_of::<Sample>).await;
            assert_eq!(
                (status, body.trim()),
                (200, "<!doctype html><title>Sample</title>"),
                "{path}"
            );
            assert_eq!(header(&head, "cache-control"), "no-cache");
            assert_eq!(header(&head, "content-type"), "text/html");
            let known = page(path).insert_header(("if-none-match", header(&head, "etag")));
            let (status, body, _) = fetch(known, page_of::<Sample>).await;
            assert_eq!((status, body.as_str()), (304, ""));
        }
    }

    #[actix_web::test]
    async fn a_program_or_a_mistyped_call_gets_no_page() {
        for path in [
            "/api/v2/x",
            "/ws/x",
            "/webhooks/x",
            "/public/x",
            "/install",
            "/releases/x",
            "/assets/x",
        ] {
            assert_eq!(fetch(page(path), page_of::<Sample>).await.0, 404, "{path}");
        }
        assert_eq!(fetch(TestRequest::get().uri("/orgs"), page_of::<Sample>).await.0, 404);
        assert_eq!(fetch(TestRequest::get().uri("/"), page_of::<Sample>).await.0, 200);
        assert_eq!(fetch(page("/").method(Method::POST), page_of::<Sample>).await.0, 404);
    }

    #[actix_web::test]
    async fn an_asset_is_kept_forever_and_sent_in_its_smallest_form() {
        let asset = |request: &HttpRequest| {
            serve::<Sample>(request, "assets/app-1.js", KEEP_FOREVER).ok_or_else(nothing)
        };
        let (status, body, head) = fetch(TestRequest::get(), asset).await;
        assert_eq!((status, body.trim()), (200, "console.log(1);"));
        assert!(header(&head, "cache-control").contains("immutable"));
        for (accepted, encoding) in [
            ("gzip, br", "br"),
            ("gzip", "gzip"),
            ("identity", ""),
            ("br;q=0, gzip;q=0", ""),
            ("zstd", ""),
        ] {
            let request = TestRequest::get().insert_header(("accept-encoding", accepted));
            let (status, _, head) = fetch(request, asset).await;
            assert_eq!(
                (status, header(&head, "content-encoding").as_str()),
                (200, encoding),
                "{accepted}"
            );
            assert_eq!(header(&head, "vary"), "accept-encoding");
        }
    }

    #[actix_web::test]
    async fn nothing_outside_of_the_folder_is_served() {
        for name in ["../Cargo.toml", "assets/../../webhook.rs", "/etc/hostname", "assets", ""] {
            let request = TestRequest::get().to_http_request();
            assert!(serve::<Sample>(&request, name, ASK_AGAIN).is_none(), "{name}");
        }
    }
}
