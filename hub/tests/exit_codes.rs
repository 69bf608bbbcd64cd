//! The program from outside: what it prints where, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its program has failed")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn hub(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pulse-hub"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_good_configuration_ends_with_0_and_says_nothing_on_standard_output() {
    let folder = tempfile::tempdir().unwrap();
    let output = hub(folder.path(), &["check-config"], &[]);

    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), "");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "checking makes nothing");
}

#[test]
fn every_fault_is_told_on_standard_error_and_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pulse.toml"), "signup = \"perhaps\"").unwrap();
    let faults = [("PULSE_LISTEN", "nowhere"), ("PULSE_OFFLINE_GRACE_MS", "1")];
    for command in [&["check-config"][..], &["serve"], &[], &["migrate"], &["config"]] {
        let output = hub(folder.path(), command, &faults);

        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert_eq!(text(&output.stdout), "", "{command:?}");
        let message = text(&output.stderr);
        for key in ["PULSE_LISTEN: ", "PULSE_OFFLINE_GRACE_MS: ", "signup: "] {
            assert!(message.contains(key), "{command:?} does not name {key} in:\n{message}");
        }
    }
}

#[test]
fn nothing_listens_before_the_configuration_is_good() {
    let folder = tempfile::tempdir().unwrap();
    // Held for the whole test: a hub that tried to listen here would fail with 1, not 2.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output =
        hub(folder.path(), &["serve"], &[("PULSE_LISTEN", &address), ("PULSE_LOG_FORMAT", "xml")]);

    assert_eq!(output.status.code(), Some(2));
    assert!(!text(&output.stderr).contains("in use"));
    assert!(!folder.path().join("pulse.db").exists(), "no database is made either");
}

#[test]
fn a_wrong_command_line_ends_with_2_and_help_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let wrong: [&[&str]; 5] = [
        &["fly"],
        &["--unknown"],
        &["admin"],
        &["admin", "bootstrap", "--email", "x@example.com", "--org", "Acme", "--plan", "gold"],
        &["admin", "suspend", "no-id", "--reason", "test"],
    ];
    for arguments in wrong {
        assert_eq!(hub(folder.path(), arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [
        &["--help"][..],
        &["serve", "--help"],
        &["demo", "--help"],
        &["migrate", "--help"],
        &["check-config", "--help"],
        &["config", "--help"],
        &["admin", "bootstrap", "--help"],
    ] {
        let output = hub(folder.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(text(&output.stdout).contains("Usage: pulse-hub"), "{arguments:?}");
    }
}

#[test]
fn the_printed_configuration_can_be_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let printed = hub(folder.path(), &["config"], &[("PULSE_LISTEN", "127.0.0.1:8123")]);
    assert_eq!(printed.status.code(), Some(0));
    assert!(text(&printed.stdout).contains("listen = \"127.0.0.1:8123\""));

    let file = folder.path().join("copy.toml");
    std::fs::write(&file, &printed.stdout).unwrap();
    let again = hub(folder.path(), &["--config", "copy.toml", "config"], &[]);
    assert_eq!(text(&again.stdout), text(&printed.stdout));
}

#[test]
fn deliveries_are_listed_one_a_line_and_of_no_org_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["admin", "bootstrap", "--email", "ops@example.com", "--org", "Acme", "--plan", "trial"];
    let made = hub(folder.path(), &arguments, &[]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    let org = made["org_id"].as_str().unwrap();

    let listed = hub(folder.path(), &["deliveries", "list", org, "--state", "dead"], &[]);
    assert_eq!((listed.status.code(), text(&listed.stdout)), (Some(0), ""));
    let stranger = pulse_protocol::ids::OrgId::new().to_string();
    let refused = hub(folder.path(), &["deliveries", "list", &stranger], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no organisation"), "{}", text(&refused.stderr));
    let misused = hub(folder.path(), &["deliveries", "list", org, "--state", "lost"], &[]);
    assert_eq!(misused.status.code(), Some(2));
}
