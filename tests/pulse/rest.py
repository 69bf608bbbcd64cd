"""REST, as a program with an API token uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from .waiting import until


# A rule that holds nothing back: each event is one message.
PLAIN = {"cooldown_s": 0, "min_duration_s": 0, "grouping": "none", "flap_detection": False}


class OrgClient(httpx.Client):
    """A client whose paths begin at an org: `""` is the org itself."""

    def __init__(self, root: str, token: str) -> None:
        super().__init__(headers={"authorization": f"Bearer {token}"}, timeout=30)
        self.root = root

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        return super().request(method, self.root + url, **more)


@dataclass
class Account:
    """An org with its owner's token."""

    url: str
    email: str
    org_id: str
    user_id: str
    api_token: str
    password: str
    client: OrgClient = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.client = OrgClient(f"{self.url}/api/v1/orgs/{self.org_id}", self.api_token)

    def get(self, path: str = "", **query: Any) -> Any:
        return self.expect(200, self.client.get(path, params=query))

    def post(self, path: str, body: Any = None, status: int = 201) -> Any:
        return self.expect(status, self.client.post(path, json={} if body is None else body))

    def patch(self, path: str, body: Any) -> Any:
        return self.expect(200, self.client.patch(path, json=body))

    def delete(self, path: str) -> None:
        answer = self.client.delete(path)
        assert answer.status_code == 204, answer.text

    @staticmethod
    def expect(status: int, answer: httpx.Response) -> Any:
        assert answer.status_code == status, f"{answer.request.method} {answer.request.url}: {answer.text}"
        return answer.json()

    def add_agent(self, name: str = "Attic") -> tuple[dict, str]:
        made = self.post("/agents", {"name": name})
        return made["agent"], made["api_key"]

    def add_device(self, agent_id: str, address: str = "192.0.2.1", **more: Any) -> dict:
        return self.post("/devices", {"agent_id": agent_id, "address": address, **more})

    def add_channel(self, kind: str, config: dict, **more: Any) -> dict:
        return self.post("/channels", {"name": f"To {kind}", "kind": kind, "config": config, **more})

    def add_rule(self, channel: dict | list[dict], *event_types: str, **settings: Any) -> dict:
        """A rule with the settings that are given, and the hub's own where none are."""
        channels = channel if isinstance(channel, list) else [channel]
        body = {"name": "Alert", "event_types": list(event_types), "channel_ids": [one["id"] for one in channels]}
        return self.post("/rules", body | settings)

    def add_alert(self, url: str, *event_types: str, **settings: Any) -> dict:
        """A webhook channel and a rule that sends these events there, each of them; answers the channel with its secret."""
        channel = self.post("/channels", {"name": "Hook", "kind": "webhook", "config": {"url": url}})
        self.add_rule(channel, *event_types, **PLAIN | settings)
        return channel

    def deliveries(self, **query: Any) -> list[dict]:
        """All of them, oldest first."""
        found: list[dict] = []
        cursor: dict = {}
        while True:
            page = self.get("/deliveries", limit=200, **query, **cursor)
            found += page["items"]
            if page["next_cursor"] is None:
                return found[::-1]
            cursor = {"cursor": page["next_cursor"]}

    def delivery(self, within_s: float = 30, /, **fields: Any) -> dict:
        """The oldest delivery that has these fields, as soon as there is one."""

        def found() -> dict | None:
            fits = (
                one for one in self.deliveries()
                if all(one.get(key) == value for key, value in fields.items())
            )
            return next(fits, None)

        return until(f"a delivery with {fields}", found, within_s)

    def events(self, *names: str) -> list[dict]:
        """The whole journal, or those of some names."""
        found, after = [], 0
        while True:
            page = self.get("/events", after=after, limit=1000)
            found += page["items"]
            if page["next_cursor"] is None:
                return [event for event in found if not names or event["event"] in names]
            after = page["items"][-1]["seq"]

    def event(self, event: str, /, within_s: float = 20, **data: Any) -> dict:
        """The first event of this name whose data has these fields, as soon as it is journalled."""

        def found() -> dict | None:
            fits = (
                one for one in self.events(event)
                if all(one["data"].get(key) == value for key, value in data.items())
            )
            return next(fits, None)

        return until(f"{event} {data}", found, within_s)
