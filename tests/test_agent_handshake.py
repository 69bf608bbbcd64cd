"""Who may come in: the answers before the upgrade, and the first frame."""

from __future__ import annotations

import json
import time
import zlib
from datetime import datetime

import pytest
from pulse.agent import SUBPROTOCOL, Agent, dial, now
from pulse.hub import Hub
from pulse.rest import Account
from pulse.waiting import until
from websockets.exceptions import ConnectionClosed, InvalidStatus


def refusal(hub: Hub, key: str | None, **more) -> tuple[int, dict, dict]:
    """Status, headers and problem of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        dial(hub, key, **more)
    response = refused.value.response
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = json.loads(response.body)
    assert problem["status"] == response.status_code
    assert problem["type"] == f"/problems/{problem['code']}"
    assert problem["request_id"] == response.headers["x-request-id"]
    return response.status_code, dict(response.headers.raw_items()), problem


def changed_at(key: str, index: int) -> str:
    """The key with one character mistyped, so that its checksum is wrong."""
    other = "A" if key[index] != "A" else "B"
    return key[:index] + other + key[index + 1:]


def test_a_key_has_the_published_form(account: Account):
    agent, key = account.add_agent()
    slug = account.get()["slug"]
    prefix = "".join(c for c in slug[:8].lower() if c in "abcdefghijklmnopqrstuvwxyz0123456789").ljust(8, "0")
    assert key.startswith(f"vp_{prefix}_")
    assert len(key) == 3 + 8 + 1 + 32
    assert key[-32:].isalnum()
    assert key.startswith(agent["key_prefix"])
    assert len(agent["key_prefix"]) < 24, "what is shown must not give the key away"


def test_a_key_ends_in_its_checksum(account: Account):
    _, key = account.add_agent()
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number, check = zlib.crc32(key[:-6].encode()), ""
    while number:
        number, digit = divmod(number, 62)
        check = alphabet[digit] + check
    assert key[-6:] == check.rjust(6, "0")


@pytest.mark.parametrize("index", [4, 14, 30, -1])
def test_a_mistyped_key_is_401(hub: Hub, account: Account, index: int):
    _, key = account.add_agent()
    status, _, problem = refusal(hub, changed_at(key, index))
    assert (status, problem["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("key", [None, "", "vp_", "vp_aaaaaaaa_00000000000000000000000000000000", "x" * 5000])
def test_no_key_or_a_foreign_one_is_401(hub: Hub, key: str | None):
    status, _, problem = refusal(hub, key)
    assert (status, problem["code"]) == (401, "unauthenticated")


def test_a_removed_agents_key_is_401(hub: Hub, account: Account):
    agent, key = account.add_agent()
    account.delete(f"/agents/{agent['id']}")
    assert refusal(hub, key)[0] == 401


def test_a_disabled_agent_is_403(hub: Hub, account: Account):
    agent, key = account.add_agent()
    account.patch(f"/agents/{agent['id']}", {"enabled": False})
    status, _, problem = refusal(hub, key)
    assert (status, problem["code"]) == (403, "agent_disabled")


def test_an_agent_of_a_suspended_org_is_403_with_retry_after(hub: Hub, account: Account):
    _, key = account.add_agent()
    assert hub.run("admin", "suspend", account.org_id, "--reason", "unpaid").returncode == 0

    def refused() -> tuple | None:
        try:
            dial(hub, key).close()
        except InvalidStatus:
            return refusal(hub, key)
        return None

    status, headers, problem = until("the org is suspended", refused, within_s=5)
    assert (status, problem["code"]) == (403, "org_suspended")
    assert {name.lower(): value for name, value in headers.items()}["retry-after"] == "300"

    assert hub.run("admin", "reactivate", account.org_id).returncode == 0
    until("the org is back", lambda: welcomed(hub, key), within_s=10)


def welcomed(hub: Hub, key: str) -> bool:
    try:
        with Agent(hub, key).connect():
            return True
    except InvalidStatus:
        return False
    except ConnectionClosed as closed:
        # Let in by the tables, and sent away by a home that has not looked at them since.
        assert closed.rcvd and closed.rcvd.code == 4004
        return False


@pytest.mark.parametrize("subprotocols", [[], ["pulse.agent.v2"], ["pulse.dashboard.v1"]])
def test_a_missing_or_foreign_subprotocol_is_400(hub: Hub, account: Account, subprotocols: list[str]):
    _, key = account.add_agent()
    assert refusal(hub, key, subprotocols=subprotocols)[0] == 400


def test_the_right_subprotocol_may_be_one_of_several(hub: Hub, account: Account):
    _, key = account.add_agent()
    socket = dial(hub, key, subprotocols=["pulse.agent.v2", SUBPROTOCOL])
    assert socket.subprotocol == SUBPROTOCOL
    socket.close()


def test_both_keys_are_honoured_after_a_rotation(hub: Hub, account: Account):
    agent, old = account.add_agent()
    rotated = account.post(f"/agents/{agent['id']}/rotate-key", status=200)
    assert rotated["agent"]["id"] == agent["id"]
    new = rotated["api_key"]
    assert new != old
    for key in (old, new):
        with Agent(hub, key).connect() as connected:
            assert connected.welcome["agent_id"] == agent["id"]


@pytest.mark.parametrize("limit", ["PULSE_LIMIT_HANDSHAKES_PER_ADDRESS", "PULSE_LIMIT_HANDSHAKES_PER_NODE"])
def test_too_many_handshakes_are_429(own_hub, limit: str):
    hub = own_hub(**{limit: 3})
    _, key = hub.account().add_agent()
    sockets = []
    try:
        for _ in range(30):
            sockets.append(dial(hub, key))
        pytest.fail("30 handshakes in a row were taken")
    except InvalidStatus as refused:
        assert refused.response.status_code == 429
        assert int(refused.response.headers["retry-after"]) >= 1
    finally:
        for socket in sockets:
            socket.close()
    until("handshakes are taken again", lambda: welcomed(hub, key))


def test_the_welcome_says_who_the_agent_is_and_what_to_do(hub: Hub, account: Account):
    agent, key = account.add_agent("Attic")
    check = {"check": "http", "url": "http://192.0.2.1/", "interval_s": 30, "timeout_ms": 2000, "failure_threshold": 3}
    device = account.add_device(agent["id"], "192.0.2.1", checks=[check, {"check": "ping"}])
    with Agent(hub, key).connect() as connected:
        welcome = connected.welcome
    assert welcome["agent_id"] == agent["id"]
    assert welcome["name"] == "Attic"
    assert welcome["org_id"] == account.org_id
    assert welcome["heartbeat_interval_ms"] == 5000
    assert welcome["heartbeat_timeout_ms"] == 12000
    assert welcome["acked_seq"] == 0
    assert abs(time.time() - seconds(welcome["server_time"])) < 60
    checks = {one["check"]: one for one in welcome["config"]["checks"]}
    assert set(checks) == {"http", "ping"}
    http = checks["http"]
    assert http["check_id"].startswith("chk_")
    assert http["device_id"] == device["id"]
    assert http["address"] == "192.0.2.1"
    assert (http["interval_s"], http["timeout_ms"], http["failure_threshold"]) == (30, 2000, 3)
    assert http["url"] == "http://192.0.2.1/"
    assert welcome["config"]["segments"] == []
    assert isinstance(welcome["config"]["version"], int)


def seconds(timestamp: str) -> float:
    assert timestamp.endswith("Z") and len(timestamp) == len("2026-03-01T12:00:00.000Z")
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()


def test_a_changed_device_is_pushed_as_config(hub: Hub, account: Account):
    agent, key = account.add_agent()
    with Agent(hub, key).connect() as connected:
        before = connected.welcome["config"]["version"]
        device = account.add_device(agent["id"], "192.0.2.7")
        config = connected.read("config")
        assert config["version"] > before
        assert [check["device_id"] for check in config["checks"]] == [device["id"]]
        account.delete(f"/devices/{device['id']}")
        assert connected.read("config")["checks"] == []


@pytest.mark.parametrize("first", ["heartbeat", "report", "bye", "dance"])
def test_another_first_frame_than_hello_is_4010(hub: Hub, account: Account, first: str):
    _, key = account.add_agent()
    with Agent(hub, key) as agent:
        agent.socket = dial(hub, key)
        agent.send(first, seq=1)
        assert agent.close_code() == 4010


def test_no_hello_within_ten_seconds_is_4010(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key) as agent:
        agent.socket = dial(hub, key)
        began = time.monotonic()
        assert agent.close_code(within_s=15) == 4010
        assert 9 < time.monotonic() - began < 13


def test_an_unsupported_protocol_is_told_and_closed_with_4000(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key) as agent:
        agent.socket = dial(hub, key)
        agent.say_hello(protocol=2)
        frames, code = agent.frames_until_closed()
    assert code == 4000
    assert [(frame["type"], frame["code"], frame["fatal"]) for frame in frames] == [
        ("error", "unsupported_protocol", True)
    ]


def test_unknown_fields_are_ignored(hub: Hub, account: Account):
    _, key = account.add_agent()
    with Agent(hub, key).connect(favourite_colour="blue", sent_at=now()) as agent:
        assert agent.welcome["type"] == "welcome"
