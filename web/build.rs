//! Has the crate rebuilt when the dashboard was.

use std::io;

/// Where Vite puts the dashboard.
const DASHBOARD: &str = "ui/dist";

fn main() -> io::Result<()> {
    // Cargo takes a watched folder that is missing for changed, and would rebuild the crate every time.
    std::fs::create_dir_all(DASHBOARD)?;
    println!("cargo::rerun-if-changed={DASHBOARD}");
    Ok(())
}
