//! Network segments.

use actix_web::HttpResponse;
use pulse_domain::request::{Query, Reply};

use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{Tenant, View};

/// `GET …/segments`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Segments { after: paging.after, limit: paging.probe() };
    let Reply::Segments(segments) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(segments, |segment| segment.id)))
}
