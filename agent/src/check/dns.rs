//! A DNS look-up through the machine's resolver.

use std::net::IpAddr;

use pulse_protocol::agent::CheckConfig;
use tokio::time::Instant;

use super::{Finding, resolve};

/// Online when the device's name resolves, to `expect.address` if there is one; degraded when to another.
pub(super) async fn check(check: &CheckConfig) -> Finding {
    if check.address.parse::<IpAddr>().is_ok() {
        return Finding::unknown("a dns check needs a host name as the device's address");
    }
    let expected = match check.expect.as_ref().and_then(|expect| expect.get("address")) {
        None => None,
        Some(address) => match address.as_str().map(str::parse::<IpAddr>) {
            Some(Ok(address)) => Some(address),
            _ => return Finding::unknown("`expect.address` is no address"),
        },
    };
    let start = Instant::now();
    match (resolve(&check.address).await, expected) {
        (Err(error), _) => Finding::offline(error.to_string()),
        (Ok(found), Some(expected)) if !found.contains(&expected) => {
            let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
            Finding::degraded(
                start.elapsed(),
                format!("resolves to {}, not {expected}", found.join(", ")),
            )
        }
        (Ok(_), _) => Finding::online(start.elapsed()),
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::status::{CheckKind, DeviceStatus};
    use serde_json::{Value, json};

    use super::*;
    use crate::check::testing;

    async fn status(name: &str, expect: Value) -> DeviceStatus {
        check(&testing::check(CheckKind::Dns, name, None, expect)).await.status
    }

    #[tokio::test]
    async fn a_name_must_resolve_to_what_is_expected() {
        assert_eq!(status("localhost", Value::Null).await, DeviceStatus::Online);
        assert_eq!(
            status("localhost", json!({"address": "127.0.0.1"})).await,
            DeviceStatus::Online
        );
        assert_eq!(
            status("localhost", json!({"address": "192.0.2.1"})).await,
            DeviceStatus::Degraded
        );
        assert_eq!(status("no-such-name.invalid", Value::Null).await, DeviceStatus::Offline);
    }

    #[tokio::test]
    async fn what_cannot_be_looked_up_is_unknown() {
        assert_eq!(status("192.0.2.1", Value::Null).await, DeviceStatus::Unknown);
        assert_eq!(status("localhost", json!({"address": 7})).await, DeviceStatus::Unknown);
    }
}
