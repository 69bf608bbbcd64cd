//! `pulse-hub admin`: what an operator does to organisations, also beside a live hub.

use std::io::Write;

use anyhow::{Context, bail};
use pulse_actors::ports::OrgStore;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{OrgStatus, Plan};
use pulse_protocol::ids::{OrgId, UserId};
use pulse_store::Database;
use pulse_store::admin::{self, Bootstrap};
use pulse_web::hash_password;
use pulse_web::secrets::{hash_secret, new_api_token};
use rand::TryRngCore;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::OsRng;
use serde::Serialize;

use crate::cli::{Admin, BootstrapArgs};
use crate::config::Config;
use crate::{database, mails};

/// Characters of a password: 119 bits of randomness, and still something to type.
const PASSWORD_LEN: usize = 20;

/// What `admin bootstrap` prints. Token and password are shown only where they are new.
#[derive(Serialize)]
struct Account {
    org_id: OrgId,
    user_id: UserId,
    api_token: Option<String>,
    password: Option<String>,
}

/// What the other commands print.
#[derive(Serialize)]
struct Changed {
    org_id: OrgId,
    status: OrgStatus,
}

/// Carries out one command.
///
/// # Errors
///
/// Returns an error if the database does not answer or there is no such organisation.
pub(crate) async fn run(config: Config, command: Admin) -> anyhow::Result<()> {
    let database = database::open(&config).await?;
    match command {
        Admin::Bootstrap(args) => print(&bootstrap(&database, args).await?)?,
        Admin::Suspend { org_id, reason } => print(&suspend(&database, org_id, &reason).await?)?,
        Admin::Suppressions(command) => mails::suppressions(&database, command).await?,
        Admin::Reactivate { org_id } => print(&reactivate(&database, org_id).await?)?,
    }
    Ok(database.close().await?)
}

fn print(answer: &impl Serialize) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(answer)?)?)
}

async fn bootstrap(database: &Database, args: BootstrapArgs) -> anyhow::Result<Account> {
    let password = Alphanumeric.sample_string(&mut OsRng.unwrap_err(), PASSWORD_LEN);
    let token = new_api_token();
    let wanted = Bootstrap {
        email: &args.email,
        org_name: &args.org,
        plan: args.plan,
        password_hash: &hash_password(&password)?,
        token_hash: &hash_secret(&token),
        rotate: args.rotate,
        now: Timestamp::wall_clock(),
    };
    let made = admin::bootstrap(database, &wanted).await?;
    Ok(Account {
        org_id: made.org_id,
        user_id: made.user_id,
        api_token: made.token_set.then_some(token),
        password: made.password_set.then_some(password),
    })
}

async fn suspend(database: &Database, org_id: OrgId, reason: &str) -> anyhow::Result<Changed> {
    let (_, status) = find(database, org_id).await?;
    if status == OrgStatus::Cancelled {
        bail!("{org_id} is cancelled: there is nothing to suspend");
    }
    set(database, org_id, OrgStatus::Suspended, Some(reason)).await
}

async fn reactivate(database: &Database, org_id: OrgId) -> anyhow::Result<Changed> {
    let (plan, status) = find(database, org_id).await?;
    if status != OrgStatus::Suspended {
        bail!("{org_id} is not suspended: its status is {status}");
    }
    let status = match plan {
        Plan::Trial => OrgStatus::Trial,
        Plan::Starter | Plan::Unlimited => OrgStatus::Active,
    };
    set(database, org_id, status, None).await
}

async fn find(database: &Database, org_id: OrgId) -> anyhow::Result<(Plan, OrgStatus)> {
    let org = database.org(org_id).await?.with_context(|| no_such(org_id))?;
    Ok((org.plan, org.status))
}

async fn set(
    database: &Database,
    org_id: OrgId,
    status: OrgStatus,
    reason: Option<&str>,
) -> anyhow::Result<Changed> {
    let name = org_id.to_string();
    let found =
        admin::set_org_status(database, &name, status, reason, Timestamp::wall_clock()).await?;
    found.with_context(|| no_such(org_id))?;
    Ok(Changed { org_id, status })
}

fn no_such(org_id: OrgId) -> String {
    format!("there is no organisation {org_id}")
}
