//! What is told of the faults: how often each came, and how long it took until all was well again.

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use pulse_protocol::Timestamp;

use super::fault::{self, Kind};
use super::recovery::Recovery;
use crate::checker::Fault;
use crate::output::Run;
use crate::stats::Spread;

/// One fault that was inflicted, and what came after.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) fault: fault::Fault,
    pub(crate) began: Instant,
    /// The same, to find it in the logs.
    pub(crate) began_at: Timestamp,
    /// For a process: when it was started again.
    pub(crate) ended: Instant,
    pub(crate) recovery: Recovery,
    /// From the moment a change was due to its ack, within the slot.
    pub(crate) slowest_ack_ms: f64,
}

impl Slot {
    fn since_the_blow(&self) -> Option<f64> {
        Some(self.recovery.at()?.duration_since(self.began).as_secs_f64())
    }

    fn since_its_end(&self) -> Option<f64> {
        Some(self.recovery.at()?.duration_since(self.ended).as_secs_f64())
    }

    /// That it did not recover at all.
    pub(crate) fn fault(&self) -> Option<Fault> {
        let missing = self.recovery.missing();
        (!missing.is_empty()).then(|| Fault::Broken(format!("no recovery from {self}: {missing}")))
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |at: Option<Instant>| {
            at.map_or("never".to_owned(), |at| {
                format!("{:.2} s", at.saturating_duration_since(self.ended).as_secs_f64())
            })
        };
        let lasted: Duration = self.ended - self.began;
        write!(
            f,
            "{} {} of node {} for {:.2} s; after its end ready {}, acked {}, seen {}; slowest ack {:.2} s",
            self.began_at,
            self.fault.kind.name(),
            self.fault.node + 1,
            lasted.as_secs_f64(),
            after(self.recovery.ready_at),
            after(self.recovery.acked_at),
            after(self.recovery.seen_at),
            self.slowest_ack_ms / 1_000.0
        )
    }
}

/// Count, median and slowest of each kind.
pub(crate) fn of_recovery(slots: &[Slot], run: &mut Run) {
    run.figure("faults", "", slots.len() as f64, "R3 must 90");
    for kind in Kind::value_variants() {
        let of_kind: Vec<&Slot> = slots.iter().filter(|slot| slot.fault.kind == *kind).collect();
        if of_kind.is_empty() {
            continue;
        }
        let name = kind.name();
        run.figure(&format!("{name}: times"), "", of_kind.len() as f64, "");
        let ends: Vec<f64> = of_kind.iter().filter_map(|slot| slot.since_its_end()).collect();
        let whole: Vec<f64> = of_kind.iter().filter_map(|slot| slot.since_the_blow()).collect();
        if let (Some(ends), Some(whole)) = (Spread::of(&ends), Spread::of(&whole)) {
            run.figure(&format!("{name}: well again, from its end"), "s", ends.median, "");
            run.figure(&format!("{name}: slowest, from its end"), "s", ends.max, "R3 must 15");
            run.figure(&format!("{name}: well again, from the blow"), "s", whole.median, "");
            run.figure(&format!("{name}: slowest, from the blow"), "s", whole.max, "");
        }
        let acks = of_kind.iter().map(|slot| slot.slowest_ack_ms / 1_000.0);
        run.figure(&format!("{name}: slowest ack"), "s", acks.fold(0.0, f64::max), "");
    }
    run.notes.extend(slots.iter().map(ToString::to_string));
}
