use proptest::prelude::*;

use super::*;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_000_000_000 + ms)
}

fn channel(number: u128) -> ChannelId {
    ChannelId::from_uuid(uuid::Uuid::from_u128(number))
}

fn event(name: &str, ms: i64) -> EventRef {
    EventRef {
        seq: 1,
        id: EventId::from_uuid(uuid::Uuid::nil()),
        name: name.to_owned(),
        at: at(ms),
    }
}

/// A rule that tells everything at once.
fn eager() -> Policy {
    Policy {
        channel_ids: vec![channel(1), channel(2)],
        cooldown: Duration::ZERO,
        min_duration: Duration::ZERO,
        flap_detection: false,
        tells_recovery: true,
        escalation: None,
        hold: None,
    }
}

/// What was said, when, and in which words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    ms: i64,
    event: String,
    reason: Reason,
    suppressed_by: Option<Suppression>,
    channel_ids: Vec<ChannelId>,
}

/// One alert with its clock. Holds are spans of time.
struct Life {
    alert: Option<Alert>,
    policy: Policy,
    holds: Vec<(i64, i64, Suppression)>,
    ms: i64,
    heard: Vec<Heard>,
}

impl Life {
    fn new(policy: Policy) -> Self {
        Self { alert: None, policy, holds: vec![], ms: 0, heard: vec![] }
    }

    fn policy(&self) -> Policy {
        let open = self.holds.iter().filter(|(from, to, _)| *from <= self.ms && self.ms < *to);
        let hold = open.map(|(_, to, why)| (*why, at(*to))).max_by_key(|(_, until)| *until);
        Policy { hold, ..self.policy.clone() }
    }

    fn take(&mut self, command: Command) {
        let (policy, now) = (self.policy(), at(self.ms));
        let (mut alert, command) = match (self.alert.take(), command) {
            (Some(alert), command) => (alert, command),
            (None, Command::Problem(event)) => (
                Alert::new(Resource::Device(DeviceId::new()), "Router".into(), event),
                Command::Due,
            ),
            (None, _) => return,
        };
        let decision = alert.decide(command, &policy, now);
        decision.events.iter().for_each(|event| alert.apply(event, now));
        for say in decision.effects {
            self.heard.push(Heard {
                ms: self.ms,
                event: say.event.name,
                reason: say.reason,
                suppressed_by: say.suppressed_by,
                channel_ids: say.channel_ids,
            });
        }
        let json = serde_json::to_string(&alert).unwrap();
        assert_eq!(serde_json::from_str::<Alert>(&json).unwrap(), alert, "it is kept as it is");
        if !alert.is_over(&policy, now) {
            let due = alert.due_at(&policy, now);
            assert!(due.is_none_or(|due| due > now), "A5: woken for nothing: {due:?} {alert:?}");
            self.alert = Some(alert);
        }
    }

    /// Lets time pass, and wakes it when it asked for it.
    fn until(&mut self, ms: i64) {
        loop {
            let policy = self.policy();
            let due = self.alert.as_ref().and_then(|alert| alert.due_at(&policy, at(self.ms)));
            let Some(due) = due.filter(|due| *due <= at(ms)) else { break };
            self.ms = self.ms.max(due.unix_ms() - at(0).unix_ms());
            self.take(Command::Due);
        }
        self.ms = ms;
    }

    fn is(&mut self, ms: i64, name: &str) {
        self.until(ms);
        let event = event(name, ms);
        self.take(match name {
            "device.online" => Command::Recovery(event),
            _ => Command::Problem(event),
        });
    }

    /// Everything that was said, in short.
    fn said(&self) -> Vec<String> {
        let short = |heard: &Heard| {
            let what = heard.suppressed_by.map_or(heard.reason.as_str(), Suppression::as_str);
            format!("{}s {} {what}", heard.ms / SECOND, heard.event.trim_start_matches("device."))
        };
        self.heard.iter().map(short).collect()
    }
}

#[test]
fn n27_an_alert_in_the_cooldown_is_held_back_visibly_and_told_at_its_end_if_it_is_still_wrong() {
    let mut life = Life::new(Policy { cooldown: Duration::from_secs(300), ..eager() });
    life.is(0, "device.offline");
    life.is(10 * SECOND, "device.online");
    life.is(20 * SECOND, "device.offline");
    life.is(30 * SECOND, "device.online");
    life.is(40 * SECOND, "device.offline");
    life.until(20 * MINUTE);
    let expected = [
        "0s offline alert",
        "10s online recovery",
        "20s offline cooldown",
        "30s online not_told",
        "40s offline cooldown",
        "300s offline alert",
    ];
    assert_eq!(life.said(), expected);
}

#[test]
fn n27_what_is_right_again_at_the_end_of_the_cooldown_is_not_told() {
    let mut life = Life::new(Policy { cooldown: Duration::from_secs(300), ..eager() });
    life.is(0, "device.offline");
    life.is(10 * SECOND, "device.online");
    life.is(20 * SECOND, "device.offline");
    life.is(30 * SECOND, "device.online");
    life.until(20 * MINUTE);
    assert_eq!(life.said()[2..], ["20s offline cooldown", "30s online not_told"]);
    assert!(life.alert.is_none(), "and nothing is remembered");
}

#[test]
fn something_else_wrong_is_told_too() {
    let mut life = Life::new(eager());
    life.is(0, "device.degraded");
    life.is(SECOND, "device.offline");
    life.is(2 * SECOND, "device.offline");
    life.is(3 * SECOND, "device.degraded");
    life.is(4 * SECOND, "device.online");
    let expected =
        ["0s degraded alert", "1s offline alert", "3s degraded alert", "4s online recovery"];
    assert_eq!(life.said(), expected);
}

#[test]
fn what_does_not_last_is_not_told() {
    let mut life = Life::new(Policy { min_duration: Duration::from_secs(60), ..eager() });
    life.is(0, "device.offline");
    life.is(59 * SECOND, "device.online");
    assert_eq!(life.said(), ["59s online not_told"]);
    life.is(100 * SECOND, "device.degraded");
    life.is(130 * SECOND, "device.offline");
    life.until(10 * MINUTE);
    assert_eq!(life.said()[1..], ["160s offline alert"], "it was wrong all the time");
}

#[test]
fn quiet_hours_and_maintenance_hold_back_and_the_end_tells_what_is_still_so() {
    for why in [Suppression::QuietHours, Suppression::Maintenance] {
        let mut life = Life::new(eager());
        life.holds.push((60 * SECOND, 600 * SECOND, why));
        life.is(0, "device.offline");
        life.is(100 * SECOND, "device.online");
        assert_eq!(life.said()[1..], [format!("100s online {why}")], "a recovery waits too");
        life.until(20 * MINUTE);
        assert_eq!(life.said()[2..], ["600s online recovery"], "and is not lost");

        let mut life = Life::new(eager());
        life.holds.push((0, 600 * SECOND, why));
        life.is(100 * SECOND, "device.offline");
        life.is(200 * SECOND, "device.online");
        life.is(300 * SECOND, "device.offline");
        life.until(20 * MINUTE);
        let expected = [
            format!("100s offline {why}"),
            "200s online not_told".to_owned(),
            format!("300s offline {why}"),
            "600s offline alert".to_owned(),
        ];
        assert_eq!(life.said(), expected);
    }
}

#[test]
fn a_recovery_and_a_relapse_while_it_was_held_back_are_no_news() {
    let mut life = Life::new(eager());
    life.holds.push((60 * SECOND, 600 * SECOND, Suppression::QuietHours));
    life.is(0, "device.offline");
    life.is(100 * SECOND, "device.online");
    life.is(200 * SECOND, "device.offline");
    life.until(20 * MINUTE);
    assert_eq!(life.said(), ["0s offline alert", "100s online quiet_hours"]);
}

#[test]
fn a_resource_that_changes_to_and_fro_is_told_once_and_again_when_it_holds_still() {
    let mut life = Life::new(Policy { flap_detection: true, ..eager() });
    for (nth, name) in ["offline", "online"].iter().cycle().take(9).enumerate() {
        life.is(i64::try_from(nth).unwrap() * 60 * SECOND, &format!("device.{name}"));
    }
    let expected = [
        "0s offline alert",
        "60s online recovery",
        "120s offline alert",
        "180s online recovery",
        "240s offline alert",
        "300s online flapping",
        "360s offline flapping",
        "420s online flapping",
        "480s offline flapping",
    ];
    assert_eq!(life.said(), expected);
    let sent: Vec<_> = life.heard.iter().map(|heard| heard.suppressed_by).collect();
    assert_eq!(sent[5], None, "that it flaps is told");
    assert_eq!(sent[6..], [Some(Suppression::Flapping); 3]);
    assert_eq!(life.alert.as_ref().unwrap().state(), AlertState::Flapping);
    life.until(60 * MINUTE);
    assert_eq!(life.said()[9..], ["780s offline alert"], "five minutes after the last change");
}

#[test]
fn nobody_acknowledges_and_others_are_told_once_and_of_the_recovery_too() {
    let other = channel(9);
    let escalation = Some((Duration::from_secs(120), vec![other]));
    let mut life = Life::new(Policy { escalation, ..eager() });
    life.is(0, "device.offline");
    life.until(10 * MINUTE);
    life.is(11 * MINUTE, "device.online");
    let expected = ["0s offline alert", "120s offline escalation", "660s online recovery"];
    assert_eq!(life.said(), expected);
    assert_eq!(life.heard[1].channel_ids, [other]);
    assert_eq!(life.heard[2].channel_ids, [channel(1), channel(2), other]);
}

#[test]
fn acknowledged_in_time_is_not_escalated_and_once_is_enough() {
    let escalation = Some((Duration::from_secs(120), vec![channel(9)]));
    let mut life = Life::new(Policy { escalation, ..eager() });
    life.is(0, "device.offline");
    life.until(60 * SECOND);
    life.take(Command::Acknowledge("ann@example.org".into()));
    life.take(Command::Acknowledge("link".into()));
    let acknowledged = life.alert.as_ref().unwrap().acknowledged.clone().unwrap();
    assert_eq!((acknowledged.by.as_str(), acknowledged.at), ("ann@example.org", at(60 * SECOND)));
    life.until(60 * MINUTE);
    life.is(61 * MINUTE, "device.online");
    assert_eq!(life.said(), ["0s offline alert", "3660s online recovery"]);
}

#[test]
fn an_escalation_waits_for_the_end_of_quiet_hours() {
    let escalation = Some((Duration::from_secs(120), vec![channel(9)]));
    let mut life = Life::new(Policy { escalation, ..eager() });
    life.holds.push((60 * SECOND, 600 * SECOND, Suppression::QuietHours));
    life.is(0, "device.offline");
    life.until(60 * MINUTE);
    assert_eq!(life.said(), ["0s offline alert", "600s offline escalation"]);
}

#[test]
fn a_channel_that_joined_since_is_not_told_of_the_recovery() {
    let mut life = Life::new(eager());
    life.is(0, "device.offline");
    life.policy.channel_ids.push(channel(3));
    life.is(SECOND, "device.online");
    let [sent, kept] = &life.heard[1..] else { panic!("{:?}", life.heard) };
    assert_eq!((sent.suppressed_by, &sent.channel_ids[..]), (None, &[channel(1), channel(2)][..]));
    let not_told = Some(Suppression::NotTold);
    assert_eq!((kept.suppressed_by, &kept.channel_ids[..]), (not_told, &[channel(3)][..]));
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let seconds = prop::sample::select(vec![0_u64, 30, 300]);
    (seconds.clone(), seconds, any::<bool>(), prop::option::of(1..400_u64)).prop_map(
        |(cooldown, min_duration, flap_detection, escalation)| Policy {
            cooldown: Duration::from_secs(cooldown),
            min_duration: Duration::from_secs(min_duration),
            flap_detection,
            escalation: escalation.map(|after| (Duration::from_secs(after), vec![channel(9)])),
            ..eager()
        },
    )
}

proptest! {
    /// A1 to A5, whatever comes.
    #[test]
    fn whatever_comes(
        policy in any_policy(),
        holds in prop::collection::vec((0..3_000_i64, 1..900_i64, any::<bool>()), 0..4),
        changes in prop::collection::vec((1..200_i64, 0..4_u8), 1..60),
    ) {
        const NAMES: [&str; 4] =
            ["device.online", "device.offline", "device.degraded", "device.unknown"];
        let mut life = Life::new(policy.clone());
        life.holds = holds
            .into_iter()
            .map(|(from, lasts, quiet)| {
                let why = if quiet { Suppression::QuietHours } else { Suppression::Maintenance };
                (from * SECOND, (from + lasts) * SECOND, why)
            })
            .collect();
        let (mut ms, mut last) = (0, "device.online");
        for (pause, which) in changes {
            ms += pause * SECOND;
            last = NAMES[usize::from(which)];
            if which == 3 && pause % 5 == 0 {
                life.until(ms);
                life.take(Command::Acknowledge("link".into()));
                last = "device.online";
                life.is(ms, last);
            } else {
                life.is(ms, last);
            }
        }
        life.until(ms + 10_000 * SECOND);

        let sent: Vec<&Heard> =
            life.heard.iter().filter(|heard| heard.suppressed_by.is_none()).collect();
        // A1.
        let alerts: Vec<i64> =
            sent.iter().filter(|it| it.reason == Reason::Alert).map(|it| it.ms).collect();
        let cooldown = i64::try_from(policy.cooldown.as_millis()).unwrap();
        prop_assert!(alerts.windows(2).all(|pair| pair[1] - pair[0] >= cooldown), "{:?}", life.said());
        // A2 and A4: one recovery after something told, to those who were told.
        let (mut told, mut escalated): (Vec<ChannelId>, bool) = (vec![], false);
        for heard in &sent {
            match heard.reason {
                Reason::Recovery => {
                    prop_assert_eq!(&heard.channel_ids, &told, "{:?}", life.said());
                    prop_assert!(!told.is_empty(), "{:?}", life.said());
                    told.clear();
                    escalated = false;
                }
                Reason::Escalation => {
                    prop_assert!(!told.is_empty() && !escalated, "{:?}", life.said());
                    escalated = true;
                    add(&mut told, &heard.channel_ids);
                }
                Reason::Alert => {
                    escalated = false;
                    add(&mut told, &heard.channel_ids);
                }
                _ => add(&mut told, &heard.channel_ids),
            }
        }
        // A3: in the end what was told is what is.
        let news = |it: &&&Heard| it.reason != Reason::Escalation;
        let last_told = sent.iter().rfind(news).map(|it| it.event.as_str());
        match last {
            "device.online" => prop_assert!(told.is_empty(), "{:?}", life.said()),
            wrong => prop_assert_eq!(last_told, Some(wrong), "{:?}", life.said()),
        }
        // Nothing is said while it is held back.
        for heard in &sent {
            let held = life.holds.iter().any(|(from, to, _)| *from <= heard.ms && heard.ms < *to);
            prop_assert!(!held, "{:?}", life.said());
        }
        // Nothing is remembered for ever of what is right.
        prop_assert_eq!(life.alert.is_none(), last == "device.online");
    }
}
