"""A dashboard, as far as the wire tells."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from .hub import Hub
from .rest import Account
from .waiting import PATIENCE_S

SUBPROTOCOL = "pulse.dashboard.v1"


class Dashboard:
    """One viewer. Every event it is sent must follow the one before it, unless it filters."""

    def __init__(
        self, hub: Hub, account: Account, after: object = None, headers: dict | None = None,
        org: str | None = None, token: str | None = None, buffer_bytes: int | None = None,
    ) -> None:
        query = f"org={account.org_id if org is None else org}"
        if after is not None:
            query += f"&after={after}"
        extra: dict = {}
        if buffer_bytes is not None:
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            plain.connect(("127.0.0.1", hub.port))
            # Reads nothing ahead of the test: the rest waits in the hub.
            extra = {"sock": plain, "max_queue": 1}
        self.socket = connect(
            f"{hub.websocket_url}/ws/dashboard?{query}", subprotocols=[SUBPROTOCOL], ping_interval=None,
            additional_headers={"Authorization": f"Bearer {token or account.api_token}"} | (headers or {}),
            compression=None, open_timeout=PATIENCE_S, close_timeout=2, max_size=None, **extra,
        )
        self.seq: int | None = None if after is None else int(str(after))
        self.filters = False

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def frame(self, within_s: float = PATIENCE_S) -> dict:
        frame = json.loads(self.socket.recv(timeout=within_s))
        if frame["type"] in ("snapshot", "ready"):
            self.seq = frame["seq"]
        elif frame["type"] == "event":
            if not self.filters and self.seq is not None:
                assert frame["seq"] == self.seq + 1, f"{frame['seq']} follows {self.seq}"
            self.seq = frame["seq"]
        return frame

    def read(self, kind: str, within_s: float = PATIENCE_S) -> dict:
        deadline = time.monotonic() + within_s
        while True:
            frame = self.frame(max(0.0, deadline - time.monotonic()))
            if frame["type"] == kind:
                return frame

    def event(self, event: str, /, within_s: float = PATIENCE_S, **data: Any) -> dict:
        """The next event of this name whose data has these fields."""
        deadline = time.monotonic() + within_s
        while True:
            frame = self.read("event", max(0.0, deadline - time.monotonic()))
            if frame["event"] == event and all(frame["data"].get(key) == value for key, value in data.items()):
                return frame

    def close_code(self, within_s: float = PATIENCE_S) -> int:
        deadline = time.monotonic() + within_s
        try:
            while True:
                self.frame(max(0.0, deadline - time.monotonic()))
        except ConnectionClosed as closed:
            assert closed.rcvd is not None, "the connection ended without a close frame"
            return closed.rcvd.code
