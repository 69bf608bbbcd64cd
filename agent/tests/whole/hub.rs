//! The whole agent against a hub that the test plays.

use std::time::{Duration, Instant};

use crate::support::{FakeHub, Running, soon, tcp_check, welcome};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{
    AgentCommand, AgentError, AgentErrorCode, AgentFrame, ByeReason, CommandKind, CommandProgress,
    HubFrame, SegmentConfig,
};
use pulse_protocol::ids::{CommandId, SegmentId};
use pulse_protocol::status::DeviceStatus;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

fn command(kind: CommandKind, payload: Value) -> AgentCommand {
    let deadline = Timestamp::from_unix_ms(Timestamp::wall_clock().unix_ms() + 60_000);
    AgentCommand { command_id: CommandId::new(), kind, payload, deadline }
}

fn is_result_of(frame: &AgentFrame, command: &AgentCommand, state: CommandProgress) -> bool {
    matches!(frame, AgentFrame::CommandResult(r) if r.command_id == command.command_id && r.state == state)
}

#[tokio::test]
async fn it_says_hello_beats_reports_and_says_bye() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = tcp_check(target.local_addr().unwrap().port());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, hello) = hub.welcome(0, vec![check.clone()]).await;
    assert_eq!((hello.protocol, hello.next_seq), (1, 1));
    let mut beats = 0;
    let report = loop {
        match agent.next().await {
            AgentFrame::Heartbeat(_) => beats += 1,
            AgentFrame::Report(report) => break report,
            frame => assert!(matches!(frame, AgentFrame::Segments(_)), "{frame:?}"),
        }
    };
    assert_eq!(report.reports[0].check_id, Some(check.check_id));
    assert_eq!(report.reports[0].status, DeviceStatus::Online);
    while beats < 3 {
        beats += usize::from(matches!(agent.next().await, AgentFrame::Heartbeat(_)));
    }
    drop(target);
    let offline = |frame: &AgentFrame| matches!(frame, AgentFrame::Report(report) if report.reports[0].status == DeviceStatus::Offline);
    agent.until(offline).await;
    let stopped_at = Instant::now();
    running.stop();
    let bye = loop {
        if let AgentFrame::Bye(bye) = agent.next().await {
            break bye;
        }
    };
    assert_eq!((bye.reason, bye.expect_back_ms), (ByeReason::Shutdown, None));
    assert_eq!(agent.closing().await, Some(1000));
    drop(agent);
    running.ended().await;
    assert!(stopped_at.elapsed() < Duration::from_secs(2), "{:?}", stopped_at.elapsed());
}

#[tokio::test]
async fn what_is_not_acked_is_sent_again_after_a_reconnect_and_after_a_kill() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let running = Running::start(&hub, data.path());
    let (mut agent, first) = hub.welcome(0, Vec::new()).await;
    let ping = command(CommandKind::Ping, Value::Null);
    agent.tell(&HubFrame::Command(ping.clone())).await;
    let answer = agent.until(|frame| is_result_of(frame, &ping, CommandProgress::Succeeded)).await;
    let seq = answer.seq().unwrap();
    assert!(seq >= 2, "the networks were told before");
    drop(agent);

    let (mut agent, hello) = hub.welcome(seq - 1, Vec::new()).await;
    assert_eq!((&hello.spool_id, hello.next_seq), (&first.spool_id, 1));
    assert_eq!(agent.next_state().await, answer, "from acked + 1, and the very same");
    running.kill().await;
    drop(agent);

    let mut running = Running::start(&hub, data.path());
    let (mut agent, hello) = hub.welcome(seq - 1, Vec::new()).await;
    assert_eq!(hello.spool_id, first.spool_id);
    assert_eq!(agent.next_state().await, answer);
    agent.tell(&HubFrame::Ack { seq: 1_000_000 }).await;
    agent.tell(&HubFrame::Command(ping.clone())).await;
    let other = command(CommandKind::Ping, Value::Null);
    agent.tell(&HubFrame::Command(other.clone())).await;
    let next = agent.until(|frame| matches!(frame, AgentFrame::CommandResult(_))).await;
    assert!(
        is_result_of(&next, &other, CommandProgress::Succeeded),
        "the first is not done twice: {next:?}"
    );
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn no_more_than_256_frames_are_in_flight() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, _) = hub.welcome(0, Vec::new()).await;
    let commands: Vec<_> = (0..300).map(|_| command(CommandKind::Ping, Value::Null)).collect();
    for command in &commands {
        agent.tell(&HubFrame::Command(command.clone())).await;
    }
    let mut last = 0;
    while last < 256 {
        let frame = agent.next_state().await;
        assert_eq!(frame.seq(), Some(last + 1));
        last += 1;
    }
    // Heartbeats go on; a state frame in between would be the 257th. Five of them are a second.
    for _ in 0..5 {
        let frame = agent.next().await;
        assert!(matches!(frame, AgentFrame::Heartbeat(_)), "{frame:?}");
    }
    agent.tell(&HubFrame::Ack { seq: 10 }).await;
    assert_eq!(agent.until(|frame| frame.seq() == Some(266)).await.seq(), Some(266));
    agent.tell(&HubFrame::Ack { seq: 266 }).await;
    agent.until(|frame| is_result_of(frame, &commands[299], CommandProgress::Succeeded)).await;
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn after_a_gap_it_reconnects_and_resends() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, first) = hub.welcome(0, Vec::new()).await;
    let frame = agent.next_state().await;
    agent.close(4002).await;
    let (mut agent, hello) = hub.welcome(0, Vec::new()).await;
    assert_eq!((hello.spool_id, hello.next_seq), (first.spool_id, 1));
    assert_eq!(agent.next_state().await, frame);
    running.stop();
    running.ended().await;
}

fn gap() -> HubFrame {
    let message = "next_seq is above what was acked".to_owned();
    HubFrame::Error(AgentError { code: AgentErrorCode::SeqGap, message, fatal: true, seq: None })
}

#[tokio::test]
async fn when_the_hub_lost_what_it_had_acked_a_new_sequence_begins() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, first) = hub.welcome(0, Vec::new()).await;
    let ping = command(CommandKind::Ping, Value::Null);
    agent.tell(&HubFrame::Command(ping.clone())).await;
    let answer = agent.until(|frame| is_result_of(frame, &ping, CommandProgress::Succeeded)).await;
    agent.tell(&HubFrame::Ack { seq: answer.seq().unwrap() }).await;
    let next = command(CommandKind::Ping, Value::Null);
    agent.tell(&HubFrame::Command(next.clone())).await;
    agent.until(|frame| is_result_of(frame, &next, CommandProgress::Succeeded)).await;
    agent.close(1001).await;

    let (mut agent, hello) = hub.greet().await;
    assert_eq!(hello.next_seq, answer.seq().unwrap() + 1);
    agent.tell(&gap()).await;
    agent.close(4002).await;

    let (mut agent, hello) = loop {
        let (mut agent, hello) = hub.greet().await;
        if hello.spool_id != first.spool_id {
            break (agent, hello);
        }
        // The first refusal crossed the spool's change.
        agent.tell(&gap()).await;
        agent.close(4002).await;
    };
    assert_eq!(hello.next_seq, 1);
    agent.tell(&welcome(0, Vec::new())).await;
    let frame = agent.next_state().await;
    assert_eq!(frame.seq(), Some(1));
    assert!(
        is_result_of(&frame, &next, CommandProgress::Succeeded),
        "what was not acked is kept: {frame:?}"
    );
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn a_silent_hub_is_left() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let running = Running::start(&hub, data.path());
    let (agent, _) = hub.welcome(0, Vec::new()).await;
    // It is held open, and neither read nor written: no pong comes back.
    let (again, _) = hub.greet().await;
    drop((agent, again));
    running.kill().await;
}

#[tokio::test]
async fn it_stays_with_a_hub_that_only_answers_pings() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, _) = hub.welcome(0, Vec::new()).await;
    // Reading answers the pings. The timeout is a second; ten beats are two.
    let mut beats = 0;
    while beats < 10 {
        beats += usize::from(matches!(agent.next().await, AgentFrame::Heartbeat(_)));
    }
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn refused_it_waits() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let mut stream = hub.tcp().await;
    stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    drop(stream);
    let early = tokio::time::timeout(Duration::from_millis(1500), hub.tcp()).await;
    assert!(early.is_err(), "the back-off alone would have been over three times by then");
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn drained_it_comes_back_elsewhere_when_told() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, _) = hub.welcome(0, Vec::new()).await;
    let drained_at = Instant::now();
    agent.tell(&HubFrame::Drain { reconnect_after_ms: 800 }).await;
    agent
        .tell(&HubFrame::Error(AgentError {
            code: AgentErrorCode::Rejected,
            message: "a frame meant nothing".to_owned(),
            fatal: false,
            seq: Some(1),
        }))
        .await;
    agent.close(1001).await;
    let (mut agent, _) = hub.welcome(0, Vec::new()).await;
    let waited = drained_at.elapsed();
    assert!(waited >= Duration::from_millis(800), "{waited:?}");
    agent.next_state().await;
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn told_to_restart_it_answers_says_bye_and_ends() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, _) = hub.welcome(0, Vec::new()).await;
    let restart = command(CommandKind::Restart, Value::Null);
    agent.tell(&HubFrame::Command(restart.clone())).await;
    let answer =
        agent.until(|frame| is_result_of(frame, &restart, CommandProgress::Succeeded)).await;
    agent.tell(&HubFrame::Ack { seq: answer.seq().unwrap() }).await;
    let bye = loop {
        if let AgentFrame::Bye(bye) = agent.next().await {
            break bye;
        }
    };
    assert!(bye.reason == ByeReason::Restart && bye.expect_back_ms.is_some());
    assert_eq!(agent.closing().await, Some(1000));
    drop(agent);
    running.ended().await;
}

#[tokio::test]
async fn a_scan_is_begun_and_ended_and_so_is_its_command() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut running = Running::start(&hub, data.path());
    let (mut agent, hello) = hub.greet().await;
    assert_eq!(hello.next_seq, 1);
    let segment = |cidr: &str| SegmentConfig {
        segment_id: SegmentId::new(),
        name: cidr.to_owned(),
        cidr: cidr.to_owned(),
        scan_interval_s: 0,
        enabled: true,
    };
    let (large, small) = (segment("10.0.0.0/8"), segment("127.0.0.0/30"));
    let HubFrame::Welcome(mut frame) = welcome(0, Vec::new()) else {
        unreachable!("it is a welcome")
    };
    frame.config.segments = vec![large.clone(), small.clone()];
    agent.tell(&HubFrame::Welcome(frame)).await;

    let refused = command(CommandKind::ScanSegment, json!({ "segment_id": large.segment_id }));
    agent.tell(&HubFrame::Command(refused.clone())).await;
    let ended = agent.until(|frame| matches!(frame, AgentFrame::ScanCompleted(_))).await;
    let AgentFrame::ScanCompleted(ended) = ended else { unreachable!("it is the end of a scan") };
    assert!(ended.error.unwrap().contains("too large"));
    agent.until(|frame| is_result_of(frame, &refused, CommandProgress::Failed)).await;

    let scan = command(CommandKind::ScanSegment, json!({ "segment_id": small.segment_id }));
    agent.tell(&HubFrame::Command(scan.clone())).await;
    agent.until(|frame| is_result_of(frame, &scan, CommandProgress::Running)).await;
    let started = agent.until(|frame| matches!(frame, AgentFrame::ScanStarted(_))).await;
    let AgentFrame::ScanStarted(started) = started else {
        unreachable!("it is the start of a scan")
    };
    assert_eq!((started.segment_id, started.command_id), (small.segment_id, Some(scan.command_id)));
    let ended = agent.until(|frame| matches!(frame, AgentFrame::ScanCompleted(_))).await;
    let AgentFrame::ScanCompleted(ended) = ended else { unreachable!("it is the end of a scan") };
    assert_eq!(ended.scan_id, started.scan_id);
    match ended.error {
        None => assert_eq!(ended.devices.len(), 2),
        Some(error) => println!("the sweep itself was skipped: {error}"),
    }
    running.stop();
    running.ended().await;
}

#[tokio::test]
async fn without_a_hub_it_goes_on_watching_and_tells_later() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let check = tcp_check(target.local_addr().unwrap().port());
    let running = Running::start(&hub, data.path());
    let (mut agent, _) = hub.welcome(0, vec![check.clone()]).await;
    let is_report = |frame: &AgentFrame| matches!(frame, AgentFrame::Report(_));
    let seq = agent.until(is_report).await.seq().unwrap();
    running.kill().await;
    drop(agent);

    // It starts anew, is not welcomed, and runs the check. The second run proves that the first was recorded.
    let mut running = Running::start(&hub, data.path());
    let (unwelcome, _) = hub.greet().await;
    let restarted_at = Timestamp::wall_clock();
    for _ in 0..2 {
        soon("a run of the check", target.accept()).await.unwrap();
    }
    drop(unwelcome);
    let (mut agent, _) = hub.welcome(seq, Vec::new()).await;
    let AgentFrame::Report(report) = agent.until(is_report).await else {
        unreachable!("it is a report")
    };
    assert_eq!(report.reports[0].check_id, Some(check.check_id));
    assert!(report.reports[0].checked_at >= restarted_at - Duration::from_secs(1));
    running.stop();
    running.ended().await;
}
