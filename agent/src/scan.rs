//! Which segments are scanned when, and one sweep over a segment.
//!
//! - **C1** One scan runs at a time; a segment's own clock never queues it twice.
//! - **C2** Every scan that is begun is ended by a `scan_completed`, with zero devices too.

use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use ipnet::Ipv4Net;
use pulse_protocol::agent::{DiscoveredDevice, DiscoveryMethod, ScanProgress, SegmentConfig};
use pulse_protocol::ids::{CommandId, ScanId, SegmentId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::check::ping::Pings;

/// Networks with a shorter prefix are refused: a /20 has as many addresses as one scan may report.
const PREFIX_MIN: u8 = 20;
/// Probes in flight.
const CONCURRENCY: usize = 64;
/// Probes of an address that does not answer, and the time each waits.
const PROBES: u32 = 2;
const PROBE_LIMIT: Duration = Duration::from_millis(750);
/// Time between two frames of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Scans that may wait.
const QUEUE_MAX: usize = 256;
/// The first scans of new segments are spread over this.
const FIRST_WITHIN: Duration = Duration::from_secs(60);
/// The shortest time between two scans of a segment.
const INTERVAL_MIN: Duration = Duration::from_secs(60);

/// One scan that is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Made by the agent.
    pub scan_id: ScanId,
    /// What to scan.
    pub segment: SegmentConfig,
    /// The command that asked for it.
    pub command_id: Option<CommandId>,
}

/// When each segment is scanned, and which scans wait.
#[derive(Default)]
pub struct Plan {
    segments: HashMap<SegmentId, (SegmentConfig, Option<Instant>)>,
    queue: VecDeque<Job>,
    running: bool,
}

impl Plan {
    /// Takes the whole new list of segments; unchanged ones keep their clock.
    pub fn apply(
        &mut self,
        segments: Vec<SegmentConfig>,
        now: Instant,
        mut fraction: impl FnMut() -> f64,
    ) {
        let mut earlier = std::mem::take(&mut self.segments);
        for segment in segments {
            let due_at = match earlier.remove(&segment.segment_id) {
                Some((known, due_at)) if known == segment => due_at,
                _ => interval(&segment)
                    .map(|interval| now + interval.min(FIRST_WITHIN).mul_f64(fraction())),
            };
            self.segments.insert(segment.segment_id, (segment, due_at));
        }
        let segments = &self.segments;
        self.queue.retain(|job| {
            job.command_id.is_some() || segments.contains_key(&job.segment.segment_id)
        });
    }

    /// The enabled segments.
    #[must_use]
    pub fn enabled(&self) -> Vec<SegmentConfig> {
        self.segments
            .values()
            .filter(|(segment, _)| segment.enabled)
            .map(|(segment, _)| segment.clone())
            .collect()
    }

    /// One segment, enabled or not.
    #[must_use]
    pub fn segment(&self, segment_id: SegmentId) -> Option<&SegmentConfig> {
        self.segments.get(&segment_id).map(|(segment, _)| segment)
    }

    /// Queues a scan that a command asks for; nothing if too many wait.
    pub fn order(&mut self, segment: SegmentConfig, command_id: CommandId) -> Option<ScanId> {
        let scan_id = ScanId::new();
        (self.queue.len() < QUEUE_MAX).then(|| {
            self.queue.push_back(Job { scan_id, segment, command_id: Some(command_id) });
            scan_id
        })
    }

    /// The next scan to begin at `now`, if none runs.
    pub fn begin(&mut self, now: Instant) -> Option<Job> {
        self.queue_due(now);
        if self.running {
            return None;
        }
        let job = self.queue.pop_front();
        self.running = job.is_some();
        job
    }

    fn queue_due(&mut self, now: Instant) {
        for (segment, due_at) in self.segments.values_mut() {
            let Some(due) = due_at.filter(|due| *due <= now) else { continue };
            *due_at = interval(segment).map(|interval| due.max(now) + interval);
            let waits = self.queue.iter().any(|job| job.segment.segment_id == segment.segment_id);
            if !waits && self.queue.len() < QUEUE_MAX {
                let segment = segment.clone();
                self.queue.push_back(Job { scan_id: ScanId::new(), segment, command_id: None });
            }
        }
    }

    /// The running scan ended.
    pub fn end(&mut self) {
        self.running = false;
    }

    /// When to call [`Plan::begin`] next; nothing if no segment has a clock.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.segments.values().filter_map(|(_, due_at)| *due_at).min()
    }
}

fn interval(segment: &SegmentConfig) -> Option<Duration> {
    let seconds = u64::from(segment.scan_interval_s);
    (segment.enabled && seconds > 0).then(|| Duration::from_secs(seconds).max(INTERVAL_MIN))
}

/// The addresses of a segment that are looked at.
///
/// # Errors
///
/// Says why the segment cannot be scanned.
pub fn addresses(cidr: &str) -> Result<Vec<Ipv4Addr>, String> {
    let net: Ipv4Net =
        cidr.parse().map_err(|_| format!("`{cidr}` is no IPv4 network such as 192.168.1.0/24"))?;
    if net.prefix_len() < PREFIX_MIN {
        return Err(format!(
            "`{cidr}` is too large: the largest network that is scanned is a /{PREFIX_MIN}"
        ));
    }
    Ok(net.hosts().collect())
}

/// Looks at every address of the job's segment; gives those that answered, in order.
///
/// # Errors
///
/// Says why the segment could not be scanned.
pub async fn sweep(
    job: &Job,
    pings: Arc<Pings>,
    progress: mpsc::Sender<ScanProgress>,
) -> Result<Vec<DiscoveredDevice>, String> {
    let addresses = addresses(&job.segment.cidr)?;
    let total = u64::try_from(addresses.len()).unwrap_or(u64::MAX);
    let pings = &pings;
    let mut probes =
        iter(addresses).map(|address| look_at(pings, address)).buffer_unordered(CONCURRENCY);
    let (mut found, mut done, mut told_at) = (Vec::new(), 0, Instant::now());
    while let Some(answer) = probes.next().await {
        found.extend(answer?);
        done += 1;
        if told_at.elapsed() >= PROGRESS_EVERY {
            told_at = Instant::now();
            // Told now or never: without a connection nobody misses it.
            let _untold = progress.try_send(ScanProgress { scan_id: job.scan_id, done, total });
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(device).collect())
}

async fn look_at(pings: &Pings, address: Ipv4Addr) -> Result<Option<Ipv4Addr>, String> {
    for _ in 0..PROBES {
        match pings.probe(address.into(), PROBE_LIMIT).await {
            Ok(Some(_)) => return Ok(Some(address)),
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err("no ICMP socket: give the agent CAP_NET_RAW".to_owned());
            }
            // No way there, or the network's own address: nothing is found at it.
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

fn device(address: Ipv4Addr) -> DiscoveredDevice {
    DiscoveredDevice {
        address: address.to_string(),
        mac: None,
        hostname: None,
        manufacturer: None,
        device_type: None,
        os_hints: Vec::new(),
        open_ports: Vec::new(),
        services: Vec::new(),
        snmp: None,
        upnp: None,
        method: DiscoveryMethod::Icmp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(cidr: &str, scan_interval_s: u32) -> SegmentConfig {
        let segment_id = SegmentId::new();
        SegmentConfig {
            segment_id,
            name: "office".to_owned(),
            cidr: cidr.to_owned(),
            scan_interval_s,
            enabled: true,
        }
    }

    fn plan(segments: &[SegmentConfig]) -> (Plan, Instant) {
        let (mut plan, start) = (Plan::default(), Instant::now());
        plan.apply(segments.to_vec(), start, || 0.0);
        (plan, start)
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_segment_is_scanned_at_its_interval_one_at_a_time() {
        let (mut plan, start) = plan(&[segment("10.0.0.0/24", 3600), segment("10.0.1.0/24", 3600)]);
        assert!(plan.begin(start).is_some());
        assert_eq!(plan.begin(start), None, "one runs");
        plan.end();
        assert!(plan.begin(start).is_some());
        plan.end();
        assert_eq!(plan.begin(start), None);
        assert_eq!(plan.next_due(), Some(start + HOUR));
        assert!(plan.begin(start + HOUR).is_some());
    }

    #[test]
    fn a_scan_that_takes_long_is_queued_once() {
        let (mut plan, start) = plan(&[segment("10.0.0.0/24", 3600)]);
        assert!(plan.begin(start).is_some());
        for hours in 1..5 {
            assert_eq!(plan.begin(start + HOUR * hours), None);
        }
        plan.end();
        assert!(plan.begin(start + HOUR * 4).is_some());
        plan.end();
        assert_eq!(plan.begin(start + HOUR * 4), None);
    }

    #[test]
    fn what_is_off_has_no_clock_but_can_be_ordered() {
        let off = SegmentConfig { enabled: false, ..segment("10.0.0.0/24", 3600) };
        let never = segment("10.0.1.0/24", 0);
        let (mut plan, start) = plan(&[off.clone(), never.clone()]);
        assert_eq!((plan.begin(start + HOUR), plan.next_due()), (None, None));
        assert_eq!(plan.enabled(), [never]);
        let command_id = CommandId::new();
        let scan_id = plan.order(off, command_id).unwrap();
        let job = plan.begin(start).unwrap();
        assert_eq!((job.scan_id, job.command_id), (scan_id, Some(command_id)));
    }

    #[test]
    fn unchanged_segments_keep_their_clock() {
        let kept = segment("10.0.0.0/24", 3600);
        let (mut plan, start) = plan(std::slice::from_ref(&kept));
        assert!(plan.begin(start).is_some());
        plan.end();
        plan.apply(vec![kept], start + HOUR / 2, || 0.0);
        assert_eq!(plan.next_due(), Some(start + HOUR));
    }

    #[test]
    fn networks_up_to_a_20_are_scanned_and_larger_ones_refused() {
        assert_eq!(addresses("192.168.1.0/24").unwrap().len(), 254);
        assert_eq!(addresses("10.0.0.0/20").unwrap().len(), 4094);
        assert!(addresses("10.0.0.0/19").unwrap_err().contains("too large"));
        assert!(addresses("fd00::/64").is_err() && addresses("office").is_err());
    }

    #[tokio::test]
    async fn a_sweep_finds_who_answers() {
        let job =
            Job { scan_id: ScanId::new(), segment: segment("127.0.0.0/29", 0), command_id: None };
        let (progress, _told) = mpsc::channel(16);
        match sweep(&job, Arc::default(), progress).await {
            Ok(found) => {
                let found: Vec<_> = found.into_iter().map(|device| device.address).collect();
                assert_eq!(found, (1..7).map(|n| format!("127.0.0.{n}")).collect::<Vec<_>>());
            }
            Err(error) => println!("skipped: {error}"),
        }
    }
}
