"""HAProxy before the nodes, with the configuration that we give away."""

from __future__ import annotations

import re
import resource
import subprocess
from pathlib import Path

import httpx

from .hub import ROOT, Hub, free_port
from .waiting import until

EXAMPLE = ROOT / "docs" / "deploy" / "haproxy.cfg"


class Balancer:
    """One address for all nodes; what connects to a hub connects to this as well."""

    def __init__(self, folder: Path, nodes: list[Hub]) -> None:
        self.port, self.operations_port = free_port(), free_port()
        self.file = folder / "haproxy.cfg"
        self.file.write_text(self.adapted(EXAMPLE.read_text(), nodes))
        with (folder / "haproxy.log").open("w") as log:
            self.process = subprocess.Popen(["haproxy", "-db", "-f", str(self.file)], stdout=log, stderr=log)
        until("the load balancer sends to all nodes", lambda: self.up() == len(nodes))

    def adapted(self, example: str, nodes: list[Hub]) -> str:
        """The example with other addresses, and no more connections than this machine lets it have."""
        text = substitute(r"bind :8080", f"bind 127.0.0.1:{self.port}", example)
        text = substitute(r"bind 127\.0\.0\.1:8404", f"bind 127.0.0.1:{self.operations_port}", text)
        for number, node in enumerate(nodes, 1):
            text = substitute(rf"server hub-{number} hub-{number}:8080", f"server hub-{number} 127.0.0.1:{node.port}", text)
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if files != resource.RLIM_INFINITY and files < 130_000:
            text = substitute(r"maxconn 60000", "maxconn 1000", text)
        return text

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def up(self) -> int:
        """How many nodes it takes for ready."""
        assert self.process.poll() is None, f"HAProxy ended: {self.file.with_suffix('.log').read_text()}"
        try:
            table = httpx.get(f"http://127.0.0.1:{self.operations_port}/;csv", timeout=5).text
        except httpx.TransportError:
            return 0
        return sum(line.startswith("hubs,hub-") and ",UP," in line for line in table.splitlines())

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def substitute(pattern: str, text: str, whole: str) -> str:
    changed, count = re.subn(pattern + r"$", text, whole, flags=re.MULTILINE)
    assert count == 1, f"{pattern} is {count} times in {EXAMPLE.name}"
    return changed
