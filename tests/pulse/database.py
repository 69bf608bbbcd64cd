"""The tables, for what no interface of the hub can bring about yet."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg

from .hub import Hub


def execute(hub: Hub, statement: str, *values: Any) -> int:
    """Runs a statement with `?` for each value; answers the number of rows."""
    url = hub.database_url
    if url.startswith("sqlite://"):
        with sqlite3.connect(url.removeprefix("sqlite://"), timeout=20) as connection:
            return connection.execute(statement, values).rowcount
    with psycopg.connect(url) as connection:
        return connection.execute(statement.replace("?", "%s"), values).rowcount
