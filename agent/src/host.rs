//! The machine the agent runs on.

use std::time::Instant;

use pulse_protocol::Timestamp;
use pulse_protocol::agent::{Hello, Load, PROTOCOL_VERSION};
use pulse_protocol::status::Platform;
use sysinfo::System;

use crate::spool::Position;

/// The machine, and since when the agent runs on it.
pub struct Host {
    /// Absent where the system tells nothing of itself.
    system: Option<System>,
    boot_id: String,
    started_at: Instant,
}

impl Default for Host {
    fn default() -> Self {
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            // The use of a processor is known from the second look on.
            system.refresh_cpu_usage();
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
            |_| format!("boot-{}", System::boot_time().unwrap_or_default()),
            |id| id.trim().to_owned(),
        );
        Self { system, boot_id, started_at: Instant::now() }
    }
}

impl Host {
    /// The first frame of a connection.
    #[must_use]
    pub fn hello(&self, position: &Position) -> Hello {
        Hello {
            protocol: PROTOCOL_VERSION,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: System::host_name().unwrap_or_else(|_| "unknown".to_owned()),
            platform: platform(),
            arch: std::env::consts::ARCH.to_owned(),
            boot_id: self.boot_id.clone(),
            spool_id: position.spool_id.clone(),
            next_seq: position.acked + 1,
            sent_at: Timestamp::wall_clock(),
        }
    }

    /// Seconds since the agent started.
    #[must_use]
    pub fn uptime_s(&self) -> u64 {
        self.started_at.elapsed().as_secs()
    }

    /// The machine's load since the last look, if it tells.
    pub fn load(&mut self) -> Option<Load> {
        let system = self.system.as_mut()?;
        system.refresh_cpu_usage();
        system.refresh_memory();
        let share = |part: u64, whole: u64| {
            if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
        };
        Some(Load {
            cpu_pct: f64::from(system.global_cpu_usage()),
            mem_pct: share(system.used_memory(), system.total_memory()),
            load1: System::load_average().ok()?.one,
        })
    }
}

fn platform() -> Platform {
    match std::env::consts::OS {
        "macos" => Platform::Macos,
        "windows" => Platform::Windows,
        _ => Platform::Linux,
    }
}
