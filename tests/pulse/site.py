"""An agent with devices whose status is what a test says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from .agent import Agent
from .hub import Hub
from .rest import Account
from .waiting import until

T = TypeVar("T")
BEAT_EVERY_S = 2.0


class Site:
    """Connected while it is entered."""

    def __init__(self, hub: Hub, account: Account, name: str = "Attic") -> None:
        self.account = account
        self.agent_row, key = account.add_agent(name)
        self.agent = Agent(hub, key)
        self.addresses = 0

    @property
    def agent_id(self) -> str:
        return self.agent_row["id"]

    def __enter__(self) -> Site:
        self.agent.connect()
        return self

    def __exit__(self, *_: object) -> None:
        if self.agent.socket is not None:
            self.agent.leave()

    def device(self, name: str, status: str | None = "online", **more: Any) -> dict:
        """A device; its first status is no alert, unless it is bad."""
        self.addresses += 1
        checks = [{"check": "ping", "failure_threshold": 1}]
        device = self.account.add_device(
            self.agent_id, f"192.0.2.{self.addresses}", name=name, **{"checks": checks} | more
        )
        if status is not None:
            self.set(device, status)
        return device

    def set(self, device: dict, *statuses: str) -> None:
        """Reports one status after the other; returns when the last is durable."""
        for status in statuses:
            seq = self.agent.report(status, check_id=device["checks"][0]["id"])
        self.agent.acked(seq)

    def until(self, what: str, condition: Callable[[], T], within_s: float) -> T:
        """Waits for so long that the agent has to be heard of meanwhile."""
        heard_at = time.monotonic()

        def beating() -> T:
            nonlocal heard_at
            if time.monotonic() - heard_at > BEAT_EVERY_S:
                heard_at = time.monotonic()
                self.agent.beat()
            return condition()

        return until(what, beating, within_s)
