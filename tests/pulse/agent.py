"""An agent, as far as the wire tells."""

from __future__ import annotations

import json
import socket
import time
from datetime import datetime, timezone
from typing import Any
from uuid import uuid4

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .hub import Hub
from .waiting import PATIENCE_S

SUBPROTOCOL = "pulse.agent.v1"


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def dial(hub: Hub, key: str | None, subprotocols: list[str] | None = None, headers: dict | None = None) -> ClientConnection:
    """The bare websocket. Pings only when asked to: silence must be possible."""
    more = dict(headers or {})
    if key is not None:
        more["Authorization"] = f"Bearer {key}"
    return connect(
        f"{hub.websocket_url}/ws/agent",
        subprotocols=[SUBPROTOCOL] if subprotocols is None else subprotocols or None,
        additional_headers=more, ping_interval=None, compression=None, open_timeout=PATIENCE_S, close_timeout=2,
        max_size=None,
    )


class Agent:
    """One agent with its spool's numbers; connects as often as it is told to."""

    def __init__(self, hub: Hub, key: str) -> None:
        self.hub, self.key = hub, key
        self.spool_id = uuid4().hex
        self.next_seq = 1
        self.unacked: dict[int, dict] = {}
        self.socket: ClientConnection | None = None
        self.welcome: dict = {}

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        if self.socket is not None:
            self.socket.close()

    def connect(self, **hello: Any) -> Agent:
        """Connects, says hello and is welcomed."""
        self.socket = dial(self.hub, self.key)
        assert self.socket.subprotocol == SUBPROTOCOL
        self.say_hello(**hello)
        self.welcome = self.read("welcome")
        return self

    def say_hello(self, **changed: Any) -> None:
        lowest = min(self.unacked, default=self.next_seq)
        self.send("hello", **{
            "protocol": 1, "agent_version": "0.0.1", "hostname": "test", "platform": "linux", "arch": "x86_64",
            "boot_id": "boot", "spool_id": self.spool_id, "next_seq": lowest, "sent_at": now(),
        } | changed)

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def beat(self) -> None:
        self.send("heartbeat", uptime_s=1, spool_depth=len(self.unacked))

    def spool(self, kind: str, **fields: Any) -> int:
        """Numbers a state frame and keeps it, without sending it."""
        seq, self.next_seq = self.next_seq, self.next_seq + 1
        self.unacked[seq] = {"type": kind, "seq": seq, **fields}
        return seq

    def state(self, kind: str, **fields: Any) -> int:
        """Spools a state frame and sends it."""
        seq = self.spool(kind, **fields)
        self.socket.send(json.dumps(self.unacked[seq]))
        return seq

    def report(self, status: str, **fields: Any) -> int:
        return self.state("report", reports=[{"status": status, "checked_at": now(), **fields}])

    def resend(self, first: int = 1) -> None:
        for seq in sorted(self.unacked):
            if seq >= first:
                self.socket.send(json.dumps(self.unacked[seq]))

    def forget(self, acked: int) -> None:
        self.unacked = {seq: kept for seq, kept in self.unacked.items() if seq > acked}

    def frame(self, within_s: float = PATIENCE_S) -> dict:
        """The next frame, whatever it is. Acks are taken note of."""
        frame = json.loads(self.socket.recv(timeout=within_s))
        if frame["type"] == "ack":
            self.forget(frame["seq"])
        return frame

    def read(self, kind: str, within_s: float = PATIENCE_S) -> dict:
        """The next frame of this type; those before it are passed over."""
        deadline = time.monotonic() + within_s
        while True:
            frame = self.frame(max(0.0, deadline - time.monotonic()))
            if frame["type"] == kind:
                return frame

    def listen(self, for_s: float) -> list[dict]:
        """Everything that comes in this time, which is the point of calling it."""
        frames: list[dict] = []
        deadline = time.monotonic() + for_s
        while (left := deadline - time.monotonic()) > 0:
            try:
                frames.append(self.frame(left))
            except TimeoutError:
                pass
        return frames

    def acked(self, seq: int) -> None:
        """Waits until `seq` is durable."""
        while self.read("ack")["seq"] < seq:
            pass

    def frames_until_closed(self, within_s: float = PATIENCE_S) -> tuple[list[dict], int]:
        """What still comes, and the close code."""
        frames: list[dict] = []
        deadline = time.monotonic() + within_s
        try:
            while True:
                frames.append(self.frame(max(0.0, deadline - time.monotonic())))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection ended without a close frame"
            return frames, closed.rcvd.code

    def close_code(self, within_s: float = PATIENCE_S) -> int:
        return self.frames_until_closed(within_s)[1]

    def cut(self) -> None:
        """Ends the connection as a pulled cable's reset does: without a word."""
        self.socket.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.socket = None

    def leave(self) -> None:
        self.socket.close()
        self.socket = None
