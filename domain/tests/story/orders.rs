//! Small builders of frames and requests.

use std::time::Duration;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentFrame, CheckResult, CommandProgress, CommandResult, DiscoveredDevice, DiscoveryMethod,
    Network, Report, ScanCompleted, ScanOutcome, ScanStarted, Segments,
};
use pulse_protocol::api::{
    Escalation, Grouping, NewCheck, NewDevice, NewMaintenanceWindow, NewRule, Recurrence,
};
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, ChannelId, CheckId, CommandId, ScanId, SegmentId};
use pulse_protocol::status::{CheckKind, DeviceStatus};

pub(crate) const LONG_AGO: Timestamp = Timestamp::from_unix_ms(1_700_000_000_000);

pub(crate) fn by_address(
    address: &str,
    status: DeviceStatus,
    checked_at: Timestamp,
) -> CheckResult {
    CheckResult {
        check_id: None,
        device_id: None,
        address: Some(address.to_owned()),
        check: None,
        status,
        response_time_ms: Some(1.5),
        checked_at,
        error: None,
        tls: None,
    }
}

pub(crate) fn by_check(
    check_id: CheckId,
    status: DeviceStatus,
    checked_at: Timestamp,
) -> CheckResult {
    CheckResult { check_id: Some(check_id), address: None, ..by_address("", status, checked_at) }
}

pub(crate) fn report(seq: u64, reports: Vec<CheckResult>) -> AgentFrame {
    AgentFrame::Report(Report { seq, reports })
}

pub(crate) fn segments(seq: u64, cidrs: &[&str]) -> AgentFrame {
    let network = |cidr: &&str| Network {
        cidr: (*cidr).to_owned(),
        name: format!("net {cidr}"),
        interface: "eth0".to_owned(),
    };
    AgentFrame::Segments(Segments { seq, networks: cidrs.iter().map(network).collect() })
}

pub(crate) fn scan_started(seq: u64, scan_id: ScanId, segment_id: SegmentId) -> AgentFrame {
    let (started_at, command_id) = (LONG_AGO, None);
    AgentFrame::ScanStarted(ScanStarted { seq, scan_id, segment_id, started_at, command_id })
}

pub(crate) fn scan_completed(
    seq: u64,
    scan_id: ScanId,
    segment_id: SegmentId,
    outcome: ScanOutcome,
    addresses: &[String],
) -> AgentFrame {
    AgentFrame::ScanCompleted(ScanCompleted {
        seq,
        scan_id,
        segment_id,
        finished_at: LONG_AGO,
        outcome,
        error: None,
        devices: addresses.iter().map(|address| discovered(address)).collect(),
    })
}

pub(crate) fn discovered(address: &str) -> DiscoveredDevice {
    DiscoveredDevice {
        address: address.to_owned(),
        mac: None,
        hostname: None,
        manufacturer: None,
        device_type: None,
        os_hints: vec![],
        open_ports: vec![],
        services: vec![],
        snmp: None,
        upnp: None,
        method: DiscoveryMethod::Arp,
    }
}

pub(crate) fn command_result(
    seq: u64,
    command_id: CommandId,
    state: CommandProgress,
) -> AgentFrame {
    let (result, error, at) = (None, None, LONG_AGO);
    AgentFrame::CommandResult(CommandResult { seq, command_id, state, result, error, at })
}

pub(crate) fn check(kind: CheckKind, failure_threshold: u32) -> NewCheck {
    NewCheck {
        id: None,
        check: kind,
        port: (kind == CheckKind::Tcp).then_some(22),
        url: (kind == CheckKind::Http).then(|| "http://localhost/".to_owned()),
        interval_s: None,
        timeout_ms: None,
        failure_threshold: Some(failure_threshold),
        expect: None,
    }
}

pub(crate) fn device(agent_id: AgentId, address: &str) -> NewDevice {
    let address = address.to_owned();
    NewDevice { agent_id, segment_id: None, category_id: None, name: None, address, checks: None }
}

/// A rule about everything that can be wrong, with some of what a rule can have.
pub(crate) fn rule(how: u8, channel_id: ChannelId) -> NewRule {
    let some = |bit: u8| how & (1 << bit) != 0;
    NewRule {
        name: format!("rule {how}"),
        event_types: EventBody::NAMES.iter().map(|name| (*name).to_owned()).collect(),
        channel_ids: vec![channel_id],
        cooldown_s: some(0).then_some(7),
        min_duration_s: some(1).then_some(5),
        flap_detection: Some(some(2)),
        grouping: Some(Grouping::ALL[usize::from(how / 8) % Grouping::ALL.len()]),
        escalation: some(5).then(|| Escalation { after_s: 60, channel_ids: vec![channel_id] }),
        ..NewRule::default()
    }
}

/// A maintenance window of the whole org that opens at `starts_at`, once or every day.
pub(crate) fn window(how: u8, starts_at: Timestamp) -> NewMaintenanceWindow {
    NewMaintenanceWindow {
        name: format!("window {how}"),
        filters: None,
        starts_at,
        ends_at: starts_at + Duration::from_secs(60 + u64::from(how)),
        timezone: None,
        recurrence: how.is_multiple_of(5).then_some(Recurrence::Daily),
        days: vec![],
        until: None,
    }
}
