//! Which events call for a delivery.
//!
//! - **R1** No rule, no delivery; a disabled rule or channel calls for none.
//! - **R2** What a first status, a first connection or an agent's absence does to its devices is no alert.
//! - **R3** News of deliveries call for no deliveries.

use pulse_protocol::ids::ChannelId;

use crate::record::RuleRecord;

/// Whether an event is worth telling, apart from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// Rules may call for deliveries.
    Alert,
    /// Journalled and shown, but never delivered.
    Quiet,
}

/// The channels that `rule` wants told of an event, in its order.
#[must_use]
pub fn channels<'a>(rule: &'a RuleRecord, event_name: &str, worth: Worth) -> &'a [ChannelId] {
    let wanted = rule.enabled
        && worth == Worth::Alert
        && !event_name.starts_with("delivery.")
        && rule.event_types.iter().any(|name| name == event_name);
    if wanted { &rule.channel_ids } else { &[] }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::Timestamp;
    use pulse_protocol::ids::RuleId;

    use super::*;
    use crate::record::RuleSettings;

    #[test]
    fn only_an_enabled_rule_of_that_name_and_a_worthy_event_call_for_deliveries() {
        let channel = ChannelId::new();
        let rule = RuleRecord {
            id: RuleId::new(),
            name: "night".to_owned(),
            event_types: vec!["agent.offline".to_owned(), "delivery.dead".to_owned()],
            channel_ids: vec![channel],
            settings: RuleSettings::default(),
            enabled: true,
            created_at: Timestamp::from_unix_ms(0),
        };
        assert_eq!(channels(&rule, "agent.offline", Worth::Alert), [channel]);
        assert!(channels(&rule, "agent.online", Worth::Alert).is_empty());
        assert!(channels(&rule, "agent.offline", Worth::Quiet).is_empty());
        assert!(channels(&rule, "delivery.dead", Worth::Alert).is_empty());
        let off = RuleRecord { enabled: false, ..rule };
        assert!(channels(&off, "agent.offline", Worth::Alert).is_empty());
    }
}
