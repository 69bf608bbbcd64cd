//! Mails that an org's own life calls for.

use pulse_protocol::Timestamp;
use pulse_protocol::api::ChannelHealth;

use super::Effect;
use super::step::Step;
use crate::notification::channel::TELL_AFTER;
use crate::notification::mail::{ChannelDisabled, ChannelFailing, MailMessage, MailRequest};
use crate::record::{ChannelRecord, Write};

impl Step<'_> {
    /// Owners and admins are told of a channel that keeps failing: once for each time it does, because the mail's key is
    /// when that began.
    pub(super) fn tell_of_failing_channel(&mut self, channel: &ChannelRecord, error: Option<&str>) {
        if let Some(failing_since) = failing_since(channel, self.now) {
            self.mail_members(ChannelFailing {
                org_name: self.org.record.name.clone(),
                channel_id: channel.id,
                channel_name: channel.name.clone(),
                kind: channel.kind,
                failing_since,
                error: error.map(str::to_owned),
            });
        }
    }

    /// The same of one that was switched off, though nobody did.
    pub(super) fn tell_of_disabled_channel(
        &mut self,
        channel: &ChannelRecord,
        error: Option<&str>,
    ) {
        self.mail_members(ChannelDisabled {
            org_name: self.org.record.name.clone(),
            channel_id: channel.id,
            channel_name: channel.name.clone(),
            kind: channel.kind,
            disabled_at: self.now,
            failing_since: channel.breaker.failing_since,
            error: error.map(str::to_owned),
        });
    }

    fn mail_members(&mut self, message: impl Into<MailMessage>) {
        if let Some(request) = MailRequest::to_members(message, self.now) {
            self.write(Write::Mail(Box::new(request)));
            self.tell(Effect::WakeMailer);
        }
    }
}

/// Since when a channel has failed, if that is long enough to be told.
fn failing_since(channel: &ChannelRecord, now: Timestamp) -> Option<Timestamp> {
    let is_off = !channel.enabled || channel.health == ChannelHealth::Disabled;
    channel.breaker.failing_since.filter(|since| !is_off && now >= *since + TELL_AFTER)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pulse_protocol::api::ChannelKind;
    use pulse_protocol::ids::ChannelId;
    use serde_json::Value;

    use super::*;
    use crate::record::{Breaker, Hidden};

    #[test]
    fn a_channel_is_told_of_after_an_hour_of_failures_while_it_is_on() {
        let began = Timestamp::from_unix_ms(1_000);
        let channel = ChannelRecord {
            id: ChannelId::new(),
            name: "Ops".to_owned(),
            kind: ChannelKind::Webhook,
            config: Value::Null,
            hidden: Hidden::default(),
            retry_schedule_s: vec![],
            enabled: true,
            health: ChannelHealth::Degraded,
            breaker: Breaker { failing_since: Some(began), ..Breaker::default() },
            created_at: began,
        };
        let hour = began + TELL_AFTER;
        assert_eq!(failing_since(&channel, hour - Duration::from_millis(1)), None);
        assert_eq!(failing_since(&channel, hour), Some(began));
        let off = ChannelRecord { enabled: false, ..channel.clone() };
        assert_eq!(failing_since(&off, hour), None);
        let well = ChannelRecord { breaker: Breaker::default(), ..channel };
        assert_eq!(failing_since(&well, hour), None);
    }
}
