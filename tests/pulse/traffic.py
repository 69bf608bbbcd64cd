"""What goes on in a cluster all the time: agents that report, dashboards that watch, programs that write.

Each of them is a thread that notes what it was told. At the end the journal must agree with all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from .agent import Agent, now
from .dashboard import Dashboard
from .hub import Hub
from .rest import Account, OrgClient
from .waiting import until

REPORT_EVERY_S = 0.25
WRITE_EVERY_S = 0.5
LOOK_EVERY_S = 0.2
# What a person would not wait for any more; the hub promises an answer within 10 s of having found the home.
ANSWERED_WITHIN_S = 25
AWAY_S = 0.2
# What a connection ends with.
BROKEN = (OSError, WebSocketException, TimeoutError)


class Worker(threading.Thread):
    """Works until it is told to stop; what broke it is told to who stops it."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self.fault: BaseException | None = None
        # When the latest thing began that has succeeded since.
        self.served_from = 0.0

    def run(self) -> None:
        try:
            self.work()
        except BaseException as fault:
            self.fault = fault

    def work(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        self.stopping.set()
        self.join(timeout=60)
        if self.fault is not None:
            raise AssertionError(f"{self.name}: {self.fault!r}") from self.fault
        assert not self.is_alive(), f"{self.name} hangs"

    def is_served_since(self, instant: float) -> bool:
        assert self.fault is None, f"{self.name}: {self.fault!r}"
        return self.served_from > instant

    def until_served(self, instant: float) -> None:
        until(f"{self.name} is served", lambda: self.is_served_since(instant))


class Reporter(Worker):
    """An agent whose device goes up and down for ever, and that keeps what was not acked."""

    def __init__(self, account: Account, nodes: Sequence[Hub], number: int) -> None:
        super().__init__(f"agent at {nodes[0].url} of {account.org_id}")
        self.account, self.nodes, self.at = account, nodes, 0
        enrolled, key = account.add_agent(f"Agent {number}")
        device = account.add_device(enrolled["id"], f"192.0.2.{number}")
        self.agent_id, self.device_id, self.check_id = enrolled["id"], device["id"], device["checks"][0]["id"]
        self.agent = Agent(nodes[0], key)
        # Every change, in order: its status, and when it was measured.
        self.changes: list[tuple[str, str]] = []
        self.began: dict[int, float] = {}

    def work(self) -> None:
        while not self.stopping.is_set() or self.agent.unacked:
            self.agent.hub = self.nodes[self.at % len(self.nodes)]
            try:
                self.agent.connect()
                self.note_acks(self.agent.welcome["acked_seq"])
                self.agent.resend()
                self.report()
            except (*BROKEN, AssertionError):
                # As a load balancer would send it: to another node.
                self.at += 1
                self.stopping.wait(AWAY_S)
        self.agent.leave()

    def report(self) -> None:
        due = beat_due = time.monotonic()
        while not self.stopping.is_set() or self.agent.unacked:
            moment = time.monotonic()
            if moment >= beat_due:
                beat_due = moment + 1
                self.agent.beat()
            if moment >= due and not self.stopping.is_set():
                due = moment + REPORT_EVERY_S
                change = ("offline" if len(self.changes) % 2 else "online", now())
                self.changes.append(change)
                report = {"status": change[0], "checked_at": change[1], "check_id": self.check_id}
                self.began[self.agent.spool("report", reports=[report])] = moment
                self.agent.resend(first=self.agent.next_seq - 1)
            try:
                self.agent.frame(max(0.01, due - time.monotonic()))
            except TimeoutError:
                pass
            self.note_acks(min(self.agent.unacked, default=self.agent.next_seq) - 1)

    def note_acks(self, acked: int) -> None:
        self.agent.forget(acked)
        for seq in [seq for seq in self.began if seq <= acked]:
            self.served_from = max(self.served_from, self.began.pop(seq))

    def check(self, journal: list[dict]) -> None:
        """Every change is there, once, in its place, and nobody said that the agent was away."""
        mine = [one for one in journal if one["data"].get("device_id") == self.device_id]
        told = [
            (one["event"].removeprefix("device."), one["data"]["since"]) for one in mine
            if one["event"] in ("device.online", "device.offline")
        ]
        assert told == self.changes


class Quiet(Worker):
    """An agent that has nothing to say but that it is there."""

    def __init__(self, account: Account, nodes: Sequence[Hub]) -> None:
        super().__init__(f"quiet agent at {nodes[0].url} of {account.org_id}")
        self.account, self.nodes, self.at = account, nodes, 0
        enrolled, key = account.add_agent("Quiet")
        self.agent_id = enrolled["id"]
        self.agent = Agent(nodes[0], key)

    def work(self) -> None:
        while not self.stopping.is_set():
            self.agent.hub = self.nodes[self.at % len(self.nodes)]
            try:
                self.agent.connect()
                while not self.stopping.is_set():
                    self.served_from = time.monotonic()
                    self.agent.beat()
                    self.agent.listen(1)
            except (*BROKEN, AssertionError):
                self.at += 1
                self.stopping.wait(AWAY_S)
        self.agent.leave()


class Viewer(Worker):
    """A dashboard that comes back to its node and goes on where it was."""

    def __init__(self, account: Account, node: Hub) -> None:
        super().__init__(f"dashboard at {node.url} of {account.org_id}")
        self.account, self.node = account, node
        self.first: int | None = None
        self.seen: list[int] = []
        self.resyncs: list[str] = []

    @property
    def seq(self) -> int | None:
        return self.seen[-1] if self.seen else self.first

    def work(self) -> None:
        while not self.stopping.is_set():
            try:
                with Dashboard(self.node, self.account, after=self.seq) as board:
                    self.watch(board)
            except BROKEN:
                self.stopping.wait(AWAY_S)

    def watch(self, board: Dashboard) -> None:
        while not self.stopping.is_set():
            try:
                frame = board.frame(0.5)
            except TimeoutError:
                continue
            if frame["type"] == "event":
                self.seen.append(frame["seq"])
                self.served_from = time.monotonic()
            elif frame["type"] == "snapshot" and self.first is None:
                self.first = frame["seq"]
            elif frame["type"] == "snapshot":
                # What it missed is in there.
                self.seen += range((self.seq or 0) + 1, frame["seq"] + 1)
            elif frame["type"] == "resync":
                self.resyncs.append(frame["reason"])

    def has_seen(self, seq: int) -> bool:
        assert self.fault is None, f"{self.name}: {self.fault!r}"
        return self.seq is not None and self.seq >= seq

    def check(self) -> None:
        assert self.first is not None
        assert self.seen == list(range(self.first + 1, self.first + 1 + len(self.seen)))


@dataclass
class Answer:
    """What a write came to."""

    name: str
    began: float
    took_s: float
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Writer(Worker):
    """A program that writes through one node, something else each time."""

    def __init__(self, account: Account, node: Hub, path: str) -> None:
        super().__init__(f"writer at {node.url} of {account.org_id}")
        self.node, self.path = node, path
        self.client = OrgClient(f"{node.url}/api/v1/orgs/{account.org_id}", account.api_token)
        self.answers: list[Answer] = []
        # When the latest request began that was answered, in whatever way.
        self.answered_from = 0.0

    def work(self) -> None:
        while not self.stopping.is_set():
            name = f"{self.path} {len(self.answers)}"
            began = time.monotonic()
            answer = self.write(name, began)
            self.answers.append(answer)
            self.answered_from = began
            if answer.status == 200:
                self.served_from = began
            self.stopping.wait(WRITE_EVERY_S)

    def write(self, name: str, began: float) -> Answer:
        try:
            got = self.client.patch(self.path, json={"name": name}, timeout=ANSWERED_WITHIN_S)
        except httpx.TimeoutException:
            return Answer(name, began, time.monotonic() - began, 0, text="no answer")
        except httpx.TransportError as error:
            return Answer(name, began, time.monotonic() - began, 1, text=repr(error))
        return Answer(name, began, time.monotonic() - began, got.status_code, dict(got.headers), got.text)

    def check_answers(self) -> None:
        """Each was answered, and the refusals say when to come back."""
        for answer in self.answers:
            assert answer.status in (200, 503), answer
            if answer.status == 503:
                assert answer.headers["content-type"] == "application/problem+json", answer
                assert int(answer.headers["retry-after"]) >= 1, answer

    def check(self, written: list[str]) -> None:
        """What was confirmed is in the journal once; what was put off, at most once."""
        for answer in self.answers:
            count = written.count(answer.name)
            assert count == 1 if answer.status == 200 else count <= 1, (answer, count)


class Readiness(Worker):
    """Looks at `/readyz` of one node, as a load balancer does."""

    def __init__(self, node: Hub) -> None:
        super().__init__(f"readiness of {node.url}")
        self.node = node
        self.statuses: list[tuple[float, int]] = []

    def work(self) -> None:
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                status = httpx.get(f"{self.node.url}/readyz", timeout=5).status_code
            except httpx.TransportError:
                status = 0
            self.statuses.append((began, status))
            self.stopping.wait(LOOK_EVERY_S)

    def said(self, status: int, since: float) -> bool:
        return any(at >= since and one == status for at, one in list(self.statuses))

    def latest(self) -> int:
        return self.statuses[-1][1] if self.statuses else 0


class Traffic:
    """Everything at once: in each org, an agent that reports, a dashboard and a writer at each node."""

    def __init__(self, accounts: list[Account], nodes: Sequence[Hub]) -> None:
        self.accounts, self.nodes = accounts, nodes
        self.readiness = [Readiness(node) for node in nodes]
        self.reporters: list[Reporter] = []
        self.viewers: list[Viewer] = []
        self.writers: list[Writer] = []
        self.quiet: list[Quiet] = []
        for account in accounts:
            for number, node in enumerate(nodes):
                others = nodes[number:] + nodes[:number]
                reporter = Reporter(account, others, number + 1)
                self.reporters.append(reporter)
                self.viewers.append(Viewer(account, node))
                self.writers.append(Writer(account, node, f"/devices/{reporter.device_id}"))

    def and_quiet_agents(self) -> Traffic:
        """One more agent for each org and node, that says nothing but that it is there."""
        for account in self.accounts:
            for number in range(len(self.nodes)):
                self.quiet.append(Quiet(account, [*self.nodes[number:], *self.nodes[:number]]))
        return self

    def workers(self) -> list[Worker]:
        return [*self.readiness, *self.viewers, *self.reporters, *self.writers, *self.quiet]

    def __enter__(self) -> Traffic:
        for worker in self.workers():
            worker.start()
        self.until_served(time.monotonic())
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers():
            worker.stopping.set()
        for worker in self.workers():
            worker.join(timeout=60)

    def until_served(self, since: float, which: Callable[[Any], bool] = lambda _: True, within_s: float = 60) -> None:
        """Waits until everybody has got something done that they began after this moment."""
        waiting = [worker for worker in self.workers() if which(worker) and not isinstance(worker, Readiness)]

        def all_served() -> bool:
            waiting[:] = [worker for worker in waiting if not worker.is_served_since(since)]
            return not waiting

        try:
            until("everybody is served", all_served, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}: not {', '.join(worker.name for worker in waiting)}") from None

    def until_answered(self, *nodes: Hub) -> None:
        """Waits until every writer at these nodes had an answer, whatever it says, to what it asks from now on."""
        since, writers = time.monotonic(), [writer for writer in self.writers if writer.node in nodes]
        until("every request is answered", lambda: all(one.answered_from > since for one in writers), 2 * ANSWERED_WITHIN_S)

    def readiness_of(self, node: Hub) -> Readiness:
        return next(one for one in self.readiness if one.node is node)

    def resyncs(self) -> list[str]:
        """Why dashboards had to begin anew."""
        return [reason for viewer in self.viewers for reason in viewer.resyncs]

    def end(self) -> None:
        """Lets everything come to its end, and compares what everybody was told with the journal."""
        ending = [*self.writers, *self.reporters, *self.quiet, *self.readiness]
        for worker in ending:
            worker.stopping.set()
        for worker in ending:
            worker.stop()
        for writer in self.writers:
            writer.check_answers()
        for account in self.accounts:
            journal = account.events()
            assert [one["seq"] for one in journal] == list(range(1, len(journal) + 1))
            dead = [self.name_of(one) for one in journal if one["event"] == "agent.offline"]
            assert not dead, f"taken for dead: {dead}"
            written = [one["data"].get("name") for one in journal if one["event"] == "device.updated"]
            for viewer in self.of(account, self.viewers):
                until("the dashboards have seen all", lambda viewer=viewer: viewer.has_seen(len(journal)))
                viewer.stop()
                viewer.check()
            for reporter in self.of(account, self.reporters):
                reporter.check(journal)
            for writer in self.of(account, self.writers):
                writer.check(written)

    def name_of(self, event: dict) -> str:
        """The agent that an event tells of, as a person reads it in a failure."""
        agents = [*self.reporters, *self.quiet]
        return next(one.name for one in agents if one.agent_id == event["data"]["agent_id"]) + " at " + event["at"]

    def of(self, account: Account, workers: Sequence[Any]) -> list[Any]:
        return [worker for worker in workers if account.org_id in worker.name]
