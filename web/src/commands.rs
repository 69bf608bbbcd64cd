//! Commands to an agent.

use actix_web::HttpResponse;
use actix_web::http::header;
use pulse_domain::request::{Query, Reply, Request};
use pulse_protocol::api::NewCommand;
use pulse_protocol::ids::CommandId;

use crate::agents::agent_id;
use crate::body::Body;
use crate::error::ApiError;
use crate::paging::Paging;
use crate::tenant::{ManageAgents, Tenant, View};

/// `GET …/agents/{agent_id}/commands`: newest first.
pub(crate) async fn list(tenant: Tenant<View>) -> Result<HttpResponse, ApiError> {
    let agent_id = agent_id(&tenant)?;
    let mut params = tenant.params();
    let paging = Paging::<CommandId>::read(&mut params);
    params.finish()?;
    tenant.read(Query::Agent(agent_id)).await?;
    let limit = u32::try_from(paging.probe()).unwrap_or(u32::MAX);
    let commands =
        tenant.state().store.commands(tenant.org.id, agent_id, paging.after, limit).await?;
    Ok(HttpResponse::Ok().json(paging.page(commands, |command| command.id)))
}

/// `POST …/agents/{agent_id}/commands`
pub(crate) async fn create(
    tenant: Tenant<ManageAgents>,
    body: Body,
) -> Result<HttpResponse, ApiError> {
    let agent_id = agent_id(&tenant)?;
    let new: NewCommand = body.json().await?;
    let request = Request::IssueCommand { agent_id, command_id: CommandId::new(), new };
    let Reply::Command(command) = tenant.request(request).await? else {
        return Err(ApiError::mismatched_reply());
    };
    // A command has no path of its own; it is the first of its agent's list.
    let list = format!("{}/commands", tenant.location("agents", agent_id));
    Ok(HttpResponse::Created().insert_header((header::LOCATION, list)).json(command))
}
