"""Runs every test there is, on SQLite and on PostgreSQL, and counts them.

Starts a private PostgreSQL and a private Redis on free ports for the time of the run, and stops them whatever
happens. The last line says how many tests passed and failed over all runners; the exit code says the same.

With names of stages as arguments only those are run, for example `make build && scripts/test-env python3
scripts/run_tests.py wire`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import services

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cache" / "test-logs"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Tally:
    """What one stage came to."""

    passed: int
    failed: int


@dataclass(frozen=True)
class Stage:
    """One runner: what it is called, how it is started, and how its output is counted."""

    name: str
    command: list[str]
    # Pairs of patterns for passed and failed; every match of the output is added up. None counts the exit code.
    counts: tuple[str, str] | None
    folder: Path = ROOT
    may_be_empty: bool = False


# `cargo test` prints one such line for each binary; `nextest` one for the whole run.
CARGO_TEST = (r"test result: \w+\. (\d+) passed", r"test result: \w+\. \d+ passed; (\d+) failed")
NEXTEST = (r"Summary \[.*?(\d+) passed", r"Summary \[.*?(\d+) (?:failed|timed out|exec failed)")
PYTEST = (r"^(?:=+ )?(?:.*, )?(\d+) passed.* in [\d.]+s", r"^(?:=+ )?(?:.*?, )?(\d+) (?:failed|errors?).* in [\d.]+s")
# Most of these tests wait for time to pass: several at once cost no more than one.
PYTEST_OPTIONS = ["-q", "--no-header", "--tb=short", "-n", "4"]
VITEST = (r"^\s*Tests .*?(\d+) passed", r"^\s*Tests .*?(\d+) failed")
NODE = (r"^(?:#|ℹ) pass (\d+)", r"^(?:#|ℹ) (?:fail|cancelled) (\d+)")


def stages(postgres_url: str) -> list[Stage]:
    ui = ROOT / "web" / "ui"
    target = target_folder() / "debug"
    kill = [str(target / "pulse-load"), "kill", "--kills", "5", "--hub", str(target / "pulse-hub")]
    kill += ["--no-pin", "--out", str(ROOT / ".cache" / "load")]
    return [
        Stage("ui", ["npm", "test"], VITEST, ui),
        Stage("build", ["cargo", "build", "--workspace", "--bins"], None),
        *rust_stages(),
        Stage("wire", [os.environ["PULSE_TEST_PYTHON"], "-m", "pytest", *PYTEST_OPTIONS], PYTEST, ROOT / "tests"),
        Stage("page", ["npm", "run", "test:browser"], NODE, ui),
        Stage("page-on-hub", ["npm", "run", "test:hub"], NODE, ui),
        Stage("kill-sqlite", [*kill, "--database", "sqlite"], None),
        Stage("kill-postgres", [*kill, "--database", postgres_url], None),
        *chaos_stages(target),
    ]


def chaos_stages(target: Path) -> list[Stage]:
    """Every kind of fault once on three nodes. They kill their PostgreSQL and their Redis, and so bring their own."""
    if shutil.which("redis-server") is None:
        return []
    chaos = [str(target / "pulse-load"), "chaos", "--hub", str(target / "pulse-hub"), "--no-pin"]
    chaos += ["--rounds", "1", "--every", "5", "--seed", "1", "--out", str(ROOT / ".cache" / "load")]
    return [Stage("chaos", chaos, None)]


def rust_stages() -> list[Stage]:
    if shutil.which("cargo-nextest") is None:
        return [Stage("rust", ["cargo", "test", "--workspace", "--no-fail-fast"], CARGO_TEST)]
    return [
        Stage("rust", ["cargo", "nextest", "run", "--workspace", "--no-fail-fast", "--status-level", "slow"], NEXTEST),
        Stage("rust-docs", ["cargo", "test", "--workspace", "--doc"], CARGO_TEST, may_be_empty=True),
    ]


def target_folder() -> Path:
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    return Path(json.loads(subprocess.check_output(command, cwd=ROOT))["target_directory"])


def run(stage: Stage, environment: dict[str, str]) -> Tally:
    print(f"\n=== {stage.name}: {' '.join(stage.command)}", flush=True)
    began = time.monotonic()
    lines: list[str] = []
    with (LOGS / f"{stage.name}.log").open("w") as log:
        process = subprocess.Popen(
            stage.command, cwd=stage.folder, env=environment, text=True, errors="replace",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                log.write(line)
                lines.append(ANSI.sub("", line))
            code = process.wait()
        finally:
            # Whatever a broken test left running goes with it.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    tally = count(stage, lines, code)
    print(f"=== {stage.name}: {tally.passed} passed, {tally.failed} failed, {time.monotonic() - began:.0f} s")
    return tally


def count(stage: Stage, lines: list[str], code: int) -> Tally:
    if stage.counts is None:
        return Tally(int(code == 0), int(code != 0))
    text = "".join(lines)
    passed, failed = (sum(map(int, re.findall(pattern, text, re.MULTILINE))) for pattern in stage.counts)
    # A runner that broke down, and one that found nothing to run, did not pass.
    if failed == 0 and (code != 0 or (passed == 0 and not stage.may_be_empty)):
        failed = 1
    return Tally(passed, failed)


def main(wanted: list[str]) -> int:
    # So that `finally` and the exit stack run when a terminal or a supervisor ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    results: dict[str, Tally] = {}
    with ExitStack() as stack:
        postgres_url = stack.enter_context(services.postgres())
        redis_urls = {
            "PULSE_TEST_REDIS_URL": stack.enter_context(services.redis()),
            "PULSE_TEST_REDIS_SENTINEL_URL": stack.enter_context(services.redis_sentinel()),
            "PULSE_TEST_REDIS_CLUSTER_URL": stack.enter_context(services.redis_cluster()),
        }
        target = target_folder() / "debug"
        environment = os.environ | redis_urls | {
            "PULSE_TEST_POSTGRES_URL": postgres_url,
            "PULSE_HUB_BIN": str(target / "pulse-hub"),
            "PULSE_AGENT_BIN": str(target / "pulse-agent"),
            "CARGO_TERM_COLOR": "never",
            "NO_COLOR": "1",
        }
        todo = [stage for stage in stages(postgres_url) if not wanted or stage.name in wanted]
        for stage in todo:
            results[stage.name] = run(stage, environment)
            if stage.name == "build" and results["build"].failed:
                break
    print()
    for name, tally in results.items():
        print(f"{name:<16}{tally.passed:>6} passed {tally.failed:>4} failed")
    passed = sum(tally.passed for tally in results.values())
    failed = sum(tally.failed for tally in results.values())
    print(f"tests: {passed} passed, {failed} failed", flush=True)
    return int(failed > 0 or not results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
