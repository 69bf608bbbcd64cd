//! One request in one org, by somebody who may make it.

use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest, web};
use futures_util::future::LocalBoxFuture;
use pulse_domain::permission::Permission;
use pulse_domain::record::OrgRecord;
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::api::{OrgStatus, Role};
use pulse_protocol::ids::OrgId;
use pulse_protocol::problem::ProblemCode;

use crate::WebState;
use crate::error::ApiError;
use crate::paging::Params;
use crate::principal::{Principal, state_of};

/// What a handler needs, as a type, so that the right is part of its signature.
pub trait Right: 'static {
    /// The right.
    const PERMISSION: Permission;
    /// Whether it may be used while the org is suspended or cancelled.
    const WHILE_CLOSED: bool = false;
}

macro_rules! rights {
    ($($(#[$doc:meta])* $name:ident = $permission:ident $(, while_closed = $closed:literal)?;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl Right for $name {
            const PERMISSION: Permission = Permission::$permission;
            $(const WHILE_CLOSED: bool = $closed;)?
        }
    )*};
}

rights! {
    /// See what the org has.
    View = View;
    /// See the org itself.
    ViewOrg = View, while_closed = true;
    /// See what it pays for.
    ViewBilling = ViewBilling, while_closed = true;
    /// Change its settings.
    ManageOrg = ManageOrg;
    /// Change its agents.
    ManageAgents = ManageAgents;
    /// Change its devices.
    ManageDevices = ManageDevices;
    /// Change its channels, rules, maintenance windows and deliveries.
    ManageChannels = ManageChannels;
    /// Say that somebody looks after an alert.
    AcknowledgeAlerts = AcknowledgeAlerts;
}

/// A proven member of the org in the path, who has the right `R` there.
pub struct Tenant<R: Right> {
    /// Who asks.
    pub principal: Principal,
    /// The org, as stored.
    pub org: OrgRecord,
    /// What they may do there.
    pub role: Role,
    state: web::Data<WebState>,
    request: HttpRequest,
    right: PhantomData<R>,
}

impl<R: Right> Tenant<R> {
    /// What the hub gave the app.
    #[must_use]
    pub fn state(&self) -> &WebState {
        &self.state
    }

    /// The id in the path.
    ///
    /// # Errors
    ///
    /// 404: an id that is none names nothing.
    pub fn id<Id: FromStr>(&self, name: &str, what: &'static str) -> Result<Id, ApiError> {
        self.request
            .match_info()
            .get(name)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Refusal::NotFound { what: what.into() }.into())
    }

    /// The query of the URL.
    pub(crate) fn params(&self) -> Params {
        Params::new(self.request.query_string())
    }

    /// The path of a thing in this org.
    pub(crate) fn location(&self, collection: &str, id: impl Display) -> String {
        format!("/api/v1/orgs/{}/{collection}/{id}", self.org.id)
    }

    /// Asks the org's home to change.
    ///
    /// # Errors
    ///
    /// As [`pulse_actors::directory::Directory::request`].
    pub async fn request(&self, request: Request) -> Result<Reply, ApiError> {
        Ok(self.state.directory.request(self.org.id, request).await?)
    }

    /// Asks the org's home a question.
    ///
    /// # Errors
    ///
    /// As [`pulse_actors::directory::Directory::read`].
    pub async fn read(&self, query: Query) -> Result<Reply, ApiError> {
        Ok(self.state.directory.read(self.org.id, query).await?)
    }

    async fn prove(request: HttpRequest) -> Result<Self, ApiError> {
        let state = state_of(&request)?;
        let principal = Principal::prove(&request).await?;
        let (org, role) = membership(&request, &state, &principal).await?;
        match org.status {
            OrgStatus::Suspended if !R::WHILE_CLOSED => return Err(Refusal::OrgSuspended.into()),
            OrgStatus::Cancelled if !R::WHILE_CLOSED => return Err(Refusal::OrgCancelled.into()),
            _ => {}
        }
        if !R::PERMISSION.is_given_to(role) {
            return Err(ApiError::new(
                ProblemCode::Forbidden,
                format!("the role {role} does not allow this; ask an owner of the organisation"),
            ));
        }
        Ok(Self { principal, org, role, state, request, right: PhantomData })
    }
}

/// The org in the path and the principal's role there. A stranger cannot tell a foreign org from none.
async fn membership(
    request: &HttpRequest,
    state: &WebState,
    principal: &Principal,
) -> Result<(OrgRecord, Role), ApiError> {
    let no_org = || ApiError::no_such("organisation");
    let org_id: OrgId = request
        .match_info()
        .get("org_id")
        .and_then(|text| text.parse().ok())
        .filter(|org_id| principal.may_enter(*org_id))
        .ok_or_else(no_org)?;
    let role = state.accounts.role(principal.user.id, org_id).await?.ok_or_else(no_org)?;
    let org = state.store.org(org_id).await?.ok_or_else(no_org)?;
    Ok((org, role))
}

impl<R: Right> FromRequest for Tenant<R> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        Box::pin(Self::prove(request.clone()))
    }
}
