"""What each kind of channel sends, to receivers that check it; what of it is secret; and what is refused."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.receiver import Answer, Call, Receiver, Reply
from pulse.rest import PLAIN, Account
from pulse.site import Site
from standardwebhooks import Webhook

HERE = Path(__file__).parent
# A name that is markup wherever it is not escaped.
NAME = "<b>Printer</b> & *co* <!channel> @everyone"


@dataclass(frozen=True)
class Kind:
    """One kind: how it is configured for a receiver at `base`, and what such a receiver is sent."""

    name: str
    config: Callable[[str], dict]
    good: Reply
    check: Callable[[Call, str], None]
    # Texts in the configuration that nobody may read.
    secrets: tuple[str, ...] = ()
    bad_configs: list[dict] = field(default_factory=list)

    def __str__(self) -> str:
        return self.name


def check_webhook(call: Call, event: str) -> None:
    message = call.message
    assert set(message) == {"type", "timestamp", "data"}
    assert (message["type"], message["data"]["name"]) == (event, NAME)


def texts(node: object) -> Iterator[dict]:
    """Every text object of Block Kit in a message."""
    if isinstance(node, dict) and isinstance(node.get("text"), str):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from texts(child)


def check_slack(call: Call, event: str) -> None:
    message = call.message
    assert message["text"], "what a notification shows"
    blocks = json.dumps(message.get("blocks") or message["attachments"])
    # Slack reads markup in `mrkdwn` alone; a `plain_text` is shown as it is.
    marked = [one["text"] for one in texts(json.loads(blocks)) if one.get("type") == "mrkdwn"]
    assert "Printer" in blocks and not any("<!channel>" in text or "<b>" in text for text in marked)
    assert "&lt;b&gt;Printer&lt;/b&gt; &amp;" in blocks
    assert len(blocks) < 10_000


def check_teams(call: Call, event: str) -> None:
    message = call.message
    assert message["type"] == "message"
    [attachment] = message["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    card = attachment["content"]
    assert card["type"] == "AdaptiveCard" and card["version"].startswith("1.") and card["body"]
    assert "Printer" in json.dumps(card)
    assert len(call.body) < 20_000


def check_discord(call: Call, event: str) -> None:
    message = call.message
    assert message.get("content") or message["embeds"]
    assert "Printer" in json.dumps(message)
    # A name may not call everybody.
    assert message["allowed_mentions"]["parse"] == []


def check_telegram(call: Call, event: str) -> None:
    assert call.path == "/bot123456:AAsecret-token-of-the-bot/sendMessage"
    message = call.message
    assert str(message["chat_id"]) == "-1001234567890"
    assert "Printer" in message["text"] and len(message["text"]) <= 4_096
    if message.get("parse_mode") == "HTML":
        assert "<b>Printer</b>" not in message["text"]


def check_pagerduty(call: Call, event: str) -> None:
    assert call.path == "/v2/enqueue"
    message = call.message
    assert message["routing_key"] == "0123456789abcdef0123456789abcdef"
    assert message["event_action"] == ("resolve" if event.endswith(".online") else "trigger")
    assert 0 < len(message["dedup_key"]) <= 255
    if message["event_action"] == "trigger":
        payload = message["payload"]
        assert "Printer" in payload["summary"] and payload["source"]
        assert payload["severity"] in ("critical", "error", "warning", "info")


def check_ntfy(call: Call, event: str) -> None:
    assert call.headers["authorization"] == "Bearer tk_secretsecretsecretsecretsecr"
    if call.path in ("", "/"):
        message = call.message
        assert message["topic"] == "night-watch"
        assert "Printer" in message["title"] + message["message"]
    else:
        assert call.path == "/night-watch"
        assert "Printer" in call.headers.get("title", "") + call.body.decode()


def as_json(status: int, body: object) -> Answer:
    return Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())


TELEGRAM = {"bot_token": "123456:AAsecret-token-of-the-bot", "chat_id": "-1001234567890"}
PAGERDUTY = {"routing_key": "0123456789abcdef0123456789abcdef"}
NTFY = {"topic": "night-watch", "token": "tk_secretsecretsecretsecretsecr"}

KINDS = [
    Kind("webhook", lambda base: {"url": f"{base}/hook", "headers": {"x-key": "very-secret-key"}}, (204, {}), check_webhook,
         ("very-secret-key",), [{"url": "ftp://x"}, {"url": "https://example.com/", "headers": {"a b": "c"}}]),
    Kind("slack", lambda base: {"webhook_url": f"{base}/services/T000/B000/secretsecretsecret"}, Answer(200, {}, b"ok"),
         check_slack, ("secretsecretsecret",), [{}, {"webhook_url": "nowhere"}, {"webhook_url": 5}]),
    Kind("teams", lambda base: {"webhook_url": f"{base}/workflows/abc/triggers/manual/paths/invoke?sig=secretsecretsig"},
         (202, {}), check_teams, ("secretsecretsig",), [{}, {"webhook_url": "nowhere"}]),
    Kind("discord", lambda base: {"webhook_url": f"{base}/api/webhooks/123/secretsecretsecret"}, (204, {}), check_discord,
         ("secretsecretsecret",), [{}, {"webhook_url": "nowhere"}]),
    Kind("telegram", lambda base: TELEGRAM | {"api_base": base}, as_json(200, {"ok": True, "result": {"message_id": 1}}),
         check_telegram, ("AAsecret-token-of-the-bot",), [{}, {"bot_token": "x", "chat_id": "1"}, {"bot_token": TELEGRAM["bot_token"]}]),
    Kind("pagerduty", lambda base: PAGERDUTY | {"api_base": base}, as_json(202, {"status": "success", "dedup_key": "x"}),
         check_pagerduty, (PAGERDUTY["routing_key"],), [{}, {"routing_key": "a b"}]),
    Kind("ntfy", lambda base: NTFY | {"server": base}, as_json(200, {"id": "x"}), check_ntfy,
         (NTFY["token"],), [{}, {"topic": "a b"}, NTFY | {"server": "nowhere"}]),
]
CHATS = [kind for kind in KINDS if kind.name != "webhook"]


def each(kinds: list[Kind]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("kind", kinds, ids=str)


@pytest.fixture
def site(hub: Hub, account: Account):
    with Site(hub, account) as site:
        yield site


def verify_in_javascript(secret: str, call: Call) -> subprocess.CompletedProcess[str]:
    told = {"secret": secret, "headers": call.headers, "body": base64.b64encode(call.body).decode()}
    return subprocess.run(
        ["node", str(HERE / "js" / "verify.mjs")],
        input=json.dumps(told), capture_output=True, text=True, timeout=60, check=False,
    )


@each(KINDS)
def test_an_alert_and_its_recovery_reach_the_receiver(account: Account, site: Site, kind: Kind):
    with Receiver(lambda _: kind.good) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        account.add_rule(channel, "device.offline", "device.online", **PLAIN)
        printer = site.device(NAME)
        site.set(printer, "offline")
        receiver.wait(1)
        site.set(printer, "online")
        alert, recovery = receiver.wait(2)
        kind.check(alert, "device.offline")
        kind.check(recovery, "device.online")
        delivered = account.delivery(event="device.online", state="delivered")
        assert delivered["attempts"][0]["outcome"] == "accepted"
        assert account.get(f"/channels/{channel['id']}")["health"] == "healthy"


def test_pagerduty_resolves_what_it_triggered(account: Account, site: Site):
    kind = next(kind for kind in KINDS if kind.name == "pagerduty")
    with Receiver(lambda _: kind.good) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        account.add_rule(channel, "device.offline", "device.online", **PLAIN)
        printer, scanner = site.device("Printer"), site.device("Scanner")
        site.set(printer, "offline")
        receiver.wait(1)
        site.set(scanner, "offline")
        receiver.wait(2)
        site.set(printer, "online")
        first, second, resolved = (call.message for call in receiver.wait(3))
        assert first["dedup_key"] == resolved["dedup_key"] != second["dedup_key"]


@each(KINDS)
def test_a_test_message_is_sent_and_the_receivers_answer_shown(account: Account, kind: Kind):
    with Receiver(lambda _: kind.good) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        shown = account.post(f"/channels/{channel['id']}/test", status=200)
        assert len(receiver.calls) == 1
        assert shown["outcome"] == "accepted" and 200 <= shown["status"] < 300 and shown["duration_ms"] >= 0
    refusal = Answer(400, {}, b"you wrote something strange")
    with Receiver(lambda _: refusal) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        answer = account.client.post(f"/channels/{channel['id']}/test", json={})
        assert (answer.status_code, answer.json()["code"]) == (502, "delivery_failed")
        assert "something strange" in answer.json()["detail"] and "400" in answer.json()["detail"]


@each(KINDS)
def test_secrets_are_written_and_never_read(hub: Hub, account: Account, site: Site, kind: Kind):
    echo = Answer(500, {}, " ".join(kind.secrets).encode())
    with Receiver(lambda _: echo) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        path = f"/channels/{channel['id']}"
        account.add_rule(channel, "device.offline", **PLAIN)
        site.set(site.device("Printer"), "offline")
        account.delivery(state="retrying")
        test = account.client.post(f"{path}/test", json={})
        renamed = account.patch(path, {"name": "Night"})
        with Dashboard(hub, account) as dashboard:
            snapshot = dashboard.read("snapshot")
        readings = {
            "answer": channel, "channel": account.get(path), "list": account.get("/channels"), "events": account.events(),
            "deliveries": account.deliveries(), "test": test.text, "patch": renamed, "snapshot": snapshot,
        }
        for what, read in readings.items():
            for secret in kind.secrets:
                assert secret not in json.dumps(read), what
        for secret in kind.secrets:
            assert secret not in hub.last_log()


@each(KINDS)
def test_what_is_sent_back_as_it_is_shown_keeps_its_secrets(account: Account, kind: Kind):
    with Receiver(lambda _: kind.good) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        path = f"/channels/{channel['id']}"
        changed = account.patch(path, {"name": "Night", "config": channel["config"]})
        assert (changed["name"], changed["config"]) == ("Night", channel["config"])
        account.post(f"{path}/test", status=200)
        [call] = receiver.calls
        whole = json.dumps([call.path, call.headers, call.body.decode()])
        assert all(secret in whole for secret in kind.secrets)


@each(KINDS)
def test_a_bad_configuration_is_422_with_its_fields(account: Account, kind: Kind):
    with Receiver(lambda _: kind.good) as receiver:
        channel = account.add_channel(kind.name, kind.config(receiver.base))
        for config in kind.bad_configs:
            for answer in (
                account.client.post("/channels", json={"name": "x", "kind": kind.name, "config": config}),
                # Nothing at all means the stored secrets.
                *([account.client.patch(f"/channels/{channel['id']}", json={"config": config})] if config else []),
            ):
                assert answer.status_code == 422, f"{answer.request.method} {config}: {answer.text}"
                assert all(one["field"].startswith("config") for one in answer.json()["errors"])
        assert account.get("/channels")["items"] == [{key: channel[key] for key in channel if key != "secret"}]
        assert receiver.requests == 0


@each(CHATS)
def test_a_private_receiver_is_refused_at_every_kind(own_hub, kind: Kind):
    hub = own_hub(PULSE_EGRESS_ALLOW="192.0.2.0/24")
    account = hub.account()
    with Receiver(lambda _: kind.good) as receiver:
        answer = account.client.post(
            "/channels", json={"name": "x", "kind": kind.name, "config": kind.config(receiver.base)}
        )
        assert answer.status_code == 422, answer.text
        assert receiver.requests == 0


@pytest.mark.parametrize(("kind", "answer", "outcome", "health"), [
    ("slack", Answer(404, {}, b"no_service"), "permanent", "needs_attention"),
    ("slack", Answer(400, {}, b"invalid_payload"), "permanent", "degraded"),
    ("slack", Answer(429, {"retry-after": "3600"}), "retry", "degraded"),
    ("discord", Answer(429, {"retry-after": "3600"}, b'{"retry_after": 3600}'), "retry", "degraded"),
    ("discord", Answer(404, {}, b'{"message": "Unknown Webhook", "code": 10015}'), "gone", "disabled"),
    ("telegram", as_json(429, {"ok": False, "parameters": {"retry_after": 3600}}), "retry", "degraded"),
    ("telegram", as_json(401, {"ok": False, "description": "Unauthorized"}), "permanent", "needs_attention"),
    ("pagerduty", as_json(400, {"status": "invalid event"}), "permanent", "degraded"),
    ("pagerduty", as_json(429, {}), "retry", "degraded"),
    ("teams", Answer(200, {}, b"Webhook message delivery failed with error: HTTP error 429"), "retry", "degraded"),
    ("ntfy", as_json(507, {}), "retry", "degraded"),
], ids=lambda value: value if isinstance(value, str) else str(getattr(value, "status", "")))
def test_an_answer_is_understood(account: Account, site: Site, kind: str, answer: Answer, outcome: str, health: str):
    config = next(one.config for one in KINDS if one.name == kind)
    with Receiver(lambda _: answer) as receiver:
        channel = account.add_channel(kind, config(receiver.base))
        account.add_rule(channel, "device.offline", **PLAIN)
        site.set(site.device("Printer"), "offline")
        delivery = account.delivery(state="retrying" if outcome == "retry" else "dead")
        assert [one["outcome"] for one in delivery["attempts"]][0] == outcome
        assert account.get(f"/channels/{channel['id']}")["health"] == health


def test_signatures_are_believed_by_both_reference_libraries(account: Account, site: Site):
    with Receiver() as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        path = f"/channels/{channel['id']}"
        rotated = account.post(f"{path}/rotate-secret", status=200)
        site.set(site.device("Drücker · プリンタ"), "offline")
        [call] = receiver.wait(1)
        for secret in (channel["secret"], rotated["secret"]):
            Webhook(secret).verify(call.body, call.headers)
            done = verify_in_javascript(secret, call)
            assert done.returncode == 0, done.stderr
        forged = Call(call.path, call.headers, call.body.replace(b"device.offline", b"device.online!"), call.status)
        assert verify_in_javascript(channel["secret"], forged).returncode == 1
        assert verify_in_javascript("whsec_" + "A" * 43 + "=", call).returncode == 1


def test_an_unknown_kind_is_refused(account: Account):
    answer: httpx.Response = account.client.post("/channels", json={"name": "x", "kind": "pigeon", "config": {}})
    assert answer.status_code == 422
