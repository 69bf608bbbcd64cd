"""A receiver of webhooks that answers as it is told and keeps what it got."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .waiting import until


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict:
        return json.loads(self.body)


class Receiver:
    """Answers every request with what `answer` says: a status, and headers if there are any."""

    def __init__(self, answer: Callable[[int], tuple[int, dict[str, str]]] = lambda _: (204, {})) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.lock = threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                with receiver.lock:
                    status, headers = receiver.answer(len(receiver.calls))
                    lower = {name.lower(): value for name, value in self.headers.items()}
                    receiver.calls.append(Call(lower, body, status))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def wait(self, count: int, within_s: float = 30) -> list[Call]:
        """Waits for so many requests."""
        until(f"{count} webhooks, {len(self.calls)} came", lambda: len(self.calls) >= count, within_s)
        return list(self.calls)
