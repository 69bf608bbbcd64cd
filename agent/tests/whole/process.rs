//! The agent as a process: its exit codes, its signals, and what `kill -9` leaves.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{FakeHub, key, soon};
use pulse_protocol::Timestamp;
use pulse_protocol::agent::{AgentCommand, AgentFrame, ByeReason, CommandKind, HubFrame};
use pulse_protocol::ids::CommandId;
use serde_json::Value;
use tokio::process::{Child, Command};

fn agent(hub: &FakeHub, data_dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pulse-agent"))
        .env_clear()
        .env("PULSE_HUB_URL", hub.url())
        .env("PULSE_AGENT_KEY", key().secret())
        .env("PULSE_AGENT_DATA_DIR", data_dir)
        .env("PULSE_LOG", "warn")
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

fn command(kind: CommandKind) -> HubFrame {
    let deadline = Timestamp::from_unix_ms(Timestamp::wall_clock().unix_ms() + 60_000);
    HubFrame::Command(AgentCommand {
        command_id: CommandId::new(),
        kind,
        payload: Value::Null,
        deadline,
    })
}

#[tokio::test]
async fn a_wrong_configuration_is_told_whole_and_ends_with_2() {
    let output = Command::new(env!("CARGO_BIN_EXE_pulse-agent"))
        .env_clear()
        .env("PULSE_HUB_URL", "gopher://hub")
        .env("PULSE_AGENT_KEY", "vp_demo0000_mistyped")
        .env("PULSE_AGENT_UI", "127.0.0.1:3001")
        .stdin(Stdio::null())
        .output();
    let output = soon("the end of the agent", output).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(
        ["PULSE_HUB_URL", "PULSE_AGENT_KEY", "PULSE_AGENT_UI"].iter().all(|key| told.contains(key)),
        "{told}"
    );
    assert!(
        !told.contains("mistyped\"") && !told.contains("vp_demo0000"),
        "the key is not shown: {told}"
    );
}

#[tokio::test]
async fn a_second_agent_in_one_directory_ends_with_1() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let _first = agent(&hub, data.path());
    let (_connection, _) = hub.welcome(0, Vec::new()).await;
    let mut second = agent(&hub, data.path());
    assert_eq!(soon("the second agent's end", second.wait()).await.unwrap().code(), Some(1));
}

#[cfg(unix)]
#[tokio::test]
async fn terminated_it_says_bye_and_ends_with_0_within_two_seconds() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut process = agent(&hub, data.path());
    let (mut connection, _) = hub.welcome(0, Vec::new()).await;
    connection.next_state().await;
    let told_at = Instant::now();
    let id = process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().await.unwrap().success());
    let bye = loop {
        if let AgentFrame::Bye(bye) = connection.next().await {
            break bye;
        }
    };
    assert_eq!((bye.reason, bye.expect_back_ms), (ByeReason::Shutdown, None));
    // The hub neither acks nor answers the closing any more.
    assert_eq!(soon("the agent's end", process.wait()).await.unwrap().code(), Some(0));
    assert!(told_at.elapsed() < Duration::from_secs(2), "{:?}", told_at.elapsed());
}

#[tokio::test]
async fn killed_at_random_moments_it_loses_and_changes_nothing() {
    let (hub, data) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    let mut seen: BTreeMap<u64, AgentFrame> = BTreeMap::new();
    let (mut acked, mut spool_id) = (0, None);
    for round in 0..20_u64 {
        let mut process = agent(&hub, data.path());
        let (mut connection, hello) = hub.welcome(acked, Vec::new()).await;
        assert_eq!(
            spool_id.get_or_insert(hello.spool_id.clone()),
            &hello.spool_id,
            "round {round}"
        );
        for _ in 0..30 {
            connection.tell(&command(CommandKind::Ping)).await;
        }
        // What was seen and not acked comes again, the very same; then something new, up to a random point.
        let known = seen.keys().next_back().copied().unwrap_or(0);
        let enough = known + 1 + u64::from(rand::random::<u8>() % 25);
        let mut expected = acked;
        while expected < enough {
            let frame = connection.next_state().await;
            expected += 1;
            assert_eq!(frame.seq(), Some(expected), "round {round}");
            if let Some(earlier) = seen.insert(expected, frame.clone()) {
                assert_eq!(earlier, frame, "round {round}");
            }
        }
        if round % 3 == 0 {
            acked = (acked + expected) / 2;
            connection.tell(&HubFrame::Ack { seq: acked }).await;
        }
        process.start_kill().unwrap();
        soon("the agent's death", process.wait()).await.unwrap();
    }
}
