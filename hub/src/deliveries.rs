//! `pulse-hub deliveries`: what was told to whom, also beside a live hub.

use std::io::{BufWriter, Write};

use anyhow::bail;
use pulse_actors::ports::{DeliveryFilter, OrgStore};
use pulse_store::Database;

use crate::cli::{Deliveries, DeliveriesArgs};
use crate::config::Config;
use crate::database;

/// Deliveries read at a time.
const PAGE: u32 = 500;

/// Carries out one command.
///
/// # Errors
///
/// Returns an error if the database does not answer or there is no such organisation.
pub(crate) async fn run(config: Config, command: Deliveries) -> anyhow::Result<()> {
    let database = database::open(&config).await?;
    match command {
        Deliveries::List(args) => list(&database, args).await?,
    }
    Ok(database.close().await?)
}

async fn list(database: &Database, args: DeliveriesArgs) -> anyhow::Result<()> {
    let org_id = args.org_id;
    if database.org(org_id).await?.is_none() {
        bail!("there is no organisation {org_id}");
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut filter = DeliveryFilter {
        state: args.state,
        channel_id: args.channel,
        event: args.event,
        from: args.from,
        to: args.to,
        ..DeliveryFilter::default()
    };
    let mut left = args.limit;
    while left > 0 {
        let page = database.deliveries(org_id, filter.clone(), left.min(PAGE)).await?;
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        for delivery in &page {
            writeln!(out, "{}", serde_json::to_string(delivery)?)?;
        }
    }
    Ok(out.flush()?)
}
