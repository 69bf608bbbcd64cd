"""Frames of a welcomed agent: what is durable, what is refused, and what ends the connection."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
from pulse.agent import Agent, dial, now
from pulse.hub import Hub
from pulse.rest import Account
from pulse.waiting import until
from websockets.exceptions import ConnectionClosed


@pytest.fixture
def agent(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        yield agent


MALFORMED = {
    "no JSON": "{",
    "empty": "",
    "an array": '[{"type":"heartbeat"}]',
    "a string": '"heartbeat"',
    "no type": '{"seq":1}',
    "a type that is no text": '{"type":5}',
    "a state frame without seq": '{"type":"report","reports":[]}',
    "seq zero": '{"type":"report","seq":0,"reports":[]}',
    "a negative seq": '{"type":"report","seq":-1,"reports":[]}',
    "a fractional seq": '{"type":"report","seq":1.5,"reports":[]}',
    "seq as text": '{"type":"report","seq":"1","reports":[]}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_frame_is_4000(agent: Agent, text: str):
    agent.socket.send(text)
    assert agent.close_code() == 4000


def test_a_binary_frame_is_4000(agent: Agent):
    agent.socket.send(b'{"type":"heartbeat"}')
    assert agent.close_code() == 4000


def test_a_second_hello_is_4000(agent: Agent):
    agent.say_hello()
    assert agent.close_code() == 4000


def test_a_frame_over_one_mebibyte_is_1009(agent: Agent):
    # The hub may close while the frame is still being sent.
    try:
        agent.socket.send(json.dumps({"type": "heartbeat", "padding": "x" * (1024 * 1024)}))
    except ConnectionClosed:
        pass
    assert agent.close_code() == 1009


def test_a_frame_of_almost_one_mebibyte_is_taken(agent: Agent):
    padding = "x" * (1024 * 1024 - 200)
    agent.acked(agent.state("segments", networks=[], padding=padding))


def test_the_hub_is_unharmed_by_bad_frames(hub: Hub, account: Account):
    _, key = account.add_agent()
    for text in MALFORMED.values():
        with Agent(hub, key).connect() as agent:
            agent.socket.send(text)
            assert agent.close_code() == 4000
    with Agent(hub, key).connect() as agent:
        agent.acked(agent.state("segments", networks=[]))


def test_an_unknown_frame_is_answered_and_changes_nothing(account: Account, agent: Agent):
    before = len(account.events())
    agent.send("dance", seq=1)
    error = agent.read("error")
    assert (error["code"], error["fatal"]) == ("unknown_frame", False)
    agent.acked(agent.state("segments", networks=[]))
    names = [event["event"] for event in account.events()[before:]]
    assert "dance" not in str(names)


def test_what_is_acked_is_in_the_journal(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    agent.acked(agent.report("online", check_id=device["checks"][0]["id"], response_time_ms=1.5))
    events = account.events("device.online")
    assert [event["data"]["device_id"] for event in events] == [device["id"]]


def test_a_repeated_seq_is_acked_again_and_changes_nothing(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    check_id = device["checks"][0]["id"]
    frame = {"type": "report", "seq": 1, "reports": [{"check_id": check_id, "status": "offline", "checked_at": now()}]}
    agent.socket.send(json.dumps(frame))
    assert agent.read("ack")["seq"] == 1
    agent.socket.send(json.dumps({**frame, "seq": 2} | {
        "reports": [{"check_id": check_id, "status": "online", "checked_at": now()}]}))
    assert agent.read("ack")["seq"] == 2
    before = len(account.events())
    agent.socket.send(json.dumps(frame))
    assert agent.read("ack")["seq"] == 2, "acked again, up to what is durable"
    assert len(account.events()) == before
    assert account.get(f"/devices/{device['id']}")["status"] == "online"


def test_a_gap_in_seq_is_told_and_closed_with_4002(agent: Agent):
    agent.next_seq = 2
    agent.state("segments", networks=[])
    frames, code = agent.frames_until_closed()
    assert code == 4002
    error = frames[-1]
    assert (error["type"], error["code"], error["fatal"]) == ("error", "seq_gap", True)


def test_a_next_seq_above_the_acked_is_a_gap(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        agent.acked(agent.state("segments", networks=[]))
        spool = agent.spool_id
    with Agent(hub, key) as agent:
        agent.spool_id, agent.next_seq = spool, 3
        agent.socket = dial(hub, key)
        agent.say_hello()
        frames, code = agent.frames_until_closed()
    assert code == 4002
    assert (frames[-1]["code"], frames[-1]["fatal"]) == ("seq_gap", True)


def test_after_a_gap_the_agent_resends_and_nothing_is_lost(hub: Hub, account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    check_id = device["checks"][0]["id"]
    agent.spool("report", reports=[{"check_id": check_id, "status": "offline", "checked_at": now()}])
    agent.state("report", reports=[{"check_id": check_id, "status": "online", "checked_at": now()}])
    assert agent.close_code() == 4002
    agent.connect()
    assert agent.welcome["acked_seq"] == 0
    agent.resend()
    agent.acked(2)
    names = [event["event"] for event in account.events() if event["event"].startswith("device.o")]
    assert names == ["device.offline", "device.online"]


def test_acked_seq_is_kept_across_connections(agent: Agent):
    for _ in range(3):
        seq = agent.state("segments", networks=[])
    agent.acked(seq)
    agent.leave()
    agent.connect()
    assert agent.welcome["acked_seq"] == 3
    agent.acked(agent.state("segments", networks=[]))


def test_a_new_spool_starts_again_at_one(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    check_id = device["checks"][0]["id"]
    agent.acked(agent.report("online", check_id=check_id))
    agent.acked(agent.report("offline", check_id=check_id))
    agent.leave()

    old_spool, agent.spool_id, agent.next_seq = agent.spool_id, uuid4().hex, 1
    agent.connect()
    assert agent.welcome["acked_seq"] == 0
    agent.acked(agent.report("online", check_id=check_id))
    assert account.get(f"/devices/{device['id']}")["status"] == "online"
    agent.leave()

    # The older spool's numbers are no longer taken: its frames are a new sequence.
    agent.spool_id, agent.next_seq = old_spool, 1
    agent.connect()
    assert agent.welcome["acked_seq"] == 0


REJECTED = {
    "no reports": {"reports": []},
    "reports missing": {},
    "501 reports": {"reports": [{"address": "192.0.2.1", "status": "online", "checked_at": now()}] * 501},
    "an unknown status": {"reports": [{"address": "192.0.2.1", "status": "fine", "checked_at": now()}]},
    "an unknown address": {"reports": [{"address": "198.51.100.99", "status": "online", "checked_at": now()}]},
    "a check that is not there": {
        "reports": [{"check_id": "chk_01jz0000000000000000000000", "status": "online", "checked_at": now()}]
    },
    "an id of another kind": {
        "reports": [{"check_id": "dev_01jz0000000000000000000000", "status": "online", "checked_at": now()}]
    },
    "no time": {"reports": [{"address": "192.0.2.1", "status": "online"}]},
    "reports that are no list": {"reports": "all fine"},
}


@pytest.mark.parametrize("fields", REJECTED.values(), ids=REJECTED.keys())
def test_bad_content_is_acked_and_rejected_once(account: Account, agent: Agent, fields: dict):
    account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    seq = agent.state("report", **fields)
    answers = sorted((frame["type"], frame.get("seq")) for frame in answers_to(agent, seq))
    assert answers == [("ack", seq), ("error", seq)]
    # The next frame goes through: one bad frame does not block the spool.
    agent.acked(agent.state("segments", networks=[]))


def answers_to(agent: Agent, seq: int) -> list[dict]:
    """The ack and the error for `seq`, which may come in either order; another frame proves nothing else does."""
    frames: list[dict] = []
    while len(frames) < 2:
        frame = agent.frame()
        if frame["type"] in ("ack", "error"):
            frames.append(frame)
    for frame in frames:
        if frame["type"] == "error":
            assert (frame["code"], frame["fatal"]) == ("rejected", False)
    agent.send("dance")
    while (frame := agent.frame())["type"] != "error":
        assert frame["type"] != "ack"
    assert frame["code"] == "unknown_frame", "rejected was told twice"
    return frames


def test_a_report_for_another_agents_device_is_rejected(account: Account, agent: Agent):
    other, _ = account.add_agent("Other")
    device = account.add_device(other["id"], "192.0.2.5")
    agent.report("offline", check_id=device["checks"][0]["id"])
    error = agent.read("error")
    assert (error["code"], error["seq"]) == ("rejected", 1)
    assert account.get(f"/devices/{device['id']}")["status"] == "unknown"


def test_a_report_may_name_a_check_a_device_or_an_address(account: Account, agent: Agent):
    device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
    path = f"/devices/{device['id']}"
    agent.acked(agent.report("online", check_id=device["checks"][0]["id"]))
    assert account.get(path)["status"] == "online"
    agent.acked(agent.report("offline", device_id=device["id"], check="ping"))
    assert account.get(path)["status"] == "offline"
    agent.acked(agent.report("online", address="192.0.2.1", check="ping", response_time_ms=12.5))
    shown = account.get(path)
    assert (shown["status"], shown["response_time_ms"]) == ("online", 12.5)


def test_many_reports_in_one_frame_are_one_ack(account: Account, agent: Agent):
    devices = [account.add_device(agent.welcome["agent_id"], f"192.0.2.{number}") for number in range(1, 21)]
    reports = [
        {"check_id": device["checks"][0]["id"], "status": "online", "checked_at": now()} for device in devices
    ]
    seq = agent.state("report", reports=reports)
    assert agent.read("ack")["seq"] == seq
    assert len(account.events("device.online")) == 20


def test_a_newer_connection_closes_the_older_with_4001(hub: Hub, account: Account, agent: Agent):
    newer = Agent(hub, agent.key)
    newer.spool_id = agent.spool_id
    with newer.connect():
        assert agent.close_code() == 4001
        newer.acked(newer.state("segments", networks=[]))
        assert account.events("agent.offline") == []
        assert len(account.events("agent.online")) == 1


def test_disabling_an_agent_closes_with_4003(account: Account, agent: Agent):
    account.patch(f"/agents/{agent.welcome['agent_id']}", {"enabled": False})
    assert agent.close_code() == 4003
    assert account.get(f"/agents/{agent.welcome['agent_id']}")["state"] == "disabled"


def test_removing_an_agent_closes_with_4003(account: Account, agent: Agent):
    account.delete(f"/agents/{agent.welcome['agent_id']}")
    assert agent.close_code() == 4003


def test_suspending_the_org_closes_with_4004_within_5_s(hub: Hub, account: Account, agent: Agent):
    assert hub.run("admin", "suspend", account.org_id, "--reason", "unpaid").returncode == 0
    assert agent.close_code(within_s=5) == 4004


def test_too_many_frames_are_4029(own_hub):
    hub = own_hub(PULSE_LIMIT_FRAMES_PER_SECOND=10, PULSE_LIMIT_FRAMES_BURST=20)
    _, key = hub.account().add_agent()
    with Agent(hub, key).connect() as agent:
        try:
            for _ in range(100):
                agent.beat()
        except ConnectionClosed:
            pass
        assert agent.close_code() == 4029


def test_frames_below_the_limit_are_taken(own_hub):
    hub = own_hub(PULSE_LIMIT_FRAMES_PER_SECOND=10, PULSE_LIMIT_FRAMES_BURST=50)
    _, key = hub.account().add_agent()
    with Agent(hub, key).connect() as agent:
        for _ in range(40):
            agent.beat()
        agent.acked(agent.state("segments", networks=[]))


def test_more_frames_than_the_window_are_all_taken(own_hub):
    hub = own_hub(PULSE_LIMIT_UNACKED_FRAMES=4)
    account = hub.account()
    _, key = account.add_agent()
    with Agent(hub, key).connect() as agent:
        device = account.add_device(agent.welcome["agent_id"], "192.0.2.1")
        for number in range(100):
            seq = agent.report("offline" if number % 2 else "online", check_id=device["checks"][0]["id"])
        agent.acked(seq)
        assert len(account.events("device.online", "device.offline")) == 100


def test_an_agents_facts_are_shown(account: Account, agent: Agent):
    shown = until(
        "the agent is shown online",
        lambda: (it := account.get(f"/agents/{agent.welcome['agent_id']}"))["state"] == "online" and it,
    )
    assert (shown["version"], shown["hostname"], shown["platform"]) == ("0.0.1", "test", "linux")
    assert shown["last_seen_at"] is not None


def test_networks_become_segments(account: Account, agent: Agent):
    agent.state("segments", networks=[
        {"cidr": "192.168.1.0/24", "name": "Office", "interface": "eth0"},
        {"cidr": "10.0.0.0/24", "name": "Lab", "interface": "eth1"},
    ])
    config = agent.read("config")
    segments = account.get("/segments")["items"]
    assert {(one["cidr"], one["name"]) for one in segments} == {("192.168.1.0/24", "Office"), ("10.0.0.0/24", "Lab")}
    assert all(one["agent_id"] == agent.welcome["agent_id"] for one in segments)
    assert {one["segment_id"] for one in config["segments"]} == {one["id"] for one in segments}
