"""What a viewer is sent: one snapshot, then every event once and in order."""

from __future__ import annotations

import json

import httpx
import pytest
from pulse.agent import Agent, now
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.rest import Account
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect


def refused(hub: Hub, account: Account, **more) -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as refusal:
        Dashboard(hub, account, **more)
    response = refusal.value.response
    return response.status_code, json.loads(response.body)["code"]


def add_agents(account: Account, count: int) -> None:
    for number in range(count):
        account.add_agent(f"Agent {number}")


def test_the_first_frame_is_a_snapshot_of_the_whole_org(hub: Hub, account: Account):
    enrolled, key = account.add_agent("Attic")
    device = account.add_device(enrolled["id"], "192.0.2.1")
    channel = account.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": "https://example.com/"}})
    channel.pop("secret")
    with Dashboard(hub, account) as dashboard:
        snapshot = dashboard.frame()
    assert snapshot["type"] == "snapshot"
    assert snapshot["seq"] == account.events()[-1]["seq"]
    assert snapshot["org"] == account.get()
    assert snapshot["agents"] == [account.get(f"/agents/{enrolled['id']}")]
    assert snapshot["devices"] == [device]
    assert snapshot["channels"] == [channel]
    assert snapshot["segments"] == [] and snapshot["scans"] == []
    assert snapshot["counts"] == {
        "agents": 1, "agents_online": 0, "devices": 1, "devices_online": 0, "devices_degraded": 0,
        "devices_offline": 0, "devices_unknown": 1,
    }


def test_events_follow_the_snapshot_in_order_and_are_those_of_the_journal(hub: Hub, account: Account):
    with Dashboard(hub, account) as dashboard:
        seq = dashboard.read("snapshot")["seq"]
        add_agents(account, 5)
        pushed = [dashboard.read("event") for _ in range(5)]
    journal = account.get("/events", after=seq)["items"]
    assert [{key: one[key] for key in ("seq", "id", "event", "at", "data")} for one in pushed] == journal
    assert [one["seq"] for one in pushed] == list(range(seq + 1, seq + 6))
    assert all(one["id"].startswith("evt_") for one in pushed)


def test_every_viewer_gets_every_event(hub: Hub, account: Account):
    viewers = [Dashboard(hub, account) for _ in range(5)]
    try:
        for viewer in viewers:
            viewer.read("snapshot")
        agent, _ = account.add_agent("Attic")
        for viewer in viewers:
            assert viewer.event("agent.enrolled")["data"]["agent_id"] == agent["id"]
    finally:
        for viewer in viewers:
            viewer.socket.close()


def test_after_n_gives_what_was_missed_first(hub: Hub, account: Account):
    add_agents(account, 5)
    seq = account.events()[-1]["seq"]
    with Dashboard(hub, account, after=seq - 3) as dashboard:
        frames = [dashboard.frame() for _ in range(3)]
        assert [(one["type"], one["seq"]) for one in frames] == [("event", seq - 2), ("event", seq - 1), ("event", seq)]
        account.add_agent("Later")
        assert dashboard.event("agent.enrolled")["seq"] == seq + 1


def test_after_zero_gives_the_whole_journal(hub: Hub, account: Account):
    add_agents(account, 3)
    with Dashboard(hub, account, after=0) as dashboard:
        assert [dashboard.frame()["seq"] for _ in range(3)] == [1, 2, 3]


def test_nothing_missed_is_ready(hub: Hub, account: Account):
    add_agents(account, 1)
    seq = account.events()[-1]["seq"]
    with Dashboard(hub, account, after=seq) as dashboard:
        assert dashboard.frame() == {"type": "ready", "seq": seq}


def test_after_in_the_future_is_a_snapshot(hub: Hub, account: Account):
    add_agents(account, 1)
    with Dashboard(hub, account, after=1_000_000) as dashboard:
        assert dashboard.frame()["type"] == "snapshot"


@pytest.mark.parametrize("after", ["x", "-1", "1.5"])
def test_after_that_is_no_number_is_400(hub: Hub, account: Account, after: str):
    query = f"org={account.org_id}&after={after}"
    with pytest.raises(InvalidStatus) as refusal:
        connect(
            f"{hub.websocket_url}/ws/dashboard?{query}", subprotocols=["pulse.dashboard.v1"],
            additional_headers={"Authorization": f"Bearer {account.api_token}"},
        )
    response = refusal.value.response
    assert response.status_code == 400
    assert json.loads(response.body)["code"] == "validation_failed"


def test_no_org_is_org_required(hub: Hub, account: Account):
    with pytest.raises(InvalidStatus) as refusal:
        connect(
            f"{hub.websocket_url}/ws/dashboard", subprotocols=["pulse.dashboard.v1"],
            additional_headers={"Authorization": f"Bearer {account.api_token}"},
        )
    assert refusal.value.response.status_code == 400
    assert json.loads(refusal.value.response.body)["code"] == "org_required"


def test_who_is_no_member_gets_404(hub: Hub, account: Account):
    other = hub.account()
    assert refused(hub, account, org=other.org_id) == (404, "not_found")
    assert refused(hub, account, org="org_01jz0000000000000000000000") == (404, "not_found")


def test_a_bad_token_is_401(hub: Hub, account: Account):
    assert refused(hub, account, token="vpt_" + "x" * 40) == (401, "unauthenticated")


def test_a_foreign_origin_is_403_and_the_hubs_own_is_taken(hub: Hub, account: Account):
    assert refused(hub, account, headers={"Origin": "https://evil.example"})[0] == 403
    assert refused(hub, account, headers={"Origin": "null"})[0] == 403
    with Dashboard(hub, account, headers={"Origin": hub.url}) as dashboard:
        assert dashboard.frame()["type"] == "snapshot"


def test_a_suspended_org_is_403_and_its_viewers_are_closed(hub: Hub, account: Account):
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        assert hub.run("admin", "suspend", account.org_id, "--reason", "unpaid").returncode == 0
        assert dashboard.close_code(within_s=5) == 4004
    assert refused(hub, account) == (403, "org_suspended")


def test_a_session_cookie_opens_a_dashboard(hub: Hub, account: Account):
    with httpx.Client(base_url=hub.url) as browser:
        signed_in = browser.post("/api/v1/auth/login", json={"email": account.email, "password": account.password})
        assert signed_in.status_code == 200
        cookie = browser.cookies["pulse_session"]
        headers = {"Cookie": f"pulse_session={cookie}", "Origin": hub.url}
        socket = connect(
            f"{hub.websocket_url}/ws/dashboard?org={account.org_id}", subprotocols=["pulse.dashboard.v1"],
            additional_headers=headers,
        )
        assert '"snapshot"' in socket.recv(timeout=10)
        logout = browser.post("/api/v1/auth/logout", headers={"x-csrf-token": signed_in.json()["csrf_token"]})
        assert logout.status_code == 204
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(timeout=90)
        assert closed.value.rcvd.code == 4401


def test_a_ping_is_echoed(hub: Hub, account: Account):
    with Dashboard(hub, account) as dashboard:
        for nonce in ("abc", 42, None, {"a": [1]}):
            dashboard.send("ping", nonce=nonce)
            assert dashboard.read("pong") == {"type": "pong", "nonce": nonce}


def test_an_unknown_frame_is_answered(hub: Hub, account: Account):
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        dashboard.send("dance")
        assert dashboard.read("error")["code"] == "unknown_frame"
        dashboard.send("ping", nonce=1)
        assert dashboard.read("pong")["nonce"] == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"nonce":1}', "x"])
def test_a_malformed_frame_is_4000(hub: Hub, account: Account, text: str):
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        dashboard.socket.send(text)
        assert dashboard.close_code() == 4000


def test_a_filter_narrows_what_is_pushed_and_says_how_far_it_is_complete(hub: Hub, account: Account):
    wanted, _ = account.add_agent("Wanted")
    other, _ = account.add_agent("Other")
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        dashboard.filters = True
        dashboard.send("filter", agents=[wanted["id"]], events=["agent.updated"])
        dashboard.send("ping", nonce="filtered")
        dashboard.read("pong")
        account.patch(f"/agents/{other['id']}", {"name": "Other 2"})
        account.add_device(wanted["id"], "192.0.2.1")
        account.patch(f"/agents/{wanted['id']}", {"name": "Wanted 2"})
        frame = dashboard.read("event")
        assert (frame["event"], frame["data"]["agent_id"]) == ("agent.updated", wanted["id"])
        last = account.events()[-1]["seq"]
        assert frame["seq"] == last
        assert frame["seq_through"] == last


def test_an_agents_heartbeat_is_ephemeral(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent, Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        agent.beat()
        frame = dashboard.read("ephemeral")
        assert (frame["event"], frame["data"]["agent_id"]) == ("agent.heartbeat", agent.welcome["agent_id"])
        assert "seq" not in frame


def test_a_slow_viewer_is_resynced_and_the_others_are_not(hub: Hub, account: Account):
    enrolled, key = account.add_agent()
    devices = [account.add_device(enrolled["id"], f"192.0.2.{number}") for number in range(1, 51)]
    with (
        Agent(hub, key).connect() as agent,
        Dashboard(hub, account, buffer_bytes=4096) as slow,
        Dashboard(hub, account) as fast,
    ):
        slow.read("snapshot")
        fast.read("snapshot")
        # About 15 MiB: more than the hub keeps for a viewer and the kernel for its socket.
        for number in range(600):
            report_all(agent, devices, "offline" if number % 2 else "online")
            read_events(fast, len(devices))

        frame = slow.frame()
        while frame["type"] in ("event", "ephemeral"):
            frame = slow.frame()
        assert (frame["type"], frame["reason"]) == ("resync", "slow_consumer")
        assert slow.frame()["type"] == "snapshot"
        account.patch(f"/agents/{enrolled['id']}", {"name": "Renamed"})
        assert slow.event("agent.updated")["seq"] == fast.event("agent.updated")["seq"]


def report_all(agent: Agent, devices: list[dict], status: str) -> None:
    """Gives every device this status: one event each."""
    agent.state("report", reports=[
        {"check_id": device["checks"][0]["id"], "status": status, "checked_at": now()} for device in devices
    ])


def read_events(dashboard: Dashboard, count: int) -> None:
    """Reads so many events; only they, and things without a number, may come."""
    while count:
        frame = dashboard.frame()
        assert frame["type"] in ("event", "ephemeral"), frame["type"]
        count -= frame["type"] == "event"


def test_what_is_pushed_can_be_read_at_once(hub: Hub, account: Account):
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        for number in range(10):
            account.add_agent(f"Agent {number}")
            event = dashboard.event("agent.enrolled")
            [stored] = account.get("/events", after=event["seq"] - 1, limit=1)["items"]
            assert stored["id"] == event["id"]
