"""A wire that can be cut: a TCP proxy before a server, with the faults that networks have."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from .hub import free_port

CHUNK_BYTES = 65_536
# What one direction holds back: as much as a server and a client may have on their way to each other.
HELD_CHUNKS = 1_024
# Closing with this sends a reset.
ABORT = struct.pack("ii", 1, 0)


class Fault(Enum):
    """What happens to the connections that a fault is for."""

    # Open, and nothing gets through; what was sent arrives when it is over, as TCP's repetitions would.
    BLACKHOLE = "blackhole"
    # Reset, and so is every new one.
    RESET = "reset"


Which = Callable[["Connection"], bool]


def every(_: Connection) -> bool:
    return True


def messages(connection: Connection) -> bool:
    """Whether a connection to Redis carries messages between nodes: it publishes, or subscribes."""
    return connection.carries_messages


class Proxy:
    """One port that leads to a server."""

    def __init__(self, server_port: int) -> None:
        self.server_port, self.port = server_port, free_port()
        self.fault: Fault | None = None
        self.which: Which = every
        # Each way.
        self.delay_s = 0.0
        self.connections: set[Connection] = set()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.changed = self.call(new_condition())
        self.listener = self.call(asyncio.start_server(self.accept, "127.0.0.1", self.port))

    def call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=20)

    def break_off(self, fault: Fault, which: Which = every) -> None:
        """From now on, these connections have this fault; the others none."""
        self.call(self.become(fault, which))

    def heal(self) -> None:
        """All of what was held back arrives, and the delay is none."""
        self.delay_s = 0.0
        self.call(self.become(None, every))

    def end(self) -> None:
        self.call(self.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=20)
        self.loop.close()

    async def become(self, fault: Fault | None, which: Which) -> None:
        async with self.changed:
            self.fault, self.which = fault, which
            self.changed.notify_all()
        for connection in list(self.connections):
            connection.reset_if_asked()

    async def close(self) -> None:
        self.listener.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self.connections.add(connection)
        try:
            await connection.run(reader)
        except (OSError, asyncio.CancelledError):
            # An end that is gone, or the end of the test.
            pass
        finally:
            self.connections.discard(connection)
            connection.abort()

    def holds(self, connection: Connection) -> bool:
        return self.fault is Fault.BLACKHOLE and self.which(connection)


async def new_condition() -> asyncio.Condition:
    return asyncio.Condition()


class Connection:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.proxy = proxy
        self.ends = [client]
        self.carries_messages = False
        self.tail = b""

    async def run(self, from_client: asyncio.StreamReader) -> None:
        self.reset_if_asked()
        await self.passable()
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.proxy.server_port)
        self.ends.append(to_server)
        ways = [
            asyncio.ensure_future(self.carry(from_client, to_server, self.recognise)),
            asyncio.ensure_future(self.carry(from_server, self.ends[0], lambda _: None)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def recognise(self, chunk: bytes) -> None:
        """Only what nodes say to each other is published."""
        if not self.carries_messages:
            said = self.tail + chunk
            self.carries_messages = any(word in said for word in (b"\r\nPUBLISH\r\n", b"\r\nSUBSCRIBE\r\n"))
            self.tail = said[-16:]
            self.reset_if_asked()

    async def carry(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, see: Callable[[bytes], None]) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD_CHUNKS)
        delivering = asyncio.ensure_future(self.deliver(held, to))
        try:
            while True:
                chunk = await source.read(CHUNK_BYTES)
                see(chunk)
                await held.put((self.proxy.loop.time() + self.proxy.delay_s, chunk))
                if not chunk:
                    # The end travels as data does.
                    return await delivering
        except OSError:
            # A reset as well, behind what was sent before.
            await held.put((self.proxy.loop.time() + self.proxy.delay_s, b""))
            await delivering
        finally:
            delivering.cancel()

    async def deliver(self, held: asyncio.Queue[tuple[float, bytes]], to: asyncio.StreamWriter) -> None:
        while True:
            due, chunk = await held.get()
            await asyncio.sleep(due - self.proxy.loop.time())
            await self.passable()
            if not chunk:
                return
            to.write(chunk)
            await to.drain()

    async def passable(self) -> None:
        async with self.proxy.changed:
            await self.proxy.changed.wait_for(lambda: not self.proxy.holds(self))

    def reset_if_asked(self) -> None:
        if self.proxy.fault is Fault.RESET and self.proxy.which(self):
            self.abort()

    def abort(self) -> None:
        for end in self.ends:
            plain = end.get_extra_info("socket")
            if plain is not None and plain.fileno() >= 0:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            end.transport.abort()
