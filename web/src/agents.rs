//! Agents.

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::{AgentCreated, AgentPatch, NewAgent};
use pulse_protocol::ids::AgentId;

use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::secrets::{hash_secret, new_agent_key};
use crate::tenant::{ManageAgents, Right, Tenant, View};

/// `GET …/agents`
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let mut params = tenant.params();
    let paging = Paging::read(&mut params);
    params.finish()?;
    let query = Query::Agents { after: paging.after, limit: paging.probe() };
    let Reply::Agents(agents) = tenant.read(query).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(paging.page(agents, |agent| agent.id)))
}

/// `POST …/agents`: the only answer that shows the key.
pub(crate) async fn create(
    tenant: Tenant<ManageAgents>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let NewAgent { name } = body.json().await?;
    let key = new_agent_key(&tenant.org.slug);
    let request = Request::AddAgent {
        agent_id: AgentId::new(),
        name,
        key_hash: hash_secret(key.secret()),
        key_prefix: key.prefix().to_owned(),
    };
    let Reply::Agent(agent) = tenant.request(request).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Created()
        .insert_header((header::LOCATION, tenant.location("agents", agent.id)))
        .json(AgentCreated { agent: *agent, api_key: key.secret().to_owned() }))
}

/// `GET …/agents/{agent_id}`
pub(crate) async fn show(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let Reply::Agent(agent) = tenant.read(Query::Agent(agent_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(agent))
}

/// `PATCH …/agents/{agent_id}`
pub(crate) async fn change(
    tenant: Tenant<ManageAgents>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let agent_id = agent_id(&tenant)?;
    let patch: AgentPatch = body.json().await?;
    let Reply::Agent(agent) = tenant.request(Request::PatchAgent(agent_id, patch)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(agent))
}

/// `DELETE …/agents/{agent_id}`
pub(crate) async fn remove(tenant: Tenant<ManageAgents>) -> Result<HttpResponse, ApiError> {
    let Reply::Removed = tenant.request(Request::RemoveAgent(agent_id(&tenant)?)).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::NoContent().finish())
}

/// `POST …/agents/{agent_id}/rotate-key`: the only answer that shows the new key.
pub(crate) async fn rotate_key(tenant: Tenant<ManageAgents>) -> Result<HttpResponse, ApiError> {
    let key = new_agent_key(&tenant.org.slug);
    let request = Request::ReplaceKey {
        agent_id: agent_id(&tenant)?,
        key_hash: hash_secret(key.secret()),
        key_prefix: key.prefix().to_owned(),
    };
    let Reply::Agent(agent) = tenant.request(request).await? else {
        return Err(ApiError::mismatched_reply());
    };
    Ok(HttpResponse::Ok().json(AgentCreated { agent: *agent, api_key: key.secret().to_owned() }))
}

/// The agent in the path.
pub(crate) fn agent_id<R: Right>(tenant: &Tenant<R>) -> Result<AgentId, ApiError> {
    tenant.id("agent_id", "agent")
}
