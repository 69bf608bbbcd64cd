//! The product's own mail: what sends it, and what an operator can see and do of it.

use std::io::Write;
use std::sync::Arc;

use anyhow::bail;
use pulse_actors::mailer::Courier;
use pulse_actors::metrics::Metrics;
use pulse_actors::ports::{Clock, MailFilter, MailStore};
use pulse_domain::notification::mail::NO_ORG;
use pulse_protocol::Timestamp;
use pulse_protocol::api::SuppressionReason;
use pulse_protocol::ids::OrgId;
use pulse_store::Database;
use pulse_web::links::Links;
use pulse_web::outbound::mail::account::{AccountMail, Outgoing};
use serde::Serialize;

use crate::cli::{MailsCommand, SuppressionsCommand};
use crate::config::Config;
use crate::{database, kinds};

/// Mails read at a time.
const PAGE: u32 = 500;

/// What tries mails on this node.
///
/// # Errors
///
/// Returns an error if the system's certificates cannot be read.
pub(crate) fn courier(
    config: &Config,
    database: &Database,
    clock: &Arc<dyn Clock>,
    links: &Links,
    metrics: &Metrics,
) -> anyhow::Result<Courier> {
    let outgoing = match &config.mail {
        Some(mail) => Some(Outgoing { transport: kinds::mail(config)?, from: mail.from.clone() }),
        None => None,
    };
    Ok(Courier {
        clock: Arc::clone(clock),
        store: Arc::new(database.clone()),
        sender: Arc::new(AccountMail { outgoing, links: links.clone() }),
        metrics: metrics.clone(),
        jitter: rand::random,
    })
}

/// `pulse-hub mails list`: one mail a line, as JSON, newest first. What mails say is not shown.
///
/// # Errors
///
/// Returns an error if the database does not answer.
pub(crate) async fn run(config: Config, command: MailsCommand) -> anyhow::Result<()> {
    let database = database::open(&config).await?;
    let MailsCommand::List { org, state, limit } = command;
    let org_id = org.unwrap_or(NO_ORG);
    let mut filter = MailFilter { state, ..MailFilter::default() };
    let mut left = limit;
    while left > 0 {
        let mails = database.mails(org_id, filter, left.min(PAGE)).await?;
        let Some(last) = mails.last() else { break };
        filter.before = Some(last.id);
        left -= u32::try_from(mails.len()).unwrap_or(left);
        mails.iter().try_for_each(print)?;
    }
    Ok(database.close().await?)
}

#[derive(Serialize)]
struct Suppressed {
    /// None for all orgs.
    org_id: Option<OrgId>,
    address: String,
    reason: SuppressionReason,
    created_at: Timestamp,
}

/// `pulse-hub admin suppressions list|remove`
///
/// # Errors
///
/// Returns an error if the database does not answer, or nothing keeps mail from the address.
pub(crate) async fn suppressions(
    database: &Database,
    command: SuppressionsCommand,
) -> anyhow::Result<()> {
    match command {
        SuppressionsCommand::List { org } => {
            for one in database.suppressions(org).await? {
                let org_id = Some(one.org_id).filter(|org_id| *org_id != NO_ORG);
                let (address, reason, created_at) = (one.address, one.reason, one.created_at);
                print(&Suppressed { org_id, address, reason, created_at })?;
            }
            Ok(())
        }
        SuppressionsCommand::Remove { address, org } => {
            match database.unsuppress(org.unwrap_or(NO_ORG), &address).await? {
                true => Ok(()),
                false => bail!("nothing keeps mail from {address} there"),
            }
        }
    }
}

fn print(line: &impl Serialize) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(line)?)?)
}
