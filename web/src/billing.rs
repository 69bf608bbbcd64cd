//! What an org pays for.

use actix_web::HttpResponse;
use pulse_protocol::api::{OrgStatus, Plan};
use serde::Serialize;

use crate::tenant::{Tenant, ViewBilling};

#[derive(Serialize)]
struct Billing {
    plan: Plan,
    status: OrgStatus,
}

/// `GET …/billing`
pub(crate) async fn show(tenant: Tenant<ViewBilling>) -> HttpResponse {
    HttpResponse::Ok().json(Billing { plan: tenant.org.plan, status: tenant.org.status })
}
