//! However an agent loses its connection and from wherever it resends, its spool is taken once.

use proptest::prelude::*;
use pulse_domain::org::{Effect, Input};
use pulse_domain::request::Request;
use pulse_protocol::agent::{AgentFrame, CommandKind, CommandProgress, ScanOutcome};
use pulse_protocol::api::{NewCommand, Plan};
use pulse_protocol::ids::{AgentId, CommandId, DeviceId, ScanId};
use pulse_protocol::status::{CheckKind, DeviceStatus};
use uuid::Uuid;

use crate::hub::{Hub, welcome};
use crate::{orders, shown};

/// What happens before the agent sends on.
#[derive(Clone, Copy, Debug)]
enum Mishap {
    None,
    HangUp,
    /// A newer connection, before the end of the older is known.
    Superseded,
    HubRestart,
}

/// A mishap, how far back the agent then begins, and how many frames it sends until the next one.
type Leg = (Mishap, u64, usize);

fn leg() -> impl Strategy<Value = Leg> {
    let mishap = prop_oneof![
        2 => Just(Mishap::None),
        2 => Just(Mishap::HangUp),
        1 => Just(Mishap::Superseded),
        1 => Just(Mishap::HubRestart),
    ];
    (mishap, 0_u64..6, 1_usize..8)
}

/// An org with one connected agent, a segment, a device and a command; and what the agent spools from then on.
fn start(results: &[(u8, DeviceStatus)]) -> (Hub, AgentId, Vec<AgentFrame>) {
    let mut hub = Hub::new(Plan::Trial);
    hub.tell_of(&["device.offline", "device.online", "device.discovered", "scan.completed"]);
    let agent_id = hub.add_agent("north");
    let mut new = orders::device(agent_id, "10.0.0.1");
    new.checks = Some(vec![orders::check(CheckKind::Ping, 3)]);
    let device_id = DeviceId::from_uuid(hub.id());
    hub.ask(Request::AddDevice(device_id, new)).unwrap();
    let check_id = hub.org.snapshot().devices[0].checks[0].id;
    let (connection, _) = hub.connect(agent_id, "spool");
    hub.send(agent_id, connection, orders::segments(1, &["10.0.0.0/24"]));
    let segment_id = hub.org.snapshot().segments[0].id;
    let command_id = CommandId::from_uuid(hub.id());
    let new = NewCommand { kind: CommandKind::ScanNow, payload: None, deadline_s: None };
    hub.ask(Request::IssueCommand { agent_id, command_id, new }).unwrap();
    hub.take(Input::CommandSent(command_id));

    let scan_id = ScanId::from_uuid(Uuid::from_u128(77));
    let found = ["10.0.0.1".to_owned(), "10.0.0.2".to_owned()];
    let mut spool = vec![
        orders::segments(1, &["10.0.0.0/24"]),
        orders::command_result(2, command_id, CommandProgress::Running),
        orders::scan_started(3, scan_id, segment_id),
        orders::scan_completed(4, scan_id, segment_id, ScanOutcome::Completed, &found),
        orders::command_result(5, command_id, CommandProgress::Succeeded),
        orders::report(6, vec![orders::by_address("192.0.2.1", DeviceStatus::Online, hub.now)]),
    ];
    for (host, status) in results {
        let seq = spool.len() as u64 + 1;
        let result = match host % 3 {
            0 => orders::by_check(check_id, *status, hub.now),
            _ => orders::by_address(&format!("10.0.0.{host}"), *status, hub.now),
        };
        spool.push(orders::report(seq, vec![result]));
    }
    (hub, agent_id, spool)
}

/// Sends the whole spool, leg by leg, and counts the rejections.
fn replay(hub: &mut Hub, agent_id: AgentId, spool: &[AgentFrame], legs: &[Leg]) -> usize {
    let (mut connection, mut acked) = (hub.connect(agent_id, "spool").0, 1);
    let mut rejected = 0;
    for (mishap, back, count) in legs.iter().copied().chain([(Mishap::HangUp, 0, spool.len())]) {
        match mishap {
            Mishap::None => {}
            Mishap::HangUp => hub.hang_up(agent_id, connection),
            Mishap::Superseded => {}
            Mishap::HubRestart => hub.restart(),
        }
        if !matches!(mishap, Mishap::None) {
            let (newer, effects) = hub.hello(agent_id, "spool", acked + 1);
            assert_eq!(welcome(&effects).unwrap().acked_seq, acked);
            connection = newer;
        }
        let from = usize::try_from(acked.saturating_sub(back)).unwrap();
        for frame in spool.iter().skip(from).take(count) {
            for effect in hub.send(agent_id, connection, frame.clone()) {
                match effect {
                    Effect::Ack(to, seq) => {
                        assert_eq!(to, connection);
                        assert!(seq == acked || seq == acked + 1, "acked {seq} after {acked}");
                        acked = seq;
                    }
                    Effect::Error(_, error, close) => {
                        assert_eq!((error.seq, error.fatal, close), (frame.seq(), false, None));
                        rejected += 1;
                    }
                    _ => {}
                }
            }
        }
    }
    assert_eq!(acked, spool.len() as u64);
    rejected
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 3, ..ProptestConfig::default() })]

    /// The journal is the same to the last byte, and so are the deliveries and what is shown.
    #[test]
    fn a_spool_is_taken_once(
        results in prop::collection::vec((0_u8..12, prop::sample::select(DeviceStatus::ALL)), 1..30),
        legs in prop::collection::vec(leg(), 0..12),
    ) {
        let (mut hub, agent_id, spool) = start(&results);
        let mut smooth = hub.clone();
        let outside = replay(&mut smooth, agent_id, &spool, &[]);
        let rough = replay(&mut hub, agent_id, &spool, &legs);
        prop_assert_eq!(rough, outside, "each bad frame is rejected once");
        prop_assert_eq!(&hub.journal, &smooth.journal);
        prop_assert_eq!(&hub.tables.deliveries, &smooth.tables.deliveries);
        let [hub, smooth] = [&hub.org, &smooth.org].map(shown::of_tables);
        prop_assert_eq!(shown::difference(&hub, &smooth), None);
    }
}
