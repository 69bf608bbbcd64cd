"""How results of checks become a device's status, and how scans live."""

from __future__ import annotations

import pytest
from pulse.agent import Agent, now
from pulse.hub import Hub
from pulse.receiver import Receiver
from pulse.rest import Account


@pytest.fixture
def agent(hub: Hub, account: Account):
    _, key = account.add_agent("Attic")
    with Agent(hub, key).connect() as agent:
        yield agent


def device_events(account: Account, device: dict) -> list[str]:
    return [
        event["event"] for event in account.events()
        if event["data"].get("device_id") == device["id"] and event["event"] != "device.discovered"
    ]


def test_a_new_device_is_unknown_and_has_a_ping(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    assert (device["status"], device["name"], device["response_time_ms"]) == ("unknown", "192.0.2.1", None)
    [check] = device["checks"]
    assert (check["check"], check["interval_s"], check["timeout_ms"], check["failure_threshold"]) == ("ping", 60, 5000, 1)
    assert account.event("device.discovered", device_id=device["id"])


def test_a_status_change_is_journalled_with_all_that_it_must_carry(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1", name="Printer")
    check_id = device["checks"][0]["id"]
    agent.acked(agent.report("online", check_id=check_id, response_time_ms=2.5))
    agent.acked(agent.report("offline", check_id=check_id, error="no answer"))
    online, offline = account.events("device.online", "device.offline")
    assert online["data"]["response_time_ms"] == 2.5
    data = offline["data"]
    assert data["device_id"] == device["id"]
    assert data["name"] == "Printer"
    assert data["agent_id"] == agent.welcome["agent_id"]
    assert data["segment_id"] is None
    assert "response_time_ms" in data
    assert (data["previous"], data["current"], data["cause"]) == ("online", "offline", "reported")


def test_the_threshold_is_applied_by_the_hub(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], checks=[{"check": "ping", "failure_threshold": 3}])
    check_id = device["checks"][0]["id"]
    for status in ("online", "offline", "offline", "online", "offline", "offline"):
        agent.acked(agent.report(status, check_id=check_id))
    assert device_events(account, device) == ["device.online"]
    agent.acked(agent.report("offline", check_id=check_id))
    assert device_events(account, device) == ["device.online", "device.offline"]
    assert account.events("device.offline")[0]["data"]["cause"] == "check"


def test_a_repeated_status_is_not_journalled(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"])
    for _ in range(3):
        agent.acked(agent.report("online", check_id=device["checks"][0]["id"]))
    assert device_events(account, device) == ["device.online"]


def test_a_device_is_as_bad_as_its_worst_check(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], checks=[{"check": "ping"}, {"check": "tcp", "port": 80}])
    ping, tcp = (check["id"] for check in device["checks"])
    path = f"/devices/{device['id']}"
    for check_id, status, expected in (
        (ping, "online", "online"), (tcp, "degraded", "degraded"), (ping, "offline", "offline"),
        (tcp, "online", "offline"), (ping, "online", "online"),
    ):
        agent.acked(agent.report(status, check_id=check_id))
        assert account.get(path)["status"] == expected
    assert {check["status"] for check in account.get(path)["checks"]} == {"online"}


def test_the_first_status_is_no_alert_but_the_next_change_is(account: Account, agent: Agent):
    with Receiver() as receiver:
        account.add_alert(receiver.url, "device.online", "device.offline")
        first = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
        second = account.add_device(agent.welcome["agent_id"], "192.0.2.2")
        agent.acked(agent.report("offline", device_id=first["id"], check="ping"))
        agent.acked(agent.report("online", device_id=second["id"], check="ping"))
        agent.acked(agent.report("offline", device_id=second["id"], check="ping"))
        [call] = receiver.wait(1)
        assert call.message["data"]["device_id"] == second["id"]
        deliveries = account.get("/deliveries")["items"]
        assert [delivery["event"] for delivery in deliveries] == ["device.offline"]


def test_devices_are_unknown_while_their_agent_is_offline_and_return_by_report(hub: Hub, account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"])
    check_id = device["checks"][0]["id"]
    agent.acked(agent.report("online", check_id=check_id))
    with Receiver() as receiver:
        account.add_alert(receiver.url, "agent.offline", "device.unknown", "device.offline", "device.online", grouping="agent")
        agent.cut()
        unknown = account.event("device.unknown", device_id=device["id"])
        assert unknown["data"]["cause"] == "agent_offline"
        assert account.get(f"/devices/{device['id']}")["status"] == "unknown"
        agent.connect()
        agent.acked(agent.report("online", check_id=check_id))
        assert account.get(f"/devices/{device['id']}")["status"] == "online"
        [call] = receiver.wait(1)
        assert call.message["type"] == "agent.offline", "an agent's death is one alert"
        assert [one["event"] for one in account.get("/deliveries")["items"]] == ["agent.offline"]


def test_a_device_that_comes_back_worse_is_an_alert(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"])
    check_id = device["checks"][0]["id"]
    agent.acked(agent.report("online", check_id=check_id))
    agent.cut()
    account.event("device.unknown", device_id=device["id"])
    with Receiver() as receiver:
        account.add_alert(receiver.url, "device.offline")
        agent.connect()
        agent.acked(agent.report("offline", check_id=check_id))
        [call] = receiver.wait(1)
        assert call.message["data"]["device_id"] == device["id"]


def test_removing_a_device_or_its_agent_is_journalled(account: Account, agent: Agent):
    kept = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    gone = account.add_device(agent.welcome["agent_id"], "192.0.2.2")
    account.delete(f"/devices/{gone['id']}")
    assert account.event("device.removed", device_id=gone["id"])
    account.delete(f"/agents/{agent.welcome['agent_id']}")
    assert account.event("agent.removed", agent_id=agent.welcome["agent_id"])
    assert account.client.get(f"/devices/{kept['id']}").status_code == 404
    assert account.get("/devices")["items"] == []


# Scans

SCAN = "scn_01jz0000000000000000000000"


@pytest.fixture
def segment(account: Account, agent: Agent) -> dict:
    network = {"cidr": "192.0.2.0/24", "name": "Lab", "interface": "eth0"}
    agent.acked(agent.state("segments", networks=[network]))
    [segment] = account.get("/segments")["items"]
    return segment


def scan_id(number: int) -> str:
    return f"{SCAN[:-1]}{number}"


def start(agent: Agent, segment: dict, number: int = 1) -> None:
    agent.acked(agent.state("scan_started", scan_id=scan_id(number), segment_id=segment["id"], started_at=now()))


def finish(agent: Agent, segment: dict, number: int = 1, **fields) -> None:
    agent.acked(agent.state("scan_completed", **{
        "scan_id": scan_id(number), "segment_id": segment["id"], "finished_at": now(), "outcome": "completed", "devices": [],
    } | fields))


def found(*addresses: str) -> list[dict]:
    return [
        {"address": address, "os_hints": [], "open_ports": [80], "services": [], "method": "arp", "hostname": f"h-{address}"}
        for address in addresses
    ]


def test_a_scan_starts_and_is_completed_with_new_devices(account: Account, agent: Agent, segment: dict):
    account.add_device(agent.welcome["agent_id"], "192.0.2.10")
    start(agent, segment)
    [running] = account.get("/scans")["items"]
    assert (running["state"], running["finished_at"]) == ("running", None)
    finish(agent, segment, devices=found("192.0.2.10", "192.0.2.11", "192.0.2.12"))
    [scan] = account.get("/scans")["items"]
    assert (scan["state"], scan["devices_found"], scan["devices_new"]) == ("completed", 3, 2)
    assert scan["segment_id"] == segment["id"]
    addresses = {device["address"] for device in account.get("/devices")["items"]}
    assert addresses == {"192.0.2.10", "192.0.2.11", "192.0.2.12"}
    names = [event["event"] for event in account.events("scan.started", "scan.completed")]
    assert names == ["scan.started", "scan.completed"]
    [shown] = account.get("/segments")["items"]
    assert shown["last_scan_at"] is not None


def test_a_scan_with_no_devices_is_completed_too(account: Account, agent: Agent, segment: dict):
    start(agent, segment)
    finish(agent, segment)
    [scan] = account.get("/scans")["items"]
    assert (scan["state"], scan["devices_found"], scan["error"]) == ("completed", 0, None)


def test_a_scan_may_fail(account: Account, agent: Agent, segment: dict):
    start(agent, segment)
    finish(agent, segment, outcome="failed", error="no permission")
    [scan] = account.get("/scans")["items"]
    assert (scan["state"], scan["error"]) == ("failed", "no permission")
    assert account.event("scan.failed", scan_id=scan_id(1))


def test_a_scan_is_abandoned_when_its_agent_goes(account: Account, agent: Agent, segment: dict):
    start(agent, segment)
    agent.cut()
    account.event("agent.offline")
    failed = account.event("scan.failed", scan_id=scan_id(1))
    assert failed["data"]["error"]
    assert account.get("/scans")["items"][0]["state"] == "failed"


def test_progress_is_pushed_and_not_journalled(hub: Hub, account: Account, agent: Agent, segment: dict):
    from pulse.dashboard import Dashboard

    start(agent, segment)
    before = len(account.events())
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        agent.send("scan_progress", scan_id=scan_id(1), done=10, total=254)
        frame = dashboard.read("ephemeral")
        while frame["event"] != "scan.progress":
            frame = dashboard.read("ephemeral")
    assert (frame["data"]["scan_id"], frame["data"]["done"], frame["data"]["total"]) == (scan_id(1), 10, 254)
    assert "seq" not in frame
    assert len(account.events()) == before


def test_a_scan_of_a_foreign_segment_is_rejected(account: Account, agent: Agent):
    agent.state("scan_started", scan_id=scan_id(1), segment_id="seg_01jz0000000000000000000000", started_at=now())
    assert agent.read("error")["code"] == "rejected"
    assert account.get("/scans")["items"] == []


def test_a_resent_scan_changes_nothing(account: Account, agent: Agent, segment: dict):
    start(agent, segment)
    finish(agent, segment, devices=found("192.0.2.11"))
    before = account.events()
    agent.leave()
    agent.connect()
    import json

    frame = {"type": "scan_started", "seq": 2, "scan_id": scan_id(1), "segment_id": segment["id"], "started_at": now()}
    agent.socket.send(json.dumps(frame))
    assert agent.read("ack")["seq"] == 3
    assert account.events() == before


# Commands

def test_a_command_reaches_its_agent_and_its_result_is_kept(account: Account, agent: Agent):
    path = f"/agents/{agent.welcome['agent_id']}/commands"
    command = account.post(path, {"kind": "ping"})
    assert command["state"] in ("issued", "delivered")
    frame = agent.read("command")
    assert (frame["command_id"], frame["kind"]) == (command["id"], "ping")
    assert frame["deadline"] > now()
    account.event("command.delivered", command_id=command["id"])
    agent.acked(agent.state("command_result", command_id=command["id"], state="running", at=now()))
    agent.acked(agent.state("command_result", command_id=command["id"], state="succeeded", result={"ok": True}, at=now()))
    [shown] = account.get(path)["items"]
    assert (shown["state"], shown["result"]) == ("succeeded", {"ok": True})
    names = [event["event"] for event in account.events() if event["event"].startswith("command.")]
    assert names == ["command.issued", "command.delivered", "command.succeeded"]


def test_a_command_waits_for_its_agent(hub: Hub, account: Account, agent: Agent):
    agent.leave()
    command = account.post(f"/agents/{agent.welcome['agent_id']}/commands", {"kind": "ping"})
    agent.connect()
    assert agent.read("command")["command_id"] == command["id"]


def test_a_command_expires(account: Account, agent: Agent):
    agent.leave()
    command = account.post(f"/agents/{agent.welcome['agent_id']}/commands", {"kind": "ping", "deadline_s": 1})
    assert account.event("command.expired", command_id=command["id"])
