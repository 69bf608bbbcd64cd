//! Records of every kind, drawn at random.

use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use pulse_domain::notification::alert::{Alert, EventRef, Resource, Told};
use pulse_domain::notification::board::Tracked;
use pulse_domain::record::*;
use pulse_protocol::Timestamp;
use pulse_protocol::agent::CommandKind;
use pulse_protocol::api::{
    ChannelHealth, ChannelKind, CommandState, DeliveryState, Filters, OrgStatus, Plan, Reason,
    Recurrence, ScanState,
};
use pulse_protocol::ids::*;
use pulse_protocol::status::{AgentState, CheckKind, DeviceStatus, Platform};
use serde_json::{Value, json};
use uuid::Uuid;

/// Draws values.
pub(crate) struct Draw(TestRunner);

impl Draw {
    /// The same draws in each run.
    pub(crate) fn new() -> Self {
        Self(TestRunner::deterministic())
    }

    pub(crate) fn one<S: Strategy>(&mut self, strategy: S) -> S::Value {
        strategy.new_tree(&mut self.0).unwrap().current()
    }

    pub(crate) fn some<S: Strategy>(&mut self, count: usize, strategy: S) -> Vec<S::Value> {
        (0..count).map(|_| self.one(&strategy)).collect()
    }
}

fn id<T: std::fmt::Debug>(from: fn(Uuid) -> T) -> impl Strategy<Value = T> {
    any::<u128>().prop_map(move |bits| from(Uuid::from_u128(bits)))
}

/// Text with quotes, backslashes, control characters and characters beyond ASCII; no NUL, which PostgreSQL
/// cannot store and no frame may carry into a table.
fn text() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..20)
        .prop_map(|chars| chars.into_iter().collect())
}

fn instant() -> impl Strategy<Value = Timestamp> {
    (0..4_000_000_000_000_i64).prop_map(Timestamp::from_unix_ms)
}

fn of_words<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

fn json() -> impl Strategy<Value = Value> {
    (text(), any::<i64>(), any::<bool>())
        .prop_map(|(text, number, flag)| json!({"text": text, "list": [number, flag, null]}))
}

pub(crate) fn org(id: OrgId, slug: String) -> impl Strategy<Value = OrgRecord> {
    let words = (of_words(Plan::ALL), of_words(OrgStatus::ALL), of(text()));
    let numbers = (of(any::<u32>()), of(any::<u32>()), of(any::<u32>()), instant());
    (text(), words, numbers).prop_map(move |(name, (plan, status, status_reason), numbers)| {
        OrgRecord {
            id,
            name,
            slug: slug.clone(),
            plan,
            status,
            status_reason,
            heartbeat_interval_ms: numbers.0,
            heartbeat_timeout_ms: numbers.1,
            offline_grace_ms: numbers.2,
            created_at: numbers.3,
        }
    })
}

pub(crate) fn agent() -> impl Strategy<Value = AgentRecord> {
    let facts = (text(), text(), of_words(Platform::ALL), text());
    let facts = facts.prop_map(|(version, hostname, platform, arch)| AgentFacts {
        version,
        hostname,
        platform,
        arch,
    });
    let keys = (any::<[u8; 32]>(), text(), of((any::<[u8; 32]>(), instant())));
    (id(AgentId::from_uuid), text(), any::<bool>(), keys, of(facts), instant()).prop_map(
        |(id, name, enabled, (key_hash, key_prefix, previous_key), facts, created_at)| {
            AgentRecord { id, name, enabled, key_hash, key_prefix, previous_key, facts, created_at }
        },
    )
}

pub(crate) fn presence() -> impl Strategy<Value = PresenceRecord> {
    let agent = (id(AgentId::from_uuid), of_words(AgentState::ALL), instant());
    (agent, of(instant()), of(instant())).prop_map(
        |((agent_id, state, since), last_seen_at, back_by)| PresenceRecord {
            agent_id,
            state,
            since,
            last_seen_at,
            back_by,
        },
    )
}

pub(crate) fn position() -> impl Strategy<Value = PositionRecord> {
    (id(AgentId::from_uuid), text(), 0..=u64::try_from(i64::MAX).unwrap()).prop_map(
        |(agent_id, spool_id, acked_seq)| PositionRecord {
            agent_id,
            spool_id: spool_id.into(),
            acked_seq,
        },
    )
}

pub(crate) fn segment() -> impl Strategy<Value = SegmentRecord> {
    let ids = (id(SegmentId::from_uuid), id(AgentId::from_uuid));
    (ids, text(), text(), text(), any::<u32>(), any::<bool>(), of(instant())).prop_map(
        |((id, agent_id), name, cidr, interface, scan_interval_s, enabled, last_scan_at)| {
            SegmentRecord {
                id,
                agent_id,
                name,
                cidr,
                interface,
                scan_interval_s,
                enabled,
                last_scan_at,
            }
        },
    )
}

fn check() -> impl Strategy<Value = CheckSpec> {
    let what = (id(CheckId::from_uuid), of_words(CheckKind::ALL), of(any::<u16>()), of(text()));
    (what, any::<u32>(), any::<u32>(), any::<u32>(), of(json())).prop_map(
        |((id, check, port, url), interval_s, timeout_ms, failure_threshold, expect)| CheckSpec {
            id,
            check,
            port,
            url,
            interval_s,
            timeout_ms,
            failure_threshold,
            expect,
        },
    )
}

pub(crate) fn device() -> impl Strategy<Value = DeviceRecord> {
    let ids = (
        id(DeviceId::from_uuid),
        id(AgentId::from_uuid),
        of(id(SegmentId::from_uuid)),
        of(id(CategoryId::from_uuid)),
    );
    let checks = proptest::collection::vec(check(), 0..4);
    (ids, text(), text(), of(text()), checks, instant()).prop_map(
        |((id, agent_id, segment_id, category_id), name, address, mac, checks, created_at)| {
            DeviceRecord {
                id,
                agent_id,
                segment_id,
                category_id,
                name,
                address,
                mac,
                checks,
                created_at,
            }
        },
    )
}

pub(crate) fn device_state() -> impl Strategy<Value = DeviceStateRecord> {
    let key = prop_oneof![
        id(CheckId::from_uuid).prop_map(CheckKey::Configured),
        of_words(CheckKind::ALL).prop_map(CheckKey::Implicit),
    ];
    let check = (key, of_words(DeviceStatus::ALL), any::<u32>());
    let check = check.prop_map(|(key, status, failures)| CheckState { key, status, failures });
    let status = (of_words(DeviceStatus::ALL), of(of_words(DeviceStatus::ALL)), instant());
    let time = of(0.0..100_000.0_f64);
    (id(DeviceId::from_uuid), status, time, proptest::collection::vec(check, 0..4)).prop_map(
        |(device_id, (status, known, since), response_time_ms, checks)| DeviceStateRecord {
            device_id,
            status,
            known,
            since,
            response_time_ms,
            checks,
        },
    )
}

pub(crate) fn scan() -> impl Strategy<Value = ScanRecord> {
    let ids = (id(ScanId::from_uuid), id(AgentId::from_uuid), id(SegmentId::from_uuid), text());
    let times = (of_words(ScanState::ALL), instant(), instant());
    (ids, times, any::<u32>(), any::<u32>(), of(text())).prop_map(
        |(ids, (state, started_at, ended_at), devices_found, devices_new, error)| ScanRecord {
            id: ids.0,
            agent_id: ids.1,
            segment_id: ids.2,
            segment_name: ids.3,
            state,
            started_at,
            finished_at: (state != ScanState::Running).then_some(ended_at),
            devices_found,
            devices_new,
            error,
        },
    )
}

/// A command that has not ended.
pub(crate) fn command() -> impl Strategy<Value = CommandRecord> {
    let open = select(vec![CommandState::Issued, CommandState::Delivered, CommandState::Running]);
    let ids = (id(CommandId::from_uuid), id(AgentId::from_uuid), of_words(CommandKind::ALL));
    (ids, json(), open, instant(), instant(), of(json()), of(text())).prop_map(
        |((id, agent_id, kind), payload, state, issued_at, deadline, result, error)| {
            CommandRecord { id, agent_id, kind, payload, state, issued_at, deadline, result, error }
        },
    )
}

pub(crate) fn channel() -> impl Strategy<Value = ChannelRecord> {
    let words = (of_words(ChannelKind::ALL), of_words(ChannelHealth::ALL));
    let secrets = proptest::collection::vec(text(), 0..3);
    let hidden = (secrets, json()).prop_map(|(signing, config)| Hidden { signing, config });
    let tried = (proptest::collection::vec(any::<u32>(), 0..3), breaker());
    (id(ChannelId::from_uuid), text(), words, json(), hidden, any::<bool>(), tried, instant())
        .prop_map(|(id, name, (kind, health), config, hidden, enabled, tried, created_at)| {
            let (retry_schedule_s, breaker) = tried;
            ChannelRecord {
                id,
                name,
                kind,
                config,
                hidden,
                retry_schedule_s,
                enabled,
                health,
                breaker,
                created_at,
            }
        })
}

fn breaker() -> impl Strategy<Value = Breaker> {
    let instants = (of(instant()), of(instant()));
    (any::<u32>(), any::<u32>(), instants, any::<bool>()).prop_map(
        |(failures, trips, (failing_since, paused_until), told)| Breaker {
            failures,
            failing_since,
            trips,
            paused_until,
            told,
        },
    )
}

pub(crate) fn rule() -> impl Strategy<Value = RuleRecord> {
    let lists = (
        proptest::collection::vec(text(), 0..4),
        proptest::collection::vec(id(ChannelId::from_uuid), 0..4),
    );
    let settings = (any::<u32>(), any::<bool>(), of(text())).prop_map(
        |(cooldown_s, flap_detection, description)| RuleSettings {
            cooldown_s,
            flap_detection,
            description,
            ..RuleSettings::default()
        },
    );
    (id(RuleId::from_uuid), text(), lists, settings, any::<bool>(), instant()).prop_map(
        |(id, name, (event_types, channel_ids), settings, enabled, created_at)| RuleRecord {
            id,
            name,
            event_types,
            channel_ids,
            settings,
            enabled,
            created_at,
        },
    )
}

fn event_ref() -> impl Strategy<Value = EventRef> {
    (0..=u64::from(u32::MAX), id(EventId::from_uuid), text(), instant())
        .prop_map(|(seq, id, name, at)| EventRef { seq, id, name, at })
}

fn told() -> impl Strategy<Value = Told> {
    let channel_ids = proptest::collection::vec(id(ChannelId::from_uuid), 0..3);
    (of(text()), instant(), channel_ids).prop_map(|(event, at, channel_ids)| Told {
        event,
        at,
        channel_ids,
    })
}

pub(crate) fn alert() -> impl Strategy<Value = AlertRecord> {
    let resource = prop_oneof![
        id(AgentId::from_uuid).prop_map(Resource::Agent),
        id(DeviceId::from_uuid).prop_map(Resource::Device),
    ];
    let ids = (id(AlertId::from_uuid), id(RuleId::from_uuid), resource, text());
    let times = (of(instant()), of(instant()), instant());
    (ids, event_ref(), of(event_ref()), of(told()), times).prop_map(
        |((id, rule_id, resource, name), problem, recovery, told, times)| {
            let mut alert = Alert::new(resource, name, problem);
            (alert.recovery, alert.told, alert.alerted_at) = (recovery, told, times.1);
            AlertRecord {
                id,
                rule_id,
                resource: resource.to_string(),
                state: Tracked::Alert(Box::new(alert)),
                due_at: times.0,
                updated_at: times.2,
            }
        },
    )
}

pub(crate) fn window() -> impl Strategy<Value = WindowRecord> {
    let when = (instant(), instant(), of(of_words(Recurrence::ALL)), of(instant()));
    let agent_ids = proptest::collection::vec(id(AgentId::from_uuid), 0..3);
    let days = proptest::collection::vec(1..=7_u8, 0..3);
    let times = (of(instant()), instant(), any::<bool>());
    (id(WindowId::from_uuid), text(), agent_ids, when, days, times).prop_map(
        |(id, name, agent_ids, (starts_at, ends_at, recurrence, until), days, times)| {
            let settings = WindowSettings {
                name,
                filters: Filters { agent_ids, ..Filters::default() },
                starts_at,
                ends_at,
                timezone: "UTC".to_owned(),
                recurrence,
                days,
                until,
                is_open: times.2,
            };
            WindowRecord { id, settings, next_change_at: times.0, created_at: times.1 }
        },
    )
}

/// A delivery for event `event_seq` that is due at `due_at`.
pub(crate) fn delivery(
    channel_id: ChannelId,
    event_seq: u64,
    due_at: Option<i64>,
) -> DeliveryRecord {
    DeliveryRecord {
        id: DeliveryId::new(),
        channel_id,
        rule_id: RuleId::new(),
        event_id: EventId::new(),
        event_seq,
        event_name: "device.offline".to_owned(),
        resource: "dev_1".to_owned(),
        content: Content::about(Reason::Alert, "Router"),
        state: if due_at.is_some() { DeliveryState::Queued } else { DeliveryState::Delivered },
        tries: 0,
        next_attempt_at: due_at.map(Timestamp::from_unix_ms),
        created_at: Timestamp::from_unix_ms(1),
    }
}
