"""Each test runs against a hub on SQLite and against one on PostgreSQL."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pulse.hub import Hub
from pulse.rest import Account

DATABASES = ["sqlite", "postgres"]


@pytest.fixture(scope="session", params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    return request.param


def make_database(kind: str, folder: Path) -> tuple[str, Callable[[], None]]:
    """The URL of an empty database, and how to drop it."""
    if kind == "sqlite":
        return f"sqlite://{folder / 'pulse.db'}", lambda: None
    server = os.environ.get("PULSE_TEST_POSTGRES_URL")
    assert server, "PULSE_TEST_POSTGRES_URL is not set: run the tests with `make test`"
    name = f"wire_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")

    def drop() -> None:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    return f"{server.rsplit('/', 1)[0]}/{name}", drop


@pytest.fixture(scope="session")
def hub(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub that most tests share; it is never stopped or killed. Each test has orgs of its own."""
    folder = tmp_path_factory.mktemp(f"hub-{database}")
    url, drop = make_database(database, folder)
    hub = Hub(folder, url, {}).start()
    try:
        yield hub
        assert hub.stop() == 0
    finally:
        hub.kill()
        drop()


@pytest.fixture
def own_hub(database: str, tmp_path: Path) -> Iterator[Callable[..., Hub]]:
    """Starts a hub for this test alone, with these settings; it may be stopped and killed."""
    hubs: list[tuple[Hub, Callable[[], None]]] = []

    def start(**settings: object) -> Hub:
        folder = tmp_path / f"hub-{len(hubs)}"
        folder.mkdir()
        url, drop = make_database(database, folder)
        hub = Hub(folder, url, {name: str(value) for name, value in settings.items()})
        hubs.append((hub, drop))
        return hub.start()

    yield start
    for hub, drop in hubs:
        hub.kill()
        drop()


@pytest.fixture
def account(hub: Hub) -> Account:
    """A new org on the shared hub."""
    return hub.account()


@pytest.fixture
def quick(account: Account) -> Account:
    """A new org that finds out about silence as soon as the protocol allows."""
    account.patch("", {"heartbeat_interval_ms": 1000, "heartbeat_timeout_ms": 2000, "offline_grace_ms": 1000})
    return account


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests measured, such as the time to recover from a fault."""
    for report in [one for one in terminalreporter.getreports("passed") if one.user_properties]:
        values = ", ".join(f"{name} {value}" for name, value in report.user_properties)
        terminalreporter.write_line(f"{report.nodeid.rsplit('::', 1)[1]}: {values}")
