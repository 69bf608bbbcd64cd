//! An agent that sends more than the hub can store is slowed down, not stored in memory.

use std::num::NonZeroU32;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use pulse_actors::testing::{eventually, report};
use pulse_protocol::agent::AgentFrame;
use pulse_protocol::status::DeviceStatus;
use pulse_web::socket::limits::LimitSettings;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::segments;
use crate::support::Hub;

const FRAME_BYTES: usize = 16 * 1024;
/// What the mailbox of a home and the buffers of two sockets may hold, with room to spare.
const TAKEN_BYTES_MAX: usize = 40 << 20;
/// A socket that takes nothing for this long is not read.
const STANDSTILL: Duration = Duration::from_millis(1_500);

/// A report of `FRAME_BYTES` that changes nothing but the agent's position.
fn large(seq: u64) -> String {
    let mut frame = report(seq, "192.0.2.1", DeviceStatus::Online);
    if let AgentFrame::Report(report) = &mut frame {
        report.reports[0].error = Some("x".repeat(FRAME_BYTES));
    }
    serde_json::to_string(&frame).unwrap()
}

/// With the journal full the socket is not read any more; with room everything goes on in order.
async fn the_socket_is_not_read_while_the_journal_is_full(limits: LimitSettings) {
    let hub = Hub::with_limits(limits).await;
    let mut agent = hub.welcomed(1).await;
    agent.say(&segments(1)).await;
    assert_eq!(agent.frame().await["type"], "config");
    assert_eq!(agent.frame().await["seq"], 1);
    hub.world.journal.hold();
    hub.world.journal.limit(2);

    let (mut sink, mut stream) = agent.0.split();
    let mut last = 1;
    let mut bytes = 0;
    let unsent = loop {
        let text = large(last + 1);
        bytes += text.len();
        assert!(bytes < TAKEN_BYTES_MAX, "the hub takes frame after frame into memory");
        last += 1;
        let mut sending = Box::pin(sink.send(Message::text(text)));
        if tokio::time::timeout(STANDSTILL, &mut sending).await.is_err() {
            break sending;
        }
    };
    assert_eq!(hub.world.journal.waiting(), 2);

    hub.world.journal.flow();
    unsent.await.unwrap();
    let mut acked = 0;
    while acked < last {
        let next = tokio::time::timeout(Duration::from_secs(20), stream.next()).await;
        let Ok(Some(Ok(Message::Text(text)))) = next else {
            panic!("no more acks after {acked}: {next:?}")
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str() {
            Some("ack") => {
                let seq = frame["seq"].as_u64().unwrap();
                assert!(seq > acked, "acked {seq} after {acked}");
                acked = seq;
            }
            // The address is in none of the agent's segments.
            Some("error") => assert_eq!(frame["code"], "rejected", "{frame}"),
            _ => panic!("{frame}"),
        }
    }
    let image = hub.world.store.image(hub.org_id).unwrap();
    assert_eq!(image.positions[0].acked_seq, last);
}

#[actix_web::test]
async fn without_a_window_the_homes_mailbox_is_the_bound() {
    the_socket_is_not_read_while_the_journal_is_full(LimitSettings::default()).await;
}

#[actix_web::test]
async fn a_full_window_is_the_bound_of_one_agent() {
    let limits = LimitSettings { unacked_frames: NonZeroU32::new(8), ..LimitSettings::default() };
    the_socket_is_not_read_while_the_journal_is_full(limits).await;
}

#[actix_web::test]
async fn the_smallest_window_lets_frame_after_frame_through() {
    let limits = LimitSettings { unacked_frames: NonZeroU32::new(1), ..LimitSettings::default() };
    let hub = Hub::with_limits(limits).await;
    let mut agent = hub.welcomed(1).await;
    for seq in 1..=20 {
        agent.text(&large(seq)).await;
    }
    let mut acked = 0;
    while acked < 20 {
        let frame = agent.frame().await;
        if frame["type"] == "ack" {
            acked = frame["seq"].as_u64().unwrap();
        }
    }
}

/// The close of a replaced socket must not wait for acks that its home will never send.
#[actix_web::test]
async fn a_replaced_socket_with_a_full_window_is_closed() {
    let limits = LimitSettings { unacked_frames: NonZeroU32::new(4), ..LimitSettings::default() };
    let hub = Hub::with_limits(limits).await;
    let mut older = hub.welcomed(1).await;
    hub.world.journal.hold();
    for seq in 1..=3 {
        older.text(&large(seq)).await;
    }
    assert!(eventually(|| hub.world.journal.waiting() == 3).await);
    let mut newer = hub.agent().await;
    newer.say(&AgentFrame::Hello(pulse_actors::testing::hello(1))).await;
    // Once the home has greeted the newer one it takes nothing more from the older one.
    assert!(eventually(|| hub.world.metrics.agents.get() == 2).await);
    for seq in 4..=20 {
        older.text(&large(seq)).await;
    }
    hub.world.journal.flow();
    assert_eq!(newer.frame().await["acked_seq"], 3);
    assert_eq!(older.closed().await.0, 4001);
}
