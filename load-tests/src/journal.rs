//! Reading an org's journal over REST, for the checker.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result};
use pulse_protocol::Timestamp;
use pulse_protocol::event::Event;
use pulse_protocol::ids::{AgentId, ChannelId, DeviceId};
use serde::Deserialize;

use crate::checker::{Fault, Seen, Sequence};
use crate::fleet::FleetOrg;
use crate::rest::Api;
use crate::wire::Mark;

/// What the checker needs of a journal.
#[derive(Debug)]
pub(crate) struct Journal {
    /// The last number.
    pub(crate) last: u64,
    /// Numbers that were missing, repeated or out of order.
    pub(crate) faults: Vec<Fault>,
    /// Changes by reports, by agent, in order.
    pub(crate) changes: HashMap<AgentId, Vec<Seen>>,
    /// Agents that were announced offline.
    pub(crate) offline: Vec<Announced>,
    /// Names that begin with [`WRITTEN`], as agents and devices were given them, in order.
    pub(crate) written: Vec<String>,
    /// Agents that were announced online, the first time included.
    pub(crate) online: Vec<AgentId>,
    /// Numbers of `device.offline` events of devices that were known to be online.
    pub(crate) devices_gone: BTreeSet<u64>,
    /// Numbers of `device.online` events of devices that were known to be offline.
    pub(crate) devices_back: BTreeSet<u64>,
    /// Numbers of `channel.disabled` events, by channel: the first of each.
    pub(crate) disabled: HashMap<ChannelId, u64>,
}

/// An `agent.offline` event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announced {
    pub(crate) seq: u64,
    pub(crate) agent: AgentId,
    pub(crate) at: Timestamp,
}

/// What the names begin with that the harness writes over REST during a run.
pub(crate) const WRITTEN: &str = "written ";

#[derive(Deserialize)]
struct DeviceData {
    device_id: DeviceId,
    previous: String,
    cause: String,
    response_time_ms: Option<f64>,
}

#[derive(Deserialize)]
struct AgentData {
    agent_id: AgentId,
}

#[derive(Deserialize)]
struct Disabled {
    channel_id: ChannelId,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

/// Reads everything after `after`.
pub(crate) async fn read(api: &Api, org: &FleetOrg, after: u64) -> Result<Journal> {
    let owners: HashMap<DeviceId, (AgentId, u16)> = org
        .agents
        .iter()
        .flat_map(|agent| {
            agent.devices.iter().enumerate().map(move |(at, device)| (agent, at, device))
        })
        .map(|(agent, at, device)| (device.id, (agent.id, u16::try_from(at).unwrap_or(u16::MAX))))
        .collect();
    let mut sequence = Sequence::after(format!("journal of {}", org.id), after);
    let mut journal = Journal::after(after);
    loop {
        let page = api.events(org.tenant(), sequence.last()).await?;
        if page.is_empty() {
            break;
        }
        let before = sequence.last();
        for event in page {
            sequence.see(event.seq);
            journal.take(&event, &owners)?;
        }
        // A page that only repeats would be asked for forever.
        if sequence.last() == before {
            break;
        }
    }
    journal.last = sequence.last();
    journal.faults = sequence.finish();
    Ok(journal)
}

impl Journal {
    /// Nothing read yet.
    pub(crate) fn after(last: u64) -> Self {
        Self {
            last,
            faults: Vec::new(),
            changes: HashMap::new(),
            offline: Vec::new(),
            written: Vec::new(),
            online: Vec::new(),
            devices_gone: BTreeSet::new(),
            devices_back: BTreeSet::new(),
            disabled: HashMap::new(),
        }
    }

    fn take(&mut self, event: &Event, owners: &HashMap<DeviceId, (AgentId, u16)>) -> Result<()> {
        let (seq, name, data) = (event.seq, event.event.as_str(), event.data.get());
        let shape = || format!("event {seq} `{name}` has not the agreed fields");
        match name {
            "agent.offline" | "agent.online" => {
                let AgentData { agent_id } = serde_json::from_str(data).with_context(shape)?;
                match name {
                    "agent.offline" => {
                        self.offline.push(Announced { seq, agent: agent_id, at: event.at });
                    }
                    _ => self.online.push(agent_id),
                }
            }
            "device.online" | "device.offline" => {
                let data: DeviceData = serde_json::from_str(data).with_context(shape)?;
                // Not a report: the device went with its agent.
                if data.cause == "agent_offline" {
                    return Ok(());
                }
                let online = name == "device.online";
                match data.previous.as_str() {
                    "online" if !online => drop(self.devices_gone.insert(seq)),
                    "offline" if online => drop(self.devices_back.insert(seq)),
                    _ => {}
                }
                if let Some((agent, device)) = owners.get(&data.device_id) {
                    let mark = data.response_time_ms.filter(|_| online).and_then(Mark::from_ms);
                    self.changes.entry(*agent).or_default().push(Seen {
                        device: *device,
                        online,
                        mark,
                    });
                }
            }
            "channel.disabled" => {
                let Disabled { channel_id } = serde_json::from_str(data).with_context(shape)?;
                self.disabled.entry(channel_id).or_insert(seq);
            }
            "agent.updated" | "device.discovered" => {
                let Named { name } = serde_json::from_str(data).with_context(shape)?;
                if name.starts_with(WRITTEN) {
                    self.written.push(name);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
