//! The walls between the crates, as Cargo knows them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    features: Vec<String>,
}

/// What each crate of the workspace depends on directly. What only its tests need is no part of it.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let names = |package: Package| {
        let needed = package.dependencies.into_iter().filter(is_needed);
        (package.name, needed.map(|it| it.name).collect())
    };
    packages().into_iter().map(names).collect()
}

fn is_needed(dependency: &Dependency) -> bool {
    dependency.kind.as_deref() != Some("dev")
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    metadata.packages
}

fn is_ours(name: &str) -> bool {
    name.starts_with("pulse-")
}

#[test]
fn every_arrow_between_our_crates_is_one_of_these() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("pulse-protocol", &[][..]),
        ("pulse-domain", &["pulse-protocol"]),
        ("pulse-actors", &["pulse-domain", "pulse-protocol"]),
        ("pulse-migrations", &[]),
        ("pulse-store", &["pulse-actors", "pulse-domain", "pulse-migrations", "pulse-protocol"]),
        ("pulse-web", &["pulse-actors", "pulse-domain", "pulse-protocol"]),
        (
            "pulse-hub",
            &[
                "pulse-actors",
                "pulse-domain",
                "pulse-migrations",
                "pulse-protocol",
                "pulse-store",
                "pulse-web",
            ],
        ),
        ("pulse-agent", &["pulse-protocol"]),
        ("pulse-load-tests", &["pulse-protocol"]),
    ]);
    for (package, names) in dependencies() {
        let allowed = allowed.get(package.as_str());
        let allowed = allowed.unwrap_or_else(|| panic!("say here what {package} may depend on"));
        for name in names.iter().filter(|name| is_ours(name)) {
            assert!(allowed.contains(&name.as_str()), "{package} must not depend on {name}");
        }
    }
}

#[test]
fn what_travels_and_what_is_decided_need_no_runtime_no_database_no_clock_and_no_chance() {
    let dependencies = dependencies();
    let does = |name: &str| {
        ["tokio", "actix", "sea-orm", "sqlx", "reqwest", "tracing"]
            .iter()
            .any(|banned| name == *banned || name.starts_with(&format!("{banned}-")))
    };
    for name in &dependencies["pulse-protocol"] {
        assert!(!does(name), "pulse-protocol must not depend on {name}");
    }
    for name in &dependencies["pulse-domain"] {
        let draws_or_reads = ["rand", "time", "getrandom"].contains(&name.as_str());
        assert!(!does(name) && !draws_or_reads, "pulse-domain must not depend on {name}");
    }
    let domain = packages().into_iter().find(|package| package.name == "pulse-domain").unwrap();
    let calendars = domain.dependencies.iter().filter(|it| it.name.starts_with("chrono"));
    for feature in calendars.flat_map(|it| &it.features) {
        assert!(
            !["clock", "now", "default"].contains(&feature.as_str()),
            "{feature} reads a clock"
        );
    }
}
