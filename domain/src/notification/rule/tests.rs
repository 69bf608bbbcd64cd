use pulse_protocol::Timestamp;
use pulse_protocol::api::Filters;
use pulse_protocol::ids::{AgentId, ChannelId, DeviceId, EventId, RuleId};

use super::*;
use crate::notification::alert::{EventRef, Resource};
use crate::record::RuleSettings;

fn rule(events: &[&str], grouping: Grouping) -> RuleRecord {
    RuleRecord {
        id: RuleId::new(),
        name: "night".to_owned(),
        event_types: events.iter().map(|name| (*name).to_owned()).collect(),
        channel_ids: vec![ChannelId::new()],
        settings: RuleSettings { grouping, ..RuleSettings::default() },
        enabled: true,
        created_at: Timestamp::from_unix_ms(0),
    }
}

fn happening(name: &str, nature: Nature, devices: usize) -> Happening {
    let at = Timestamp::from_unix_ms(0);
    let event = EventRef { seq: 1, id: EventId::new(), name: name.to_owned(), at };
    let device = || Subject { device_id: Some(DeviceId::new()), ..Subject::default() };
    let companions = (0..devices).map(|_| device()).collect();
    Happening { event, nature, subject: Subject::default(), companions }
}

fn agent_problem(devices: usize) -> Happening {
    let resource = Resource::Agent(AgentId::new());
    happening("agent.offline", Nature::Problem { resource, by_absence: false }, devices)
}

fn device_problem(name: &str, by_absence: bool) -> Happening {
    let resource = Resource::Device(DeviceId::new());
    happening(name, Nature::Problem { resource, by_absence }, 0)
}

fn device_online() -> Happening {
    happening("device.online", Nature::Recovery(Resource::Device(DeviceId::new())), 0)
}

#[test]
fn only_an_enabled_rule_of_that_name_and_a_worthy_event_call_for_anything() {
    let wanted = rule(&["agent.offline", "delivery.dead"], Grouping::Agent);
    let event = agent_problem(0);
    assert_eq!(reading(&wanted, &event, Worth::Alert), Some(Reading::Problem));
    assert_eq!(reading(&wanted, &event, Worth::Quiet), None);
    let dead = happening("delivery.dead", Nature::News, 0);
    assert_eq!(reading(&wanted, &dead, Worth::Alert), None);
    let other = device_problem("device.offline", false);
    assert_eq!(reading(&wanted, &other, Worth::Alert), None);
    let off = RuleRecord { enabled: false, ..wanted };
    assert_eq!(reading(&off, &event, Worth::Alert), None);
    assert!(!still_sends(Some(&off)) && !still_sends(None));
}

#[test]
fn n25_an_absence_is_told_with_the_agent_unless_each_is_wanted() {
    let events = ["device.unknown"];
    let unknown = device_problem("device.unknown", true);
    for (grouping, of_agent, of_device) in [
        (Grouping::Agent, Some(Reading::Problem), None),
        (Grouping::Digest, Some(Reading::Problem), None),
        (Grouping::None, None, Some(Reading::Problem)),
    ] {
        let rule = rule(&events, grouping);
        assert_eq!(reading(&rule, &agent_problem(2), Worth::Alert), of_agent, "{grouping}");
        assert_eq!(reading(&rule, &unknown, Worth::Alert), of_device, "{grouping}");
        assert_eq!(reading(&rule, &agent_problem(0), Worth::Alert), None, "it has no devices");
    }
    let reported = device_problem("device.unknown", false);
    let grouped = rule(&events, Grouping::Agent);
    assert_eq!(reading(&grouped, &reported, Worth::Alert), Some(Reading::Problem));
}

#[test]
fn a_filter_of_devices_takes_an_agents_absence_only_for_its_devices() {
    let mut rule = rule(&["device.unknown", "agent.offline"], Grouping::Agent);
    let event = agent_problem(2);
    let device_ids = event.companions[1].device_id.into_iter().collect();
    rule.settings.filters = Filters { device_ids, ..Filters::default() };
    assert_eq!(reading(&rule, &event, Worth::Alert), Some(Reading::Problem));
    assert_eq!(reading(&rule, &agent_problem(2), Worth::Alert), None);
}

#[test]
fn a_recovery_alone_is_an_event_of_its_own() {
    let event = device_online();
    let alone = rule(&["device.online"], Grouping::Agent);
    assert_eq!(reading(&alone, &event, Worth::Alert), Some(Reading::Once));
    assert_eq!(reading(&alone, &event, Worth::Quiet), None);
    let both = rule(&["device.online", "device.degraded"], Grouping::Agent);
    let recovery = |is_told| Some(Reading::Recovery { is_told });
    assert_eq!(reading(&both, &event, Worth::Alert), recovery(true));
    assert_eq!(reading(&both, &event, Worth::Quiet), recovery(false), "it ends an alert");
    let problem = rule(&["device.degraded"], Grouping::Agent);
    assert_eq!(reading(&problem, &event, Worth::Alert), recovery(false));
}
