//! Messages of one rule that go out together.

use std::collections::BTreeMap;
use std::time::Duration;

use pulse_protocol::api::Reason;
use pulse_protocol::ids::{AlertId, ChannelId, RuleId};
use serde::{Deserialize, Serialize};

use super::alert::{EventRef, Say};
use super::board::{Call, item};

/// What stands for a resource in the row of a digest; no id looks so.
pub(crate) const DIGEST: &str = "digest";
/// How long after the first message a digest goes out.
pub(crate) const WAITS: Duration = Duration::from_secs(60);
/// Events named in one digest.
const ITEMS_MAX: usize = 50;

/// What waits, by channel: a recovery goes only where its alert went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    channels: BTreeMap<ChannelId, Lane>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Lane {
    /// The latest, oldest first.
    waiting: Vec<Waiting>,
    /// How many came before those.
    more: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    event: EventRef,
    reason: Reason,
    alert_id: Option<AlertId>,
    resource: String,
    resource_name: String,
}

impl Digest {
    pub(super) fn add(&mut self, call: &Call) {
        for channel_id in &call.say.channel_ids {
            let lane = self.channels.entry(*channel_id).or_default();
            if lane.waiting.len() == ITEMS_MAX {
                lane.waiting.remove(0);
                lane.more += 1;
            }
            lane.waiting.push(Waiting {
                event: call.say.event.clone(),
                reason: call.say.reason,
                alert_id: call.alert_id,
                resource: call.resource.clone(),
                resource_name: call.resource_name.clone(),
            });
        }
    }

    pub(super) fn oldest_seq(&self) -> Option<u64> {
        let waiting = self.channels.values().flat_map(|lane| &lane.waiting);
        waiting.map(|waiting| waiting.event.seq).min()
    }

    /// One message for each channel; a single one is as it would have been without a digest. A channel that was
    /// switched off meanwhile gives its message up where it can be seen.
    pub(super) fn calls(&self, rule_id: RuleId) -> Vec<Call> {
        self.channels.iter().filter_map(|(id, lane)| lane.call(rule_id, *id)).collect()
    }
}

impl Lane {
    fn call(&self, rule_id: RuleId, channel_id: ChannelId) -> Option<Call> {
        let last = self.waiting.last()?;
        let is_alone = self.waiting.len() == 1 && self.more == 0;
        let say = Say {
            event: last.event.clone(),
            reason: if is_alone { last.reason } else { Reason::Digest },
            suppressed_by: None,
            channel_ids: vec![channel_id],
        };
        let items = self.waiting.iter().map(|it| item(&it.event, &it.resource_name));
        Some(Call {
            rule_id,
            alert_id: last.alert_id.filter(|_| is_alone),
            // The digests of a rule are told in one order: a late one must not say what a later one took back.
            resource: if is_alone { last.resource.clone() } else { rule_id.to_string() },
            resource_name: last.resource_name.clone(),
            say,
            items: if is_alone { Vec::new() } else { items.collect() },
            more: self.more,
        })
    }
}
