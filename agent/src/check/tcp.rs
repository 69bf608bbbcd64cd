//! A TCP connection.

use pulse_protocol::agent::CheckConfig;
use tokio::time::Instant;

use super::{Finding, connect};

/// Online when the port takes a connection.
pub(super) async fn check(check: &CheckConfig) -> Finding {
    let Some(port) = check.port else {
        return Finding::unknown("a tcp check needs a port");
    };
    let start = Instant::now();
    match connect(&check.address, port).await {
        Ok(_) => Finding::online(start.elapsed()),
        Err(error) => Finding::offline(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::status::{CheckKind, DeviceStatus};
    use serde_json::Value;
    use tokio::net::TcpListener;

    use super::*;
    use crate::check::testing;

    async fn status(port: Option<u16>) -> DeviceStatus {
        check(&testing::check(CheckKind::Tcp, "127.0.0.1", port, Value::Null)).await.status
    }

    #[tokio::test]
    async fn an_open_port_is_online_and_a_closed_one_offline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(status(Some(port)).await, DeviceStatus::Online);
        drop(listener);
        assert_eq!(status(Some(port)).await, DeviceStatus::Offline);
        assert_eq!(status(None).await, DeviceStatus::Unknown);
    }
}
