"""REST: the life of every resource, pages, and what errors look like."""

from __future__ import annotations

import re
import socket
import struct

import httpx
import pytest
from pulse.agent import Agent
from pulse.hub import Hub
from pulse.rest import Account

ID = re.compile(r"[a-z]{3}_[0-9a-hjkmnp-tv-z]{26}")


def problem(answer: httpx.Response, status: int, code: str) -> dict:
    """Checks that the answer is this problem, in the form of RFC 9457."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    body = answer.json()
    assert body["code"] == code, body
    assert (body["type"], body["status"]) == (f"/problems/{code}", status)
    assert body["title"] and body["detail"]
    assert body["request_id"] == answer.headers["x-request-id"]
    return body


# Who asks


def test_every_answer_has_a_request_id_of_its_own(account: Account):
    ids = {account.client.get(path).headers["x-request-id"] for path in ("", "/agents", "/nothing", "/agents/x")}
    assert len(ids) == 4


@pytest.mark.parametrize("headers", [
    {}, {"authorization": "Bearer"}, {"authorization": "Bearer vpt_" + "x" * 40}, {"authorization": "Basic eDp5"},
    {"cookie": "pulse_session=x"},
])
def test_nobody_is_401(hub: Hub, account: Account, headers: dict):
    for path in ("", "/agents", "/devices", "/channels", "/rules", "/deliveries", "/events", "/scans", "/segments"):
        answer = httpx.get(f"{hub.url}/api/v1/orgs/{account.org_id}{path}", headers=headers)
        problem(answer, 401, "unauthenticated")


def test_a_foreign_org_is_404(hub: Hub, account: Account):
    other = hub.account()
    agent, _ = other.add_agent()
    for path in ("", "/agents", f"/agents/{agent['id']}", "/events", "/usage"):
        answer = httpx.get(f"{hub.url}/api/v1/orgs/{other.org_id}{path}", headers=account.client.headers)
        problem(answer, 404, "not_found")
    # Nor does the own org lead to what another one has.
    problem(account.client.get(f"/agents/{agent['id']}"), 404, "not_found")
    problem(account.client.delete(f"/agents/{agent['id']}"), 404, "not_found")
    assert other.get(f"/agents/{agent['id']}") == agent


def test_a_browser_signs_in_shows_its_csrf_token_and_signs_out(hub: Hub, account: Account):
    with httpx.Client(base_url=hub.url) as browser:
        problem(browser.post("/api/v1/auth/login", json={"email": account.email, "password": "wrong"}), 401, "unauthenticated")
        answer = browser.post("/api/v1/auth/login", json={"email": account.email.upper(), "password": account.password})
        assert answer.status_code == 200
        assert answer.json()["user"]["id"] == account.user_id
        cookie = answer.headers["set-cookie"].lower()
        assert "pulse_session=" in cookie and "httponly" in cookie and "samesite=" in cookie

        me = browser.get("/api/v1/me").json()
        assert me["user"]["email"] == account.email
        assert me["csrf_token"] == answer.json()["csrf_token"]
        assert [(org["id"], org["role"]) for org in me["orgs"]] == [(account.org_id, "owner")]

        agents = f"/api/v1/orgs/{account.org_id}/agents"
        problem(browser.post(agents, json={"name": "Attic"}), 403, "forbidden")
        problem(browser.post(agents, json={"name": "Attic"}, headers={"x-csrf-token": "x"}), 403, "forbidden")
        csrf = {"x-csrf-token": me["csrf_token"]}
        assert browser.post(agents, json={"name": "Attic"}, headers=csrf).status_code == 201
        assert browser.get(agents).status_code == 200

        assert browser.post("/api/v1/auth/logout", headers=csrf).status_code == 204
        problem(browser.get("/api/v1/me"), 401, "unauthenticated")


def test_guessing_a_password_is_slowed_down(own_hub):
    # A hub of its own: failures count against the address too, and all tests share one.
    hub = own_hub()
    account = hub.account()
    statuses = []
    for _ in range(30):
        answer = httpx.post(f"{hub.url}/api/v1/auth/login", json={"email": account.email, "password": "wrong"})
        statuses.append(answer.status_code)
        if answer.status_code == 429:
            problem(answer, 429, "rate_limited")
            assert int(answer.headers["retry-after"]) >= 1
            return
    pytest.fail(f"never limited: {statuses}")


def test_an_api_token_shows_who_it_is(hub: Hub, account: Account):
    me = httpx.get(f"{hub.url}/api/v1/me", headers=account.client.headers).json()
    assert (me["user"]["id"], me["csrf_token"]) == (account.user_id, None)
    orgs = httpx.get(f"{hub.url}/api/v1/orgs", headers=account.client.headers).json()
    assert orgs == {"items": [account.get()], "next_cursor": None}


# The org


def test_an_org_is_shown_whole(account: Account):
    org = account.get()
    assert org["id"] == account.org_id and org["id"].startswith("org_") and ID.fullmatch(org["id"])
    assert (org["plan"], org["status"]) == ("starter", "active")
    assert org["limits"] == {"agents": 10, "devices": 100, "users": 10, "api_calls_month": 50000}
    assert (org["heartbeat_interval_ms"], org["heartbeat_timeout_ms"]) == (5000, 12000)
    assert account.patch("", {"name": "Renamed"})["name"] == "Renamed"
    assert account.get()["slug"] == org["slug"]
    assert account.event("org.updated")


def test_a_suspended_org_answers_for_itself_alone(hub: Hub, account: Account):
    from pulse.waiting import until

    assert hub.run("admin", "suspend", account.org_id, "--reason", "unpaid").returncode == 0
    answer = until("it is suspended", lambda: (it := account.client.get("/agents")).status_code == 403 and it, 5)
    problem(answer, 403, "org_suspended")
    problem(account.client.post("/agents", json={"name": "x"}), 403, "org_suspended")
    assert until("its status shows", lambda: account.get()["status"] == "suspended", 5)
    assert httpx.get(f"{hub.url}/api/v1/me", headers=account.client.headers).status_code == 200


# Agents


def test_an_agents_life(account: Account):
    answer = account.client.post("/agents", json={"name": "Attic", "unknown": True})
    assert answer.status_code == 201
    agent = answer.json()["agent"]
    assert answer.headers["location"] == f"/api/v1/orgs/{account.org_id}/agents/{agent['id']}"
    assert set(agent) >= {
        "id", "name", "enabled", "state", "since", "last_seen_at", "version", "hostname", "platform", "key_prefix",
    }
    assert ID.fullmatch(agent["id"]) and agent["id"].startswith("agt_")
    assert (agent["name"], agent["enabled"], agent["state"]) == ("Attic", True, "never_connected")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", agent["since"])

    path = f"/agents/{agent['id']}"
    assert account.get(path) == agent
    assert account.get("/agents") == {"items": [agent], "next_cursor": None}
    assert account.patch(path, {"name": "Cellar"})["name"] == "Cellar"
    assert account.get(path)["name"] == "Cellar"
    disabled = account.patch(path, {"enabled": False})
    assert (disabled["enabled"], disabled["state"]) == (False, "disabled")
    assert account.patch(path, {"enabled": True})["enabled"] is True
    account.delete(path)
    problem(account.client.get(path), 404, "not_found")
    problem(account.client.patch(path, json={"name": "x"}), 404, "not_found")
    problem(account.client.delete(path), 404, "not_found")
    names = [event["event"] for event in account.events()]
    assert names[0] == "agent.enrolled" and names[-1] == "agent.removed"
    assert set(names[1:-1]) == {"agent.updated"}


def test_a_key_is_shown_once(account: Account):
    _, key = account.add_agent()
    assert key not in account.client.get("/agents").text
    assert key not in account.client.get("/events").text


def test_the_plans_limit_of_agents_is_told(account: Account):
    for number in range(10):
        account.add_agent(f"Agent {number}")
    body = problem(account.client.post("/agents", json={"name": "One more"}), 409, "limit_reached")
    assert (body["limit"], body["current"]) == (10, 10)
    assert len(account.get("/agents")["items"]) == 10
    assert account.get("/usage")["agents"] == 10


# Devices


def test_a_devices_life(account: Account):
    agent, _ = account.add_agent()
    body = {
        "agent_id": agent["id"], "address": "192.0.2.1", "name": "Web",
        "checks": [{"check": "http", "url": "https://example.com/"}, {"check": "tcp", "port": 22, "interval_s": 10}],
    }
    answer = account.client.post("/devices", json=body)
    assert answer.status_code == 201
    device = answer.json()
    assert answer.headers["location"].endswith(f"/devices/{device['id']}")
    assert ID.fullmatch(device["id"]) and device["id"].startswith("dev_")
    assert [check["check"] for check in device["checks"]] == ["http", "tcp"]
    assert all(check["id"].startswith("chk_") and check["status"] == "unknown" for check in device["checks"])

    path = f"/devices/{device['id']}"
    assert account.get(path) == device
    assert account.get("/devices")["items"] == [device]
    kept = device["checks"][1]
    changed = account.patch(path, {"name": "SSH", "checks": [{"id": kept["id"], "check": "tcp", "port": 2222}]})
    assert changed["name"] == "SSH"
    [check] = changed["checks"]
    assert (check["id"], check["port"]) == (kept["id"], 2222)
    assert account.get(path) == changed
    account.delete(path)
    problem(account.client.get(path), 404, "not_found")


WRONG_DEVICES = {
    "no agent": ({"address": "192.0.2.1"}, "agent_id"),
    "an agent that is not there": ({"agent_id": "agt_01jz0000000000000000000000", "address": "192.0.2.1"}, "agent_id"),
    "no address": ({"agent_id": None}, "address"),
    "an empty address": ({"agent_id": None, "address": ""}, "address"),
    "an address with a space": ({"agent_id": None, "address": "a b"}, "address"),
    "a long name": ({"agent_id": None, "address": "192.0.2.1", "name": "x" * 101}, "name"),
    "tcp without a port": ({"agent_id": None, "address": "a.example", "checks": [{"check": "tcp"}]}, "port"),
    "http without a url": ({"agent_id": None, "address": "a.example", "checks": [{"check": "http"}]}, "url"),
    "an unknown check": ({"agent_id": None, "address": "a.example", "checks": [{"check": "x"}]}, "check"),
    "interval 0": ({"agent_id": None, "address": "a.example", "checks": [{"check": "ping", "interval_s": 0}]}, "interval_s"),
    "timeout 1": ({"agent_id": None, "address": "a.example", "checks": [{"check": "ping", "timeout_ms": 1}]}, "timeout_ms"),
    "threshold 11": (
        {"agent_id": None, "address": "a.example", "checks": [{"check": "ping", "failure_threshold": 11}]},
        "failure_threshold",
    ),
    "checks that are no list": ({"agent_id": None, "address": "a.example", "checks": "ping"}, "checks"),
}


@pytest.mark.parametrize(("body", "field"), WRONG_DEVICES.values(), ids=WRONG_DEVICES.keys())
def test_a_wrong_device_names_its_field(account: Account, body: dict, field: str):
    agent, _ = account.add_agent()
    if body.get("agent_id", "") is None:
        body = body | {"agent_id": agent["id"]}
    answer = account.client.post("/devices", json=body)
    errors = problem(answer, 422, "validation_failed")["errors"]
    assert any(field in error["field"] for error in errors), errors
    assert all(error["code"] and error["message"] for error in errors)
    assert account.get("/devices")["items"] == []


# Channels and rules


def test_a_channels_life(account: Account):
    body = {"name": "Hook", "kind": "webhook", "config": {"url": "https://example.com/hook"}}
    answer = account.client.post("/channels", json=body)
    assert answer.status_code == 201
    created = answer.json()
    secret = created.pop("secret")
    assert secret.startswith("whsec_")
    assert (created["enabled"], created["health"], created["kind"]) == (True, "healthy", "webhook")
    path = f"/channels/{created['id']}"
    assert answer.headers["location"].endswith(path)
    assert account.get(path) == created
    assert account.get("/channels")["items"] == [created]
    assert secret not in account.client.get("/channels").text + account.client.get("/events").text
    assert account.patch(path, {"name": "Night", "config": {"url": "https://example.com/2"}})["name"] == "Night"
    assert account.patch(path, {"enabled": False})["health"] == "disabled"
    assert account.post(f"{path}/enable", status=200)["enabled"] is True
    account.delete(path)
    problem(account.client.get(path), 404, "not_found")
    problem(account.client.post(f"{path}/enable"), 404, "not_found")


@pytest.mark.parametrize("config", [
    {}, {"url": 5}, {"url": "example.com"}, {"url": "ftp://example.com/"}, {"url": "https://user:pw@example.com/"},
    {"url": "https://example.com/", "headers": {"webhook-id": "x"}}, {"url": "https://example.com/", "headers": {"a b": "x"}},
    {"url": "http://169.254.169.254/latest/meta-data"}, "https://example.com/", None,
])
def test_a_wrong_channel_is_422(account: Account, config: object):
    answer = account.client.post("/channels", json={"name": "Hook", "kind": "webhook", "config": config})
    assert problem(answer, 422, "validation_failed")["errors"]
    assert account.get("/channels")["items"] == []


def test_a_rules_life(account: Account):
    channel = account.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": "https://example.com/"}})
    body = {"name": "Night", "event_types": ["agent.offline"], "channel_ids": [channel["id"]]}
    answer = account.client.post("/rules", json=body)
    assert answer.status_code == 201
    rule = answer.json()
    assert {key: rule[key] for key in body} == body and rule["enabled"] is True
    path = f"/rules/{rule['id']}"
    assert answer.headers["location"].endswith(path)
    assert account.get(path) == rule
    assert account.get("/rules")["items"] == [rule]
    assert account.patch(path, {"enabled": False, "event_types": ["device.offline"]})["event_types"] == ["device.offline"]
    account.delete(path)
    problem(account.client.get(path), 404, "not_found")


def test_a_wrong_rule_names_every_field(account: Account):
    answer = account.client.post("/rules", json={"name": "", "event_types": ["agent.gone"], "channel_ids": []})
    fields = {error["field"].split("[")[0].split(".")[0] for error in problem(answer, 422, "validation_failed")["errors"]}
    assert fields == {"name", "event_types", "channel_ids"}
    foreign = {"name": "x", "event_types": ["agent.offline"], "channel_ids": ["chn_01jz0000000000000000000000"]}
    problem(account.client.post("/rules", json=foreign), 422, "validation_failed")


# Lists, the journal, and bodies in general


@pytest.mark.parametrize("what", ["agents", "devices", "channels", "rules"])
def test_lists_are_read_page_by_page(account: Account, what: str):
    agent, _ = account.add_agent("First")
    channel = account.post("/channels", {"name": "First", "kind": "webhook", "config": {"url": "https://example.com/"}})
    add = {
        "agents": lambda number: account.add_agent(f"Agent {number}"),
        "devices": lambda number: account.add_device(agent["id"], f"192.0.2.{number}"),
        "channels": lambda number: account.post(
            "/channels", {"name": f"Hook {number}", "kind": "webhook", "config": {"url": "https://example.com/"}}
        ),
        "rules": lambda number: account.post(
            "/rules", {"name": f"Rule {number}", "event_types": ["agent.offline"], "channel_ids": [channel["id"]]}
        ),
    }[what]
    for number in range(1, 7):
        add(number)
    whole = account.get(f"/{what}", limit=500)
    assert whole["next_cursor"] is None
    collected, cursor = [], {}
    while True:
        page = account.get(f"/{what}", limit=2, **cursor)
        assert len(page["items"]) <= 2
        collected += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert collected == whole["items"]
    assert len({item["id"] for item in collected}) == len(collected) >= 6


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=100000", "cursor=%21"])
@pytest.mark.parametrize("what", ["agents", "events", "deliveries"])
def test_a_wrong_page_is_422(account: Account, what: str, query: str):
    name = query.split("=")[0]
    body = problem(account.client.get(f"/{what}?{query}"), 422, "validation_failed")
    assert [error["field"] for error in body["errors"]] == [name]


def test_the_journal_is_numbered_without_gaps(account: Account):
    for number in range(5):
        account.add_agent(f"Agent {number}")
    events = account.events()
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all(set(event) == {"seq", "id", "event", "at", "data"} for event in events)
    page = account.get("/events", after=2, limit=2)
    assert [event["seq"] for event in page["items"]] == [3, 4]
    assert account.get("/events", cursor=page["next_cursor"])["items"] == events[4:]
    assert account.get("/events", after=10_000)["items"] == []


def test_deliveries_can_be_filtered(account: Account):
    assert account.get("/deliveries", state="dead") == {"items": [], "next_cursor": None}
    problem(account.client.get("/deliveries", params={"state": "lost"}), 422, "validation_failed")
    problem(account.client.get("/deliveries", params={"channel": "x"}), 422, "validation_failed")
    problem(account.client.get("/deliveries/dlv_01jz0000000000000000000000"), 404, "not_found")
    problem(account.client.post("/deliveries/dlv_01jz0000000000000000000000/replay"), 404, "not_found")


BAD_BODIES = {
    "no JSON": (b"{", {"content-type": "application/json"}, 400, "malformed_json"),
    "empty": (b"", {"content-type": "application/json"}, 400, "malformed_json"),
    "no UTF-8": (b'{"name":"\xff"}', {"content-type": "application/json"}, 400, "malformed_json"),
    "an array": (b"[]", {"content-type": "application/json"}, 422, "validation_failed"),
    "another type": (b'{"name":5}', {"content-type": "application/json"}, 422, "validation_failed"),
    "no name": (b"{}", {"content-type": "application/json"}, 422, "validation_failed"),
    "an empty name": (b'{"name":" "}', {"content-type": "application/json"}, 422, "validation_failed"),
    "a long name": (b'{"name":"' + b"x" * 101 + b'"}', {"content-type": "application/json"}, 422, "validation_failed"),
    "another media type": (b'{"name":"x"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    "too much": (b'{"name":"' + b"x" * 2_000_000 + b'"}', {"content-type": "application/json"}, 413, "payload_too_large"),
}


@pytest.mark.parametrize(("content", "headers", "status", "code"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_a_bad_body_is_refused(account: Account, content: bytes, headers: dict, status: int, code: str):
    problem(account.client.post("/agents", content=content, headers=headers), status, code)
    assert account.get("/agents")["items"] == []


def test_other_paths_and_methods_are_problems_too(hub: Hub, account: Account):
    problem(account.client.get("/nothing"), 404, "not_found")
    problem(httpx.get(f"{hub.url}/api/v2"), 404, "not_found")
    answer = account.client.put("/agents", json={})
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].replace(" ", "").split(",")) >= {"GET", "POST"}
    for wrong in ("x", "dev_01jz0000000000000000000000", "agt_" + "z" * 26, "%00"):
        problem(account.client.get(f"/agents/{wrong}"), 404, "not_found")


def test_no_error_shows_the_inside(account: Account):
    texts = [
        account.client.get("/agents/'; DROP TABLE agents; --").text,
        account.client.post("/agents", content=b"{", headers={"content-type": "application/json"}).text,
        account.client.get("/events?limit=x").text,
    ]
    for text in texts:
        assert not re.search(r"panicked|sqlx|sea_orm|src/|\.rs|SELECT|stack", text), text


def test_the_page_is_served(hub: Hub):
    page = httpx.get(hub.url, headers={"accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "content-security-policy" in page.headers
    [script] = re.findall(r'src="(/assets/[^"]+\.js)"', page.text)[:1]
    answer = httpx.get(f"{hub.url}{script}")
    assert answer.status_code == 200 and "javascript" in answer.headers["content-type"]
    assert httpx.get(f"{hub.url}/assets/nothing.js").status_code == 404


def test_a_real_agents_presence_shows_in_rest(hub: Hub, account: Account):
    agent, key = account.add_agent()
    with Agent(hub, key).connect():
        assert account.event("agent.online", agent_id=agent["id"])
        assert account.get(f"/agents/{agent['id']}")["state"] == "online"


def test_clients_that_hang_up_leave_nothing_behind(hub: Hub):
    """A request that nobody waits for any more is given up half way, and must not spoil what the next one uses."""
    accounts = [hub.account() for _ in range(6)]
    for number in range(600):
        # The first request to an org loads it whole, in one transaction.
        hang_up(accounts[number % len(accounts)], after_s=number % 20 / 2000)
    for account in accounts * 2:
        assert account.get("/agents")["items"] == []
        account.add_agent()
        account.delete(f"/agents/{account.get('/agents')['items'][0]['id']}")
    assert "already a transaction" not in hub.last_log()


def hang_up(account: Account, after_s: float) -> None:
    """Asks for the org's agents and resets the connection."""
    request = f"GET /api/v1/orgs/{account.org_id}/agents HTTP/1.1\r\nhost: hub\r\nauthorization: Bearer {account.api_token}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", httpx.URL(account.url).port)) as plain:
        plain.sendall(request.encode())
        plain.settimeout(after_s or None)
        if after_s:
            try:
                plain.recv(1)
            except TimeoutError:
                pass
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
