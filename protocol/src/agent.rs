//! The agent session: frames between an agent and the hub (protocol version 1).
//!
//! A frame is read in two steps. [`AgentFrame::parse`] first looks at `type` and `seq` alone, because what is
//! wrong with a frame decides what happens to it: a state frame with a good `seq` and bad content is acked and
//! rejected, anything without a readable envelope closes the connection.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use ts_rs::TS;

use crate::ids::{AgentId, CheckId, CommandId, DeviceId, OrgId, ScanId, SegmentId};
use crate::status::{CheckKind, DeviceStatus, Platform, words};
use crate::time::Timestamp;

/// The websocket subprotocol of an agent session.
pub const AGENT_SUBPROTOCOL: &str = "pulse.agent.v1";
/// The protocol version in `hello`.
pub const PROTOCOL_VERSION: u32 = 1;
/// Largest frame either side may send, in bytes.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// Most results in one `report`.
pub const REPORTS_MAX: usize = 500;
/// Most devices in one `scan_completed`.
pub const DISCOVERED_MAX: usize = 4096;

/// A frame from an agent. Those with a `seq` change state and are spooled by the agent until acked.
#[derive(Clone, Debug, PartialEq, Serialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentFrame {
    /// The first frame.
    Hello(Hello),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Results of checks.
    Report(Report),
    /// A scan began.
    ScanStarted(ScanStarted),
    /// How far a scan is; never stored.
    ScanProgress(ScanProgress),
    /// A scan ended.
    ScanCompleted(ScanCompleted),
    /// The networks the agent sits on.
    Segments(Segments),
    /// What became of a command.
    CommandResult(CommandResult),
    /// A planned leave.
    Bye(Bye),
}

/// Who the agent is and where its spool stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Version of the agent's software.
    pub agent_version: String,
    /// Name of the machine.
    pub hostname: String,
    /// Operating system.
    pub platform: Platform,
    /// Processor architecture.
    pub arch: String,
    /// Changes with every boot of the machine.
    pub boot_id: String,
    /// Made with the spool; a new one starts a new sequence at 1.
    pub spool_id: String,
    /// Lowest `seq` the agent has not seen acked.
    pub next_seq: u64,
    /// The agent's clock, so that the hub knows its skew.
    pub sent_at: Timestamp,
}

/// A sign of life. Any frame counts as life; this one says how the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Heartbeat {
    /// Seconds since the agent started.
    pub uptime_s: u64,
    /// Frames in the agent's spool.
    pub spool_depth: u64,
    /// Load of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub load: Option<Load>,
}

/// Load of an agent's machine.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Load {
    /// Processor use, 0 to 100.
    pub cpu_pct: f64,
    /// Memory use, 0 to 100.
    pub mem_pct: f64,
    /// One-minute load average.
    pub load1: f64,
}

/// Results of checks, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Report {
    /// Number of this frame in the agent's spool.
    pub seq: u64,
    /// 1 to [`REPORTS_MAX`] results.
    pub reports: Vec<CheckResult>,
}

/// One result. It names a check, or a device or address with the kind of check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct CheckResult {
    /// The configured check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub check_id: Option<CheckId>,
    /// The device, when no check is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub device_id: Option<DeviceId>,
    /// The device's address, when neither is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub address: Option<String>,
    /// Kind of check; `ping` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub check: Option<CheckKind>,
    /// What was found.
    pub status: DeviceStatus,
    /// How long the answer took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub response_time_ms: Option<f64>,
    /// When, by the agent's clock.
    pub checked_at: Timestamp,
    /// Why it is not online.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
    /// The certificate seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub tls: Option<TlsFacts>,
}

/// What a TLS check saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct TlsFacts {
    /// End of the certificate's validity.
    pub not_after: Timestamp,
    /// Who issued it.
    pub issuer: String,
    /// Whom it names.
    pub subject: String,
}

/// A scan began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ScanStarted {
    /// Number of this frame in the agent's spool.
    pub seq: u64,
    /// Made by the agent.
    pub scan_id: ScanId,
    /// What is scanned.
    pub segment_id: SegmentId,
    /// When, by the agent's clock.
    pub started_at: Timestamp,
    /// The command that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub command_id: Option<CommandId>,
}

/// How far a scan is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ScanProgress {
    /// The scan.
    pub scan_id: ScanId,
    /// Addresses done.
    pub done: u64,
    /// Addresses in all.
    pub total: u64,
}

words! {
    /// How a scan ended.
    ScanOutcome {
        /// All addresses were looked at.
        Completed = "completed",
        /// It could not be finished.
        Failed = "failed",
    }

    /// How a device was discovered.
    DiscoveryMethod {
        /// The ARP table.
        Arp = "arp",
        /// Multicast DNS.
        Mdns = "mdns",
        /// SSDP (UPnP).
        Ssdp = "ssdp",
        /// SNMP.
        Snmp = "snmp",
        /// An ICMP sweep.
        Icmp = "icmp",
    }

    /// Why an agent leaves.
    ByeReason {
        /// It will not come back by itself.
        Shutdown = "shutdown",
        /// It restarts.
        Restart = "restart",
        /// It replaces itself by another version.
        Upgrade = "upgrade",
    }

    /// How far a command is, as its agent says.
    CommandProgress {
        /// It began.
        Running = "running",
        /// It is done.
        Succeeded = "succeeded",
        /// It could not be done.
        Failed = "failed",
    }

    /// What an agent can be told to do.
    CommandKind {
        /// Scan every segment.
        ScanNow = "scan_now",
        /// Scan one segment.
        ScanSegment = "scan_segment",
        /// Change the agent's settings.
        UpdateConfig = "update_config",
        /// Restart.
        Restart = "restart",
        /// Replace itself by another version.
        Upgrade = "upgrade",
        /// Answer.
        Ping = "ping",
    }
}

/// A scan ended; zero devices are a result too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ScanCompleted {
    /// Number of this frame in the agent's spool.
    pub seq: u64,
    /// The scan.
    pub scan_id: ScanId,
    /// What was scanned.
    pub segment_id: SegmentId,
    /// When, by the agent's clock.
    pub finished_at: Timestamp,
    /// How it ended.
    pub outcome: ScanOutcome,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
    /// Up to [`DISCOVERED_MAX`] devices.
    #[serde(default)]
    pub devices: Vec<DiscoveredDevice>,
}

/// A device that a scan found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct DiscoveredDevice {
    /// Its IP address.
    pub address: String,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub mac: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub hostname: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub manufacturer: Option<String>,
    /// What it seems to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub device_type: Option<String>,
    /// What its system may be.
    #[serde(default)]
    pub os_hints: Vec<String>,
    /// Open TCP ports.
    #[serde(default)]
    pub open_ports: Vec<u16>,
    /// Services seen.
    #[serde(default)]
    pub services: Vec<Value>,
    /// SNMP facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub snmp: Option<Value>,
    /// UPnP facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub upnp: Option<Value>,
    /// How it was found.
    pub method: DiscoveryMethod,
}

/// The networks an agent sits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Segments {
    /// Number of this frame in the agent's spool.
    pub seq: u64,
    /// Each with its own CIDR.
    pub networks: Vec<Network>,
}

/// One network an agent sits on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Network {
    /// Such as `192.168.1.0/24`.
    pub cidr: String,
    /// A name for people.
    pub name: String,
    /// The agent's interface.
    pub interface: String,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct CommandResult {
    /// Number of this frame in the agent's spool.
    pub seq: u64,
    /// The command.
    pub command_id: CommandId,
    /// How far it is.
    pub state: CommandProgress,
    /// What it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub result: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub error: Option<String>,
    /// When, by the agent's clock.
    pub at: Timestamp,
}

/// A planned leave: no offline is announced until the agent is overdue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Bye {
    /// Why.
    pub reason: ByeReason,
    /// Back within this many milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub expect_back_ms: Option<u64>,
}

/// Why a frame from an agent could not be read; each ends differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No JSON object, no `type`, or a state frame without a `seq` of at least 1: the connection is closed with 4000.
    #[error("malformed frame: {0}")]
    Malformed(String),
    /// A `type` this version does not know: answered, and nothing changes.
    #[error("unknown frame type `{0}`")]
    Unknown(String),
    /// An ephemeral frame with bad content: the connection is closed with 4000.
    #[error("bad content: {0}")]
    Content(String),
    /// A state frame with bad content: acked and answered `rejected`.
    #[error("frame {seq} rejected: {reason}")]
    Rejected {
        /// The frame's number.
        seq: u64,
        /// What is wrong with it.
        reason: String,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: std::borrow::Cow<'a, str>,
    #[serde(default)]
    seq: Value,
}

impl AgentFrame {
    /// Reads one text frame.
    ///
    /// # Errors
    ///
    /// Returns the [`FrameError`] that says what must happen to the frame and its connection.
    pub fn parse(text: &str) -> Result<Self, FrameError> {
        // A JSON array would also fill the envelope's fields in order.
        if !text.trim_start().starts_with('{') {
            return Err(FrameError::Malformed("a frame is a JSON object".to_owned()));
        }
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|error| FrameError::Malformed(error.to_string()))?;
        let ephemeral = |error: serde_json::Error| FrameError::Content(error.to_string());
        match &*envelope.kind {
            "hello" => serde_json::from_str(text).map(Self::Hello).map_err(ephemeral),
            "heartbeat" => serde_json::from_str(text).map(Self::Heartbeat).map_err(ephemeral),
            "scan_progress" => {
                serde_json::from_str(text).map(Self::ScanProgress).map_err(ephemeral)
            }
            "bye" => serde_json::from_str(text).map(Self::Bye).map_err(ephemeral),
            "report" | "scan_started" | "scan_completed" | "segments" | "command_result" => {
                Self::parse_state(&envelope, text)
            }
            other => Err(FrameError::Unknown(other.chars().take(64).collect())),
        }
    }

    fn parse_state(envelope: &Envelope<'_>, text: &str) -> Result<Self, FrameError> {
        let seq = envelope.seq.as_u64().filter(|seq| *seq >= 1).ok_or_else(|| {
            FrameError::Malformed("`seq` must be a whole number of at least 1".to_owned())
        })?;
        let frame = match &*envelope.kind {
            "report" => serde_json::from_str(text).map(Self::Report),
            "scan_started" => serde_json::from_str(text).map(Self::ScanStarted),
            "scan_completed" => serde_json::from_str(text).map(Self::ScanCompleted),
            "segments" => serde_json::from_str(text).map(Self::Segments),
            _ => serde_json::from_str(text).map(Self::CommandResult),
        }
        .map_err(|error| FrameError::Rejected { seq, reason: error.to_string() })?;
        frame.check_bounds().map_err(|reason| FrameError::Rejected { seq, reason })?;
        Ok(frame)
    }

    fn check_bounds(&self) -> Result<(), String> {
        match self {
            Self::Report(report) if !(1..=REPORTS_MAX).contains(&report.reports.len()) => {
                Err(format!("`reports` must hold 1 to {REPORTS_MAX} results"))
            }
            Self::ScanCompleted(scan) if scan.devices.len() > DISCOVERED_MAX => {
                Err(format!("`devices` must hold at most {DISCOVERED_MAX} devices"))
            }
            _ => Ok(()),
        }
    }

    /// The frame's number in the spool, if it is a state frame.
    #[must_use]
    pub const fn seq(&self) -> Option<u64> {
        match self {
            Self::Report(frame) => Some(frame.seq),
            Self::ScanStarted(frame) => Some(frame.seq),
            Self::ScanCompleted(frame) => Some(frame.seq),
            Self::Segments(frame) => Some(frame.seq),
            Self::CommandResult(frame) => Some(frame.seq),
            Self::Hello(_) | Self::Heartbeat(_) | Self::ScanProgress(_) | Self::Bye(_) => None,
        }
    }
}

/// A frame from the hub to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HubFrame {
    /// The answer to `hello`.
    Welcome(Box<Welcome>),
    /// Everything up to and including `seq` is durable.
    Ack {
        /// The last durable number.
        seq: u64,
    },
    /// What the agent is to watch.
    Config(AgentConfig),
    /// Something to do.
    Command(AgentCommand),
    /// Something was wrong.
    Error(AgentError),
    /// This node is leaving.
    Drain {
        /// Reconnect, with jitter, after this many milliseconds.
        reconnect_after_ms: u64,
    },
}

/// The answer to `hello`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct Welcome {
    /// Who the agent is.
    pub agent_id: AgentId,
    /// Its name.
    pub name: String,
    /// Its org.
    pub org_id: OrgId,
    /// The hub's clock.
    pub server_time: Timestamp,
    /// A frame at least this often.
    pub heartbeat_interval_ms: u64,
    /// Silence of this length ends the connection.
    pub heartbeat_timeout_ms: u64,
    /// The last durable number of this spool; 0 for none.
    pub acked_seq: u64,
    /// What to watch.
    pub config: AgentConfig,
    /// The newest agent the hub knows of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub latest_agent_version: Option<String>,
}

/// What an agent is to watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
pub struct AgentConfig {
    /// Grows with every change.
    pub version: u64,
    /// Networks to scan.
    pub segments: Vec<SegmentConfig>,
    /// Checks to run.
    pub checks: Vec<CheckConfig>,
}

/// A network to scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct SegmentConfig {
    /// The segment.
    pub segment_id: SegmentId,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: String,
    /// Seconds between two scans.
    pub scan_interval_s: u32,
    /// Whether to scan it at all.
    pub enabled: bool,
}

/// A check to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct CheckConfig {
    /// The check.
    pub check_id: CheckId,
    /// Its device.
    pub device_id: DeviceId,
    /// The device's address or host name.
    pub address: String,
    /// What to do.
    pub check: CheckKind,
    /// Port, where the kind has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub port: Option<u16>,
    /// URL of an `http` check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub url: Option<String>,
    /// Seconds between two runs.
    pub interval_s: u32,
    /// Milliseconds until a run has failed.
    pub timeout_ms: u32,
    /// Failures in a row until the hub believes it.
    pub failure_threshold: u32,
    /// What the answer must be, by kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub expect: Option<Value>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct AgentCommand {
    /// The command.
    pub command_id: CommandId,
    /// What to do.
    pub kind: CommandKind,
    /// How, by kind.
    pub payload: Value,
    /// Not to be begun after this.
    pub deadline: Timestamp,
}

/// Something was wrong with what the agent sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct AgentError {
    /// Stable, machine-readable.
    pub code: AgentErrorCode,
    /// What to do about it.
    pub message: String,
    /// Whether the connection is closed after it.
    pub fatal: bool,
    /// The state frame it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub seq: Option<u64>,
}

words! {
    /// Codes of the `error` frame.
    AgentErrorCode {
        /// A frame type this version does not know.
        UnknownFrame = "unknown_frame",
        /// A protocol version this hub does not speak.
        UnsupportedProtocol = "unsupported_protocol",
        /// A number is missing; reconnect and resend from `acked_seq + 1`.
        SeqGap = "seq_gap",
        /// The frame was acked and changed nothing.
        Rejected = "rejected",
        /// The frame could not be read.
        MalformedFrame = "malformed_frame",
        /// Too many frames a second.
        TooManyFrames = "too_many_frames",
    }
}

/// Why a websocket was closed, as in RFC 6455 section 7.4 and its private range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u16)]
pub enum CloseCode {
    /// All was said.
    Normal = 1000,
    /// The hub goes away; reconnect.
    GoingAway = 1001,
    /// A frame over [`FRAME_BYTES_MAX`].
    TooBig = 1009,
    /// The hub could not do its part; reconnect.
    InternalError = 1011,
    /// A frame that could not be read.
    Malformed = 4000,
    /// A newer connection of the same agent won.
    Superseded = 4001,
    /// A state frame's number left a gap.
    SequenceGap = 4002,
    /// The key was revoked, or the agent disabled or removed.
    KeyRevoked = 4003,
    /// The org was suspended or cancelled.
    OrgSuspended = 4004,
    /// Nothing was heard for the heartbeat timeout.
    HeartbeatTimeout = 4008,
    /// The first frame was not `hello`, or did not come in time.
    NoHello = 4010,
    /// Too many frames a second.
    TooManyFrames = 4029,
    /// The dashboard's session ended.
    SessionEnded = 4401,
    /// The viewer is no member of the org any more.
    MembershipEnded = 4403,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }
}
