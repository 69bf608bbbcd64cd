"""Takes guards out of the actors and the domain, one at a time, and expects the simulator to notice each.

Works on a copy of the committed tree in .cache/mutants. `python3 scripts/mutants.py` runs all, with names only those.
The mutations of what the simulator itself plays (the database, the journal) are tests of the suite; see
docs/simulation.md. Exits 1 if a guard's absence went unnoticed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / ".cache" / "mutants"
# Not the usual one: cargo could take what a mutant left there for the tree's own.
TARGET = ROOT / ".cache" / "mutants-target"
SEEDS = "10000"


@dataclass(frozen=True)
class Mutant:
    """One guard, and the same line without it."""

    name: str
    file: str
    guard: str
    without: str


MUTANTS = [
    Mutant(
        "a-line-misses-no-message", "actors/src/cluster/line.rs",
        "Some(_) => Turn::Gap,", "Some(_) => {\n                self.heard = number;\n                Turn::Next\n            }",
    ),
    Mutant("a-line-takes-no-message-twice", "actors/src/cluster/line.rs", "None => Turn::Again,", "None => Turn::Next,"),
    Mutant(
        "no-frame-is-taken-twice", "domain/src/sequence.rs",
        "if seq <= self.last {\n            Arrival::Repeat", "if seq <= self.last {\n            Arrival::Next",
    ),
    Mutant(
        "nothing-is-told-before-what-was-decided-before-it", "actors/src/org.rs",
        "match self.pending.back_mut() {", "match None::<&mut Pending> {",
    ),
    Mutant(
        "only-what-is-durable-is-told", "actors/src/org.rs",
        "is_some_and(|pending| pending.ticket <= ticket)", "is_some_and(|pending| pending.ticket <= ticket + 1)",
    ),
    Mutant(
        "a-refused-epoch-is-claimed-anew", "actors/src/cluster/member.rs",
        "let refused = self.ports.routes.take_refused();",
        "let refused = self.ports.routes.take_refused();\n        let refused: BTreeSet<Fence> = refused.into_iter().filter(|_| false).collect();",
    ),
    Mutant(
        "a-home-that-is-busy-hears-that-it-must-leave", "actors/src/directory.rs",
        "home.do_send(Drain { reconnect_after_ms, stopped });",
        "let told = home.send(Drain { reconnect_after_ms, stopped });\n            drop(tokio::time::timeout(Duration::from_millis(500), told).await);",
    ),
    Mutant(
        "the-edges-hear-that-their-home-is-gone", "actors/src/link.rs",
        "        self.edge.do_send(AgentPush::HomeLost);\n", "",
    ),
    Mutant(
        "a-moved-shard-is-handed-over-first", "actors/src/cluster/member.rs",
        "self.ports.directory.hand_over(&shards, HAND_OVER_WITHIN).await;",
        "let _: &std::collections::HashSet<Shard> = &shards;",
    ),
]


def main(wanted: list[str]) -> int:
    subprocess.run(["git", "worktree", "prune"], cwd=ROOT, check=True)
    subprocess.run(["git", "worktree", "add", "--detach", "--force", TREE, "HEAD"], cwd=ROOT, check=True)
    try:
        chosen = [mutant for mutant in MUTANTS if not wanted or mutant.name in wanted]
        missed = [mutant.name for mutant in chosen if not is_noticed(mutant)]
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", TREE], cwd=ROOT, check=True)
    print(f"mutants: {len(chosen) - len(missed)} noticed, {len(missed)} missed{': ' if missed else ''}{', '.join(missed)}")
    return 1 if missed else 0


def is_noticed(mutant: Mutant) -> bool:
    path = TREE / mutant.file
    whole = path.read_text()
    if whole.count(mutant.guard) != 1:
        raise SystemExit(f"{mutant.name}: its guard stands {whole.count(mutant.guard)} times in {mutant.file}")
    path.write_text(whole.replace(mutant.guard, mutant.without))
    try:
        seeds = ["--test", "simulation", "-E", "test(seeds_part)", "--no-fail-fast"]
        environment = os.environ | {"PULSE_SIM_SEEDS": SEEDS, "CARGO_TARGET_DIR": str(TARGET)}
        run = subprocess.run(
            ["cargo", "nextest", "run", "--workspace", *seeds], cwd=TREE, env=environment, capture_output=True, text=True, check=False
        )
    finally:
        path.write_text(whole)
    if "error: could not compile" in run.stderr:
        raise SystemExit(f"{mutant.name} does not compile:\n{run.stderr[-2000:]}")
    found = [line.strip() for line in run.stderr.splitlines() if line.strip().startswith("seed ")]
    print(f"{mutant.name}: {found[0] if found else 'nobody noticed'}", flush=True)
    return run.returncode != 0 and bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
