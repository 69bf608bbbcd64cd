"""When an agent is announced online and offline, and when it is not."""

from __future__ import annotations

import time

import pytest
from pulse.agent import Agent
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.rest import Account
from pulse.waiting import until


@pytest.fixture
def agent(hub: Hub, quick: Account):
    """An agent that is announced offline 1 s after its socket closed, 3 s after it fell silent."""
    _, key = quick.add_agent("Attic")
    with Agent(hub, key) as agent:
        yield agent


def names(account: Account) -> list[str]:
    return [event["event"] for event in account.events("agent.online", "agent.offline")]


def test_the_first_connection_is_announced_as_never_connected(quick: Account, agent: Agent):
    agent.connect()
    data = quick.event("agent.online")["data"]
    assert data["agent_id"] == agent.welcome["agent_id"]
    assert data["name"] == "Attic"
    assert (data["previous"], data["current"], data["cause"]) == ("never_connected", "online", "connected")
    assert data["since"].endswith("Z")
    shown = quick.get(f"/agents/{agent.welcome['agent_id']}")
    assert (shown["state"], shown["since"]) == ("online", data["since"])


def test_a_closed_socket_is_announced_after_the_grace(hub: Hub, quick: Account, agent: Agent):
    agent.connect()
    with Dashboard(hub, quick) as dashboard:
        dashboard.read("snapshot")
        agent.cut()
        began = time.monotonic()
        event = dashboard.event("agent.offline")
        waited = time.monotonic() - began
    assert 0.9 < waited < 1.0 + 1.5
    data = event["data"]
    assert (data["previous"], data["current"], data["cause"]) == ("online", "offline", "connection_closed")
    assert quick.get(f"/agents/{data['agent_id']}")["state"] == "offline"


def test_a_normal_close_without_bye_counts_as_closed(quick: Account, agent: Agent):
    agent.connect()
    agent.leave()
    assert quick.event("agent.offline")["data"]["cause"] == "connection_closed"


def test_silence_is_4008_and_announced_after_the_grace(hub: Hub, quick: Account, agent: Agent):
    agent.connect()
    with Dashboard(hub, quick) as dashboard:
        dashboard.read("snapshot")
        began = time.monotonic()
        assert agent.close_code() == 4008
        closed = time.monotonic() - began
        event = dashboard.event("agent.offline")
        announced = time.monotonic() - began
    assert 1.5 < closed < 3.5, "the timeout is 2 s"
    assert 2.5 < announced < 3.0 + 2.0
    assert event["data"]["cause"] == "heartbeat_timeout"


@pytest.mark.parametrize("sign", ["heartbeat", "state frame", "unknown frame", "ping", "pong"])
def test_any_frame_is_a_sign_of_life(quick: Account, agent: Agent, sign: str):
    agent.connect()
    signs = {
        "heartbeat": agent.beat,
        "state frame": lambda: agent.state("segments", networks=[]),
        "unknown frame": lambda: agent.send("dance"),
        "ping": lambda: agent.socket.ping(),
        "pong": lambda: agent.socket.pong(),
    }
    # Twice the timeout, with a sign every 0.5 s.
    for _ in range(8):
        signs[sign]()
        agent.listen(0.5)
    agent.acked(agent.state("segments", networks=[]))
    assert names(quick) == ["agent.online"]


def test_a_return_within_the_grace_is_silent(quick: Account, agent: Agent):
    agent.connect()
    agent.cut()
    agent.connect()
    agent.acked(agent.state("segments", networks=[]))
    assert names(quick) == ["agent.online"]
    # The end of the first connection's grace passes while the agent is there.
    agent.listen(1.5)
    assert names(quick) == ["agent.online"]


def test_a_return_after_the_grace_is_announced(quick: Account, agent: Agent):
    agent.connect()
    agent.cut()
    quick.event("agent.offline")
    agent.connect()
    assert quick.event("agent.online", previous="offline")["data"]["cause"] == "connected"
    assert names(quick) == ["agent.online", "agent.offline", "agent.online"]


def test_a_lingering_agent_is_shown_as_such(hub: Hub, account: Account):
    account.patch("", {"offline_grace_ms": 60_000})
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        agent_id = agent.welcome["agent_id"]
        agent.cut()
    until("it lingers", lambda: account.get(f"/agents/{agent_id}")["state"] == "lingering")
    assert names(account) == ["agent.online"]


def test_bye_shutdown_is_announced_at_once(hub: Hub, account: Account):
    account.patch("", {"offline_grace_ms": 60_000})
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        agent.send("bye", reason="shutdown")
        began = time.monotonic()
        assert account.event("agent.offline")["data"]["cause"] == "bye"
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("reason", ["shutdown", "restart", "upgrade"])
def test_bye_with_a_time_is_announced_when_that_and_the_grace_have_passed(
    quick: Account, agent: Agent, reason: str
):
    agent.connect()
    began = time.monotonic()
    agent.send("bye", reason=reason, expect_back_ms=1500)
    agent.leave()
    data = quick.event("agent.offline")["data"]
    waited = time.monotonic() - began
    assert data["cause"] == "bye_overdue"
    assert 2.4 < waited < 2.5 + 2.0


def test_a_return_within_the_announced_time_is_silent(quick: Account, agent: Agent):
    agent.connect()
    agent.send("bye", reason="restart", expect_back_ms=60_000)
    agent.leave()
    agent.connect()
    agent.acked(agent.state("segments", networks=[]))
    assert names(quick) == ["agent.online"]


def test_an_org_may_set_its_own_times_within_bounds(account: Account):
    changed = account.patch("", {"heartbeat_interval_ms": 2000, "heartbeat_timeout_ms": 4000, "offline_grace_ms": 3000})
    assert (changed["heartbeat_interval_ms"], changed["heartbeat_timeout_ms"]) == (2000, 4000)
    for wrong in (
        {"heartbeat_interval_ms": 999},
        {"heartbeat_timeout_ms": 300_001},
        {"offline_grace_ms": 999},
        {"heartbeat_timeout_ms": 3999},
        {"heartbeat_interval_ms": 2001},
    ):
        answer = account.client.patch("", json=wrong)
        assert answer.status_code == 422, wrong
        assert answer.json()["errors"], wrong
    assert account.get()["heartbeat_timeout_ms"] == 4000


def test_the_welcome_carries_the_orgs_own_times(quick: Account, agent: Agent):
    agent.connect()
    assert agent.welcome["heartbeat_interval_ms"] == 1000
    assert agent.welcome["heartbeat_timeout_ms"] == 2000


def test_agents_of_other_orgs_are_not_seen(hub: Hub, quick: Account, agent: Agent):
    agent.connect()
    other = hub.account()
    assert other.events() == []
    assert other.client.get(f"/agents/{agent.welcome['agent_id']}").status_code == 404
