"""One hub: its process, its database and its settings."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from .rest import Account
from .waiting import until

ROOT = Path(__file__).resolve().parents[2]
SECRET_KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def hub_program() -> str:
    return os.environ.get("PULSE_HUB_BIN") or str(ROOT / "target" / "debug" / "pulse-hub")


# Each worker counts through a range of its own, below the ports that the system gives to outgoing connections: a port
# is handed out long before the hub listens on it, and nobody may take it meanwhile. Another run of the tests on this
# machine has the same ranges, and most likely begins somewhere else in them.
PORTS_EACH = 2_000
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
PORTS_FIRST, PORTS_BEGIN = 12_000 + WORKER * PORTS_EACH, random.SystemRandom().randrange(PORTS_EACH)
PORTS = itertools.cycle(PORTS_FIRST + (PORTS_BEGIN + number) % PORTS_EACH for number in range(PORTS_EACH))


def free_port() -> int:
    """A port that nobody listens on, and that no other test is given."""
    for port in itertools.islice(PORTS, PORTS_EACH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@dataclass
class Hub:
    """A hub that can be started, stopped, killed and started again on the same data and ports."""

    folder: Path
    database_url: str
    settings: dict[str, str]

    def __post_init__(self) -> None:
        self.port, self.ops_port = free_port(), free_port()
        self.process: subprocess.Popen | None = None
        self.starts = 0
        (self.folder / "pulse.toml").write_text("")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ops_url(self) -> str:
        return f"http://127.0.0.1:{self.ops_port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
        return own | {
            "PULSE_LISTEN": f"127.0.0.1:{self.port}",
            "PULSE_OPS_LISTEN": f"127.0.0.1:{self.ops_port}",
            "PULSE_DATABASE_URL": self.database_url,
            "PULSE_SECRET_KEY": SECRET_KEY,
            "PULSE_EGRESS_ALLOW": "127.0.0.0/8",
            "PULSE_OFFLINE_GRACE_MS": "1000",
            "PULSE_LOG_FORMAT": "text",
            # The tests come from one address, and many at once.
            "PULSE_LIMIT_HANDSHAKES_PER_ADDRESS": "0",
        } | self.settings

    def command(self, *arguments: str) -> list[str]:
        return [hub_program(), "--config", str(self.folder / "pulse.toml"), *arguments]

    def start(self) -> Hub:
        self.starts += 1
        with (self.folder / f"hub-{self.starts}.log").open("w") as log:
            self.process = subprocess.Popen(
                self.command("serve"), env=self.environment(), cwd=self.folder, stdout=log, stderr=log
            )
        until("the hub is ready", self.is_ready, within_s=60)
        return self

    def is_ready(self) -> bool:
        assert self.process and self.process.poll() is None, f"the hub ended: {self.last_log()[-2000:]}"
        try:
            return httpx.get(f"{self.ops_url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def last_log(self) -> str:
        return (self.folder / f"hub-{self.starts}.log").read_text()

    def end(self, number: int) -> int:
        """Sends a signal and waits for the end; answers the exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def stop(self) -> int:
        return self.end(signal.SIGTERM)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), env=self.environment(), cwd=self.folder,
            capture_output=True, text=True, timeout=60, check=False,
        )

    def bootstrap(self, email: str, org: str, plan: str = "starter", *more: str) -> dict:
        done = self.run("admin", "bootstrap", "--email", email, "--org", org, "--plan", plan, *more)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def account(self, plan: str = "starter", name: str | None = None) -> Account:
        """A new org with an owner."""
        mark = uuid4().hex[:12]
        email = f"{mark}@example.com"
        made = self.bootstrap(email, name or f"Org {mark}", plan)
        return Account(self.url, email, **made)
