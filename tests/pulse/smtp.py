"""A mail server that answers at each stage as it is told, and keeps what it accepted."""

from __future__ import annotations

import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from .hub import free_port
from .waiting import until

# In the order of a conversation; `dot` is the end of the message.
STAGES = ("banner", "ehlo", "auth", "mail", "rcpt", "data", "dot")
# In place of a reply: the connection ends without one.
DROP = "drop"
# At the end of the message: it is kept, and then the connection ends without a reply.
KEEP_AND_DROP = "keep and drop"


@dataclass(frozen=True)
class Mail:
    """One message as it was accepted."""

    sender: str
    recipients: list[str]
    message: EmailMessage
    is_encrypted: bool

    @property
    def subject(self) -> str:
        return self.message["subject"]

    @property
    def text(self) -> str:
        return self.message.get_body(("plain",)).get_content()

    @property
    def html(self) -> str:
        return self.message.get_body(("html",)).get_content()


class Conversation(SMTP):
    """The server's side of one connection."""

    def __init__(self, server: MailServer, **more: Any) -> None:
        super().__init__(Handler(server), hostname="mail.example.com", **more)
        self.server, self.is_greeted = server, False

    async def push(self, status: Any) -> None:
        if not self.is_greeted:
            self.is_greeted = True
            self.server.connections += 1
            reply = self.server.next_reply("banner")
            if reply is not None:
                await self.say(reply)
                return
        await super().push(status)

    async def say(self, reply: str) -> None:
        if reply in (DROP, KEEP_AND_DROP):
            self.transport.abort()
        else:
            await super().push(reply)

    async def scripted(self, stage: str) -> bool:
        reply = self.server.next_reply(stage)
        if reply is None:
            return False
        await self.say(reply)
        return True

    async def smtp_EHLO(self, hostname: str) -> None:
        if not await self.scripted("ehlo"):
            await super().smtp_EHLO(hostname)

    async def smtp_AUTH(self, arg: str) -> None:
        if not await self.scripted("auth"):
            await super().smtp_AUTH(arg)

    async def smtp_MAIL(self, arg: str) -> None:
        if not await self.scripted("mail"):
            await super().smtp_MAIL(arg)

    async def smtp_RCPT(self, arg: str) -> None:
        refused = next((reply for address, reply in self.server.refused.items() if f"<{address}>" in arg), None)
        if refused is not None:
            await self.say(refused)
        elif not await self.scripted("rcpt"):
            await super().smtp_RCPT(arg)

    async def smtp_DATA(self, arg: str) -> None:
        if not await self.scripted("data"):
            await super().smtp_DATA(arg)


class Handler:
    """What becomes of a message once it is there."""

    def __init__(self, server: MailServer) -> None:
        self.server = server

    async def handle_DATA(self, conversation: Conversation, session: Session, envelope: Envelope) -> str:
        reply = self.server.next_reply("dot")
        if reply in (None, KEEP_AND_DROP):
            self.server.keep(envelope, session.ssl is not None)
        if reply in (DROP, KEEP_AND_DROP):
            conversation.transport.abort()
        return reply or "250 2.0.0 kept"


class Listener(Controller):
    """Listens in a thread of its own."""

    def __init__(self, server: MailServer, port: int, more: dict, **listener: Any) -> None:
        self.mail_server, self.more = server, more
        super().__init__(Handler(server), hostname="127.0.0.1", port=port, **listener)

    def factory(self) -> Conversation:
        return Conversation(self.mail_server, **self.more)


class MailServer:
    """`tls` is None, `starttls` or `implicit`; with `login` it takes mail of nobody else."""

    def __init__(self, tls: str | None = None, login: tuple[str, str] | None = None) -> None:
        self.tls, self.login, self.port = tls, login, free_port()
        self.mails: list[Mail] = []
        self.connections = 0
        self.refused: dict[str, str] = {}
        self.once: dict[str, deque[str]] = defaultdict(deque)
        self.always: dict[str, str] = {}
        # Asked where nothing else is said; such as one that draws faults.
        self.fate: Callable[[str], str | None] = lambda _: None
        self.authority = trustme.CA()
        self.listener: Listener | None = None

    def __enter__(self) -> MailServer:
        more: dict[str, Any] = {}
        listener: dict[str, Any] = {}
        if self.login is not None:
            more |= {"authenticator": self.check_login, "auth_required": True, "auth_require_tls": False}
        if self.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
            if self.tls == "starttls":
                more |= {"tls_context": context, "require_starttls": True}
            else:
                listener["ssl_context"] = context
        self.listener = Listener(self, self.port, more, **listener)
        self.listener.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From here on connections are refused."""
        if self.listener is not None:
            self.listener.stop()
            self.listener = None

    @property
    def url(self) -> str:
        """For `PULSE_SMTP_URL`. By `localhost`, for which the certificate is."""
        scheme = "smtps" if self.tls == "implicit" else "smtp"
        login = f"{quote(self.login[0], safe='')}:{quote(self.login[1], safe='')}@" if self.login else ""
        host = "localhost" if self.tls else "127.0.0.1"
        query = "?tls=required" if self.tls == "starttls" else ""
        return f"{scheme}://{login}{host}:{self.port}{query}"

    def settings(self, **more: str) -> dict[str, str]:
        """What a hub needs to send its mail here."""
        return {"PULSE_SMTP_URL": self.url, "PULSE_MAIL_FROM": "Pulse <no-reply@hub.example>"} | more

    def certificate(self, folder: Path) -> Path:
        """Of the authority that the server's certificate is from."""
        file = folder / "authority.pem"
        self.authority.cert_pem.write_to_path(file)
        return file

    def reply(self, stage: str, *once: str, always: str | None = None) -> None:
        """The next replies at a stage, and the one after them; the usual one if none."""
        assert stage in STAGES
        self.once[stage] = deque(once)
        self.always.pop(stage, None)
        if always is not None:
            self.always[stage] = always

    def refuse(self, address: str, reply: str) -> None:
        """What is answered to this recipient."""
        self.refused[address] = reply

    def next_reply(self, stage: str) -> str | None:
        if self.once[stage]:
            return self.once[stage].popleft()
        return self.always.get(stage) or self.fate(stage)

    def keep(self, envelope: Envelope, is_encrypted: bool) -> None:
        message = message_from_bytes(envelope.original_content, policy=policy.default)
        encrypted = is_encrypted or self.tls == "implicit"
        self.mails.append(Mail(envelope.mail_from, list(envelope.rcpt_tos), message, encrypted))

    def check_login(self, _server: SMTP, _session: Session, _envelope: Envelope, _how: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode()) == self.login
        return AuthResult(success=good, handled=False)

    def to(self, address: str, subject: str = "") -> list[Mail]:
        """Mails accepted for an address, with this in their subject."""
        return [mail for mail in list(self.mails) if address in mail.recipients and subject.lower() in mail.subject.lower()]

    def wait(self, address: str, count: int = 1, subject: str = "", within_s: float = 30) -> list[Mail]:
        """Waits for so many mails to an address."""
        until(f"{count} mails to {address}", lambda: len(self.to(address, subject)) >= count, within_s)
        return self.to(address, subject)
