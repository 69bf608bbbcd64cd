//! Random lives of a whole fleet. Every step is checked by [`Hub`]; at the end the org in memory, the org loaded
//! from its tables and the org retold from its journal are put to the same test, and must answer alike.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;
use pulse_domain::org::{Attempted, Effect, GiveUp, GivenUp, Input};
use pulse_domain::presence::ConnectionId;
use pulse_domain::record::{DeliveryRecord, Hidden, OrgRecord};
use pulse_domain::request::{DeliveryChange, Request};
use pulse_protocol::agent::{
    AgentErrorCode, AgentFrame, Bye, ByeReason, CheckResult, CommandKind, CommandProgress,
    ScanOutcome,
};
use pulse_protocol::api::{
    AgentPatch, Attempt, AttemptOutcome, ChannelPatch, DevicePatch, Grouping,
    MaintenanceWindowPatch, NewCommand, NewRule, OrgPatch, OrgStatus, Plan, RulePatch, Suppression,
};
use pulse_protocol::event::EventBody;
use pulse_protocol::ids::{AgentId, ChannelId, CommandId, DeviceId, RuleId, ScanId, WindowId};
use pulse_protocol::status::{AgentState, Cause, CheckKind, DeviceStatus};

use crate::hub::{Hub, webhook, welcome};
use crate::probe::answers;
use crate::{orders, shown};

/// What an agent may spool. Numbers choose among what there is.
#[derive(Clone, Debug)]
enum Content {
    Results(Vec<(u8, u8)>),
    ByAddress(u8, u8),
    Networks(u8),
    ScanStarted,
    ScanEnded(u8, bool, Vec<u8>),
    Command(u8, u8),
    /// Something of another agent's, or nobody's.
    Foreign(u8),
}

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Connect(u8),
    HangUp(u8, bool),
    NewsOfAReplacedConnection(u8),
    Bye(u8, u8),
    Spool(u8, Content),
    Resend(u8, u8),
    Skip(u8),
    Unreadable(u8),
    LoseSpool(u8),
    Pass(u16),
    Ask(u8, u8, u8),
    Attempt(u8, u8),
    GiveUp(u8, u8),
    Change(u8, bool),
    HandOver,
    Settle(u8),
    Restart,
}

fn content() -> impl Strategy<Value = Content> {
    let any = any::<u8>;
    prop_oneof![
        6 => prop::collection::vec((any(), any()), 1..5).prop_map(Content::Results),
        2 => (any(), any()).prop_map(|(host, status)| Content::ByAddress(host, status)),
        2 => any().prop_map(Content::Networks),
        2 => Just(Content::ScanStarted),
        2 => (any(), prop::bool::ANY, prop::collection::vec(any(), 0..4))
            .prop_map(|(scan, good, hosts)| Content::ScanEnded(scan, good, hosts)),
        2 => (any(), any()).prop_map(|(command, state)| Content::Command(command, state)),
        1 => any().prop_map(Content::Foreign),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let any = any::<u8>;
    prop_oneof![
        6 => any().prop_map(Step::Connect),
        2 => (any(), prop::bool::ANY).prop_map(|(agent, silent)| Step::HangUp(agent, silent)),
        1 => any().prop_map(Step::NewsOfAReplacedConnection),
        1 => (any(), any()).prop_map(|(agent, how)| Step::Bye(agent, how)),
        14 => (any(), content()).prop_map(|(agent, content)| Step::Spool(agent, content)),
        2 => (any(), any()).prop_map(|(agent, back)| Step::Resend(agent, back)),
        1 => any().prop_map(Step::Skip),
        1 => any().prop_map(Step::Unreadable),
        1 => any().prop_map(Step::LoseSpool),
        4 => (0_u16..20_000).prop_map(Step::Pass),
        12 => (any(), any(), any()).prop_map(|(what, which, how)| Step::Ask(what, which, how)),
        3 => (any(), any()).prop_map(|(which, how)| Step::Attempt(which, how)),
        1 => (any(), any()).prop_map(|(which, how)| Step::GiveUp(which, how)),
        2 => (any(), prop::bool::ANY).prop_map(|(which, replays)| Step::Change(which, replays)),
        2 => Just(Step::HandOver),
        1 => any().prop_map(Step::Settle),
        1 => Just(Step::Restart),
    ]
}

fn pick<T: Clone>(items: &[T], which: u8) -> Option<T> {
    (!items.is_empty()).then(|| items[usize::from(which) % items.len()].clone())
}

/// One agent's side of its session.
#[derive(Default)]
struct Site {
    spool: Vec<AgentFrame>,
    spool_number: u32,
    acked: u64,
    connection: Option<ConnectionId>,
    replaced: Option<ConnectionId>,
    rejected: BTreeSet<u64>,
}

impl Site {
    fn spool_id(&self) -> String {
        format!("spool {}", self.spool_number)
    }
}

struct Fleet {
    hub: Hub,
    sites: BTreeMap<AgentId, Site>,
    commands: Vec<CommandId>,
    to_hand_over: Vec<CommandId>,
    scans: Vec<ScanId>,
}

impl Fleet {
    fn new() -> Self {
        let mut hub = Hub::new(Plan::Trial);
        let mut sites = BTreeMap::new();
        for name in ["north", "south", "east"] {
            sites.insert(hub.add_agent(name), Site::default());
        }
        hub.tell_of(EventBody::NAMES);
        let agents: Vec<AgentId> = sites.keys().copied().collect();
        for (number, agent_id) in agents.iter().cycle().take(5).enumerate() {
            let id = DeviceId::from_uuid(hub.id());
            let mut new = orders::device(*agent_id, &format!("10.0.9.{number}"));
            let checks = [orders::check(CheckKind::Ping, 3), orders::check(CheckKind::Http, 1)];
            new.checks = (number > 1).then(|| checks.to_vec());
            hub.ask(Request::AddDevice(id, new)).unwrap();
        }
        Self { hub, sites, commands: vec![], to_hand_over: vec![], scans: vec![] }
    }

    fn agent(&self, which: u8) -> Option<AgentId> {
        pick(&self.sites.keys().copied().collect::<Vec<_>>(), which)
    }

    /// Acts on what the hub tells its sockets.
    fn hear(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Ack(connection, seq) => {
                    let site =
                        self.site_of(connection).expect("an ack to a connection that counts");
                    assert!(seq >= site.acked && seq <= site.spool.len() as u64, "acked {seq}");
                    site.acked = seq;
                }
                Effect::Error(connection, error, close) => {
                    if error.code == AgentErrorCode::Rejected {
                        let site = self
                            .site_of(connection)
                            .expect("a rejection to a connection that counts");
                        assert!(site.rejected.insert(error.seq.unwrap()), "rejected twice");
                    }
                    assert_eq!(error.fatal, close.is_some());
                    close.into_iter().for_each(|_| self.closed(connection));
                }
                Effect::Close(connection, _) => self.closed(connection),
                Effect::Command(_, command) => self.to_hand_over.push(command.command_id),
                Effect::Welcome(..)
                | Effect::Config(..)
                | Effect::WakeChannel(_)
                | Effect::WakeMailer
                | Effect::Lingers(_) => {}
            }
        }
    }

    fn site_of(&mut self, connection: ConnectionId) -> Option<&mut Site> {
        self.sites.values_mut().find(|site| site.connection == Some(connection))
    }

    /// The hub closed a socket; its end is news too.
    fn closed(&mut self, connection: ConnectionId) {
        let closed = |site: &Site| site.connection == Some(connection);
        let owner = self.sites.iter().find(|(_, site)| closed(site)).map(|(id, _)| *id);
        if let Some(agent_id) = owner {
            self.sites.entry(agent_id).or_default().connection = None;
            self.hub.hang_up(agent_id, connection);
        }
    }

    fn connect(&mut self, agent_id: AgentId) {
        let site = self.sites.entry(agent_id).or_default();
        let (spool_id, acked) = (site.spool_id(), site.acked);
        let (connection, effects) = self.hub.hello(agent_id, &spool_id, acked + 1);
        let site = self.sites.entry(agent_id).or_default();
        if let Some(welcome) = welcome(&effects) {
            assert_eq!(
                welcome.acked_seq, site.acked,
                "what was acked is remembered, and nothing else"
            );
            site.replaced = site.connection.replace(connection).or(site.replaced);
        }
        self.hear(effects);
        self.flush(agent_id);
    }

    /// Sends what is not acked.
    fn flush(&mut self, agent_id: AgentId) {
        let acked = self.sites[&agent_id].acked;
        self.send_from(agent_id, acked);
    }

    fn send_from(&mut self, agent_id: AgentId, from: u64) {
        let Some(connection) = self.sites[&agent_id].connection else { return };
        let frames: Vec<AgentFrame> = self.sites[&agent_id]
            .spool
            .iter()
            .skip(usize::try_from(from).unwrap())
            .cloned()
            .collect();
        for frame in frames {
            let effects = self.hub.send(agent_id, connection, frame);
            self.hear(effects);
        }
        if let Some(site) = self.sites.get(&agent_id).filter(|site| site.connection.is_some()) {
            assert_eq!(
                site.acked,
                site.spool.len() as u64,
                "everything that was sent in order is acked"
            );
        }
    }

    fn frame(&mut self, agent_id: AgentId, seq: u64, content: Content) -> AgentFrame {
        let shown = self.hub.org.snapshot();
        let now = self.hub.now;
        let status = |how: u8| pick(DeviceStatus::ALL, how).unwrap();
        let devices: Vec<_> =
            shown.devices.into_iter().filter(|device| device.agent_id == agent_id).collect();
        let segments: Vec<_> = shown
            .segments
            .iter()
            .filter(|segment| segment.agent_id == agent_id)
            .map(|it| it.id)
            .collect();
        let segment_id = pick(&segments, 0).unwrap_or_default();
        match content {
            Content::Results(results) => {
                let result = |(which, how): (u8, u8)| -> Option<CheckResult> {
                    let device = pick(&devices, which)?;
                    let result = orders::by_address(&device.address, status(how), now);
                    Some(match pick(&device.checks, which / 8) {
                        Some(check) if which % 3 > 0 => {
                            orders::by_check(check.id, status(how), now)
                        }
                        _ => CheckResult {
                            device_id: Some(device.id),
                            check: pick(CheckKind::ALL, which / 16),
                            ..result
                        },
                    })
                };
                let mut reports: Vec<_> = results.into_iter().filter_map(result).collect();
                if reports.is_empty() {
                    reports.push(orders::by_address("nowhere", DeviceStatus::Online, now));
                }
                orders::report(seq, reports)
            }
            Content::ByAddress(host, how) => {
                let result = orders::by_address(
                    &format!("10.1.{}.{}", host % 3, host / 16),
                    status(how),
                    now,
                );
                orders::report(seq, vec![result])
            }
            Content::Networks(which) => {
                let cidrs = ["10.1.0.0/24", "10.1.0.0/16", "not a network", "fd00::1/64"];
                orders::segments(seq, &[cidrs[usize::from(which % 4)]])
            }
            Content::ScanStarted => {
                self.scans.push(ScanId::from_uuid(self.hub.id()));
                orders::scan_started(seq, self.scans[self.scans.len() - 1], segment_id)
            }
            Content::ScanEnded(which, good, hosts) => {
                let scan_id = pick(&self.scans, which).unwrap_or_default();
                let hosts: Vec<String> =
                    hosts.into_iter().map(|host| format!("10.1.0.{host}")).collect();
                let outcome = if good { ScanOutcome::Completed } else { ScanOutcome::Failed };
                orders::scan_completed(seq, scan_id, segment_id, outcome, &hosts)
            }
            Content::Command(which, how) => {
                let command_id = pick(&self.commands, which).unwrap_or_default();
                orders::command_result(seq, command_id, pick(CommandProgress::ALL, how).unwrap())
            }
            Content::Foreign(how) => {
                let everybody = self.hub.org.snapshot();
                let other = everybody.devices.iter().find(|device| device.agent_id != agent_id);
                let check = other.and_then(|device| device.checks.first()).map(|check| check.id);
                orders::report(
                    seq,
                    vec![orders::by_check(check.unwrap_or_default(), status(how), now)],
                )
            }
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Connect(which) => self.agent(which).into_iter().for_each(|id| self.connect(id)),
            Step::HangUp(which, silent) => {
                let Some(agent_id) = self.agent(which) else { return };
                let site = self.sites.entry(agent_id).or_default();
                let Some(connection) = site.connection.take() else { return };
                let cause = if silent { Cause::HeartbeatTimeout } else { Cause::ConnectionClosed };
                self.hub.take(Input::HangUp { agent_id, connection, cause });
            }
            Step::NewsOfAReplacedConnection(which) => {
                let Some(agent_id) = self.agent(which) else { return };
                let Some(connection) = self.sites[&agent_id].replaced else { return };
                let before = self.hub.org.clone();
                let frame = orders::report(1, vec![]);
                assert_eq!(self.hub.send(agent_id, connection, frame), []);
                self.hub.hang_up(agent_id, connection);
                let bye = Bye { reason: ByeReason::Shutdown, expect_back_ms: None };
                assert_eq!(self.hub.take(Input::Bye { agent_id, connection, bye }), []);
                assert_eq!(self.hub.org, before);
            }
            Step::Bye(which, how) => {
                let Some(agent_id) = self.agent(which) else { return };
                let Some(connection) = self.sites[&agent_id].connection else { return };
                let expect_back_ms = (how.is_multiple_of(2)).then_some(u64::from(how) * 100);
                let bye = Bye { reason: pick(ByeReason::ALL, how / 2).unwrap(), expect_back_ms };
                let effects = self.hub.take(Input::Bye { agent_id, connection, bye });
                self.hear(effects);
            }
            Step::Spool(which, content) => {
                let Some(agent_id) = self.agent(which) else { return };
                let seq = self.sites[&agent_id].spool.len() as u64 + 1;
                let frame = self.frame(agent_id, seq, content);
                self.sites.entry(agent_id).or_default().spool.push(frame);
                self.flush(agent_id);
            }
            Step::Resend(which, back) => {
                let Some(agent_id) = self.agent(which) else { return };
                let from = self.sites[&agent_id].acked.saturating_sub(u64::from(back % 8));
                self.send_from(agent_id, from);
            }
            Step::Skip(which) => self.skip(which),
            Step::Unreadable(which) => {
                let Some(agent_id) = self.agent(which) else { return };
                let site = self.sites.entry(agent_id).or_default();
                let Some(connection) = site.connection else { return };
                let seq = site.spool.len() as u64 + 1;
                site.spool.push(orders::report(seq, vec![]));
                let reason = "`reports` must hold 1 to 500 results".to_owned();
                let effects =
                    self.hub.take(Input::Unreadable { agent_id, connection, seq, reason });
                self.hear(effects);
                assert!(self.sites[&agent_id].rejected.contains(&seq));
            }
            Step::LoseSpool(which) => {
                let Some(agent_id) = self.agent(which) else { return };
                let site = self.sites.entry(agent_id).or_default();
                let spool_number = site.spool_number + 1;
                let connection = site.connection;
                *site = Site { spool_number, connection, ..Site::default() };
                self.connect(agent_id);
            }
            Step::Pass(ms) => self.hub.live_through(Duration::from_millis(ms.into())),
            Step::Ask(what, which, how) => self.ask(what, which, how),
            Step::Attempt(which, how) => self.attempt(which, how),
            Step::GiveUp(which, how) => {
                let Some(delivery) = self.waiting(which) else { return };
                let all = [
                    GiveUp::Superseded,
                    GiveUp::ChannelOff,
                    GiveUp::RuleOff,
                    GiveUp::Held(Suppression::Recipient),
                ];
                let why = pick(&all, how).unwrap();
                self.hub.take(Input::GivenUp(vec![GivenUp { delivery, why }]));
            }
            Step::Change(which, replays) => {
                let all: Vec<_> = self.hub.tables.deliveries.values().cloned().collect();
                let Some(delivery) = pick(&all, which) else { return };
                let change = if replays { DeliveryChange::Replay } else { DeliveryChange::Discard };
                // A refusal changes nothing.
                drop(self.hub.change(delivery, change));
            }
            Step::HandOver => {
                for command_id in std::mem::take(&mut self.to_hand_over) {
                    self.hub.take(Input::CommandSent(command_id));
                }
            }
            Step::Settle(how) => self.settle(how),
            Step::Restart => {
                self.hub.restart();
                self.sites.values_mut().for_each(|site| site.connection = None);
            }
        }
    }

    /// Sends a frame that leaves a gap: it is refused, and the connection ends.
    fn skip(&mut self, which: u8) {
        let Some(agent_id) = self.agent(which) else { return };
        let Some(connection) = self.sites[&agent_id].connection else { return };
        let before = self.hub.org.clone();
        let seq = self.sites[&agent_id].acked + 2;
        let frame = orders::report(
            seq,
            vec![orders::by_address("10.0.9.0", DeviceStatus::Online, self.hub.now)],
        );
        let effects = self.hub.send(agent_id, connection, frame);
        assert!(
            matches!(&effects[..], [Effect::Error(_, error, Some(_))] if error.code == AgentErrorCode::SeqGap)
        );
        assert_eq!(self.hub.org, before);
        self.hear(effects);
        assert_eq!(self.sites[&agent_id].connection, None);
    }

    fn waiting(&self, which: u8) -> Option<DeliveryRecord> {
        let waiting = |delivery: &&DeliveryRecord| delivery.next_attempt_at.is_some();
        let waiting: Vec<_> =
            self.hub.tables.deliveries.values().filter(waiting).cloned().collect();
        pick(&waiting, which)
    }

    fn attempt(&mut self, which: u8, how: u8) {
        let Some(delivery) = self.waiting(which) else { return };
        let outcome = pick(AttemptOutcome::ALL, how).unwrap();
        let status = pick(&[None, Some(404), Some(500)], how / 4).unwrap();
        let attempt = Attempt {
            at: self.hub.now,
            duration_ms: 20,
            outcome,
            status,
            answer: None,
            error: None,
        };
        let retry_after = (how % 5 == 4).then_some(Duration::from_secs(how.into()));
        let attempted =
            Attempted { delivery, attempt, retry_after, is_ours: how % 7 == 6, jitter: 0.5 };
        self.hub.take(Input::Attempted(Box::new(attempted)));
    }

    fn settle(&mut self, how: u8) {
        let status = pick(OrgStatus::ALL, how).unwrap();
        let record = OrgRecord { status, ..self.hub.tables.org.clone() };
        self.hub.tables.org = record.clone();
        let effects = self.hub.take(Input::Standing(record.standing()));
        self.hear(effects);
        let closed = matches!(status, OrgStatus::Suspended | OrgStatus::Cancelled);
        assert!(!closed || self.sites.values().all(|site| site.connection.is_none()));
    }

    fn ask(&mut self, what: u8, which: u8, how: u8) {
        let Some(request) = self.request(what % 24, which, how) else { return };
        let (added, removed) = match request {
            Request::AddAgent { agent_id, .. } => (Some(agent_id), None),
            Request::RemoveAgent(agent_id) => (None, Some(agent_id)),
            _ => (None, None),
        };
        if let Ok((_, effects)) = self.hub.ask(request) {
            self.hear(effects);
            self.sites.extend(added.map(|agent_id| (agent_id, Site::default())));
            removed.into_iter().for_each(|agent_id| drop(self.sites.remove(&agent_id)));
        }
    }

    fn request(&mut self, what: u8, which: u8, how: u8) -> Option<Request> {
        let shown = self.hub.org.snapshot();
        let agent = self.agent(which);
        let device = pick(&shown.devices, which);
        let channel = pick(&shown.channels, which).map(|channel| channel.id);
        let rule = pick(&self.hub.tables.rules.keys().copied().collect::<Vec<_>>(), which);
        let enabled = Some(how.is_multiple_of(2));
        Some(match what {
            0 => Request::AddAgent {
                agent_id: AgentId::from_uuid(self.hub.id()),
                name: format!("agent {how}"),
                key_hash: [how; 32],
                key_prefix: "vp_harbour_".to_owned(),
            },
            1 if how.is_multiple_of(4) => Request::RemoveAgent(agent?),
            1 | 2 => Request::PatchAgent(agent?, AgentPatch { name: None, enabled }),
            3 => Request::ReplaceKey {
                agent_id: agent?,
                key_hash: [how; 32],
                key_prefix: format!("vp_{how}"),
            },
            4 | 5 => {
                let mut new = orders::device(agent?, &format!("10.1.0.{how}"));
                let kind = pick(CheckKind::ALL, how).unwrap();
                new.checks =
                    (!how.is_multiple_of(3)).then(|| vec![orders::check(kind, u32::from(how % 3))]);
                Request::AddDevice(DeviceId::from_uuid(self.hub.id()), new)
            }
            6 | 7 => {
                let mut checks = vec![orders::check(CheckKind::Tcp, 2)];
                if let Some(kept) = device.as_ref().and_then(|device| pick(&device.checks, how)) {
                    let mut check = orders::check(kept.check, 2);
                    check.id = Some(kept.id);
                    checks.push(check);
                }
                let checks = (!how.is_multiple_of(3))
                    .then(|| checks.into_iter().skip(usize::from(how % 2)).collect());
                let patch =
                    DevicePatch { name: Some(format!("device {how}")), address: None, checks };
                Request::PatchDevice(device?.id, patch)
            }
            8 => Request::RemoveDevice(device?.id),
            9 => Request::AddChannel {
                channel_id: ChannelId::from_uuid(self.hub.id()),
                new: webhook(),
                hidden: Hidden { signing: vec!["whsec_a".to_owned()], ..Hidden::default() },
            },
            10 => Request::PatchChannel {
                channel_id: channel?,
                patch: ChannelPatch { enabled, ..ChannelPatch::default() },
                hidden_config: None,
            },
            11 => Request::EnableChannel(channel?),
            12 if how.is_multiple_of(4) => Request::RemoveChannel(channel?),
            12 => Request::ReplaceSecret(channel?, "whsec_b".to_owned()),
            13 => Request::AddRule(
                RuleId::from_uuid(self.hub.id()),
                NewRule {
                    name: "rule".to_owned(),
                    event_types: vec![pick(EventBody::NAMES, how).unwrap().to_owned()],
                    channel_ids: vec![channel?],
                    ..NewRule::default()
                },
            ),
            20 => Request::AddRule(RuleId::from_uuid(self.hub.id()), orders::rule(how, channel?)),
            21 if how.is_multiple_of(3) => {
                let id = pick(&self.hub.tables.windows.keys().copied().collect::<Vec<_>>(), which)?;
                match how.is_multiple_of(2) {
                    true => Request::RemoveWindow(id),
                    false => {
                        let ends_at = Some(self.hub.now + Duration::from_secs(90));
                        let patch = MaintenanceWindowPatch { ends_at, ..Default::default() };
                        Request::PatchWindow(id, patch)
                    }
                }
            }
            21 => {
                let new =
                    orders::window(how, self.hub.now + Duration::from_secs(u64::from(which) / 8));
                Request::AddWindow(WindowId::from_uuid(self.hub.id()), new)
            }
            22 => {
                let alerts: Vec<_> = self.hub.tables.alerts.keys().copied().collect();
                Request::AcknowledgeAlert { alert_id: pick(&alerts, which)?, by: "link".to_owned() }
            }
            23 => {
                let cooldown_s = Some(u32::from(how));
                let flap_detection = Some(how.is_multiple_of(2));
                let grouping = pick(Grouping::ALL, how);
                let patch =
                    RulePatch { cooldown_s, flap_detection, grouping, ..RulePatch::default() };
                Request::PatchRule(rule?, patch)
            }
            14 => Request::PatchRule(rule?, RulePatch { enabled, ..RulePatch::default() }),
            15 if how.is_multiple_of(4) => Request::RemoveRule(rule?),
            15 | 16 => {
                let offline_grace_ms = Some(u64::from(how) * 100);
                Request::PatchOrg(OrgPatch { offline_grace_ms, ..OrgPatch::default() })
            }
            17 => {
                let command_id = CommandId::from_uuid(self.hub.id());
                self.commands.push(command_id);
                let deadline_s = Some(u32::from(how) + 1);
                let new = NewCommand { kind: CommandKind::Ping, payload: None, deadline_s };
                Request::IssueCommand { agent_id: agent?, command_id, new }
            }
            _ => Request::ReplaceSecret(channel?, "whsec_c".to_owned()),
        })
    }
}

/// What was announced of each agent alternates.
fn announcements_alternate(hub: &Hub) {
    let mut announced: BTreeMap<AgentId, AgentState> = BTreeMap::new();
    for event in &hub.journal {
        let body = EventBody::from_columns(&event.name, &event.data).unwrap();
        let (EventBody::AgentOnline(data) | EventBody::AgentOffline(data)) = body else { continue };
        let online = |state: Option<&AgentState>| state == Some(&AgentState::Online);
        let before = announced.insert(data.agent_id, data.current);
        assert_ne!(online(before.as_ref()), online(Some(&data.current)), "announced twice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 3, ..ProptestConfig::default() })]

    /// O1 to O3 hold after every step of any life, and what is not shown is kept too: the loaded org and the
    /// retold one answer what follows as the one that lived it.
    #[test]
    fn a_fleet_lives_through_anything(steps in prop::collection::vec(step(), 0..160)) {
        let mut fleet = Fleet::new();
        for step in steps {
            fleet.play(step);
        }
        let Fleet { hub, .. } = fleet;
        announcements_alternate(&hub);
        let lived = answers(hub.org.clone(), hub.tables.org.clone(), hub.now);
        for (how, org) in [("loaded", hub.loaded()), ("retold", hub.retold())] {
            let answers = answers(org, hub.tables.org.clone(), hub.now);
            prop_assert_eq!(shown::difference(&answers, &lived), None, "{}", how);
        }
    }
}
