//! The public listener: HTTP for pages and REST, and sockets that leave it once they are websockets.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use actix_codec::{AsyncRead, AsyncWrite, Framed};
use actix_http::body::BoxBody;
use actix_http::h1::Codec;
use actix_http::{HttpServiceBuilder, Request, Response};
use actix_server::{Server, ServerBuilder};
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, fn_factory, fn_service, map_config,
};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::{App, Error, web};
use tracing::debug;

use crate::WebState;
use crate::socket::upgrade;

/// How long a request's head may take to come in.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection waits for a further request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Listens for HTTP, or with `tls` for HTTPS, on `workers` threads of at most `connections_max` connections each.
///
/// # Errors
///
/// When the address cannot be listened on.
pub fn listen(
    address: SocketAddr,
    tls: Option<rustls::ServerConfig>,
    workers: usize,
    connections_max: usize,
    state: WebState,
) -> io::Result<Server> {
    let data = web::Data::new(state);
    let builder = ServerBuilder::default()
        .workers(workers)
        .max_concurrent_connections(connections_max)
        .disable_signals();
    let builder = match tls {
        None => builder.bind("public", address, move || {
            http().upgrade(upgrades(data.clone())).finish(app(data.clone())).tcp()
        })?,
        Some(config) => builder.bind("public", address, move || {
            http()
                .upgrade(upgrades(data.clone()))
                .finish(app(data.clone()))
                .rustls_0_23(config.clone())
        })?,
    };
    Ok(builder.run())
}

fn http<T, S>() -> HttpServiceBuilder<T, S>
where
    S: ServiceFactory<Request, Config = ()>,
    S::Error: Into<Response<BoxBody>> + 'static,
    S::InitError: fmt::Debug,
    <S::Service as Service<Request>>::Future: 'static,
{
    HttpServiceBuilder::default().client_request_timeout(REQUEST_WITHIN).keep_alive(KEEP_ALIVE)
}

/// The app with its whole URL map.
fn app(
    data: web::Data<WebState>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<BoxBody>,
    Error = Error,
    InitError = (),
> {
    let app = App::new().app_data(data).configure(crate::configure);
    map_config(app.into_factory(), |()| AppConfig::default())
}

/// What answers requests that ask for an upgrade: the same app, and then the socket is its own.
fn upgrades<T>(
    data: web::Data<WebState>,
) -> impl ServiceFactory<
    (Request, Framed<T, Codec>),
    Config = (),
    Response = (),
    Error = Error,
    InitError = (),
>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let factory = Rc::new(app(data));
    fn_factory(move || {
        let factory = Rc::clone(&factory);
        async move {
            let app = Rc::new(factory.new_service(()).await?);
            Ok(fn_service(move |(request, framed): (Request, Framed<T, Codec>)| {
                let app = Rc::clone(&app);
                // Boxed, because the server reserves the room for it in every connection.
                Box::pin(async move {
                    if let Err(error) = upgrade::serve(&*app, request, framed).await {
                        debug!(%error, "a socket failed");
                    }
                    Ok::<(), Error>(())
                })
            }))
        }
    })
}
