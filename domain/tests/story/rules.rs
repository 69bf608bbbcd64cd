//! What rules tell, when, and to whom.

use std::time::Duration;

use pulse_domain::org::{Effect, Input, Org};
use pulse_domain::record::Hidden;
use pulse_domain::request::{Query, Refusal, Reply, Request};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::ScanOutcome;
use pulse_protocol::api::{
    AlertState, ChannelKind, ChannelPatch, Escalation, Filters, Grouping, NewChannel, NewRule,
    QuietHours, Reason, RulePatch, Suppression,
};
use pulse_protocol::ids::{AgentId, AlertId, ChannelId, DeviceId, RuleId, ScanId};
use pulse_protocol::status::DeviceStatus::{Degraded, Offline, Online};

use crate::hub::webhook;
use crate::orders;
use crate::site::{GRACE, MINUTE, Site, add_channel};

#[test]
fn n19_n20_n21_a_device_that_fails_and_recovers_is_told_with_what_it_is() {
    let mut site = Site::new();
    let rule_id = site.add_rule(site.new_rule());
    site.is(1, Degraded);
    site.is(1, Offline);
    site.is(1, Online);
    let expected = [
        "device.degraded device 1 alert",
        "device.offline device 1 alert",
        "device.online device 1 recovery",
    ];
    assert_eq!(site.told(), expected);
    let deliveries = site.deliveries();
    for delivery in &deliveries {
        assert_eq!(delivery.resource, site.devices[1].to_string());
        assert_eq!((delivery.rule_id, delivery.channel_id), (rule_id, site.channel));
        assert_eq!(
            (&*delivery.content.rule_name, &*delivery.content.org_name),
            ("night", "Harbour")
        );
        assert_eq!(delivery.content.alert_id, deliveries[0].content.alert_id);
        let event = &site.hub.journal[usize::try_from(delivery.event_seq).unwrap() - 1];
        assert_eq!((event.id, &*event.name), (delivery.event_id, &*delivery.event_name));
    }
    assert_eq!(site.alerts(), [], "nothing is remembered");
}

#[test]
fn n22_a_first_status_is_no_alert() {
    let mut site = Site::new();
    site.add_rule(site.new_rule());
    let device_id = DeviceId::from_uuid(site.hub.id());
    let new = orders::device(site.agent_id, "10.0.0.9");
    site.hub.ask(Request::AddDevice(device_id, new)).unwrap();
    site.are(&[9], Online);
    assert_eq!(site.told(), [""; 0]);
}

#[test]
fn n23_n24_an_agent_that_dies_is_told_in_a_minute_and_its_return_only_after_that() {
    let mut site = Site::new();
    site.add_rule(NewRule {
        event_types: vec!["agent.online".into(), "agent.offline".into()],
        ..site.new_rule()
    });
    site.hub.hang_up(site.agent_id, site.connection);
    site.hub.live_through(GRACE / 2);
    site.returns();
    assert_eq!(site.told(), [""; 0], "its absence was not announced");
    let died_at = site.hub.now;
    site.dies();
    assert_eq!(site.told(), ["agent.offline north alert"]);
    assert!(site.deliveries()[0].created_at.duration_since(died_at) < MINUTE);
    site.returns();
    assert_eq!(site.told()[1..], ["agent.online north recovery"]);
}

#[test]
fn n25_the_devices_of_a_dead_agent_are_one_alert() {
    for events in [&["device.unknown"][..], &["device.unknown", "agent.offline"]] {
        let mut site = Site::new();
        let event_types = events.iter().map(|name| (*name).to_owned()).collect();
        site.add_rule(NewRule { event_types, ..site.new_rule() });
        site.dies();
        assert_eq!(site.told(), ["agent.offline north alert"], "{events:?}");
        let event_seq = usize::try_from(site.deliveries()[0].event_seq).unwrap();
        assert!(site.hub.journal[event_seq - 1].data.contains(r#""devices_unknown":3"#));
        site.returns();
        site.all_are(Online);
        assert_eq!(site.told().len(), 1, "it names no recovery");
        assert_eq!(site.alerts(), []);
    }
    let mut site = Site::new();
    site.add_rule(NewRule { grouping: Some(Grouping::None), ..site.new_rule() });
    site.dies();
    let expected = [
        "agent.offline north alert",
        "device.unknown device 0 alert",
        "device.unknown device 1 alert",
        "device.unknown device 2 alert",
    ];
    assert_eq!(site.told(), expected);
    site.returns();
    site.all_are(Online);
    assert_eq!(site.told().iter().filter(|it| it.ends_with("recovery")).count(), 4);
}

#[test]
fn n26_n28_a_scan_without_results_is_told_where_its_segment_is_wanted() {
    let mut site = Site::new();
    site.seq += 1;
    let frame = orders::segments(site.seq, &["10.1.0.0/24", "10.2.0.0/24"]);
    site.hub.send(site.agent_id, site.connection, frame);
    let segments = site.hub.org.snapshot().segments;
    let scans =
        |site: &Site| NewRule { event_types: vec!["scan.completed".to_owned()], ..site.new_rule() };
    let of_segment = Filters { segment_ids: vec![segments[0].id], ..Filters::default() };
    site.add_rule(NewRule { filters: Some(of_segment), ..scans(&site) });
    let of_agent = Filters { agent_ids: vec![site.agent_id], ..Filters::default() };
    site.add_rule(NewRule { name: "agent".into(), filters: Some(of_agent), ..scans(&site) });
    let of_device = Filters { device_ids: site.devices.clone(), ..Filters::default() };
    site.add_rule(NewRule { filters: Some(of_device), ..scans(&site) });
    for segment in &segments {
        let scan_id = ScanId::from_uuid(site.hub.id());
        site.seq += 2;
        let frames = [
            orders::scan_started(site.seq - 1, scan_id, segment.id),
            orders::scan_completed(site.seq, scan_id, segment.id, ScanOutcome::Completed, &[]),
        ];
        for frame in frames {
            site.hub.send(site.agent_id, site.connection, frame);
        }
    }
    let rules: Vec<_> =
        site.deliveries().into_iter().map(|it| (it.content.rule_name, it.resource)).collect();
    let [first, second] = [0, 1].map(|nth| segments[nth].id.to_string());
    assert_eq!(
        rules,
        [
            ("night".to_owned(), first.clone()),
            ("agent".to_owned(), first),
            ("agent".to_owned(), second)
        ]
    );
    assert!(site.deliveries().iter().all(|it| it.content.reason == Reason::Event));
}

#[test]
fn n27_the_cooldown_is_visible_survives_a_restart_and_ends() {
    let mut site = Site::new();
    site.add_rule(NewRule { cooldown_s: Some(300), ..site.new_rule() });
    let began = site.hub.now;
    site.is(0, Offline);
    site.is(0, Online);
    site.hub.live_through(MINUTE);
    site.is(0, Offline);
    site.is(1, Offline);
    let expected = [
        "device.offline device 0 alert",
        "device.online device 0 recovery",
        "device.offline device 0 cooldown",
        "device.offline device 1 alert",
    ];
    assert_eq!(site.told(), expected, "each resource has a cooldown of its own");
    assert!(site.hub.told_since(0).contains(&"delivery.suppressed"));
    let waiting = &site.alerts()[0];
    assert_eq!(
        (waiting.state, waiting.held_by),
        (AlertState::Pending, Some(Suppression::Cooldown))
    );
    site.hub.restart();
    site.returns();
    site.hub.live_through(10 * MINUTE);
    assert_eq!(site.told()[4..], ["device.offline device 0 alert"]);
    assert_eq!(site.deliveries()[4].created_at, began + 5 * MINUTE);
}

#[test]
fn quiet_hours_keep_still_and_end() {
    let mut site = Site::new();
    // The story begins at 12:00 UTC on a Sunday; in Tokyo it is 21:00.
    let quiet_hours = QuietHours {
        from: "21:30".into(),
        to: "06:00".into(),
        timezone: "Asia/Tokyo".into(),
        days: vec![7],
    };
    site.add_rule(NewRule { quiet_hours: Some(quiet_hours), ..site.new_rule() });
    site.is(0, Offline);
    site.hub.live_through(30 * MINUTE);
    site.is(0, Online);
    site.is(1, Offline);
    let expected = [
        "device.offline device 0 alert",
        "device.online device 0 quiet_hours",
        "device.offline device 1 quiet_hours",
    ];
    assert_eq!(site.told(), expected);
    site.hub.live_through(8 * 60 * MINUTE + 29 * MINUTE);
    assert_eq!(site.told().len(), 3);
    site.hub.live_through(MINUTE);
    let at_the_end = ["device.online device 0 recovery", "device.offline device 1 alert"];
    assert_eq!(site.told()[3..], at_the_end);
}

#[test]
fn n28_what_a_filter_does_not_name_is_not_told() {
    let mut site = Site::new();
    let device_ids = vec![site.devices[0]];
    let filters = Some(Filters { device_ids, ..Filters::default() });
    site.add_rule(NewRule { filters, ..site.new_rule() });
    let category_ids = vec![pulse_protocol::ids::CategoryId::from_uuid(site.hub.id())];
    let filters = Some(Filters { category_ids, ..Filters::default() });
    site.add_rule(NewRule { filters, ..site.new_rule() });
    site.all_are(Offline);
    assert_eq!(site.told(), ["device.offline device 0 alert"]);
}

#[test]
fn n30_n31_a_bad_rule_is_refused_whole_when_it_is_made_and_when_it_is_changed() {
    let mut site = Site::new();
    let rule_id = site.add_rule(site.new_rule());
    let quiet = |from: &str, timezone: &str, days: &[u8]| QuietHours {
        from: from.to_owned(),
        to: "06:00".to_owned(),
        timezone: timezone.to_owned(),
        days: days.to_vec(),
    };
    let foreign = ChannelId::from_uuid(site.hub.id());
    let (agent_ids, device_ids) = (vec![AgentId::new()], vec![site.devices[0], DeviceId::new()]);
    let escalation = |after_s, channel_ids| Some(Escalation { after_s, channel_ids });
    let good = site.new_rule();
    let bad: Vec<(NewRule, &[&str])> = vec![
        (NewRule { name: " ".into(), ..good.clone() }, &["name"]),
        (NewRule { description: Some("x".repeat(501)), ..good.clone() }, &["description"]),
        (NewRule { event_types: vec![], ..good.clone() }, &["event_types"]),
        (NewRule { event_types: vec!["agent.asleep".into()], ..good.clone() }, &["event_types[0]"]),
        (NewRule { channel_ids: vec![], ..good.clone() }, &["channel_ids"]),
        (NewRule { channel_ids: vec![site.channel, foreign], ..good.clone() }, &["channel_ids[1]"]),
        (NewRule { cooldown_s: Some(86_401), ..good.clone() }, &["cooldown_s"]),
        (NewRule { min_duration_s: Some(86_401), ..good.clone() }, &["min_duration_s"]),
        (
            NewRule {
                filters: Some(Filters { agent_ids, device_ids, ..Filters::default() }),
                ..good.clone()
            },
            &["filters.agent_ids[0]", "filters.device_ids[1]"],
        ),
        (
            NewRule { quiet_hours: Some(quiet("24:00", "Mars/Base", &[0])), ..good.clone() },
            &["quiet_hours.from", "quiet_hours.timezone", "quiet_hours.days"],
        ),
        (
            NewRule { escalation: escalation(59, vec![foreign]), ..good.clone() },
            &["escalation.after_s", "escalation.channel_ids[0]"],
        ),
        (NewRule { escalation: escalation(60, vec![]), ..good }, &["escalation.channel_ids"]),
    ];
    for (new, fields) in bad {
        let patch = RulePatch {
            name: Some(new.name.clone()),
            description: Some(new.description.clone()),
            event_types: Some(new.event_types.clone()),
            channel_ids: Some(new.channel_ids.clone()),
            filters: Some(new.filters.clone()),
            cooldown_s: new.cooldown_s,
            min_duration_s: new.min_duration_s,
            quiet_hours: Some(new.quiet_hours.clone()),
            escalation: Some(new.escalation.clone()),
            ..RulePatch::default()
        };
        let other_id = RuleId::from_uuid(site.hub.id());
        for request in [Request::AddRule(other_id, new), Request::PatchRule(rule_id, patch)] {
            let refused = site.hub.ask(request.clone()).unwrap_err();
            let Refusal::Invalid(faults) = refused else { panic!("{request:?}: {refused:?}") };
            let named: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
            assert_eq!(named, fields, "{request:?}");
        }
    }
    site.all_are(Offline);
    assert!(site.deliveries().iter().all(|it| it.channel_id == site.channel));
}

#[test]
fn a_rule_is_changed_whole_and_what_may_be_absent_is_removed() {
    let mut site = Site::new();
    let quiet_hours = QuietHours {
        from: "22:00".into(),
        to: "06:00".into(),
        timezone: "Europe/Berlin".into(),
        days: vec![5, 1, 5],
    };
    let escalation = Escalation { after_s: 600, channel_ids: vec![site.channel, site.channel] };
    let rule_id = site.add_rule(NewRule {
        description: Some(" at night ".into()),
        quiet_hours: Some(quiet_hours),
        escalation: Some(escalation),
        ..site.new_rule()
    });
    let rule = |site: &Site| match site.hub.org.answer(Query::Rule(rule_id)) {
        Ok(Reply::Rule(rule)) => *rule,
        other => panic!("{other:?}"),
    };
    let made = rule(&site);
    assert_eq!(made.description.as_deref(), Some("at night"));
    assert_eq!(made.quiet_hours.unwrap().days, [1, 5]);
    assert_eq!(made.escalation.unwrap().channel_ids, [site.channel]);
    let patch = RulePatch {
        description: Some(None),
        quiet_hours: Some(None),
        grouping: Some(Grouping::Digest),
        ..RulePatch::default()
    };
    site.hub.ask(Request::PatchRule(rule_id, patch)).unwrap();
    let changed = rule(&site);
    assert_eq!((changed.description, changed.quiet_hours), (None, None));
    assert_eq!((changed.grouping, changed.cooldown_s), (Grouping::Digest, 0));
    // An escalation to nobody is none.
    site.hub.ask(Request::RemoveChannel(site.channel)).unwrap();
    assert_eq!((rule(&site).escalation, rule(&site).channel_ids), (None, vec![]));
}

#[test]
fn n37_a_rule_that_is_switched_off_tells_nothing_more_and_its_channels_look_again() {
    for removes in [false, true] {
        let mut site = Site::new();
        let rule_id = site.add_rule(NewRule { min_duration_s: Some(60), ..site.new_rule() });
        site.is(0, Offline);
        let request = match removes {
            true => Request::RemoveRule(rule_id),
            false => Request::PatchRule(
                rule_id,
                RulePatch { enabled: Some(false), ..RulePatch::default() },
            ),
        };
        let (_, effects) = site.hub.ask(request).unwrap();
        assert!(effects.contains(&Effect::WakeChannel(site.channel)));
        assert!(!pulse_domain::notification::rule::still_sends(site.hub.org.rule(rule_id)));
        site.hub.live_through(10 * MINUTE);
        site.is(1, Offline);
        assert_eq!((site.told(), site.alerts()), (vec![], vec![]));
        assert!(site.hub.tables.alerts.is_empty());
    }
}

#[test]
fn what_nobody_could_be_told_is_told_when_a_channel_delivers_again() {
    let mut site = Site::new();
    site.add_rule(site.new_rule());
    let channel_id = site.channel;
    let switch = |site: &mut Site, enabled| {
        let patch = ChannelPatch { enabled: Some(enabled), ..ChannelPatch::default() };
        let request = Request::PatchChannel { channel_id, patch, hidden_config: None };
        site.hub.ask(request).unwrap();
    };
    switch(&mut site, false);
    site.are(&[0, 1], Offline);
    site.is(1, Online);
    assert_eq!(site.told(), [""; 0]);
    assert_eq!(site.alerts()[0].state, AlertState::Pending);
    site.hub.live_through(10 * MINUTE);
    site.hub.restart();
    site.returns();
    switch(&mut site, true);
    assert_eq!(site.told(), ["device.offline device 0 alert"]);
    switch(&mut site, false);
    site.is(2, Offline);
    site.hub.ask(Request::EnableChannel(channel_id)).unwrap();
    assert_eq!(site.told()[1..], ["device.offline device 2 alert"]);
}

#[test]
fn many_at_once_are_one_digest_across_a_restart_and_one_alone_is_plain() {
    let mut site = Site::new();
    site.add_rule(NewRule { grouping: Some(Grouping::Digest), ..site.new_rule() });
    site.is(0, Offline);
    site.hub.live_through(MINUTE / 2);
    site.are(&[1, 2], Offline);
    site.is(0, Online);
    assert_eq!(site.told(), [""; 0]);
    site.hub.restart();
    site.returns();
    site.hub.live_through(MINUTE);
    assert_eq!(site.told(), ["device.online device 0 digest"]);
    let digest = site.deliveries().remove(0);
    let items: Vec<_> =
        digest.content.items.iter().map(|it| (&*it.event, &*it.resource_name)).collect();
    let expected = [
        ("device.offline", "device 0"),
        ("device.offline", "device 1"),
        ("device.offline", "device 2"),
        ("device.online", "device 0"),
    ];
    assert_eq!(items, expected);
    assert_eq!((digest.content.more, digest.content.alert_id), (0, None));
    assert_eq!(digest.resource, digest.rule_id.to_string(), "one order for the digests of a rule");

    site.is(1, Online);
    site.hub.live_through(MINUTE);
    assert_eq!(site.told()[1..], ["device.online device 1 recovery"]);
    assert_eq!(site.deliveries()[1].resource, site.devices[1].to_string());
}

#[test]
fn a_large_digest_counts_what_it_does_not_name() {
    let mut site = Site::new();
    site.add_rule(NewRule { grouping: Some(Grouping::Digest), ..site.new_rule() });
    for _ in 0..30 {
        site.is(0, Offline);
        site.is(0, Online);
    }
    site.hub.live_through(MINUTE);
    let content = site.deliveries().remove(0).content;
    assert_eq!((content.items.len(), content.more), (50, 10));
    assert!(content.items.is_sorted_by_key(|item| item.seq));
}

#[test]
fn an_acknowledgement_stops_the_escalation_and_is_journalled_once() {
    let mut site = Site::new();
    let second = add_channel(&mut site.hub);
    let escalation = Some(Escalation { after_s: 600, channel_ids: vec![second] });
    site.add_rule(NewRule { escalation, ..site.new_rule() });
    site.are(&[0, 1], Offline);
    let [first, other] = &site.alerts()[..] else { panic!("{:?}", site.alerts()) };
    assert_eq!(first.escalates_at, Some(site.hub.now + 10 * MINUTE));
    for by in ["ann@example.org", "link"] {
        let request = Request::AcknowledgeAlert { alert_id: first.id, by: by.into() };
        let Reply::Alert(alert) = site.hub.ask(request).unwrap().0 else { unreachable!() };
        assert_eq!(alert.acknowledged_by.as_deref(), Some("ann@example.org"));
    }
    let acknowledged = |site: &Site| {
        site.hub.told_since(0).iter().filter(|name| **name == "alert.acknowledged").count()
    };
    assert_eq!(acknowledged(&site), 1);
    site.hub.live_through(20 * MINUTE);
    assert_eq!(site.told()[2..], ["device.offline device 1 escalation"]);
    assert_eq!(site.deliveries()[2].channel_id, second);
    assert_eq!(site.deliveries()[2].content.alert_id, Some(other.id));
    site.are(&[0, 1], Online);
    let recoveries: Vec<ChannelId> =
        site.deliveries()[3..].iter().map(|delivery| delivery.channel_id).collect();
    assert_eq!(recoveries, [site.channel, site.channel, second]);

    let request = Request::AcknowledgeAlert { alert_id: AlertId::new(), by: "link".into() };
    assert!(matches!(site.hub.ask(request), Err(Refusal::NotFound { .. })));
}

#[test]
fn a_mail_channel_gets_a_message_for_each_recipient() {
    let mut site = Site::new();
    let channel_id = ChannelId::from_uuid(site.hub.id());
    let new = NewChannel {
        kind: ChannelKind::Email,
        config: serde_json::json!({ "recipients": ["a@example.org", "b@example.org"] }),
        ..webhook()
    };
    site.hub.ask(Request::AddChannel { channel_id, new, hidden: Hidden::default() }).unwrap();
    site.add_rule(NewRule { channel_ids: vec![channel_id, site.channel], ..site.new_rule() });
    site.is(0, Offline);
    let to: Vec<_> = site.deliveries().into_iter().map(|it| it.content.recipient).collect();
    assert_eq!(to, [Some("a@example.org".into()), Some("b@example.org".into()), None]);
}

#[test]
fn what_is_removed_is_not_waited_for() {
    let mut site = Site::new();
    site.add_rule(NewRule { min_duration_s: Some(600), ..site.new_rule() });
    site.are(&[0, 1], Offline);
    site.hub.ask(Request::RemoveDevice(site.devices[0])).unwrap();
    assert_eq!(site.alerts().len(), 1);
    site.hub.ask(Request::RemoveAgent(site.agent_id)).unwrap();
    assert_eq!(site.alerts(), []);
    site.hub.live_through(20 * MINUTE);
    assert_eq!(site.told(), [""; 0]);
}

#[test]
fn a_preview_tells_what_the_rule_told() {
    for grouping in [Grouping::Agent, Grouping::Digest, Grouping::None] {
        let mut site = Site::new();
        let rule = NewRule {
            grouping: Some(grouping),
            cooldown_s: Some(120),
            min_duration_s: Some(10),
            flap_detection: Some(true),
            ..site.new_rule()
        };
        site.add_rule(rule.clone());
        let from = site.hub.now - MINUTE;
        for pause in [5, 30, 20, 200, 15, 12, 90, 40, 7, 60, 60, 60, 400, 30] {
            site.are(&[0, 1], Offline);
            site.hub.live_through(Duration::from_secs(pause));
            site.is(0, Online);
            site.hub.live_through(Duration::from_secs(pause / 2));
            site.is(1, Degraded);
        }
        site.dies();
        site.hub.live_through(10 * MINUTE);
        site.returns();
        site.all_are(Online);
        site.hub.live_through(10 * MINUTE);

        let (image, to) = (site.hub.tables.image(), site.hub.now);
        let preview = Org::preview(image, rule, &site.hub.journal, [from, to], false).unwrap();
        let told: Vec<(Timestamp, String, u64, Option<Suppression>)> = site
            .deliveries()
            .into_iter()
            .map(|it| (it.created_at, it.event_name, it.event_seq, it.content.suppressed_by))
            .collect();
        assert!(told.len() > 20, "{grouping}: {told:?}");
        let rehearsed: Vec<_> = preview
            .items
            .iter()
            .rev()
            .map(|it| (it.at, it.event.clone(), it.seq, it.suppressed))
            .collect();
        assert_eq!(rehearsed, told, "{grouping}");
        assert_eq!(preview.sent + preview.suppressed, told.len() as u64);
    }
}

#[test]
fn a_suspended_org_forgets_its_alerts() {
    let mut site = Site::new();
    site.add_rule(NewRule { min_duration_s: Some(60), ..site.new_rule() });
    site.is(0, Offline);
    let mut org = site.hub.tables.org.clone();
    org.status = pulse_protocol::api::OrgStatus::Suspended;
    site.hub.tables.org = org.clone();
    site.hub.take(Input::Standing(org.standing()));
    site.hub.live_through(10 * MINUTE);
    assert_eq!((site.told(), site.alerts()), (vec![], vec![]));
}
