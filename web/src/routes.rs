//! The whole URL map.

use actix_web::guard::{self, Guard};
use actix_web::http::Method;
use actix_web::middleware::Compress;
use actix_web::web::{self, ServiceConfig};
use pulse_protocol::problem::ProblemCode;

use crate::error::ApiError;
use crate::{
    acknowledge, agents, alerts, auth, billing, channels, commands, deliveries, devices, events,
    health, mail, metrics, orgs, pages, rules, scans, segments, socket, unsubscribe, windows,
};

macro_rules! url_map {
    ($($path:literal { $($method:ident $handler:path),+ $(,)? })+) => {
        /// Every path of the REST interface, with the methods it knows.
        pub const REST: &[(&str, &[&str])] = &[$(($path, &[$(stringify!($method)),+])),+];

        fn rest(cfg: &mut ServiceConfig) {
            $(
                let resource = web::resource($path)
                    $(.route(web::route().guard(takes(Method::$method)).to($handler)))+;
                let allowed = [$(stringify!($method)),+].join(", ");
                cfg.service(resource.default_service(web::to(move || refuse_method(allowed.clone()))));
            )+
        }
    };
}

url_map! {
    "/api/v1/auth/login" { POST auth::login }
    "/api/v1/auth/logout" { POST auth::logout }
    "/api/v1/me" { GET auth::me }
    "/api/v1/orgs" { GET orgs::list }
    "/api/v1/orgs/{org_id}" { GET orgs::show, PATCH orgs::change }
    "/api/v1/orgs/{org_id}/usage" { GET orgs::usage }
    "/api/v1/orgs/{org_id}/billing" { GET billing::show }
    "/api/v1/orgs/{org_id}/agents" { GET agents::list, POST agents::create }
    "/api/v1/orgs/{org_id}/agents/{agent_id}" { GET agents::show, PATCH agents::change, DELETE agents::remove }
    "/api/v1/orgs/{org_id}/agents/{agent_id}/rotate-key" { POST agents::rotate_key }
    "/api/v1/orgs/{org_id}/agents/{agent_id}/commands" { GET commands::list, POST commands::create }
    "/api/v1/orgs/{org_id}/segments" { GET segments::list }
    "/api/v1/orgs/{org_id}/devices" { GET devices::list, POST devices::create }
    "/api/v1/orgs/{org_id}/devices/{device_id}" { GET devices::show, PATCH devices::change, DELETE devices::remove }
    "/api/v1/orgs/{org_id}/scans" { GET scans::list }
    "/api/v1/orgs/{org_id}/channels" { GET channels::list, POST channels::create }
    "/api/v1/orgs/{org_id}/channels/{channel_id}" { GET channels::show, PATCH channels::change, DELETE channels::remove }
    "/api/v1/orgs/{org_id}/channels/{channel_id}/enable" { POST channels::enable }
    "/api/v1/orgs/{org_id}/channels/{channel_id}/rotate-secret" { POST channels::rotate_secret }
    "/api/v1/orgs/{org_id}/channels/{channel_id}/test" { POST channels::test }
    "/api/v1/orgs/{org_id}/channels/{channel_id}/stats" { GET channels::stats }
    "/api/v1/orgs/{org_id}/rules" { GET rules::list, POST rules::create }
    "/api/v1/orgs/{org_id}/rules/preview" { POST rules::preview }
    "/api/v1/orgs/{org_id}/rules/{rule_id}" { GET rules::show, PATCH rules::change, DELETE rules::remove }
    "/api/v1/orgs/{org_id}/maintenance-windows" { GET windows::list, POST windows::create }
    "/api/v1/orgs/{org_id}/maintenance-windows/{window_id}" { GET windows::show, PATCH windows::change, DELETE windows::remove }
    "/api/v1/orgs/{org_id}/alerts" { GET alerts::list }
    "/api/v1/orgs/{org_id}/alerts/{alert_id}" { GET alerts::show }
    "/api/v1/orgs/{org_id}/alerts/{alert_id}/acknowledge" { POST alerts::acknowledge }
    "/api/v1/orgs/{org_id}/deliveries" { GET deliveries::list }
    "/api/v1/orgs/{org_id}/deliveries/replay" { POST deliveries::replay_all }
    "/api/v1/orgs/{org_id}/deliveries/{delivery_id}" { GET deliveries::show }
    "/api/v1/orgs/{org_id}/deliveries/{delivery_id}/replay" { POST deliveries::replay }
    "/api/v1/orgs/{org_id}/deliveries/{delivery_id}/discard" { POST deliveries::discard }
    "/api/v1/orgs/{org_id}/mails" { GET mail::list }
    "/api/v1/orgs/{org_id}/mails/{delivery_id}/replay" { POST mail::replay }
    "/api/v1/orgs/{org_id}/events" { GET events::list }
}

/// Everything on the public listener.
pub(crate) fn public(cfg: &mut ServiceConfig) {
    cfg.configure(rest);
    cfg.configure(health_checks);
    cfg.service(web::resource("/ws/agent").route(web::get().to(socket::agent::connect)));
    cfg.service(web::resource("/ws/dashboard").route(web::get().to(socket::dashboard::connect)));
    cfg.service(
        web::resource("/acknowledge/{token}")
            .route(web::route().guard(takes(Method::GET)).to(acknowledge::show))
            .route(web::post().to(acknowledge::acknowledge))
            .default_service(web::to(|| refuse_method("GET, POST".to_owned()))),
    );
    cfg.service(
        web::resource("/unsubscribe/{token}")
            .route(web::route().guard(takes(Method::GET)).to(unsubscribe::ask))
            .route(web::post().to(unsubscribe::confirm))
            .default_service(web::to(|| refuse_method("GET, POST".to_owned()))),
    );
    cfg.service(
        web::scope("/assets")
            .wrap(Compress::default())
            .route("/{path:.*}", web::route().guard(takes(Method::GET)).to(pages::asset))
            .default_service(web::to(pages::nothing_here)),
    );
    cfg.default_service(web::to(pages::page));
}

/// Everything on the operations listener.
pub(crate) fn operations(cfg: &mut ServiceConfig) {
    cfg.configure(health_checks);
    cfg.service(web::resource("/metrics").route(web::get().to(metrics::show)));
    cfg.default_service(web::to(pages::nothing_here));
}

fn health_checks(cfg: &mut ServiceConfig) {
    cfg.service(
        web::resource("/healthz").route(web::route().guard(takes(Method::GET)).to(health::alive)),
    );
    cfg.service(
        web::resource("/readyz").route(web::route().guard(takes(Method::GET)).to(health::ready)),
    );
}

/// Takes this method, and `HEAD` wherever it takes `GET`.
fn takes(method: Method) -> impl Guard {
    guard::fn_guard(move |request| {
        let asked = &request.head().method;
        *asked == method || (method == Method::GET && *asked == Method::HEAD)
    })
}

async fn refuse_method(allowed: String) -> Result<&'static str, ApiError> {
    Err(ApiError::new(
        ProblemCode::MethodNotAllowed,
        format!("the path does not know this method, only {allowed}"),
    )
    .allow(allowed))
}
