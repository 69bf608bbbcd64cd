"""Waiting on a condition with a deadline, in place of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Nothing that is waited for takes nearly so long: a machine that is busy with something else may.
PATIENCE_S = 20.0


def until(what: str, condition: Callable[[], T], within_s: float = PATIENCE_S) -> T:
    """The first true value of `condition`; fails the test when there is none within the time."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.02)
