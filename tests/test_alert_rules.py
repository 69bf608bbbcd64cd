"""When a rule tells, and when it keeps still; what it would have told; and who looks after it."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import httpx
import pytest
from pulse.agent import Agent
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.receiver import Answer, Receiver
from pulse.rest import PLAIN, Account
from pulse.site import Site
from pulse.waiting import until


@pytest.fixture
def site(hub: Hub, account: Account):
    with Site(hub, account) as site:
        yield site


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def stamp(at: datetime) -> str:
    return at.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def from_now(**more: float) -> datetime:
    return datetime.now(timezone.utc) + timedelta(**more)


def names(receiver: Receiver, event: str = "device.offline") -> list[str]:
    """Names of the resources that the receiver was told of."""
    return [call.message["data"]["name"] for call in list(receiver.calls) if call.message["type"] == event]


def held(account: Account, by: str) -> list[dict]:
    return [one for one in account.deliveries(state="suppressed") if one["suppressed_by"] == by]


def witness(account: Account, site: Site, receiver: Receiver) -> None:
    """A message of another rule that comes last: what was to come before it has come."""
    account.add_alert(receiver.url, "device.degraded")
    site.set(site.device("Witness"), "degraded")
    until("the witness is told", lambda: "Witness" in names(receiver, "device.degraded"))


# Cooldown


def test_cooldown_holds_back_and_shows_it_live(hub: Hub, account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline", "device.online", cooldown_s=300)
    printer = site.device("Printer")
    with Dashboard(hub, account) as dashboard:
        dashboard.read("snapshot")
        site.set(printer, "offline")
        receiver.wait(1)
        # A recovery has no cooldown.
        site.set(printer, "online")
        receiver.wait(2)
        site.set(printer, "offline", "online")
        event = dashboard.event("delivery.suppressed", suppressed_by="cooldown")
        assert event["data"]["resource_name"] == "Printer" and event["data"]["state"] == "suppressed"
    # The second recovery is of an alert that nobody was told of.
    account.event("device.online", device_id=printer["id"], previous="offline")
    witness(account, site, receiver)
    assert [call.message["type"] for call in receiver.calls] == ["device.offline", "device.online", "device.degraded"]
    assert len(held(account, "cooldown")) == 1


def test_without_a_cooldown_each_is_told(account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline")
    site.set(site.device("Printer"), "offline", "online", "offline", "online", "offline")
    receiver.wait(3)
    assert held(account, "cooldown") == []


# Minimum duration


def test_what_is_over_before_the_minimum_duration_is_not_told(account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline", "device.online", min_duration_s=2)
    brief, lasting = site.device("Brief"), site.device("Lasting")
    site.set(brief, "offline")
    site.set(lasting, "offline")
    site.set(brief, "online")
    pending = [one for one in account.get("/alerts")["items"] if one["resource_name"] == "Lasting"]
    assert [one["state"] for one in pending] in (["pending"], ["firing"])
    receiver.wait(1)
    assert names(receiver) == ["Lasting"]
    site.set(lasting, "online")
    receiver.wait(2)
    assert names(receiver, "device.online") == ["Lasting"]
    assert "Brief" not in names(receiver, "device.online")


def test_a_minimum_duration_outlives_kill_9(own_hub, receiver: Receiver):
    hub = own_hub()
    account = hub.account()
    with Site(hub, account) as site:
        account.add_alert(receiver.url, "device.offline", min_duration_s=3)
        site.set(site.device("Printer"), "offline")
        hub.kill()
        hub.start()
        site.agent.connect()
        receiver.wait(1, within_s=60)
        assert names(receiver) == ["Printer"]


# Flapping


def test_what_changes_to_and_fro_is_told_once(account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline", "device.online", flap_detection=True)
    printer = site.device("Printer")
    for _ in range(12):
        site.set(printer, "offline", "online")
    flapping = account.delivery(reason="flapping")
    account.delivery(id=flapping["id"], state="delivered")
    assert held(account, "flapping")
    told = [one for one in account.deliveries() if one["state"] != "suppressed"]
    assert len([one for one in told if one["reason"] == "flapping"]) == 1
    assert len(told) < 12
    assert told[-1]["id"] == flapping["id"]
    [alert] = [one for one in account.get("/alerts")["items"] if one["resource_name"] == "Printer"]
    assert alert["state"] == "flapping"


# Grouping


def lose(site: Site, count: int) -> None:
    for number in range(count):
        site.device(f"Device {number}")
    site.agent.cut()


def test_grouping_agent_tells_an_agents_devices_with_the_agent(hub: Hub, quick: Account, receiver: Receiver):
    channel = quick.add_channel("webhook", {"url": receiver.url})
    quick.add_rule(channel, "agent.offline", "device.unknown", "device.offline", **PLAIN | {"grouping": "agent"})
    with Site(hub, quick) as site:
        lose(site, 4)
        [call] = receiver.wait(1)
        assert (call.message["type"], call.message["data"]["devices_unknown"]) == ("agent.offline", 4)
        until("four are unknown", lambda: len(quick.events("device.unknown")) == 4)
        assert len([one for one in quick.deliveries() if one["state"] != "suppressed"]) == 1


def test_grouping_none_tells_each(hub: Hub, quick: Account, receiver: Receiver):
    channel = quick.add_channel("webhook", {"url": receiver.url})
    quick.add_rule(channel, "agent.offline", "device.unknown", **PLAIN)
    with Site(hub, quick) as site:
        lose(site, 3)
        calls = receiver.wait(4)
        assert sorted(call.message["type"] for call in calls) == ["agent.offline"] + ["device.unknown"] * 3


def test_a_digest_tells_many_in_one_message(account: Account, site: Site, receiver: Receiver):
    channel = account.add_channel("webhook", {"url": receiver.url})
    account.add_rule(channel, "device.offline", **PLAIN | {"grouping": "digest"})
    devices = [site.device(f"Device {number}") for number in range(5)]
    for device in devices:
        site.set(device, "offline")
    site.until("a digest is sent", lambda: any(one["reason"] == "digest" for one in account.deliveries()), within_s=120)
    digest = account.delivery(reason="digest", state="delivered")
    calls = [call for call in receiver.calls if call.id == digest["id"]]
    assert len(calls) == 1
    told = json.dumps([call.message for call in receiver.calls])
    assert all(device["name"] in told for device in devices)
    assert len(receiver.calls) <= 2


# Maintenance windows


def window(account: Account, starts: datetime, ends: datetime, **more: object) -> dict:
    return account.post("/maintenance-windows", {"name": "Upgrade", "starts_at": stamp(starts), "ends_at": stamp(ends), **more})


def test_a_maintenance_window_holds_back_and_tells_afterwards_what_is_still_so(
    account: Account, site: Site, receiver: Receiver
):
    account.add_alert(receiver.url, "device.offline", "device.online")
    still, passing = site.device("Still"), site.device("Passing")
    made = window(account, from_now(minutes=-1), from_now(minutes=10))
    assert made["open"] is True and made["next_change_at"] == made["ends_at"]
    assert account.event("maintenance.started", window_id=made["id"])
    site.set(still, "offline")
    site.set(passing, "offline", "online")
    account.delivery(state="suppressed", suppressed_by="maintenance", resource_name="Still")
    assert receiver.calls == []
    account.delete(f"/maintenance-windows/{made['id']}")
    receiver.wait(1)
    assert names(receiver) == ["Still"]
    witness(account, site, receiver)
    assert "Passing" not in names(receiver) + names(receiver, "device.online")
    assert account.event("maintenance.ended", window_id=made["id"])


def test_a_maintenance_window_is_about_what_its_filters_name(account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline")
    inside, outside = site.device("Inside"), site.device("Outside")
    window(account, from_now(minutes=-1), from_now(minutes=10), filters={"device_ids": [inside["id"]]})
    site.set(inside, "offline")
    site.set(outside, "offline")
    receiver.wait(1)
    account.delivery(state="suppressed", suppressed_by="maintenance", resource_name="Inside")
    assert names(receiver) == ["Outside"]


def test_a_recurring_window_is_open_again(account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline")
    yesterday = from_now(days=-1, minutes=-5)
    made = window(account, yesterday, yesterday + timedelta(hours=1), recurrence="daily")
    assert made["open"] is True
    site.set(site.device("Printer"), "offline")
    account.delivery(state="suppressed", suppressed_by="maintenance")
    over = window(account, yesterday, yesterday + timedelta(hours=1), name="Over")
    assert over["open"] is False and over.get("next_change_at") is None


def test_a_recurring_window_keeps_the_time_of_its_zone(account: Account):
    zone = ZoneInfo("America/New_York")
    # In summer, and at the same time of the wall clock in winter.
    first = datetime(2025, 7, 1, 3, 0, tzinfo=zone)
    made = window(
        account, first, first + timedelta(hours=1), timezone="America/New_York", recurrence="weekly", days=[2]
    )
    change = datetime.fromisoformat(made["next_change_at"].replace("Z", "+00:00")).astimezone(zone)
    assert (change.isoweekday(), change.minute) == (2, 0)
    assert change.hour == (4 if made["open"] else 3)


@pytest.mark.parametrize("fault", [
    {"name": ""}, {"timezone": "Mars/Olympus"}, {"ends_at": stamp(datetime(2020, 1, 1, tzinfo=timezone.utc))},
    {"recurrence": "weekly"}, {"days": [8], "recurrence": "weekly"},
])
def test_a_wrong_window_is_422(account: Account, fault: dict):
    body = {"name": "Upgrade", "starts_at": stamp(from_now(hours=1)), "ends_at": stamp(from_now(hours=2))} | fault
    answer = account.client.post("/maintenance-windows", json=body)
    assert answer.status_code == 422 and answer.json()["errors"], answer.text
    assert account.get("/maintenance-windows")["items"] == []


def test_a_windows_life(account: Account):
    made = window(account, from_now(hours=1), from_now(hours=2))
    path = f"/maintenance-windows/{made['id']}"
    assert account.get("/maintenance-windows")["items"] == [made] and account.get(path) == made
    assert made["open"] is False and made["next_change_at"] == made["starts_at"]
    changed = account.patch(path, {"name": "Move", "recurrence": "daily", "timezone": "Europe/Berlin"})
    assert (changed["name"], changed["recurrence"], changed["timezone"]) == ("Move", "daily", "Europe/Berlin")
    assert account.patch(path, {"recurrence": None}).get("recurrence") is None
    account.delete(path)
    assert account.client.get(path).status_code == 404


# Quiet hours


def hours(around: timedelta, zone: str = "UTC") -> dict:
    now = datetime.now(ZoneInfo(zone))
    clock = [(now + around + part).strftime("%H:%M") for part in (timedelta(hours=-1), timedelta(hours=1))]
    return {"from": clock[0], "to": clock[1], "timezone": zone}


def test_quiet_hours_hold_back_and_other_hours_do_not(account: Account, site: Site, receiver: Receiver):
    channel = account.add_channel("webhook", {"url": receiver.url})
    account.add_rule(channel, "device.offline", **PLAIN, quiet_hours=hours(timedelta(0), "Asia/Tokyo"))
    printer = site.device("Printer")
    site.set(printer, "offline")
    account.delivery(state="suppressed", suppressed_by="quiet_hours")
    assert receiver.calls == []
    account.add_rule(channel, "device.offline", **PLAIN, quiet_hours=hours(timedelta(hours=6), "Asia/Tokyo"))
    site.set(site.device("Scanner"), "offline")
    receiver.wait(1)
    assert names(receiver) == ["Scanner"]


# Acknowledgement and escalation


def test_an_alert_is_acknowledged_from_the_dashboard(hub: Hub, account: Account, site: Site, receiver: Receiver):
    account.add_alert(receiver.url, "device.offline", "device.online")
    printer = site.device("Printer")
    site.set(printer, "offline")
    receiver.wait(1)
    [alert] = account.get("/alerts")["items"]
    assert (alert["state"], alert["resource_id"], alert["event"]) == ("firing", printer["id"], "device.offline")
    assert alert["told_at"] and alert.get("acknowledged_at") is None
    assert account.delivery(event="device.offline")["alert_id"] == alert["id"]
    acknowledged = account.post(f"/alerts/{alert['id']}/acknowledge", status=200)
    assert acknowledged["acknowledged_at"] and acknowledged["acknowledged_by"] == account.email
    event = account.event("alert.acknowledged", alert_id=alert["id"])
    assert event["data"]["name"] == "Printer"
    site.set(printer, "online")
    receiver.wait(2)
    until("it is resolved", lambda: all(one["state"] == "resolved" for one in account.get("/alerts")["items"]))


def test_an_alert_is_acknowledged_from_the_messages_link_but_not_by_looking_at_it(hub: Hub, account: Account, site: Site):
    with Receiver(lambda _: Answer(200, {}, b"ok")) as slack:
        channel = account.add_channel("slack", {"webhook_url": f"{slack.base}/services/T/B/secretsecret"})
        account.add_rule(channel, "device.offline", **PLAIN)
        site.set(site.device("Printer"), "offline")
        [call] = slack.wait(1)
    found = re.search(r"/acknowledge/[A-Za-z0-9_-]+", call.body.decode().replace("\\/", "/"))
    assert found, call.body
    link = hub.url + found[0]

    def alert() -> dict:
        [alert] = account.get("/alerts")["items"]
        return alert

    # Programs that look at links in advance do no harm.
    for look in (httpx.get, httpx.head):
        assert look(link, timeout=20).status_code == 200
    page = httpx.get(link, timeout=20)
    assert "Printer" in page.text and "<form" in page.text.lower()
    assert alert().get("acknowledged_at") is None
    assert httpx.post(link, timeout=20, follow_redirects=True).status_code == 200
    assert (alert()["acknowledged_by"], bool(alert()["acknowledged_at"])) == ("link", True)
    # Once more changes nothing.
    at = alert()["acknowledged_at"]
    assert httpx.post(link, timeout=20, follow_redirects=True).status_code == 200
    assert alert()["acknowledged_at"] == at
    wrong = link[:-1] + ("A" if link[-1] != "A" else "B")
    assert httpx.post(wrong, timeout=20).status_code == 404


def test_what_nobody_acknowledges_is_escalated(account: Account, site: Site, receiver: Receiver):
    with Receiver() as boss:
        first, second = (account.add_channel("webhook", {"url": one.url}) for one in (receiver, boss))
        escalation = {"after_s": 60, "channel_ids": [second["id"]]}
        account.add_rule(first, "device.offline", "device.online", **PLAIN, escalation=escalation)
        printer, scanner = site.device("Printer"), site.device("Scanner")
        site.set(scanner, "offline")
        receiver.wait(1)
        [alert] = account.get("/alerts")["items"]
        assert alert["escalates_at"] > alert["told_at"]
        account.post(f"/alerts/{alert['id']}/acknowledge", status=200)
        site.set(printer, "offline")
        site.until("the boss is told", lambda: boss.calls, within_s=120)
        assert names(boss) == ["Printer"]
        escalated = account.delivery(reason="escalation")
        assert (escalated["channel_id"], escalated["resource_name"]) == (second["id"], "Printer")
        # Who was told of it is told that it is over.
        site.set(printer, "online")
        boss.wait(2)
        assert names(boss, "device.online") == ["Printer"]


# Recovery


def test_a_recovery_goes_only_where_the_alert_went(account: Account, site: Site, receiver: Receiver):
    with Receiver() as late:
        first, second = (account.add_channel("webhook", {"url": one.url}) for one in (receiver, late))
        rule = account.add_rule(first, "device.offline", "device.online", **PLAIN)
        printer, scanner = site.device("Printer"), site.device("Scanner")
        site.set(printer, "offline")
        receiver.wait(1)
        account.patch(f"/rules/{rule['id']}", {"channel_ids": [first["id"], second["id"]]})
        site.set(printer, "online")
        receiver.wait(2)
        site.set(scanner, "offline")
        late.wait(1)
        assert [call.message["data"]["name"] for call in late.calls] == ["Scanner"]


# Preview


def test_a_preview_tells_what_a_rule_would_have_told(account: Account, site: Site, receiver: Receiver):
    channel = account.add_channel("webhook", {"url": receiver.url})
    printer, scanner = site.device("Printer"), site.device("Scanner")
    site.set(printer, "offline", "online", "offline")
    site.set(scanner, "offline")
    body = {"name": "Draft", "event_types": ["device.offline"], "channel_ids": [channel["id"]], **PLAIN}
    preview = account.post("/rules/preview", body, status=200)
    assert (preview["sent"], preview["suppressed"], preview["truncated"]) == (3, 0, False)
    assert [one["resource_name"] for one in preview["items"]] == ["Scanner", "Printer", "Printer"]
    preview = account.post("/rules/preview", body | {"cooldown_s": 300}, status=200)
    assert (preview["sent"], preview["suppressed"]) == (2, 1)
    assert [one["suppressed"] for one in preview["items"] if "suppressed" in one] == ["cooldown"]
    named = account.post("/rules/preview", body | {"filters": {"device_ids": [scanner["id"]]}}, status=200)
    assert named["sent"] == 1
    # Nothing was sent, and nothing was made.
    assert account.get("/rules")["items"] == [] and account.deliveries() == [] and receiver.calls == []
    faulty = account.client.post("/rules/preview", json=body | {"event_types": ["agent.gone"]})
    assert faulty.status_code == 422


def test_an_agent_without_devices_may_be_silenced_too(hub: Hub, quick: Account, receiver: Receiver):
    agent_row, key = quick.add_agent("Attic")
    quick.add_alert(receiver.url, "agent.offline")
    window(quick, from_now(minutes=-1), from_now(minutes=10), filters={"agent_ids": [agent_row["id"]]})
    with Agent(hub, key).connect() as agent:
        agent.cut()
        quick.delivery(state="suppressed", suppressed_by="maintenance", event="agent.offline")
        assert receiver.calls == []
