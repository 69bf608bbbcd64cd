//! What the agent is told at its start: the environment, overridden by flags.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Parser;
use pulse_protocol::key::AgentKey;
use tracing_subscriber::filter::Targets;
use url::Url;

use crate::spool::BYTES_MIN;

/// The monitoring agent of `VelocityPulse`.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "pulse-agent", version, about, long_about = None)]
pub struct Args {
    /// The hub, such as `https://hub.example.com`.
    #[arg(long, env = "PULSE_HUB_URL")]
    pub hub_url: Option<String>,
    /// The agent's key. Prefer the environment or a file: other users can see a program's flags.
    #[arg(long, env = "PULSE_AGENT_KEY", hide_env_values = true)]
    pub agent_key: Option<String>,
    /// A file that holds the agent's key.
    #[arg(long, env = "PULSE_AGENT_KEY_FILE")]
    pub agent_key_file: Option<PathBuf>,
    /// Where the spool lies.
    #[arg(long, env = "PULSE_AGENT_DATA_DIR", default_value = "pulse-agent-data")]
    pub data_dir: PathBuf,
    /// Bound of the spool's file, in bytes.
    #[arg(long, env = "PULSE_AGENT_SPOOL_BYTES_MAX", default_value = "67108864")]
    pub spool_bytes_max: String,
    /// Whether the networks this machine sits on are told to the hub and scanned as it says: `on` or `off`.
    #[arg(long, env = "PULSE_AGENT_NETWORKS", default_value = "on")]
    pub networks: String,
    /// The local page; this version supports `off`.
    #[arg(long, env = "PULSE_AGENT_UI", default_value = "off")]
    pub ui: String,
    /// Upgrades by itself; this version supports `off`.
    #[arg(long, env = "PULSE_AGENT_UPGRADE", default_value = "off")]
    pub upgrade: String,
    /// What is logged, such as `info` or `info,pulse_agent::link=debug`.
    #[arg(long, env = "PULSE_LOG", default_value = "info")]
    pub log: String,
}

/// The checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address of the agent's websocket.
    pub session_url: Url,
    /// Who the agent is.
    pub key: AgentKey,
    /// Where the spool lies.
    pub data_dir: PathBuf,
    /// Bound of the spool's file, in bytes.
    pub spool_bytes_max: u64,
    /// Whether networks are told and scanned.
    pub networks: bool,
    /// What is logged.
    pub log: Targets,
}

/// One wrong value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The environment variable.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
    /// A value that would do.
    pub example: &'static str,
}

/// Every wrong value of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        for Fault { key, problem, example } in &self.0 {
            write!(f, "\n  {key}: {problem}; for example {key}={example}")?;
        }
        Ok(())
    }
}

impl Config {
    /// Checks all values at once.
    ///
    /// # Errors
    ///
    /// Returns every fault, not just the first.
    pub fn check(args: &Args) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let session_url = note(&mut faults, session_url(args.hub_url.as_deref()));
        let key = note(&mut faults, key(args.agent_key.as_deref(), args.agent_key_file.as_deref()));
        let spool_bytes_max = note(&mut faults, spool_bytes_max(&args.spool_bytes_max));
        let log = note(&mut faults, log(&args.log));
        let networks = note(&mut faults, on_or_off("PULSE_AGENT_NETWORKS", &args.networks));
        note(&mut faults, only_off("PULSE_AGENT_UI", &args.ui));
        note(&mut faults, only_off("PULSE_AGENT_UPGRADE", &args.upgrade));
        match (session_url, key, spool_bytes_max, log, networks) {
            (Some(session_url), Some(key), Some(spool_bytes_max), Some(log), Some(networks))
                if faults.is_empty() =>
            {
                let data_dir = args.data_dir.clone();
                Ok(Self { session_url, key, data_dir, spool_bytes_max, networks, log })
            }
            _ => Err(Faults(faults)),
        }
    }
}

fn note<T>(faults: &mut Vec<Fault>, value: Result<T, Fault>) -> Option<T> {
    value.map_err(|fault| faults.push(fault)).ok()
}

fn session_url(hub_url: Option<&str>) -> Result<Url, Fault> {
    let fault = |problem: &str| Fault {
        key: "PULSE_HUB_URL",
        problem: problem.to_owned(),
        example: "https://hub.example.com",
    };
    let text = hub_url.filter(|text| !text.is_empty()).ok_or_else(|| fault("is not set"))?;
    let mut url = Url::parse(text).map_err(|error| fault(&format!("is no address ({error})")))?;
    let scheme = match url.scheme() {
        "http" | "ws" => "ws",
        "https" | "wss" => "wss",
        _ => return Err(fault("must begin with http://, https://, ws:// or wss://")),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(fault("must hold no user name or password; the key is in PULSE_AGENT_KEY"));
    }
    let path = format!("{}/ws/agent", url.path().trim_end_matches('/'));
    url.set_scheme(scheme).map_err(|()| fault("has no host"))?;
    url.set_path(&path);
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn key(key: Option<&str>, file: Option<&Path>) -> Result<AgentKey, Fault> {
    const EXAMPLE: &str = "vp_…, as the hub showed it once";
    let key = key.filter(|key| !key.is_empty());
    let file = file.filter(|file| !file.as_os_str().is_empty());
    let (name, text) = match (key, file) {
        (Some(_), Some(_)) => {
            let problem = "is set together with PULSE_AGENT_KEY_FILE; set one of them".to_owned();
            return Err(Fault { key: "PULSE_AGENT_KEY", problem, example: EXAMPLE });
        }
        (None, None) => {
            let problem = "is not set, nor is PULSE_AGENT_KEY_FILE".to_owned();
            return Err(Fault { key: "PULSE_AGENT_KEY", problem, example: EXAMPLE });
        }
        (Some(key), None) => ("PULSE_AGENT_KEY", key.to_owned()),
        (None, Some(file)) => ("PULSE_AGENT_KEY_FILE", read_key(file)?),
    };
    AgentKey::parse(text.trim()).map_err(|error| Fault {
        key: name,
        problem: error.to_string(),
        example: EXAMPLE,
    })
}

fn read_key(file: &Path) -> Result<String, Fault> {
    std::fs::read_to_string(file).map_err(|error| Fault {
        key: "PULSE_AGENT_KEY_FILE",
        problem: format!("cannot be read ({error})"),
        example: "/etc/pulse-agent/key",
    })
}

fn spool_bytes_max(text: &str) -> Result<u64, Fault> {
    text.parse().ok().filter(|bytes| *bytes >= BYTES_MIN).ok_or_else(|| Fault {
        key: "PULSE_AGENT_SPOOL_BYTES_MAX",
        problem: format!("must be a whole number of bytes, {BYTES_MIN} or more"),
        example: "67108864",
    })
}

fn log(text: &str) -> Result<Targets, Fault> {
    Targets::from_str(text).map_err(|error| Fault {
        key: "PULSE_LOG",
        problem: format!("is no filter ({error})"),
        example: "info",
    })
}

fn on_or_off(key: &'static str, value: &str) -> Result<bool, Fault> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Fault {
            key,
            problem: format!("`{value}` is neither `on` nor `off`"),
            example: "off",
        }),
    }
}

fn only_off(key: &'static str, value: &str) -> Result<(), Fault> {
    let problem = format!("`{value}` is not supported by this version");
    if value == "off" { Ok(()) } else { Err(Fault { key, problem, example: "off" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Args {
        let key = AgentKey::from_random("demo", "0123456789ABCDEFGHIJabcdef").unwrap();
        Args {
            hub_url: Some("http://127.0.0.1:8080".to_owned()),
            agent_key: Some(key.secret().to_owned()),
            agent_key_file: None,
            data_dir: PathBuf::from("data"),
            spool_bytes_max: "67108864".to_owned(),
            networks: "on".to_owned(),
            ui: "off".to_owned(),
            upgrade: "off".to_owned(),
            log: "info".to_owned(),
        }
    }

    fn faulty_keys(args: &Args) -> Vec<&'static str> {
        Config::check(args).unwrap_err().0.iter().map(|fault| fault.key).collect()
    }

    #[test]
    fn the_address_of_the_session_follows_from_the_hubs() {
        for (hub, session) in [
            ("http://127.0.0.1:8080", "ws://127.0.0.1:8080/ws/agent"),
            ("https://hub.example.com/", "wss://hub.example.com/ws/agent"),
            ("wss://example.com/pulse?x=1#y", "wss://example.com/pulse/ws/agent"),
        ] {
            let config = Config::check(&Args { hub_url: Some(hub.to_owned()), ..good() }).unwrap();
            assert_eq!(config.session_url.as_str(), session);
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let args = Args {
            hub_url: Some("ftp://hub".to_owned()),
            agent_key: None,
            spool_bytes_max: "10".to_owned(),
            networks: "some".to_owned(),
            ui: "127.0.0.1:3001".to_owned(),
            upgrade: "patch".to_owned(),
            log: "pulse=loud".to_owned(),
            ..good()
        };
        let keys = faulty_keys(&args);
        let all = [
            "PULSE_HUB_URL",
            "PULSE_AGENT_KEY",
            "PULSE_AGENT_SPOOL_BYTES_MAX",
            "PULSE_LOG",
            "PULSE_AGENT_NETWORKS",
            "PULSE_AGENT_UI",
            "PULSE_AGENT_UPGRADE",
        ];
        assert_eq!(keys, all);
        let message = Config::check(&args).unwrap_err().to_string();
        assert!(all.iter().all(|key| message.contains(key)), "{message}");
    }

    #[test]
    fn a_mistyped_key_is_refused_and_never_shown() {
        let mut args = good();
        let typed = args.agent_key.clone().unwrap().replace("ABC", "ABD");
        args.agent_key = Some(typed.clone());
        let message = Config::check(&args).unwrap_err().to_string();
        assert!(message.contains("mistyped") && !message.contains(&typed), "{message}");
    }

    #[test]
    fn the_key_may_lie_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), format!("{}\n", good().agent_key.unwrap())).unwrap();
        let args = Args { agent_key: None, agent_key_file: Some(file.path().to_owned()), ..good() };
        assert_eq!(Some(Config::check(&args).unwrap().key.secret()), good().agent_key.as_deref());
        let both = Args { agent_key: good().agent_key, ..args };
        assert_eq!(faulty_keys(&both), ["PULSE_AGENT_KEY"]);
        let missing =
            Args { agent_key: None, agent_key_file: Some("no/such/file".into()), ..good() };
        assert_eq!(faulty_keys(&missing), ["PULSE_AGENT_KEY_FILE"]);
    }
}
