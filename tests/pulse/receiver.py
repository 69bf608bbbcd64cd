"""A receiver of HTTP messages that answers as it is told, well or badly, and keeps what it got."""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .waiting import until

# In place of an answer.
HANG = "hang"  # reads all, and never says a word
RESET = "reset"  # resets the connection before it has read anything
CLOSE = "close"  # reads all, and closes without an answer

DRIPS, DRIP_EVERY_S = 8, 0.1


@dataclass(frozen=True)
class Answer:
    """An answer that is more than a status."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    # Sends the body a few bytes at a time.
    drips: bool = False
    # Promises so many bytes more than it sends, and closes.
    breaks_off: bool = False


Reply = Answer | tuple[int, dict[str, str]] | str


@dataclass(frozen=True)
class Call:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    # What it was answered; 0 if it was not.
    status: int

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def message(self) -> dict:
        return json.loads(self.body)

    @property
    def is_accepted(self) -> bool:
        return 200 <= self.status < 300


class Receiver:
    """Answers every request with what `answer` says for its number, from 0."""

    def __init__(self, answer: Callable[[int], Reply] = lambda _: (204, {})) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        # Requests that came, those included that were reset before they were read.
        self.requests = 0
        self.lock = threading.Lock()
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.take(self)

            do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A sender that goes away in the middle, such as a hub that is killed, is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.base}/hook"

    def __enter__(self) -> Receiver:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        with self.lock:
            reply = self.answer(self.requests)
            self.requests += 1
        if reply == RESET:
            reset(request)
            return
        body = request.rfile.read(int(request.headers.get("content-length", 0)))
        answer = Answer(*reply) if isinstance(reply, tuple) else reply
        status = answer.status if isinstance(answer, Answer) else 0
        headers = {name.lower(): value for name, value in request.headers.items()}
        with self.lock:
            self.calls.append(Call(request.path, headers, body, status))
        request.close_connection = True
        if reply == HANG:
            self.ended.wait()
        elif isinstance(answer, Answer):
            give(request, answer)

    def wait(self, count: int, within_s: float = 30) -> list[Call]:
        """Waits for so many requests."""
        until(f"{count} calls, {len(self.calls)} came", lambda: len(self.calls) >= count, within_s)
        return list(self.calls)

    def accepted(self) -> set[str]:
        """Ids of the webhooks that were answered with 2xx."""
        with self.lock:
            return {call.id for call in self.calls if call.is_accepted}


def give(request: BaseHTTPRequestHandler, answer: Answer) -> None:
    body = answer.body or (b"." * DRIPS if answer.drips else b"half" if answer.breaks_off else b"")
    request.send_response(answer.status)
    for name, value in answer.headers.items():
        request.send_header(name, value)
    request.send_header("content-length", str(len(body) + (1_000 if answer.breaks_off else 0)))
    request.end_headers()
    if not answer.drips:
        request.wfile.write(body)
        return
    pause = threading.Event()
    for byte in body:
        request.wfile.write(bytes([byte]))
        pause.wait(DRIP_EVERY_S)


def reset(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # Closed here and now, whatever else holds it.
    os.close(request.connection.detach())
