"""Mail, to a real mail server: what is sent, what its replies mean, and who gets none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from email.utils import parseaddr

import httpx
import pytest
from pulse.hub import Hub
from pulse.receiver import Receiver
from pulse.rest import PLAIN, Account
from pulse.site import Site
from pulse.smtp import DROP, KEEP_AND_DROP, Mail, MailServer
from pulse.waiting import until

NAME = '<b onload="x">Printer</b> & co'
PUBLIC_URL = "https://hub.example.com"


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as server:
        yield server


@pytest.fixture
def hub(own_hub: Callable[..., Hub], server: MailServer) -> Hub:
    """Sends its mail to the server of the test."""
    return own_hub(**server.settings(PULSE_PUBLIC_URL=PUBLIC_URL))


@pytest.fixture
def account(hub: Hub) -> Account:
    return hub.account()


@pytest.fixture
def site(hub: Hub, account: Account):
    with Site(hub, account) as site:
        yield site


def add_mail_alert(account: Account, *recipients: str, retry_schedule_s: tuple[int, ...] = (0, 0, 0, 0)) -> dict:
    """A mail channel, and a rule that sends each `device.offline` there."""
    channel = account.add_channel("email", {"recipients": list(recipients)}, retry_schedule_s=list(retry_schedule_s))
    account.add_rule(channel, "device.offline", **PLAIN)
    return channel


def outcomes(delivery: dict) -> list[tuple[str, int | None]]:
    return [(one["outcome"], one.get("status")) for one in delivery["attempts"]]


def settle_welcome(server: MailServer, account: Account) -> None:
    """The mail that greets a new owner is no part of what is tested."""
    server.wait(account.email)


# What is sent


def test_an_alert_by_mail_has_both_parts_and_all_its_headers(account: Account, site: Site, server: MailServer):
    channel = add_mail_alert(account, "night@example.com")
    site.set(site.device(NAME), "offline")
    [mail] = server.wait("night@example.com")
    message = mail.message
    assert parseaddr(message["from"]) == ("Pulse", "no-reply@hub.example")
    assert message["to"] == "night@example.com" and message["bcc"] is None and message["cc"] is None
    assert mail.sender and mail.recipients == ["night@example.com"]
    assert message["date"] and re.fullmatch(r"<[^<>@\s]+@[^<>@\s]+>", message["message-id"])
    assert message.get_content_type() == "multipart/alternative"
    assert "Printer" in mail.subject and "\n" not in mail.subject
    assert NAME in mail.text
    assert NAME not in mail.html and "<b onload" not in mail.html and "Printer" in mail.html
    delivery = account.delivery(state="delivered")
    assert (delivery["recipient"], delivery["channel_id"]) == ("night@example.com", channel["id"])
    assert outcomes(delivery) == [("accepted", 250)]


def test_each_recipient_gets_a_message_and_a_delivery_of_their_own(account: Account, site: Site, server: MailServer):
    recipients = ["one@example.com", "two@example.com", "three@example.com"]
    server.refuse("two@example.com", "550 5.1.1 no such user")
    add_mail_alert(account, *recipients)
    site.set(site.device("Printer"), "offline")
    for recipient in ("one@example.com", "three@example.com"):
        [mail] = server.wait(recipient)
        assert mail.recipients == [recipient]
        assert not any(other in mail.message.as_string() for other in recipients if other != recipient)
    until("all three have ended", lambda: all(one["state"] in ("delivered", "dead") for one in account.deliveries()))
    states = {one["recipient"]: one["state"] for one in account.deliveries()}
    assert states == {"one@example.com": "delivered", "two@example.com": "dead", "three@example.com": "delivered"}


def test_a_test_message_by_mail_shows_the_servers_reply(account: Account, server: MailServer):
    channel = add_mail_alert(account, "night@example.com")
    shown = account.post(f"/channels/{channel['id']}/test", status=200)
    assert (shown["outcome"], shown["status"]) == ("accepted", 250)
    assert len(server.to("night@example.com")) == 1
    settle_welcome(server, account)
    server.reply("rcpt", "550 5.7.1 we know you")
    answer = account.client.post(f"/channels/{channel['id']}/test", json={})
    assert (answer.status_code, answer.json()["code"]) == (502, "delivery_failed")
    assert "550" in answer.json()["detail"]


@pytest.mark.parametrize("config", [
    {}, {"recipients": []}, {"recipients": ["nobody"]}, {"recipients": "a@example.com"}, {"recipients": ["a@example.com\r\nBcc: b@x"]},
    {"recipients": [f"{number}@example.com" for number in range(1_000)]},
])
def test_n29_wrong_recipients_are_422(account: Account, config: dict):
    answer = account.client.post("/channels", json={"name": "Mail", "kind": "email", "config": config})
    assert answer.status_code == 422, answer.text
    assert all(one["field"].startswith("config") for one in answer.json()["errors"])


# What replies mean


@pytest.mark.parametrize(("stage", "reply", "outcome"), [
    # Before a recipient was named it is the hub that is refused: no fault of the message.
    ("banner", "421 4.3.2 closing", "retry"),
    ("banner", "554 5.3.2 not today", "retry"),
    ("ehlo", "421 4.3.2 closing", "retry"),
    ("mail", "451 4.3.0 later", "retry"),
    ("mail", "550 5.7.1 not from you", "retry"),
    ("rcpt", "450 4.2.1 greylisted", "retry"),
    ("rcpt", "550 5.1.1 no such user", "permanent"),
    ("data", "451 4.3.0 later", "retry"),
    ("data", "554 5.6.0 no", "permanent"),
    ("dot", "451 4.3.0 later", "retry"),
    ("dot", "452 4.3.1 full", "retry"),
    ("dot", "554 5.7.1 spam", "permanent"),
    ("mail", DROP, "retry"),
    ("rcpt", DROP, "retry"),
    ("data", DROP, "retry"),
    ("dot", DROP, "retry"),
])
def test_n33_n34_a_reply_at_each_stage_is_understood(
    account: Account, site: Site, server: MailServer, stage: str, reply: str, outcome: str
):
    settle_welcome(server, account)
    add_mail_alert(account, "night@example.com")
    server.reply(stage, *([reply] if outcome == "permanent" else [reply, reply]))
    # A connection that is open already has no banner.
    server.reply("mail", *(["421 4.4.2 idle for too long"] if stage in ("banner", "ehlo") else server.once["mail"]))
    site.set(site.device("Printer"), "offline")
    if outcome == "permanent":
        dead = account.delivery(state="dead")
        assert outcomes(dead) == [("permanent", int(reply[:3]))]
        assert server.to("night@example.com") == []
        return
    delivered = account.delivery(60, state="delivered")
    seen = outcomes(delivered)
    assert seen[-1] == ("accepted", 250) and all(one == "retry" for one, _ in seen[:-1]) and len(seen) >= 2
    assert len(server.to("night@example.com")) == 1


def test_n33_a_passing_refusal_is_retried_under_the_same_message_id_and_then_dead(
    account: Account, site: Site, server: MailServer
):
    settle_welcome(server, account)
    add_mail_alert(account, "night@example.com", retry_schedule_s=(0, 0))
    server.reply("rcpt", always="450 4.2.1 greylisted")
    site.set(site.device("Printer"), "offline")
    dead = account.delivery(60, state="dead")
    assert outcomes(dead) == [("retry", 450)] * 3
    server.reply("rcpt")
    account.post(f"/deliveries/{dead['id']}/replay", status=200)
    account.delivery(id=dead["id"], state="delivered")
    assert len(server.wait("night@example.com")) == 1


def test_a_mail_that_was_kept_without_a_reply_is_sent_again_under_the_same_message_id(
    account: Account, site: Site, server: MailServer
):
    settle_welcome(server, account)
    add_mail_alert(account, "night@example.com")
    server.reply("dot", KEEP_AND_DROP)
    site.set(site.device("Printer"), "offline")
    first, second = server.wait("night@example.com", 2)
    assert first.message["message-id"] == second.message["message-id"]
    assert first.message["date"] == second.message["date"]
    assert outcomes(account.delivery(state="delivered"))[-1] == ("accepted", 250)


def test_a_mail_server_that_is_away_is_no_fault_of_the_channel(account: Account, site: Site, server: MailServer):
    settle_welcome(server, account)
    channel = add_mail_alert(account, "night@example.com", retry_schedule_s=(3600,))
    server.stop()
    site.set(site.device("Printer"), "offline")
    waiting = account.delivery(state="retrying")
    assert outcomes(waiting) == [("retry", None)]
    assert account.get(f"/channels/{channel['id']}")["health"] == "healthy"


# Encryption and login


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
def test_mail_is_encrypted_and_the_server_is_who_it_says(own_hub, tmp_path, tls: str):
    with MailServer(tls=tls, login=("pulse", "p@ss/word")) as server:
        settings = server.settings(SSL_CERT_FILE=str(server.certificate(tmp_path)))
        account = own_hub(**settings).account()
        channel = account.add_channel("email", {"recipients": ["night@example.com"]})
        account.post(f"/channels/{channel['id']}/test", status=200)
        [mail] = server.to("night@example.com")
        assert mail.is_encrypted
        # Who does not know the authority does not believe the certificate, and sends nothing.
        stranger = own_hub(**server.settings()).account()
        channel = stranger.add_channel("email", {"recipients": ["day@example.com"]})
        assert stranger.client.post(f"/channels/{channel['id']}/test", json={}).status_code == 502
        assert server.to("day@example.com") == []


def test_a_refused_login_is_the_hubs_own_fault_and_shows_no_password(own_hub):
    with MailServer(login=("pulse", "right")) as server:
        url = server.url.replace(":right@", ":wrong-and-secret@")
        hub = own_hub(**server.settings(PULSE_SMTP_URL=url))
        account = hub.account()
        channel = add_mail_alert(account, "night@example.com", retry_schedule_s=(3600,))
        with Site(hub, account) as site:
            site.set(site.device("Printer"), "offline")
        waiting = account.delivery(state="retrying")
        assert outcomes(waiting)[0][0] == "retry"
        assert account.get(f"/channels/{channel['id']}")["health"] == "healthy"
        shown = account.client.get("/deliveries").text + account.client.get("/events").text + hub.last_log()
        assert "wrong-and-secret" not in shown


# Who gets none


def test_an_address_that_does_not_exist_gets_no_second_mail(account: Account, site: Site, server: MailServer):
    settle_welcome(server, account)
    add_mail_alert(account, "gone@example.com")
    server.refuse("gone@example.com", "550 5.1.1 no such user")
    site.set(site.device("Printer"), "offline")
    account.delivery(state="dead")
    site.set(site.device("Scanner"), "offline")
    held = account.delivery(state="suppressed")
    assert (held["suppressed_by"], held["recipient"], held["attempts"]) == ("recipient", "gone@example.com", [])


def test_who_unsubscribes_with_one_click_gets_none_and_looking_at_the_link_is_no_click(
    hub: Hub, account: Account, site: Site, server: MailServer
):
    add_mail_alert(account, "night@example.com", "day@example.com")
    site.set(site.device("Printer"), "offline")
    [mail] = server.wait("night@example.com")
    link = unsubscribe_link(mail)
    assert link in mail.text
    local = link.replace(PUBLIC_URL, hub.url)
    for look in (httpx.get, httpx.head):
        assert look(local, timeout=20).status_code == 200
    site.set(site.device("Scanner"), "offline")
    server.wait("night@example.com", 2)
    answer = httpx.post(local, data={"List-Unsubscribe": "One-Click"}, timeout=20)
    assert answer.status_code in (200, 202, 204), answer.text
    site.set(site.device("Router"), "offline")
    server.wait("day@example.com", 3)
    held = account.delivery(state="suppressed", recipient="night@example.com")
    assert held["suppressed_by"] == "recipient"
    assert len(server.to("night@example.com")) == 2
    forged = local[:-1] + ("A" if local[-1] != "A" else "B")
    assert httpx.post(forged, data={"List-Unsubscribe": "One-Click"}, timeout=20).status_code == 404


def unsubscribe_link(mail: Mail) -> str:
    assert mail.message["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    [link] = re.findall(r"<(https:[^>]+)>", mail.message["list-unsubscribe"])
    assert link.startswith(f"{PUBLIC_URL}/unsubscribe/")
    return link


def test_without_a_mail_server_mail_is_shown_as_not_configured(own_hub):
    hub = own_hub()
    account = hub.account()
    add_mail_alert(account, "night@example.com")
    with Site(hub, account) as site:
        site.set(site.device("Printer"), "offline")
        held = account.delivery(state="suppressed")
        assert held["suppressed_by"] == "mail_not_configured"


# The product's own mail


def test_n01_a_new_org_greets_its_owner_once(hub: Hub, server: MailServer):
    account = hub.account(name="<i>Night & Day</i>")
    [mail] = server.wait(account.email)
    assert "welcome" in mail.subject.lower()
    assert "<i>Night" not in mail.html and "Night" in mail.html
    assert PUBLIC_URL in mail.text
    assert mail.recipients == [account.email]
    # The same once more is no second org.
    hub.bootstrap(account.email, "<i>Night & Day</i>")
    other = hub.account()
    server.wait(other.email)
    assert len(server.to(account.email)) == 1


def test_n01_the_greeting_waits_for_a_mail_server_that_is_away(own_hub):
    with MailServer() as server:
        server.reply("banner", "421 4.3.2 closing", "421 4.3.2 closing")
        hub = own_hub(**server.settings())
        account = hub.account()
        until("two attempts were refused", lambda: server.connections >= 2, within_s=60)
        hub.kill()
        hub.start()
        [mail] = server.wait(account.email, within_s=90)
        assert "welcome" in mail.subject.lower()


def test_n39_the_owners_are_told_of_a_channel_that_was_disabled(account: Account, site: Site, server: MailServer):
    settle_welcome(server, account)
    with Receiver(lambda _: (410, {})) as receiver:
        channel = account.add_alert(receiver.url, "device.offline")
        site.set(site.device("Printer"), "offline")
        account.event("channel.disabled", channel_id=channel["id"])
        until("the owner is told", lambda: len(server.to(account.email)) == 2)
        mail = server.to(account.email)[-1]
        assert "Hook" in mail.subject + mail.text and "switched off" in (mail.subject + mail.text).lower()
        assert receiver.url not in mail.text + mail.html
