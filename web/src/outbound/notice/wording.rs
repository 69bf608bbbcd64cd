//! The words of a notice.

use std::time::Duration;

use pulse_domain::record::{Content, DigestItem};
use pulse_protocol::api::Reason;
use pulse_protocol::event::EventBody;

use super::{NAME_CHARS_MAX, Severity, VALUE_CHARS_MAX};
use crate::outbound::text::bounded;

/// How bad what a message tells of is.
pub(super) fn severity(event: &str, content: &Content) -> Severity {
    match content.reason {
        Reason::Flapping => Severity::Warning,
        Reason::Digest => {
            let worst = content.items.iter().map(|item| Severity::of(&item.event)).max();
            worst.unwrap_or(Severity::Info)
        }
        Reason::Recovery => Severity::Good,
        Reason::Event | Reason::Alert | Reason::Escalation => Severity::of(event),
    }
}

/// What happened, in a few words.
pub(super) fn title(event: &str, body: Option<&EventBody>, content: &Content) -> String {
    let name = bounded(&content.resource_name, NAME_CHARS_MAX);
    let subject = subject(event, &name);
    match content.reason {
        Reason::Digest => {
            let changes = content.items.len() as u64 + u64::from(content.more);
            let org = bounded(&content.org_name, NAME_CHARS_MAX);
            let place = if org.is_empty() { String::new() } else { format!(" in {org}") };
            format!("{changes} {}{place}", if changes == 1 { "change" } else { "changes" })
        }
        Reason::Recovery if Severity::of(event) == Severity::Good => {
            format!("{subject} is online again")
        }
        Reason::Flapping => format!("{subject} keeps changing its status"),
        Reason::Escalation => format!("Not acknowledged: {}", told(event, body, &subject)),
        Reason::Event | Reason::Alert | Reason::Recovery => told(event, body, &subject),
    }
}

/// One event of a digest in one line.
pub(super) fn digest_line(item: &DigestItem) -> String {
    let name = bounded(&item.resource_name, NAME_CHARS_MAX);
    let told = told(&item.event, None, &subject(&item.event, &name));
    let emoji = Severity::of(&item.event).emoji();
    bounded(&format!("{emoji} {told} ({})", item.at), VALUE_CHARS_MAX)
}

/// A device goes by its name; everything else is told from a device by a word.
fn subject(event: &str, name: &str) -> String {
    match event.split_once('.').map_or(event, |(what, _)| what) {
        "agent" => format!("Agent {name}"),
        "scan" => format!("Scan of {name}"),
        "command" => format!("Command {name}"),
        "channel" => format!("Channel {name}"),
        "delivery" => format!("Message about {name}"),
        "maintenance" => format!("Maintenance {name}"),
        _ => name.to_owned(),
    }
}

fn told(event: &str, body: Option<&EventBody>, subject: &str) -> String {
    match (event, body) {
        ("channel.test", _) => "Test message".to_owned(),
        (_, Some(EventBody::AgentOffline(status))) => match status.devices_unknown {
            Some(1) => format!("{subject} is offline: 1 device unknown"),
            Some(devices @ 2..) => format!("{subject} is offline: {devices} devices unknown"),
            _ => format!("{subject} is offline"),
        },
        (_, Some(EventBody::ScanCompleted(scan))) => {
            format!(
                "{subject} is completed: {} devices, {} new",
                scan.devices_found, scan.devices_new
            )
        }
        ("alert.acknowledged", _) => format!("Alert for {subject} is acknowledged"),
        ("org.updated", _) => format!("Settings of {subject} are updated"),
        _ => match event.rsplit_once('.') {
            Some((_, what @ ("started" | "ended" | "failed"))) => format!("{subject} {what}"),
            Some((_, what)) => format!("{subject} is {}", what.replace('_', " ")),
            None => format!("{event}: {subject}"),
        },
    }
}

/// Label and value of what is known of the event.
pub(super) fn facts(
    event: &str,
    body: Option<&EventBody>,
    content: &Content,
) -> Vec<(&'static str, String)> {
    if content.reason == Reason::Digest {
        return Vec::new();
    }
    let kind = match event.split_once('.').map_or(event, |(what, _)| what) {
        "device" => "Device",
        "agent" => "Agent",
        "scan" => "Segment",
        "channel" => "Channel",
        "command" => "Command",
        "org" => "Organisation",
        _ => "Resource",
    };
    let mut facts = vec![(kind, content.resource_name.clone())];
    match body {
        Some(
            EventBody::DeviceOnline(status)
            | EventBody::DeviceOffline(status)
            | EventBody::DeviceDegraded(status)
            | EventBody::DeviceUnknown(status),
        ) => {
            facts.push(("Address", status.address.clone()));
            facts.push(("Status", format!("{} → {}", status.previous, status.current)));
            facts.extend(status.check.map(|check| ("Check", check.to_string())));
            let ms = status.response_time_ms;
            facts.extend(ms.map(|ms| ("Response time", format!("{ms:.0} ms"))));
            facts.extend(status.error.clone().map(|error| ("Error", error)));
        }
        Some(EventBody::AgentOnline(status) | EventBody::AgentOffline(status)) => {
            facts.push(("Status", words(&format!("{} → {}", status.previous, status.current))));
            facts.push(("Cause", words(status.cause.as_str())));
        }
        Some(EventBody::ScanCompleted(scan) | EventBody::ScanFailed(scan)) => {
            facts.push(("Devices found", scan.devices_found.to_string()));
            facts.push(("New devices", scan.devices_new.to_string()));
            facts.extend(scan.error.clone().map(|error| ("Error", error)));
        }
        Some(EventBody::CommandFailed(command)) => {
            facts.extend(command.error.clone().map(|error| ("Error", error)));
        }
        Some(EventBody::ChannelDegraded(health) | EventBody::ChannelDisabled(health)) => {
            facts.extend(health.reason.clone().map(|reason| ("Reason", reason)));
        }
        _ => {}
    }
    facts
}

fn words(name: &str) -> String {
    name.replace('_', " ")
}

/// A duration in its two largest units, from minutes on.
pub(super) fn duration(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match (minutes / 1_440, minutes / 60 % 24, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
