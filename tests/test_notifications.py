"""What is told to whom: the rows N19 to N39 and N45 of the notifications sheet, each by its id."""

from __future__ import annotations

from uuid import UUID

import httpx
import pytest
from pulse.agent import now
from pulse.database import execute
from pulse.hub import Hub
from pulse.receiver import HANG, Receiver
from pulse.rest import PLAIN, Account
from pulse.site import Site
from pulse.waiting import until


@pytest.fixture
def site(hub: Hub, account: Account):
    with Site(hub, account) as site:
        yield site


@pytest.fixture
def quick_site(hub: Hub, quick: Account):
    """Its agent is announced offline soon after it went."""
    with Site(hub, quick) as site:
        yield site


def fault_fields(answer: httpx.Response, status: int = 422) -> set[str]:
    """The fields that a refusal names."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/problem+json")
    return {error["field"] for error in answer.json()["errors"]}


def told(account: Account, *events: str) -> list[dict]:
    """Deliveries that were not held back, oldest first."""
    return [one for one in account.deliveries() if one["state"] != "suppressed" and (not events or one["event"] in events)]


# Events


@pytest.mark.parametrize(
    ("status", "event"),
    [pytest.param("offline", "device.offline", id="n19"), pytest.param("degraded", "device.degraded", id="n21")],
)
def test_n19_n21_a_device_that_fails_is_told_and_in_the_history(account: Account, site: Site, status: str, event: str):
    with Receiver() as receiver:
        channel = account.add_alert(receiver.url, event)
        printer = site.device("Printer")
        site.set(printer, status)
        [call] = receiver.wait(1)
        journalled = account.event(event, device_id=printer["id"])
        message = call.message
        assert (message["type"], message["data"]["device_id"], message["data"]["name"]) == (event, printer["id"], "Printer")
        assert (message["data"]["previous"], message["data"]["current"]) == ("online", status)
        delivery = account.delivery(state="delivered")
        assert (delivery["id"], delivery["channel_id"], delivery["event"]) == (call.id, channel["id"], event)
        assert (delivery["event_id"], delivery["seq"]) == (journalled["id"], journalled["seq"])
        assert (delivery["resource_name"], delivery["reason"]) == ("Printer", "alert")
        [attempt] = delivery["attempts"]
        assert (attempt["outcome"], attempt["status"]) == ("accepted", 204)
        assert attempt["at"] >= delivery["created_at"] and attempt["duration_ms"] >= 0
        assert account.get(f"/deliveries/{delivery['id']}") == delivery


def test_n20_a_device_that_is_back_is_told(account: Account, site: Site):
    with Receiver() as receiver:
        account.add_alert(receiver.url, "device.offline", "device.online")
        printer = site.device("Printer")
        site.set(printer, "offline")
        receiver.wait(1)
        site.set(printer, "online")
        offline, online = receiver.wait(2)
        assert [call.message["type"] for call in (offline, online)] == ["device.offline", "device.online"]
        assert account.delivery(event="device.online", state="delivered")["reason"] == "recovery"


def test_n22_the_first_status_of_a_new_device_is_no_alert(account: Account, site: Site):
    with Receiver() as receiver:
        account.add_alert(receiver.url, "device.online", "device.offline")
        printer = site.device("Printer", status=None)
        site.set(printer, "online")
        account.event("device.online", device_id=printer["id"])
        # What comes after it is told, so it would have been told by then.
        site.set(printer, "offline")
        [call] = receiver.wait(1)
        assert call.message["type"] == "device.offline"
        assert [one["event"] for one in account.deliveries()] == ["device.offline"]


def test_n23_a_silent_agent_is_told_within_a_minute(quick: Account, quick_site: Site):
    with Receiver() as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        # It neither sends nor closes.
        [call] = receiver.wait(1, within_s=60)
        data = call.message["data"]
        assert (data["agent_id"], data["current"], data["cause"]) == (quick_site.agent_id, "offline", "heartbeat_timeout")


def test_n24_a_return_is_told_only_if_the_absence_was(hub: Hub, account: Account):
    account.patch("", {"offline_grace_ms": 5000})
    with Receiver() as receiver, Site(hub, account) as site:
        account.add_alert(receiver.url, "agent.online", "agent.offline")
        site.agent.cut()
        site.agent.connect()
        account.patch("", {"offline_grace_ms": 1000})
        site.agent.cut()
        receiver.wait(1)
        site.agent.connect()
        calls = receiver.wait(2)
        assert [call.message["type"] for call in calls] == ["agent.offline", "agent.online"]
        assert len(account.events("agent.offline")) == 1


def test_n25_devices_of_a_dead_agent_become_unknown_in_one_message(hub: Hub, quick: Account, quick_site: Site):
    with Receiver() as receiver, Site(hub, quick, "Cellar") as other:
        channel = quick.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": receiver.url}})
        events = ("agent.offline", "device.offline", "device.unknown")
        quick.add_rule(channel, *events, cooldown_s=0)
        watched = other.device("Witness")
        devices = [quick_site.device(f"Printer {number}") for number in range(5)]
        quick_site.agent.cut()
        [call] = receiver.wait(1)
        assert (call.message["type"], call.message["data"]["devices_unknown"]) == ("agent.offline", 5)
        for device in devices:
            assert quick.get(f"/devices/{device['id']}")["status"] == "unknown"
        # Beats, so that the second agent is not missed too.
        other.agent.beat()
        other.set(watched, "offline")
        until("the witness is told", lambda: "Witness" in {one["resource_name"] for one in told(quick) if one["state"] == "delivered"})
        names = [one["resource_name"] for one in told(quick)]
        assert names == ["Attic", "Witness"]


def test_n26_a_finished_scan_is_told_even_if_it_found_nothing(account: Account, site: Site):
    with Receiver() as receiver:
        account.add_alert(receiver.url, "scan.completed")
        agent = site.agent
        agent.acked(agent.state("segments", networks=[{"cidr": "192.0.2.0/24", "name": "Lab", "interface": "eth0"}]))
        [segment] = account.get("/segments")["items"]
        scan = {"scan_id": "scn_01jz0000000000000000000001", "segment_id": segment["id"]}
        agent.acked(agent.state("scan_started", started_at=now(), **scan))
        agent.acked(agent.state("scan_completed", finished_at=now(), outcome="completed", devices=[], **scan))
        [call] = receiver.wait(1)
        data = call.message["data"]
        assert (data["scan_id"], data["segment_id"], data["devices_found"]) == (scan["scan_id"], segment["id"], 0)


def test_n27_event_inside_cooldown_is_suppressed_and_visible(account: Account, site: Site):
    with Receiver() as receiver:
        account.add_alert(receiver.url, "device.offline", cooldown_s=300)
        printer, scanner = site.device("Printer"), site.device("Scanner")
        site.set(printer, "offline")
        receiver.wait(1)
        site.set(printer, "online", "offline")
        held = account.delivery(state="suppressed")
        assert (held["event"], held["resource_name"], held["suppressed_by"]) == ("device.offline", "Printer", "cooldown")
        assert held["attempts"] == []
        event = account.event("delivery.suppressed", delivery_id=held["id"])
        assert event["data"]["suppressed_by"] == "cooldown"
        # Each resource has a cooldown of its own.
        site.set(scanner, "offline")
        calls = receiver.wait(2)
        assert [call.message["data"]["name"] for call in calls] == ["Printer", "Scanner"]


# Filters


def test_n28_what_a_filter_does_not_name_is_not_sent(hub: Hub, account: Account, site: Site):
    with Receiver() as receiver, Site(hub, account, "Cellar") as cellar:
        wanted, other = site.device("Wanted"), site.device("Other")
        below = cellar.device("Below")
        channel = account.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": receiver.url}})

        def rule(**filters: list[str]) -> None:
            account.add_rule(channel, "device.offline", filters=filters, **PLAIN)

        rule(device_ids=[wanted["id"]])
        # An agent stands for its devices.
        rule(agent_ids=[cellar.agent_id])
        # Devices without a category or a segment pass no such filter.
        networks = [{"cidr": "198.51.100.0/24", "name": "Lab", "interface": "eth0"}]
        site.agent.acked(site.agent.state("segments", networks=networks))
        [segment] = account.get("/segments")["items"]
        rule(category_ids=["cat_01jz0000000000000000000000"])
        rule(segment_ids=[segment["id"]])
        # All that is named must fit.
        rule(device_ids=[wanted["id"]], agent_ids=[cellar.agent_id])
        site.set(other, "offline")
        site.set(wanted, "offline")
        cellar.set(below, "offline")
        calls = receiver.wait(2)
        until("both are delivered", lambda: [one["state"] for one in account.deliveries()] == ["delivered"] * 2)
        assert sorted(call.message["data"]["name"] for call in calls) == ["Below", "Wanted"]


# Faults in what is sent


BAD_CHANNELS = [
    ({"url": "ftp://example.com/"}, "config.url"),
    ({"url": "http://169.254.169.254/latest"}, "config.url"),
    ({"url": "https://example.com/", "headers": {"host": "x"}}, "config.headers"),
    ({"url": "https://example.com/", "headers": {"webhook-id": "x"}}, "config.headers"),
    ({}, "config"),
]


@pytest.mark.parametrize(("config", "field"), BAD_CHANNELS)
def test_n29_a_bad_channel_is_422_with_its_fields_on_create_and_update(account: Account, config: dict, field: str):
    def named(answer: httpx.Response) -> bool:
        return any(one.startswith(field) for one in fault_fields(answer))

    assert named(account.client.post("/channels", json={"name": "Hook", "kind": "webhook", "config": config}))
    assert account.get("/channels")["items"] == []
    channel = account.add_channel("webhook", {"url": "https://example.com/hook"})
    path = f"/channels/{channel['id']}"
    before = account.get(path)
    if config:
        assert named(account.client.patch(path, json={"config": config}))
    assert fault_fields(account.client.patch(path, json={"name": ""})) == {"name"}
    assert {one.split("[")[0] for one in fault_fields(account.client.patch(path, json={"retry_schedule_s": [90_000]}))} == {
        "retry_schedule_s"
    }
    assert account.get(path) == before


BAD_RULES = [
    ({"name": ""}, "name"),
    ({"event_types": []}, "event_types"),
    ({"event_types": ["agent.gone"]}, "event_types"),
    ({"channel_ids": []}, "channel_ids"),
    ({"cooldown_s": 86_401}, "cooldown_s"),
    ({"min_duration_s": 86_401}, "min_duration_s"),
    ({"quiet_hours": {"from": "25:00", "to": "07:00", "timezone": "UTC"}}, "quiet_hours"),
    ({"quiet_hours": {"from": "22:00", "to": "07:00", "timezone": "Mars/Olympus"}}, "quiet_hours"),
    ({"escalation": {"after_s": 59, "channel_ids": []}}, "escalation"),
]


@pytest.mark.parametrize(("patch", "field"), BAD_RULES)
def test_n30_a_bad_change_of_a_rule_is_422_and_changes_nothing(account: Account, patch: dict, field: str):
    channel = account.add_channel("webhook", {"url": "https://example.com/hook"})
    rule = account.add_rule(channel, "agent.offline")
    path = f"/rules/{rule['id']}"
    assert {one.split("[")[0].split(".")[0] for one in fault_fields(account.client.patch(path, json=patch))} == {field}
    assert account.get(path) == rule


def test_n31_a_rule_cannot_name_a_channel_of_another_org(hub: Hub, account: Account):
    foreign = hub.account().add_channel("webhook", {"url": "https://example.com/hook"})
    own = account.add_channel("webhook", {"url": "https://example.com/hook"})
    rule = {"name": "Alert", "event_types": ["agent.offline"]}
    answer = account.client.post("/rules", json=rule | {"channel_ids": [own["id"], foreign["id"]]})
    assert {one.split("[")[0] for one in fault_fields(answer)} == {"channel_ids"}
    path = f"/rules/{account.add_rule(own, 'agent.offline')['id']}"
    answer = account.client.patch(path, json={"channel_ids": [foreign["id"]]})
    assert {one.split("[")[0] for one in fault_fields(answer)} == {"channel_ids"}
    escalation = {"after_s": 60, "channel_ids": [foreign["id"]]}
    answer = account.client.patch(path, json={"escalation": escalation})
    assert all(one.startswith("escalation") for one in fault_fields(answer))


def test_n32_a_viewer_may_look_at_channels_and_rules_but_not_change_them(hub: Hub, account: Account):
    channel = account.add_channel("webhook", {"url": "https://example.com/hook"})
    rule = account.add_rule(channel, "agent.offline")
    assert as_viewer(hub, account) == 1
    assert account.get("/channels")["items"] and account.get("/rules")["items"]
    path = f"/channels/{channel['id']}"
    changes = [
        ("POST", "/channels", {"name": "Hook", "kind": "webhook", "config": {"url": "https://example.com/"}}),
        ("PATCH", path, {"enabled": False}),
        ("DELETE", path, None),
        ("POST", f"{path}/test", {}),
        ("POST", f"{path}/enable", {}),
        ("POST", f"{path}/rotate-secret", {}),
        ("POST", "/rules", {"name": "x", "event_types": ["agent.offline"], "channel_ids": [channel["id"]]}),
        ("PATCH", f"/rules/{rule['id']}", {"enabled": False}),
        ("DELETE", f"/rules/{rule['id']}", None),
        ("POST", "/maintenance-windows", {"name": "x", "starts_at": now(), "ends_at": now()}),
        ("POST", "/deliveries/replay", {"state": "dead"}),
    ]
    for method, where, body in changes:
        answer = account.client.request(method, where, json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), f"{method} {where}: {answer.text}"


def as_viewer(hub: Hub, account: Account) -> int:
    """The owner may only look from now on. Members are given roles over REST in a later version."""
    user = UUID(int=decode_id(account.user_id))
    value = user.bytes if hub.database_url.startswith("sqlite") else user
    return execute(hub, "UPDATE members SET role = 'viewer' WHERE user_id = ?", value)


def decode_id(text: str) -> int:
    """The number in an id: Crockford's base 32, as in a ULID."""
    number = 0
    for letter in text.split("_")[1]:
        number = number * 32 + "0123456789abcdefghjkmnpqrstvwxyz".index(letter)
    return number


# Attempts


def test_n33_a_passing_fault_is_retried_and_then_dead(account: Account, site: Site):
    with Receiver(lambda _: (503, {})) as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        account.patch(f"/channels/{channel['id']}", {"retry_schedule_s": [0, 1]})
        site.set(site.device("Printer"), "offline")
        dead = account.delivery(60, state="dead")
        assert [(one["outcome"], one["status"]) for one in dead["attempts"]] == [("retry", 503)] * 3
        assert {call.id for call in receiver.calls} == {dead["id"]}
        assert dead.get("next_attempt_at") is None
        assert len(account.events("delivery.retrying")) == 2
        assert account.event("delivery.dead", delivery_id=dead["id"])
        assert account.get(f"/channels/{channel['id']}")["health"] == "degraded"


@pytest.mark.parametrize(("status", "health"), [(400, "degraded"), (401, "needs_attention"), (404, "needs_attention")])
def test_n34_a_lasting_fault_is_dead_at_once_and_the_channel_flagged(
    account: Account, site: Site, status: int, health: str
):
    with Receiver(lambda _: (status, {})) as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        dead = account.delivery(state="dead")
        assert [(one["outcome"], one["status"]) for one in dead["attempts"]] == [("permanent", status)]
        assert len(receiver.calls) == 1
        assert account.get(f"/channels/{channel['id']}")["health"] == health
        assert account.event("channel.degraded", channel_id=channel["id"])["data"]["current"] == health


def test_n35_a_delivery_whose_worker_died_is_taken_over(own_hub):
    hub = own_hub()
    account = hub.account()
    with Receiver(lambda count: HANG if count == 0 else (204, {})) as receiver, Site(hub, account) as site:
        account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        [first] = receiver.wait(1)
        hub.kill()
        hub.start()
        again = receiver.wait(2, within_s=60)[1]
        assert first.id == again.id and first.body == again.body
        delivered = account.delivery(state="delivered")
        assert delivered["id"] == first.id
        assert [one["outcome"] for one in delivered["attempts"]][-1] == "accepted"


def test_n36_what_waits_for_a_channel_that_is_disabled_is_dropped_with_the_reason(account: Account, site: Site):
    with Receiver(lambda _: (503, {"retry-after": "3600"})) as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        waiting = account.delivery(state="retrying")
        account.patch(f"/channels/{channel['id']}", {"enabled": False})
        assert account.delivery(state="dead")["id"] == waiting["id"]
        event = account.event("delivery.dead", delivery_id=waiting["id"])
        assert "disabled" in event["data"]["error"]
        assert len(receiver.calls) == 1


def test_n37_what_waits_for_a_rule_that_is_disabled_is_not_sent(account: Account, site: Site):
    with Receiver(lambda _: (503, {"retry-after": "5"})) as receiver:
        account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        waiting = account.delivery(state="retrying")
        [rule] = account.get("/rules")["items"]
        account.patch(f"/rules/{rule['id']}", {"enabled": False})
        # It is seen when its time has come.
        assert account.delivery(60, state="discarded")["id"] == waiting["id"]
        assert "rule" in account.event("delivery.discarded", delivery_id=waiting["id"])["data"]["error"]
        assert len(receiver.calls) == 1


def test_n38_failures_are_listed_and_replayed_one_or_many(account: Account, site: Site):
    is_down = True
    with Receiver(lambda _: (400, {}) if is_down else (204, {})) as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        for number in range(4):
            site.set(site.device(f"Printer {number}"), "offline")
        until("four are dead", lambda: len(account.deliveries(state="dead", channel=channel["id"])) == 4)
        dead = account.deliveries(state="dead", channel=channel["id"])
        assert all(one["attempts"][0]["status"] == 400 for one in dead)
        is_down = False
        one = account.post(f"/deliveries/{dead[0]['id']}/replay", status=200)
        assert one["id"] == dead[0]["id"]
        account.delivery(id=dead[0]["id"], state="delivered")
        done = account.post("/deliveries/replay", {"state": "dead", "channel": channel["id"]}, status=200)
        assert done == {"replayed": 3, "skipped": 0, "more": False}
        until("all are delivered", lambda: len(account.deliveries(state="delivered")) == 4)
        assert receiver.accepted() == {one["id"] for one in dead}
        assert account.deliveries(state="dead") == []


def test_n39_a_channel_that_fails_is_told_through_another(hub: Hub, account: Account, site: Site):
    with Receiver(lambda _: (410, {})) as gone, Receiver() as other:
        broken = account.add_alert(gone.url, "device.offline")
        watch = account.add_channel("webhook", {"url": other.url})
        account.add_rule([watch, broken], "channel.disabled", "channel.degraded", **PLAIN)
        site.set(site.device("Printer"), "offline")
        [call] = other.wait(1)
        data = call.message["data"]
        assert (call.message["type"], data["channel_id"], data["current"]) == ("channel.disabled", broken["id"], "disabled")
        # Never through the channel it is about.
        assert len(gone.calls) == 1
        metrics = httpx.get(f"{hub.ops_url}/metrics", timeout=10).text
        assert "pulse_deliver" in metrics


# Where webhooks may lead to


PRIVATE = [
    "http://127.0.0.1:8080/", "http://10.0.0.1/", "http://192.168.1.1/", "http://172.16.0.1/", "http://169.254.169.254/",
    "http://100.64.0.1/", "http://0.0.0.0/", "http://[::1]/", "http://[fd00::1]/", "http://[fe80::1]/",
    "http://[::ffff:127.0.0.1]/", "http://2130706433/", "http://0x7f.1/", "http://[64:ff9b::7f00:1]/",
]


def test_n45_a_private_address_is_refused_when_it_is_written_and_when_it_is_sent_to(own_hub):
    hub = own_hub(PULSE_EGRESS_ALLOW="192.0.2.0/24")
    account = hub.account()
    for url in PRIVATE:
        answer = account.client.post("/channels", json={"name": "Hook", "kind": "webhook", "config": {"url": url}})
        assert fault_fields(answer) == {"config.url"}, url
    # A name is judged by what it leads to, when it is sent to.
    with Receiver() as receiver, Site(hub, account) as site:
        named = receiver.url.replace("127.0.0.1", "localhost")
        answer = account.client.post("/channels", json={"name": "Hook", "kind": "webhook", "config": {"url": named}})
        if answer.status_code == 422:
            assert fault_fields(answer) == {"config.url"}
            return
        account.add_rule(answer.json(), "device.offline", **PLAIN)
        site.set(site.device("Printer"), "offline")
        refused = until(
            "an attempt is refused",
            lambda: next((one["attempts"][0] for one in account.deliveries() if one["attempts"]), None),
        )
        assert refused["outcome"] != "accepted" and refused.get("status") is None
        answer = account.client.post(f"/channels/{answer.json()['id']}/test", json={})
        assert (answer.status_code, answer.json()["code"]) == (502, "delivery_failed")
        assert receiver.requests == 0


def test_n45_a_redirect_to_a_private_address_is_not_followed(account: Account, site: Site):
    with Receiver() as inside, Receiver(lambda _: (307, {"location": inside.url})) as receiver:
        account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        receiver.wait(1)
        account.delivery(state="dead")
        assert inside.requests == 0


def test_the_agent_of_another_org_is_none_of_ours(hub: Hub, account: Account):
    """Two orgs with the same rule: each is told of its own alone."""
    other = hub.account()
    with Receiver() as ours, Receiver() as theirs, Site(hub, account) as site, Site(hub, other) as there:
        account.add_alert(ours.url, "device.offline")
        other.add_alert(theirs.url, "device.offline")
        site.set(site.device("Ours"), "offline")
        there.set(there.device("Theirs"), "offline")
        [mine], [its] = ours.wait(1), theirs.wait(1)
        assert (mine.message["data"]["name"], its.message["data"]["name"]) == ("Ours", "Theirs")
        assert len(account.deliveries()) == len(other.deliveries()) == 1
