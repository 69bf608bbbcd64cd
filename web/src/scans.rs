//! Scans.

use actix_web::HttpResponse;
use pulse_domain::request::{Query, Reply};

use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{Tenant, View};

/// `GET …/scans`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Scans { after: paging.after, limit: paging.probe() };
    let Reply::Scans(scans) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(scans, |scan| scan.id)))
}
