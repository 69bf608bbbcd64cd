//! Viewers that do not read, and orgs that are large.

use pulse_actors::testing::{eventually, report};
use pulse_protocol::agent::AgentFrame;
use pulse_protocol::status::DeviceStatus;

use crate::dashboard::agent_on_segment;
use crate::support::Hub;

/// A report on `count` devices, each of which is an event if it changes.
fn devices(seq: u64, from: usize, count: usize, status: DeviceStatus) -> AgentFrame {
    let mut frame = report(seq, "10.0.0.1", status);
    if let AgentFrame::Report(report) = &mut frame {
        let sample = report.reports[0].clone();
        let address = |at: usize| Some(format!("10.0.{}.{}", at / 250, at % 250 + 1));
        let results = (from..from + count).map(|at| {
            let mut result = sample.clone();
            result.address = address(at);
            result
        });
        report.reports = results.collect();
    }
    frame
}

#[actix_web::test]
async fn a_viewer_that_does_not_read_starts_anew_when_it_does_and_holds_up_nobody() {
    let hub = Hub::start().await;
    let mut agent = agent_on_segment(&hub).await;
    let request = hub.dashboard_request("");
    let mut slow = hub.open_with_buffer(request, Some(16 * 1024)).await.unwrap();
    assert_eq!(slow.frame().await["type"], "snapshot");
    let from = hub.seq();
    let mut quick = hub.dashboard("").await;
    assert_eq!(quick.frame().await["type"], "snapshot");
    assert!(eventually(|| hub.world.metrics.viewers.get() == 2).await);

    // One reads everything in the background, the other nothing.
    let (tell, told) = tokio::sync::oneshot::channel();
    let reading = actix_web::rt::spawn(async move {
        let mut last = from;
        let mut told = std::pin::pin!(told);
        let mut through = None;
        while through.is_none_or(|through| last < through) {
            tokio::select! {
                frame = quick.numbered() => {
                    assert_eq!(frame["type"], "event", "the quick one was held up");
                    assert_eq!(frame["seq"].as_u64(), Some(last + 1));
                    last += 1;
                }
                known = &mut told, if through.is_none() => through = Some(known.unwrap()),
            }
        }
        quick
    });
    let mut seq = 1;
    while hub.world.metrics.viewers.get() == 2 {
        seq += 1;
        assert!(seq < 4_000, "the hub keeps everything for a viewer that does not read");
        let status = if seq % 2 == 0 { DeviceStatus::Online } else { DeviceStatus::Offline };
        agent.say(&devices(seq, 0, 50, status)).await;
        while agent.frame().await["type"] != "ack" {}
    }
    let through = hub.seq();
    tell.send(through).unwrap();
    let _quick = reading.await.unwrap();

    // Now it reads: what was under way, without a gap; then it starts anew.
    let mut last = from;
    let reason = loop {
        let frame = slow.numbered().await;
        if frame["type"] != "event" {
            break frame;
        }
        assert_eq!(frame["seq"].as_u64(), Some(last + 1));
        last += 1;
    };
    assert_eq!(
        (reason["type"].as_str(), reason["reason"].as_str()),
        (Some("resync"), Some("slow_consumer"))
    );
    assert!(last < through, "it was cut off although it got everything");
    let snapshot = slow.numbered().await;
    assert_eq!(
        (snapshot["type"].as_str(), snapshot["seq"].as_u64()),
        (Some("snapshot"), Some(through))
    );
    agent.say(&devices(seq + 1, 100, 1, DeviceStatus::Online)).await;
    assert_eq!(slow.events(through + 1).await, [through + 1]);
}

#[actix_web::test]
async fn a_large_snapshot_does_not_make_its_viewer_too_slow_for_what_comes_after_it() {
    const DEVICES: usize = 4_000;
    let hub = Hub::start().await;
    let mut agent = agent_on_segment(&hub).await;
    for part in 0..DEVICES / 500 {
        agent.say(&devices(part as u64 + 2, part * 500, 500, DeviceStatus::Online)).await;
    }
    assert!(
        eventually(|| hub.world.store.image(hub.org_id).unwrap().devices.len() == DEVICES).await
    );
    // The snapshot and the events after it become durable, and are told, together.
    let from = hub.seq();
    let request = hub.dashboard_request("");
    let mut viewer = hub.open_with_buffer(request, Some(16 * 1024)).await.unwrap();
    for seq in 10..=40 {
        let status = if seq % 2 == 0 { DeviceStatus::Offline } else { DeviceStatus::Online };
        agent.say(&devices(seq, 0, 10, status)).await;
    }
    let through = from + 310;
    assert!(eventually(|| hub.seq() == through).await);
    let snapshot = viewer.frame().await;
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot["devices"].as_array().unwrap().len(), DEVICES);
    assert!(serde_json::to_string(&snapshot).unwrap().len() > 1 << 20, "not large");
    let first = snapshot["seq"].as_u64().unwrap() + 1;
    if first <= through {
        assert!(viewer.events(through).await.into_iter().eq(first..=through));
    }
}
