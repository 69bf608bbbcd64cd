"""The hub goes and comes back: nothing is lost, and nobody is told a lie."""

from __future__ import annotations

import time
from uuid import uuid4

import httpx
import pytest
from pulse.agent import Agent
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.waiting import until
from websockets.exceptions import ConnectionClosed


@pytest.mark.parametrize("end", [Hub.stop, Hub.kill], ids=["stop", "kill"])
def test_a_restart_within_the_grace_is_silent(own_hub, end):
    hub = own_hub(PULSE_OFFLINE_GRACE_MS=5000)
    account = hub.account()
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        account.event("agent.online")
        end(hub)
        hub.start()
        agent.connect()
        # The end of the grace, counted from the hub being ready, passes while the agent is there.
        agent.listen(6)
        assert [one["event"] for one in account.events("agent.online", "agent.offline")] == ["agent.online"]


def test_an_agent_that_does_not_come_back_is_announced_after_the_grace_from_ready(own_hub):
    hub = own_hub(PULSE_OFFLINE_GRACE_MS=2000)
    account = hub.account()
    _, key = account.add_agent()
    with Agent(hub, key).connect():
        account.event("agent.online")
        hub.kill()
    hub.start()
    began = time.monotonic()
    account.event("agent.offline")
    assert 1.0 < time.monotonic() - began < 2.0 + 2.0


def test_what_was_acked_is_there_after_kill_9_and_the_rest_is_resent(own_hub):
    hub = own_hub()
    account = hub.account()
    enrolled, key = account.add_agent()
    device = account.add_device(enrolled["id"])
    check_id = device["checks"][0]["id"]
    with Agent(hub, key).connect() as agent:
        for number in range(200):
            agent.report("offline" if number % 2 else "online", check_id=check_id)
        agent.acked(50)
        hub.kill()
        acked = 200 - len(agent.unacked)
        hub.start()
        agent.connect()
        assert agent.welcome["acked_seq"] >= acked
        agent.unacked = {seq: frame for seq, frame in agent.unacked.items() if seq > agent.welcome["acked_seq"]}
        agent.resend()
        if agent.unacked:
            agent.acked(200)
    changes = account.events("device.online", "device.offline")
    assert [one["event"] for one in changes] == ["device.online", "device.offline"] * 100
    assert [one["seq"] for one in account.events()] == list(range(1, len(account.events()) + 1))


def test_a_dashboard_resumes_where_it_was(own_hub):
    hub = own_hub()
    account = hub.account()
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        account.add_agent("Before")
        seq = dashboard.event("agent.enrolled")["seq"]
        account.add_agent("Missed")
    hub.kill()
    hub.start()
    with Dashboard(hub, account, after=seq) as dashboard:
        frame = dashboard.frame()
        assert (frame["type"], frame["seq"], frame["data"]["name"]) == ("event", seq + 1, "Missed")
        account.add_agent("After")
        assert dashboard.event("agent.enrolled", name="After")


def test_a_stop_tells_agents_to_reconnect_and_ends_with_0(own_hub):
    hub = own_hub()
    account = hub.account()
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent, Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        began = time.monotonic()
        assert hub.stop() == 0
        assert time.monotonic() - began < 20
        frames, code = agent.frames_until_closed()
        assert code == 1001
        [drain] = [frame for frame in frames if frame["type"] == "drain"]
        assert drain["reconnect_after_ms"] >= 0
        with pytest.raises(ConnectionClosed):
            while True:
                dashboard.frame()


def test_ready_tells_whether_traffic_may_come(own_hub):
    hub = own_hub()
    for url in (hub.url, hub.ops_url):
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/readyz").status_code == 200
    metrics = httpx.get(f"{hub.ops_url}/metrics")
    assert metrics.status_code == 200 and "# TYPE" in metrics.text
    assert httpx.get(f"{hub.url}/metrics").status_code == 404, "never on the public listener"


def test_bootstrap_may_run_beside_a_live_hub_and_again(hub: Hub):
    name = f"Twice {uuid4().hex[:8]}"
    email = f"{uuid4().hex[:8]}@example.com"
    first = hub.bootstrap(email, name)
    assert set(first) == {"org_id", "user_id", "api_token", "password"}
    assert first["api_token"].startswith("vpt_") and len(first["api_token"]) == 44
    again = hub.bootstrap(email, name)
    assert again == {"org_id": first["org_id"], "user_id": first["user_id"], "api_token": None, "password": None}

    def status(token: str) -> int:
        url = f"{hub.url}/api/v1/orgs/{first['org_id']}"
        return httpx.get(url, headers={"authorization": f"Bearer {token}"}).status_code

    assert status(first["api_token"]) == 200
    rotated = hub.bootstrap(email, name, "starter", "--rotate")
    assert (rotated["org_id"], rotated["user_id"]) == (first["org_id"], first["user_id"])
    assert rotated["api_token"] != first["api_token"] and rotated["password"] != first["password"]
    assert status(rotated["api_token"]) == 200
    until("the old token is refused", lambda: status(first["api_token"]) == 401)


def test_suspending_what_is_not_there_fails_with_1(hub: Hub):
    done = hub.run("admin", "suspend", "org_01jz0000000000000000000000", "--reason", "test")
    assert done.returncode == 1
    assert done.stdout == "" and "org_01jz" in done.stderr
