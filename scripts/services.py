"""Private servers for a test run: on free ports, in a folder of their own, gone afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

START_WITHIN_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """A PostgreSQL with its usual durability, in a folder; of a superuser without a password."""

    def __init__(
        self, folder: Path, port: int | None = None, *,
        wal_folder: Path | None = None, settings: str = "", standby_of: Postgres | None = None,
    ) -> None:
        self.programs, self.folder, self.port = postgres_programs(), folder, port or free_port()
        self.data, self.settings = folder / "data", settings
        # The server refuses to run as root, and then its folders must belong to whom it runs as.
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        for owned in (folder, wal_folder):
            if self.as_user and owned is not None:
                shutil.chown(owned, "postgres", "postgres")
        if standby_of:
            source = ["-h", "127.0.0.1", "-p", str(standby_of.port), "-U", "pulse"]
            self.run("pg_basebackup", *source, "-D", self.data, "-R", "-c", "fast")
            return
        wal = ["--waldir", wal_folder / "wal", "--wal-segsize", "1"] if wal_folder else []
        self.run("initdb", "-D", self.data, "-U", "pulse", "-A", "trust", "-E", "UTF8", "--locale=C", *wal)

    @property
    def url(self) -> str:
        return f"postgres://pulse@127.0.0.1:{self.port}/postgres"

    def run(self, program: str, *arguments: str | Path, check: bool = True) -> int:
        command = [*self.as_user, self.programs / program, *arguments]
        return subprocess.run(command, check=check, cwd="/", stdout=subprocess.DEVNULL).returncode

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c max_connections=300 {self.settings}"
        log = self.folder / "log"
        self.run("pg_ctl", "-D", self.data, "-w", "-t", str(START_WITHIN_S), "-l", log, "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", self.data, "-w", "-t", str(START_WITHIN_S), "-m", "immediate", "stop", check=False)

    def promote(self) -> None:
        """Makes a standby the primary."""
        self.run("pg_ctl", "-D", self.data, "-w", "-t", str(START_WITHIN_S), "promote")

    def kill(self) -> None:
        """SIGKILL to each of its processes, as when the machine loses its power."""
        first = int((self.data / "postmaster.pid").read_text().split()[0])
        # It would start anew what it sees dying.
        os.kill(first, signal.SIGSTOP)
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        for pid in [*map(int, children), first]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + START_WITHIN_S
        while self.run("pg_ctl", "-D", self.data, "status", check=False) == 0 and time.monotonic() < deadline:
            time.sleep(0.02)


@contextmanager
def postgres() -> Iterator[str]:
    """A PostgreSQL with its usual durability; yields the URL of a superuser, without a password."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-postgres-"))
    try:
        server = Postgres(folder)
        try:
            server.start()
            yield server.url
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def postgres_programs() -> Path:
    """The newest installed server: Debian keeps its programs off the path, one folder for each version."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *Path("/usr").glob("pgsql-*/bin/initdb")]
    if found:
        return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))]).parent
    on_path = shutil.which("initdb")
    if on_path is None:
        raise SystemExit("initdb is missing: install the PostgreSQL server")
    return Path(on_path).resolve().parent


@contextmanager
def redis() -> Iterator[str]:
    """A Redis that keeps nothing; yields its URL."""
    with redis_server(free_port()) as port:
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def redis_sentinel() -> Iterator[str]:
    """A Sentinel that watches one Redis; yields the URL of whichever is the primary."""
    with redis_server(free_port()) as port, tempfile.TemporaryDirectory(prefix="pulse-sentinel-") as folder:
        settings = Path(folder) / "sentinel.conf"
        settings.write_text(f"sentinel monitor pulse 127.0.0.1 {port} 1\n")
        with redis_server(free_port(), str(settings), "--sentinel") as sentinel:
            yield f"redis+sentinel://127.0.0.1:{sentinel}/pulse"


@contextmanager
def redis_cluster() -> Iterator[str]:
    """A Redis Cluster of three servers; yields the URL that names them all."""
    with ExitStack() as stack:
        ports = []
        for _ in range(3):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
            ports.append(stack.enter_context(redis_server(free_port(), *options)))
        servers = [f"127.0.0.1:{port}" for port in ports]
        create = ["redis-cli", "--cluster", "create", *servers, "--cluster-yes"]
        subprocess.run(create, check=True, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_WITHIN_S
        while not all(redis_cluster_is_whole(port) for port in ports):
            if time.monotonic() > deadline:
                raise SystemExit("the Redis Cluster did not form")
            time.sleep(0.05)
        yield f"redis+cluster://{','.join(servers)}"


def redis_cluster_is_whole(port: int) -> bool:
    info = subprocess.run(["redis-cli", "-p", str(port), "cluster", "info"], check=True, capture_output=True, text=True)
    return "cluster_state:ok" in info.stdout


@contextmanager
def redis_server(port: int, *options: str) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="pulse-redis-") as folder:
        # A settings file comes first on the line.
        first = [option for option in options[:1] if not option.startswith("-")]
        command = ["redis-server", *first, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen([*command, *options[len(first):]], stdout=subprocess.DEVNULL)
        try:
            wait_for_port(port, server)
            yield port
        finally:
            server.terminate()
            server.wait()


def wait_for_port(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"{server.args[0]} did not start")
