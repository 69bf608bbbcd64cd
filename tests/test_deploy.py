"""The examples in docs/deploy hold what a cluster cannot do without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "deploy"
NODES = 3
# What a hub needs to be a member of a cluster.
NEEDED = {"PULSE_DATABASE_URL", "PULSE_REDIS_URL", "PULSE_SECRET_KEY", "PULSE_NODE_ID"}
SECRET = re.compile(r"PASSWORD|SECRET|_KEY$|TOKEN|DATABASE_URL|REDIS_URL")
# The hub's own, in docs/configuration.md.
GRACE_MS_DEFAULT = 20_000

Tree = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> Tree:
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def manifests() -> list[Tree]:
    return [each for each in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()) if each]


def one(manifests: list[Tree], kind: str, name: str) -> Tree:
    found = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]


def containers(manifests: list[Tree]) -> Iterator[Tree]:
    for each in manifests:
        yield from each.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])


def hubs_of(compose: Tree) -> dict[str, Tree]:
    return {name: service for name, service in compose["services"].items() if service.get("image") == "pulse-hub"}


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_kubernetes_knows_every_field_of_the_manifests(manifests: list[Tree], version: str) -> None:
    for each in manifests:
        kubernetes_validate.validate(each, version, strict=True)


def test_compose_runs_three_members_of_one_cluster(compose: Tree) -> None:
    hubs = hubs_of(compose)
    assert len(hubs) == NODES
    for name, hub in hubs.items():
        environment = hub["environment"]
        assert environment.keys() >= NEEDED, name
        assert "/readyz" in str(hub["healthcheck"]["test"]), name
        grace_ms = int(environment.get("PULSE_SHUTDOWN_GRACE_MS", GRACE_MS_DEFAULT))
        assert int(hub["stop_grace_period"].removesuffix("s")) * 1000 > grace_ms, name
    assert len({hub["environment"]["PULSE_NODE_ID"] for hub in hubs.values()}) == NODES


def test_compose_holds_no_secret(compose: Tree) -> None:
    for service in compose["services"].values():
        environment = service.get("environment", {})
        assert environment.get("POSTGRES_PASSWORD", "${").startswith("${")
        assert environment.get("PULSE_SECRET_KEY", "${").startswith("${")
        assert re.fullmatch(r"[^:]+://\w+:\$\{.*\}@.*", environment.get("PULSE_DATABASE_URL", "a://a:${}@"))


def test_the_load_balancer_leads_to_the_hubs_of_the_compose_file(compose: Tree) -> None:
    text = (FOLDER / "haproxy.cfg").read_text()
    servers = set(re.findall(r"^\s+server (\S+) \1:8080$", text, re.MULTILINE))
    assert servers == hubs_of(compose).keys()
    assert "uri /readyz" in text


def test_kubernetes_asks_every_hub_how_it_is(manifests: list[Tree]) -> None:
    hub = one(manifests, "StatefulSet", "hub")["spec"]
    assert hub["replicas"] == NODES
    [container] = hub["template"]["spec"]["containers"]
    paths = {probe: container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "readinessProbe")}
    assert paths == {"livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert {each["name"] for each in container["env"]} >= NEEDED
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_kubernetes_leaves_a_hub_time_to_drain(manifests: list[Tree]) -> None:
    pod = one(manifests, "StatefulSet", "hub")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    grace_ms = int(environment.get("PULSE_SHUTDOWN_GRACE_MS", GRACE_MS_DEFAULT))
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert pod["terminationGracePeriodSeconds"] * 1000 > pause_s * 1000 + grace_ms


def test_maintenance_takes_one_hub_at_a_time(manifests: list[Tree]) -> None:
    budget = one(manifests, "PodDisruptionBudget", "hub")["spec"]
    assert budget["minAvailable"] == NODES - 1
    hub = one(manifests, "StatefulSet", "hub")["spec"]
    labels = hub["template"]["metadata"]["labels"]
    for selector in (budget["selector"], hub["selector"]):
        assert selector["matchLabels"].items() <= labels.items()
    assert one(manifests, "Service", "hub")["spec"]["selector"].items() <= labels.items()


def test_kubernetes_holds_no_secret(manifests: list[Tree]) -> None:
    assert not [each for each in manifests if each["kind"] == "Secret"]
    named = [each for container in containers(manifests) for each in container.get("env", [])]
    secrets = [each for each in named if SECRET.search(each["name"])]
    assert secrets
    for each in secrets:
        assert "secretKeyRef" in each.get("valueFrom", {}), each["name"]
