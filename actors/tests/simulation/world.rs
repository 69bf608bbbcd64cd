//! The simulated world: one seed, one virtual clock, one list of what happens when.
//!
//! Everything outside the nodes (the network, the database's server, agents, browsers, receivers, faults) is a closure
//! on the [`World`]'s timeline. The nodes' own code reaches it through the ports and never knows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pulse_actors::testing::{MemoryStore, NOON};
use pulse_protocol::Timestamp;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::Instant;

use crate::agents::Machine;
use crate::check::Check;
use crate::database::Server;
use crate::faults::Weather;
use crate::network::Network;
use crate::nodes::{Order, Process};
use crate::plan::{Mutation, Plan};
use crate::viewers::Browser;

/// Something that happens at its time.
type Event = Box<dyn FnOnce(&Arc<World>) + Send>;

/// What happens when. Of two things at one instant the one that was planned first is first.
#[derive(Default)]
struct Timeline {
    planned: u64,
    events: BTreeMap<(Instant, u64), Event>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) began_at: Instant,
    rng: Mutex<StdRng>,
    timeline: Mutex<Timeline>,
    trace: Mutex<Trace>,
    violation: Mutex<Option<String>>,
    pub(crate) check: Mutex<Check>,
    pub(crate) weather: Mutex<Weather>,
    pub(crate) tables: Arc<MemoryStore>,
    pub(crate) server: Mutex<Server>,
    pub(crate) network: Mutex<Network>,
    pub(crate) processes: Mutex<Vec<Process>>,
    pub(crate) orders: Mutex<Vec<Order>>,
    pub(crate) machines: Mutex<Vec<Machine>>,
    pub(crate) browsers: Mutex<Vec<Browser>>,
    counter: Mutex<u64>,
    over: AtomicBool,
    /// Whether it stayed on after it had come to rest.
    pub(crate) lingered: AtomicBool,
}

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, told: bool) -> Arc<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut plan = Plan::draw(&mut rng);
        plan.provoke(mutation);
        JITTER.with(|jitter| *jitter.borrow_mut() = Some(StdRng::seed_from_u64(!seed)));
        Arc::new(Self {
            began_at: Instant::now(),
            rng: Mutex::new(rng),
            timeline: Mutex::default(),
            trace: Mutex::new(Trace { hash: FNV_OFFSET, told }),
            violation: Mutex::default(),
            check: Mutex::new(Check::new(&plan)),
            weather: Mutex::new(Weather::new(&plan)),
            tables: MemoryStore::new(),
            server: Mutex::default(),
            network: Mutex::default(),
            processes: Mutex::new((0..plan.nodes).map(|_| Process::default()).collect()),
            orders: Mutex::default(),
            machines: Mutex::new((0..plan.agents.len()).map(Machine::new).collect()),
            browsers: Mutex::new((0..plan.viewers.len()).map(|_| Browser::default()).collect()),
            counter: Mutex::new(0),
            over: AtomicBool::new(false),
            lingered: AtomicBool::new(false),
            plan,
            mutation,
        })
    }

    /// Whether this world's guards are sound but for this one.
    pub(crate) fn lacks(&self, guard: Mutation) -> bool {
        self.mutation == Some(guard)
    }

    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut self.rng.lock())
    }

    /// Whether something of this probability happens. Nothing is drawn where it cannot.
    pub(crate) fn happens(&self, probability: f64) -> bool {
        probability > 0.0 && self.draw(|rng| rng.random_bool(probability))
    }

    pub(crate) fn between(&self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.draw(|rng| rng.random_range(from_ms..=to_ms)))
    }

    /// 1, 2, 3, …: names of sockets.
    pub(crate) fn count(&self) -> u64 {
        let mut counter = self.counter.lock();
        *counter += 1;
        *counter
    }

    /// Time since the world began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began_at.elapsed()
    }

    /// What a clock without fault shows.
    pub(crate) fn now(&self) -> Timestamp {
        NOON + self.elapsed()
    }

    /// Plans something.
    pub(crate) fn after(&self, delay: Duration, event: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let mut timeline = self.timeline.lock();
        timeline.planned += 1;
        let key = (Instant::now() + delay, timeline.planned);
        timeline.events.insert(key, Box::new(event));
    }

    /// Lets the next thing happen whose time has come.
    pub(crate) fn happen(self: &Arc<Self>) -> bool {
        let now = Instant::now();
        let mut timeline = self.timeline.lock();
        let Some(first) = timeline.events.first_entry().filter(|first| first.key().0 <= now) else {
            return false;
        };
        let event = first.remove();
        drop(timeline);
        event(self);
        true
    }

    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.timeline.lock().events.keys().next().map(|(at, _)| *at)
    }

    /// Notes what happened, for the replay to be compared with.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        let elapsed = self.elapsed().as_millis();
        let mut trace = self.trace.lock();
        let written = writeln!(trace, "{elapsed:>7} {what}");
        debug_assert!(written.is_ok(), "a hash takes everything");
    }

    pub(crate) fn trace_hash(&self) -> u64 {
        self.trace.lock().hash
    }

    /// Notes that an invariant does not hold. The first one counts.
    pub(crate) fn violated(&self, what: String) {
        self.note(format_args!("VIOLATED {what}"));
        let at = self.elapsed().as_millis();
        self.violation.lock().get_or_insert_with(|| format!("at {at} ms: {what}"));
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }

    /// Nothing more happens.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed) || self.violation.lock().is_some()
    }

    /// Lets the checker look at something that happened.
    pub(crate) fn checked(&self, look: impl FnOnce(&mut Check) -> Result<(), String>) {
        let mut check = self.check.lock();
        check.steps += 1;
        let looked = look(&mut check);
        drop(check);
        if let Err(what) = looked {
            self.violated(what);
        }
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Everything that was noted, as a hash (FNV-1a); with `told` as text, too.
struct Trace {
    hash: u64,
    told: bool,
}

impl fmt::Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if self.told {
            crate::tell(text);
        }
        Ok(())
    }
}

thread_local! {
    static JITTER: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// The jitter of retries, from the seed.
pub(crate) fn jitter() -> f64 {
    JITTER.with(|jitter| jitter.borrow_mut().as_mut().map_or(0.5, |rng| rng.random::<f64>() * 0.5))
}
