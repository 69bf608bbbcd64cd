"""Three nodes on one PostgreSQL and one Redis, and what a test asks of them."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from .agent import Agent
from .hub import Hub, free_port
from .proxy import Proxy
from .rest import Account
from .waiting import until

BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
# A lost node's leases last 5 s, and the others wait for 1.5 s until they take them.
TAKEN_OVER_WITHIN_S = 15


class Redis:
    """A private server that keeps nothing, and can be restarted empty."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder, self.options, self.port = folder, options, port or free_port()
        self.start()

    def start(self) -> None:
        # A settings file comes first on the line.
        first = [option for option in self.options[:1] if not option.startswith("-")]
        command = ["redis-server", *first, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([*command, *self.options[len(first):]], stdout=subprocess.DEVNULL)
        ping = ["redis-cli", "-p", str(self.port), "ping"]
        until("Redis answers", lambda: subprocess.run(ping, capture_output=True, check=False).stdout.strip() == b"PONG")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Cluster:
    """Three nodes, started one after another."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.redis = Redis(folder)
        self.nodes: list[Hub] = []
        for name in ("one", "two", "three"):
            (folder / name).mkdir()
            database_url, redis_url = self.urls(name, server_url)
            settings = {
                "PULSE_REDIS_URL": redis_url,
                "PULSE_NODE_ID": name,
                "PULSE_OFFLINE_GRACE_MS": "5000",
            }
            self.nodes.append(Hub(folder / name, database_url, settings))

    def urls(self, _name: str, database_url: str) -> tuple[str, str]:
        """Where this node finds PostgreSQL and Redis."""
        return database_url, f"redis://127.0.0.1:{self.redis.port}"

    def start(self) -> Cluster:
        for node in self.nodes:
            node.start()
        self.settle()
        return self

    def settle(self) -> None:
        """Waits until every node that runs has its share."""
        running = [node for node in self.nodes if node.process]

        def is_spread() -> bool:
            shares = [self.shards(node) for node in running]
            return sum(shares) == 1024 and min(shares) > 0

        until("the shards are spread", is_spread, within_s=30)

    def shards(self, node: Hub) -> int:
        command = ["redis-cli", "-p", str(self.redis.port), "hvals", "{pulse}:leases"]
        leases = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        return sum(lease.endswith(f"|{node.settings['PULSE_NODE_ID']}") for lease in leases)

    def home(self, account: Account) -> str:
        """The node that is home to an org: its shard is the lowest ten bits of its id, two digits of base32."""
        high, low = (BASE32.index(digit) for digit in account.org_id[-2:])
        command = ["redis-cli", "-p", str(self.redis.port), "hget", "{pulse}:leases", str(32 * high + low)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("|")[1]

    def accounts(self) -> list[Account]:
        """New orgs, at least one at home on each node."""
        made, homes = [], set()
        while len(homes) < len(self.nodes):
            made.append(self.nodes[0].account())
            homes.add(self.home(made[-1]))
        return made

    def account_of_each(self) -> list[Account]:
        """New orgs, one at home on each node."""
        return list({self.home(account): account for account in self.accounts()}.values())

    def shares(self) -> list[int]:
        """How many shards each node has."""
        return [self.shards(node) for node in self.nodes]

    def end(self) -> None:
        for node in self.nodes:
            node.kill()
        self.redis.kill()


@dataclass
class Wires:
    """What one node reaches the servers through."""

    postgres: Proxy
    redis: Proxy

    def __iter__(self) -> Iterator[Proxy]:
        return iter((self.postgres, self.redis))


class WiredCluster(Cluster):
    """Each node reaches PostgreSQL and Redis through wires of its own, which can be cut."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.wires: list[Wires] = []
        super().__init__(folder, server_url)

    def urls(self, _name: str, database_url: str) -> tuple[str, str]:
        server = urlsplit(database_url)
        assert server.port and server.username
        wires = Wires(Proxy(server.port), Proxy(self.redis.port))
        self.wires.append(wires)
        through_wire = server._replace(netloc=f"{server.username}@127.0.0.1:{wires.postgres.port}")
        return urlunsplit(through_wire), f"redis://127.0.0.1:{wires.redis.port}"

    def end(self) -> None:
        super().end()
        for wires in self.wires:
            for wire in wires:
                wire.end()


def through(account: Account, node: Hub) -> Account:
    """The same account, asked through another node."""
    return replace(account, url=node.url)


def whole_journal(account: Account) -> list[str]:
    events = account.events()
    assert [one["seq"] for one in events] == list(range(1, len(events) + 1))
    return [one["event"] for one in events]


def until_acked(agent: Agent, seq: int) -> None:
    """What was in flight when the home went is sent again after a reconnect, as every agent does."""
    deadline = time.monotonic() + TAKEN_OVER_WITHIN_S
    while seq in agent.unacked and time.monotonic() < deadline:
        try:
            agent.acked(seq)
        except Exception:
            try:
                agent.connect()
                agent.resend()
            except Exception:
                time.sleep(0.2)
    assert seq not in agent.unacked


def until_made(account: Account, name: str) -> None:
    """Adds an agent, asking again while the answer is 503."""

    def made() -> bool:
        answer = account.client.post("/agents", json={"name": name})
        assert answer.status_code in (201, 503), answer.text
        return answer.status_code == 201

    until("the agent is made", made, within_s=TAKEN_OVER_WITHIN_S)
