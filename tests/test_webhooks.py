"""Deliveries to a webhook: signed, retried, and never lost."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pulse.agent import Agent
from pulse.hub import Hub
from pulse.receiver import Call, Receiver
from pulse.rest import Account
from pulse.waiting import until
from standardwebhooks import Webhook, WebhookVerificationError


@pytest.fixture
def agent(hub: Hub, quick: Account):
    """Connected; it is announced offline 1 s after its socket closed."""
    _, key = quick.add_agent("Attic")
    with Agent(hub, key).connect() as agent:
        yield agent


def delivery_that(account: Account, what: str, holds: Callable[[dict], object]) -> dict:
    """The org's only delivery, as soon as there is one and this holds of it."""

    def found() -> dict | None:
        deliveries = account.get("/deliveries")["items"]
        assert len(deliveries) <= 1
        return next(filter(holds, deliveries), None)

    return until(what, found, within_s=30)


def delivered(account: Account, state: str) -> dict:
    return delivery_that(account, f"the delivery is {state}", lambda it: it["state"] == state)


def attempted(account: Account) -> dict:
    return delivery_that(account, "an attempt is recorded", lambda it: it["attempts"])


def verify(secret: str, call: Call) -> None:
    Webhook(secret).verify(call.body, call.headers)


def test_agent_offline_reaches_the_receiver_signed(quick: Account, agent: Agent):
    with Receiver() as receiver:
        channel = quick.add_alert(receiver.url, "agent.offline")
        assert channel["secret"].startswith("whsec_")
        agent.cut()
        [call] = receiver.wait(1)
        event = quick.event("agent.offline")
        verify(channel["secret"], call)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 43 + "=").verify(call.body, call.headers)
        assert call.headers["content-type"].startswith("application/json")
        assert call.id.startswith("dlv_")
        message = call.message
        assert set(message) == {"type", "timestamp", "data"}
        assert message["type"] == "agent.offline"
        data = message["data"]
        assert data["org_id"] == quick.org_id
        assert (data["event_id"], data["seq"]) == (event["id"], event["seq"])
        assert data["agent_id"] == agent.welcome["agent_id"]
        assert (data["previous"], data["current"], data["cause"]) == ("online", "offline", "connection_closed")

        delivery = delivered(quick, "delivered")
        assert delivery["id"] == call.id
        assert (delivery["event"], delivery["event_id"], delivery["seq"]) == ("agent.offline", event["id"], event["seq"])
        assert delivery["channel_id"] == channel["id"]
        [attempt] = delivery["attempts"]
        assert (attempt["status"], attempt["outcome"]) == (204, "accepted")
        assert "next_attempt_at" not in delivery or delivery["next_attempt_at"] is None


def test_no_rule_no_delivery(quick: Account, agent: Agent):
    with Receiver() as receiver:
        quick.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": receiver.url}})
        agent.cut()
        quick.event("agent.offline")
        assert quick.get("/deliveries")["items"] == []
        assert receiver.calls == []


def test_the_first_connection_is_not_notified_but_a_return_is(hub: Hub, quick: Account):
    with Receiver() as receiver:
        quick.add_alert(receiver.url, "agent.online")
        _, key = quick.add_agent()
        with Agent(hub, key).connect() as agent:
            quick.event("agent.online")
            agent.cut()
            quick.event("agent.offline")
            agent.connect()
            receiver.wait(1)
        [call] = receiver.calls
        assert call.message["data"]["previous"] == "offline"


def test_a_failure_is_retried_under_the_same_id(quick: Account, agent: Agent):
    with Receiver(lambda count: (500, {}) if count == 0 else (200, {})) as receiver:
        channel = quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        first, second = receiver.wait(2, within_s=60)
        assert first.id == second.id
        assert first.body == second.body
        verify(channel["secret"], second)
        attempts = delivered(quick, "delivered")["attempts"]
        assert [(one["status"], one["outcome"]) for one in attempts] == [(500, "retry"), (200, "accepted")]
        names = [event["event"] for event in quick.events() if event["event"].startswith("delivery.")]
        assert names == ["delivery.queued", "delivery.retrying", "delivery.delivered"]
        health = [event["event"] for event in quick.events("channel.degraded", "channel.healthy")]
        assert health == ["channel.degraded", "channel.healthy"]


def test_a_receiver_that_is_not_there_is_tried_again(quick: Account, agent: Agent):
    receiver = Receiver()
    quick.add_alert(receiver.url, "agent.offline")
    # Nothing answers while the port is bound but not served: the server was never started.
    receiver.server.server_close()
    agent.cut()
    attempt = delivered(quick, "retrying")["attempts"][0]
    assert attempt["outcome"] == "retry" and attempt["error"]
    assert attempt.get("status") is None


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(quick: Account, agent: Agent, status: int):
    import time

    times: list[float] = []

    def answer(count: int) -> tuple[int, dict[str, str]]:
        times.append(time.monotonic())
        return (status, {"retry-after": "7"}) if count == 0 else (204, {})

    with Receiver(answer) as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        receiver.wait(2, within_s=60)
    assert times[1] - times[0] >= 6.9, "the first delay is 5 s at most, the receiver asked for 7"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_plain_4xx_is_dead_at_once(quick: Account, agent: Agent, status: int):
    with Receiver(lambda _: (status, {})) as receiver:
        channel = quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        assert delivered(quick, "dead")["attempts"][0]["outcome"] == "permanent"
        assert len(receiver.calls) == 1
        health = quick.get(f"/channels/{channel['id']}")["health"]
        assert health == ("needs_attention" if status in (401, 403, 404) else "degraded")
        assert quick.event("delivery.dead")


@pytest.mark.parametrize("status", [408, 409, 425])
def test_an_answer_that_may_pass_is_tried_again(quick: Account, agent: Agent, status: int):
    with Receiver(lambda _: (status, {})) as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        receiver.wait(1)
        assert delivered(quick, "retrying")["attempts"][0]["status"] == status


def test_a_redirect_is_not_followed_and_is_no_success(quick: Account, agent: Agent):
    with Receiver() as elsewhere, Receiver(lambda _: (302, {"location": elsewhere.url})) as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        receiver.wait(1)
        delivery = attempted(quick)
        assert delivery["attempts"][0]["status"] == 302
        assert delivery["state"] in ("retrying", "dead")
        assert elsewhere.calls == []


def test_410_disables_the_channel_until_a_person_enables_it(hub: Hub, quick: Account, agent: Agent):
    with Receiver(lambda count: (410, {}) if count == 0 else (204, {})) as receiver:
        channel = quick.add_alert(receiver.url, "agent.offline")
        path = f"/channels/{channel['id']}"
        agent.cut()
        assert delivered(quick, "dead")["attempts"][0]["outcome"] == "gone"
        shown = until("the channel is disabled", lambda: not (it := quick.get(path))["enabled"] and it)
        assert shown["health"] == "disabled"
        assert quick.event("channel.disabled", channel_id=channel["id"])

        agent.connect()
        quick.event("agent.online", previous="offline")
        agent.cut()
        until("offline again", lambda: len(quick.events("agent.offline")) == 2)
        assert len(quick.get("/deliveries")["items"]) == 1, "a disabled channel gets no deliveries"

        enabled = quick.post(f"{path}/enable", status=200)
        assert (enabled["enabled"], enabled["health"]) == (True, "healthy")
        agent.connect()
        agent.cut()
        receiver.wait(2)


def test_own_headers_are_sent_along(quick: Account, agent: Agent):
    with Receiver() as receiver:
        config = {"url": receiver.url, "headers": {"X-Team": "night watch"}}
        channel = quick.post("/channels", {"name": "Hook", "kind": "webhook", "config": config})
        rule = {"name": "Alert", "event_types": ["agent.offline"], "channel_ids": [channel["id"]]}
        quick.post("/rules", rule)
        agent.cut()
        [call] = receiver.wait(1)
        assert call.headers["x-team"] == "night watch"


def test_two_signatures_are_sent_while_the_secret_rotates(quick: Account, agent: Agent):
    with Receiver() as receiver:
        channel = quick.add_alert(receiver.url, "agent.offline")
        rotated = quick.post(f"/channels/{channel['id']}/rotate-secret", status=200)
        assert rotated["secret"].startswith("whsec_") and rotated["secret"] != channel["secret"]
        agent.cut()
        [call] = receiver.wait(1)
        assert len(call.headers["webhook-signature"].split(" ")) == 2
        verify(channel["secret"], call)
        verify(rotated["secret"], call)


def test_a_test_message_is_sent_at_once(quick: Account):
    with Receiver() as receiver:
        channel = quick.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": receiver.url}})
        quick.post(f"/channels/{channel['id']}/test", status=200)
        [call] = receiver.calls
        verify(channel["secret"], call)
    with Receiver(lambda _: (500, {})) as receiver:
        quick.patch(f"/channels/{channel['id']}", {"config": {"url": receiver.url}})
        answer = quick.client.post(f"/channels/{channel['id']}/test", json={})
        assert (answer.status_code, answer.json()["code"]) == (502, "delivery_failed")


def test_a_dead_delivery_can_be_replayed_under_its_id(quick: Account, agent: Agent):
    with Receiver(lambda count: (400, {}) if count == 0 else (204, {})) as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        dead = delivered(quick, "dead")
        quick.post(f"/deliveries/{dead['id']}/replay", status=200)
        first, second = receiver.wait(2)
        assert first.id == second.id == dead["id"]
        assert len(delivered(quick, "delivered")["attempts"]) == 2


def test_a_waiting_delivery_can_be_discarded(quick: Account, agent: Agent):
    with Receiver(lambda _: (503, {"retry-after": "3600"})) as receiver:
        quick.add_alert(receiver.url, "agent.offline")
        agent.cut()
        waiting = delivered(quick, "retrying")
        assert waiting["next_attempt_at"] > waiting["attempts"][0]["at"]
        discarded = quick.post(f"/deliveries/{waiting['id']}/discard", status=200)
        assert discarded["state"] == "discarded"
        assert quick.event("delivery.discarded", delivery_id=waiting["id"])
        assert len(receiver.calls) == 1


def test_a_private_receiver_is_refused_unless_it_is_allowed(own_hub):
    hub = own_hub(PULSE_EGRESS_ALLOW="192.0.2.0/24")
    account = hub.account()
    with Receiver() as receiver:
        answer = account.client.post(
            "/channels", json={"name": "Hook", "kind": "webhook", "config": {"url": receiver.url}}
        )
        assert answer.status_code == 422
        assert [(one["field"], one["code"]) for one in answer.json()["errors"]] == [("config.url", "forbidden")]
        # A name is looked up when the message is sent, and what it leads to is judged then.
        named = receiver.url.replace("127.0.0.1", "localhost")
        answer = account.client.post("/channels", json={"name": "Hook", "kind": "webhook", "config": {"url": named}})
        if answer.status_code == 201:
            answer = account.client.post(f"/channels/{answer.json()['id']}/test", json={})
            assert (answer.status_code, answer.json()["code"]) == (502, "delivery_failed")
        else:
            assert answer.status_code == 422
        assert receiver.calls == []


def test_a_delivery_survives_kill_9(own_hub):
    hub = own_hub()
    account = hub.account()
    account.patch("", {"offline_grace_ms": 1000})
    _, key = account.add_agent()
    is_down = True
    with Receiver(lambda _: (500, {}) if is_down else (204, {})) as receiver:
        channel = account.add_alert(receiver.url, "agent.offline")
        with Agent(hub, key).connect() as agent:
            agent.cut()
        [first, *_] = receiver.wait(1)
        attempted(account)
        hub.kill()
        is_down = False
        before = len(receiver.calls)
        hub.start()
        calls = receiver.wait(before + 1, within_s=60)
        verify(channel["secret"], calls[-1])
        assert {call.id for call in calls} == {first.id}
        delivered(account, "delivered")
