//! How well the channels of one org deliver, as the operator's numbers.

use std::collections::BTreeMap;

use pulse_domain::org::Org;
use pulse_domain::record::{Batch, ChannelRecord, Write};
use pulse_protocol::api::{ChannelHealth, DeliveryState};

use crate::metrics::Metrics;

/// An org's part in the numbers; taken back when it is dropped.
pub(super) struct ChannelGauges {
    metrics: Metrics,
    by_health: BTreeMap<&'static str, i64>,
    failing: i64,
}

impl ChannelGauges {
    pub(super) fn new(metrics: Metrics, org: &Org) -> Self {
        let mut gauges = Self { metrics, by_health: BTreeMap::new(), failing: 0 };
        gauges.count(org);
        gauges
    }

    /// Takes what was decided, after which the org is like this.
    pub(super) fn note(&mut self, batch: &Batch, org: &Org) {
        let mut is_changed = false;
        for write in &batch.writes {
            match write {
                Write::Channel(_) | Write::ChannelRemoved(_) => is_changed = true,
                Write::Delivery(row) if row.state == DeliveryState::Suppressed => {
                    let reason = row.content.suppressed_by.map_or("none", |it| it.as_str());
                    let state = row.state.as_str();
                    self.metrics.ended.with_label_values(&[state, reason]).inc();
                }
                _ => {}
            }
        }
        if is_changed {
            self.count(org);
        }
    }

    fn count(&mut self, org: &Org) {
        self.take_back();
        for channel in org.channels() {
            *self.by_health.entry(channel.health.as_str()).or_default() += 1;
            self.failing += i64::from(keeps_failing(channel));
        }
        self.add(1);
    }

    fn take_back(&mut self) {
        self.add(-1);
        self.by_health.clear();
        self.failing = 0;
    }

    fn add(&self, sign: i64) {
        for (health, count) in &self.by_health {
            self.metrics.channels.with_label_values(&[*health]).add(sign * count);
        }
        self.metrics.failing_channels.add(sign * self.failing);
    }
}

impl Drop for ChannelGauges {
    fn drop(&mut self) {
        self.take_back();
    }
}

/// Whether a person should look at a channel: it was paused for its failures, refused, or switched off for them.
fn keeps_failing(channel: &ChannelRecord) -> bool {
    let is_refused = channel.health == ChannelHealth::NeedsAttention;
    let is_off = channel.health == ChannelHealth::Disabled;
    let breaker = &channel.breaker;
    breaker.trips > 0 || is_refused || (is_off && breaker.failing_since.is_some())
}
