//! What a run leaves behind: a table, a JSON file, and a picture of its latencies.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use plotters::prelude::*;
use serde::Serialize;
use serde_json::json;

use crate::checker::Fault;
use crate::machine::{Machine, Pinning, Usage};
use crate::stats::{Latencies, Spread, Summary};

/// Tells the person who waits what happens; never part of the result.
pub(crate) fn say(text: &str) {
    // Nobody to tell it to is no reason to stop.
    let _ = writeln!(std::io::stderr().lock(), "pulse-load: {text}");
}

/// One measured number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    /// Its target and bounds, such as `T1 must 16 aim 8`.
    pub(crate) target: &'static str,
}

/// What one run found.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) figures: Vec<Figure>,
    pub(crate) usages: Vec<Usage>,
    pub(crate) latencies: BTreeMap<&'static str, Latencies>,
    pub(crate) faults: Vec<Fault>,
    /// What a reader must know to judge the figures.
    pub(crate) notes: Vec<String>,
}

impl Run {
    pub(crate) fn figure(
        &mut self,
        name: &str,
        unit: &'static str,
        value: f64,
        target: &'static str,
    ) {
        self.figures.push(Figure { name: name.to_owned(), unit, value, target });
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }
}

/// What all runs had in common.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    pub(crate) scenario: &'static str,
    pub(crate) database: &'static str,
    /// The scenario's own options.
    pub(crate) options: String,
    pub(crate) machine: Machine,
    /// None when the processes run where the kernel puts them.
    pub(crate) pinning: Option<Pinning>,
}

/// Writes `<scenario>-<database>.json` and `.svg` into `folder` and returns the table.
pub(crate) fn write(folder: &Path, setting: &Setting, runs: &[Run]) -> Result<String> {
    let base = folder.join(format!("{}-{}", setting.scenario, setting.database));
    let json_file = base.with_extension("json");
    std::fs::write(&json_file, serde_json::to_vec_pretty(&document(setting, runs))?)
        .with_context(|| format!("cannot write {}", json_file.display()))?;
    let mut text = table(setting, runs);
    let _ = writeln!(text, "written: {}", json_file.display());
    if let Some(picture) = draw(&base, setting, runs)? {
        let _ = writeln!(text, "written: {}", picture.display());
    }
    Ok(text)
}

fn document(setting: &Setting, runs: &[Run]) -> serde_json::Value {
    let runs: Vec<_> = runs
        .iter()
        .map(|run| {
            let latencies: BTreeMap<&str, Summary> = run
                .latencies
                .iter()
                .map(|(name, latencies)| (*name, latencies.summary()))
                .collect();
            json!({
                "figures": run.figures,
                "latencies": latencies,
                "usage": run.usages,
                "notes": run.notes,
                "faults": run.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "setting": setting, "summary": summaries_json(&runs), "runs": runs })
}

fn summaries_json(runs: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let values = |name: &str| -> Vec<f64> {
        let figures = runs.iter().filter_map(|run| run["figures"].as_array()).flatten();
        figures.filter(|f| f["name"] == name).filter_map(|f| f["value"].as_f64()).collect()
    };
    let first = runs.first().and_then(|run| run["figures"].as_array());
    first
        .into_iter()
        .flatten()
        .filter_map(|figure| {
            let name = figure["name"].as_str()?;
            Some(json!({ "name": name, "unit": figure["unit"], "target": figure["target"],
                         "runs": Spread::of(&values(name))? }))
        })
        .collect()
}

fn table(setting: &Setting, runs: &[Run]) -> String {
    let mut text = String::new();
    let names = runs.first().into_iter().flat_map(|run| &run.figures).map(|f| f.name.len());
    let width = names.max().unwrap_or(0).max(44);
    let pinned = setting.pinning.map_or("not pinned".to_owned(), |pinning| {
        format!("hub on core {}, generator on core {}", pinning.hub_core, pinning.own_core)
    });
    let _ = writeln!(
        text,
        "{} on {}: {} run(s), {pinned}, {} ({} cores)\n",
        setting.scenario,
        setting.database,
        runs.len(),
        setting.machine.cpu,
        setting.machine.cores
    );
    let _ = writeln!(
        text,
        "{:<width$} {:>12} {:>12} {:>12}  {:<9} target",
        "figure", "median", "min", "max", "unit"
    );
    for figure in runs.first().into_iter().flat_map(|run| &run.figures) {
        let same = |run: &Run| run.figures.iter().find(|f| f.name == figure.name).map(|f| f.value);
        let values: Vec<f64> = runs.iter().filter_map(same).collect();
        if let Some(spread) = Spread::of(&values) {
            let _ = writeln!(
                text,
                "{:<width$} {:>12} {:>12} {:>12}  {:<9} {}",
                figure.name,
                number(spread.median),
                number(spread.min),
                number(spread.max),
                figure.unit,
                figure.target
            );
        }
    }
    for (at, run) in runs.iter().enumerate() {
        let _ = writeln!(text, "\nrun {}", at + 1);
        for usage in &run.usages {
            let _ = writeln!(text, "  {}", usage_line(usage));
        }
        for note in &run.notes {
            let _ = writeln!(text, "  {note}");
        }
        for fault in run.faults.iter().take(20) {
            let _ = writeln!(text, "  FAULT {fault}");
        }
        if run.faults.len() > 20 {
            let _ =
                writeln!(text, "  FAULT … and {} more, in the JSON file", run.faults.len() - 20);
        }
    }
    text
}

fn usage_line(usage: &Usage) -> String {
    let of_hub =
        |value: Option<f64>, unit: &str| value.map_or("unknown".to_owned(), |v| number(v) + unit);
    format!(
        "{} ({:.1} s): hub {} of a core, PSS {}, RSS {}; generator {} % of a core, RSS {} MiB",
        usage.phase,
        usage.seconds,
        of_hub(usage.hub_cpu_pct, " %"),
        of_hub(usage.hub_pss_kib.map(|kib| kib / 1_024.0), " MiB"),
        of_hub(usage.hub_rss_kib.map(|kib| kib / 1_024.0), " MiB"),
        number(usage.generator_cpu_pct),
        number(usage.generator_rss_kib / 1_024.0),
    )
}

/// Three or more significant digits, thousands without decimals.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

const SIZE: (u32, u32) = (900, 540);

/// Draws each distribution of each run by percentile; none where nothing was timed.
fn draw(base: &Path, setting: &Setting, runs: &[Run]) -> Result<Option<PathBuf>> {
    let curves: Vec<(&str, Vec<(f64, f64)>)> = runs
        .iter()
        .flat_map(|run| &run.latencies)
        .filter(|(_, latencies)| !latencies.is_empty())
        .map(|(name, latencies)| (*name, latencies.tail_curve()))
        .collect();
    if curves.is_empty() {
        return Ok(None);
    }
    let file = base.with_extension("svg");
    let title =
        format!("{} on {}: latency by percentile, each run", setting.scenario, setting.database);
    draw_curves(&file, &title, &curves)
        .with_context(|| format!("cannot draw {}", file.display()))?;
    Ok(Some(file))
}

fn draw_curves(file: &Path, title: &str, curves: &[(&str, Vec<(f64, f64)>)]) -> Result<()> {
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let widest = points().map(|(odds, _)| odds).fold(10.0, f64::max);
    let highest = points().map(|(_, ms)| ms).fold(0.01, f64::max) * 1.5;
    let lowest = points().map(|(_, ms)| ms).fold(highest, f64::min).max(0.001) / 1.5;

    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((1.0..widest).log_scale(), (lowest..highest).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("milliseconds")
        .x_label_formatter(&|odds| percentile_label(*odds))
        .y_label_formatter(&|ms| number(*ms))
        .max_light_lines(0)
        .draw()?;
    let mut names: Vec<&str> = curves.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    names.dedup();
    for (at, name) in names.iter().enumerate() {
        let style = Palette99::pick(at).stroke_width(2);
        let mut is_named = false;
        for (_, points) in curves.iter().filter(|(of, _)| of == name) {
            let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
            // One entry in the legend stands for all runs.
            if !std::mem::replace(&mut is_named, true) {
                let key = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style);
                drawn.label(*name).legend(key);
            }
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.4))
        .draw()?;
    root.present()?;
    Ok(())
}

/// 10 is the 90th percentile, 100 the 99th, 1,000 the 99.9th.
fn percentile_label(odds: f64) -> String {
    let percentile = 100.0 * (1.0 - 1.0 / odds.max(1.0));
    let text = format!("{percentile:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn run(value: f64) -> Run {
        let mut run = Run::default();
        run.figure("changes", "1/s", value, "T4 must 10,000");
        let mut latencies = Latencies::new();
        (1..500).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        run.latencies.insert("to ack", latencies);
        run
    }

    fn setting() -> Setting {
        let machine =
            Machine { cpu: "test".into(), cores: 2, kernel: "6".into(), open_files: 20_000 };
        Setting {
            scenario: "report",
            database: "sqlite",
            options: String::new(),
            machine,
            pinning: None,
        }
    }

    #[test]
    fn table_json_and_picture_tell_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut runs = vec![run(10.0), run(30.0), run(20.0)];
        runs[1].faults.push(Fault::Broken("one thing broke".into()));
        let table = write(folder.path(), &setting(), &runs).unwrap();
        let line = table.lines().find(|line| line.starts_with("changes")).unwrap();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[1..4], ["20.0", "10.0", "30.0"]);
        assert!(table.contains("FAULT one thing broke"), "{table}");

        let json = std::fs::read(folder.path().join("report-sqlite.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["summary"][0]["runs"]["median"], 20.0);
        assert_eq!(json["runs"][1]["faults"][0], "one thing broke");
        assert_eq!(json["runs"][0]["latencies"]["to ack"]["count"], 499);

        let picture = std::fs::read_to_string(folder.path().join("report-sqlite.svg")).unwrap();
        assert!(picture.contains("to ack") && picture.contains("polyline"));
    }

    #[test]
    fn a_run_without_latencies_has_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        let mut silent = run(1.0);
        silent.latencies.clear();
        write(folder.path(), &setting(), &[silent]).unwrap();
        assert!(!folder.path().join("report-sqlite.svg").exists());
    }

    #[test]
    fn odds_are_shown_as_percentiles() {
        assert_eq!(percentile_label(100.0), "99");
        assert_eq!(percentile_label(10_000.0), "99.99");
    }
}
