"""Three nodes on one PostgreSQL and one Redis: any node serves any org, and any node may die."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psycopg
import pytest
from conftest import make_database
from pulse.agent import Agent
from pulse.cluster import TAKEN_OVER_WITHIN_S, Cluster, through, until_acked, until_made, whole_journal
from pulse.dashboard import Dashboard
from pulse.hub import Hub
from pulse.waiting import until

# With so many orgs each of three nodes is home to some.
ORGS = 9


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    url, drop = make_database("postgres", tmp_path)
    cluster = Cluster(tmp_path, url)
    try:
        yield cluster.start()
    finally:
        cluster.end()
        drop()


def test_any_node_serves_any_org(cluster: Cluster) -> None:
    for number in range(ORGS):
        account = cluster.nodes[0].account()
        for node in cluster.nodes:
            assert through(account, node).get("")["id"] == account.org_id
        enrolled, key = through(account, cluster.nodes[number % 3]).add_agent()
        device = through(account, cluster.nodes[(number + 1) % 3]).add_device(enrolled["id"])
        check_id = device["checks"][0]["id"]
        with ExitStack() as stack:
            boards = [stack.enter_context(Dashboard(node, account)) for node in cluster.nodes]
            for board in boards:
                board.read("snapshot")
            agent = stack.enter_context(Agent(cluster.nodes[(number + 2) % 3], key).connect())
            agent.report("online", check_id=check_id)
            agent.report("offline", check_id=check_id)
            agent.acked(2)
            for board in boards:
                board.event("agent.online", agent_id=enrolled["id"])
                board.event("device.online", device_id=device["id"])
                board.event("device.offline", device_id=device["id"])
        assert whole_journal(account)[-2:] == ["device.online", "device.offline"]


def test_dashboards_of_one_node_share_one_stream_from_the_home(cluster: Cluster) -> None:
    account = cluster.nodes[0].account()
    at_home = {node.settings["PULSE_NODE_ID"]: node for node in cluster.nodes}[cluster.home(account)]
    elsewhere = next(node for node in cluster.nodes if node is not at_home)

    def has_viewers(count: int) -> bool:
        return f"\npulse_viewers {count}\n" in httpx.get(f"{at_home.ops_url}/metrics").text

    with ExitStack() as stack:
        boards = [stack.enter_context(Dashboard(elsewhere, account)) for _ in range(3)]
        for board in boards:
            board.read("snapshot")
        made, _ = account.add_agent()
        for board in boards:
            board.event("agent.enrolled", agent_id=made["id"])
        later = stack.enter_context(Dashboard(elsewhere, account))
        later.read("snapshot")
        removed = account.client.delete(f"/agents/{made['id']}")
        assert removed.status_code == 204
        for board in [*boards, later]:
            board.event("agent.removed", agent_id=made["id"])
        assert has_viewers(1)
    until("nobody watches", lambda: has_viewers(0))


def test_a_newer_connection_on_another_node_wins_and_nobody_is_told_offline(cluster: Cluster) -> None:
    account = cluster.nodes[0].account()
    _, key = account.add_agent()
    with Agent(cluster.nodes[0], key).connect() as older, Agent(cluster.nodes[1], key).connect():
        assert older.close_code() == 4001
        assert "agent.offline" not in whole_journal(account)


@pytest.mark.parametrize("end", [Hub.kill, Hub.stop], ids=["kill", "stop"])
def test_a_node_that_goes_takes_nothing_with_it(cluster: Cluster, end) -> None:
    staying = cluster.nodes[:2]
    with ExitStack() as stack:
        fleet = []
        for number in range(ORGS):
            account = staying[0].account()
            enrolled, key = account.add_agent()
            check_id = account.add_device(enrolled["id"])["checks"][0]["id"]
            agent = stack.enter_context(Agent(staying[number % 2], key).connect())
            agent.report("online", check_id=check_id)
            agent.acked(1)
            fleet.append((account, agent, check_id))
        end(cluster.nodes[2])
        for account, agent, check_id in fleet:
            agent.report("offline", check_id=check_id)
        # Their own node stayed: they keep their sockets, and that node sends again what was in flight.
        agents = [agent for _, agent, _ in fleet]
        until("acked without a reconnect", lambda: all([has_acked(agent, 2) for agent in agents]), TAKEN_OVER_WITHIN_S)
        for account, agent, check_id in fleet:
            until("the journal can be read", lambda account=account: "device.offline" in whole_journal(account))
            assert "agent.offline" not in whole_journal(account)


def has_acked(agent: Agent, seq: int) -> bool:
    """Whether the agent's socket, which must be open, has brought this ack. Its heart beats meanwhile."""
    agent.beat()
    agent.listen(0.1)
    return seq not in agent.unacked


def test_agents_of_a_killed_node_come_back_elsewhere_and_nobody_is_told_offline(cluster: Cluster) -> None:
    account = cluster.nodes[0].account()
    _, key = account.add_agent()
    agent = Agent(cluster.nodes[2], key).connect()
    account.event("agent.online")
    cluster.nodes[2].kill()
    with Agent(cluster.nodes[1], key).connect() as again:
        again.listen(7)
        assert "agent.offline" not in whole_journal(account)
    agent.leave()


def test_the_death_of_an_agent_on_another_node_is_noticed_in_time(cluster: Cluster) -> None:
    for number in range(3):
        account = cluster.nodes[number].account()
        _, key = account.add_agent()
        with Agent(cluster.nodes[0], key).connect() as agent:
            account.event("agent.online")
            agent.cut()
        began = time.monotonic()
        assert account.event("agent.offline")["data"]["cause"] == "connection_closed"
        assert time.monotonic() - began < 5 + 3


def test_a_paused_node_writes_nothing_and_finds_out(cluster: Cluster) -> None:
    accounts, paused = cluster.accounts(), cluster.nodes[2]
    assert paused.process
    paused.process.send_signal(signal.SIGSTOP)
    others = [node for node in cluster.nodes if node is not paused]
    until("the others have all", lambda: sum(map(cluster.shards, others)) == 1024, within_s=TAKEN_OVER_WITHIN_S)
    for account in accounts:
        until_made(through(account, others[0]), "Attic")
    paused.process.send_signal(signal.SIGCONT)
    cluster.settle()
    for account in accounts:
        until_made(through(account, paused), "Cellar")
        assert whole_journal(account) == ["agent.enrolled", "agent.enrolled"]


def test_a_node_paused_inside_a_transaction_lets_its_shards_go(cluster: Cluster) -> None:
    accounts = cluster.accounts()
    paused, others = cluster.nodes[2], cluster.nodes[:2]
    for account in accounts:
        # A home that is not there yet would wait for the heads before it is loaded.
        account.add_agent()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(paused.database_url) as operator, ThreadPoolExecutor(len(accounts)) as pool:
        with psycopg.connect(paused.database_url, autocommit=True) as watcher:
            # Each node's journal stands inside its transaction, with its shards locked, before the heads.
            operator.execute("SELECT 1 FROM org_heads FOR UPDATE")
            posts = [pool.submit(one.client.post, "/agents", json={"name": "Cellar"}) for one in accounts]
            until("all journals wait", lambda: watcher.execute(waiting).fetchone()[0] == len(cluster.nodes))
            assert paused.process
            paused.process.send_signal(signal.SIGSTOP)
        operator.rollback()
        until("the others have all", lambda: sum(map(cluster.shards, others)) == 1024, within_s=TAKEN_OVER_WITHIN_S)
        for account in accounts:
            until_made(through(account, others[0]), "Loft")
        assert all(post.result().status_code in (201, 503) for post in posts)
    paused.process.send_signal(signal.SIGCONT)
    cluster.settle()
    for account in accounts:
        assert set(whole_journal(through(account, paused))) == {"agent.enrolled"}


def test_operators_see_the_cluster_and_no_two_nodes_share_a_name(cluster: Cluster, tmp_path: Path) -> None:
    one, two, _ = cluster.nodes
    shown = one.run("cluster", "status", "--json")
    assert shown.returncode == 0, shown.stderr
    status = json.loads(shown.stdout)
    assert [node["node"] for node in status["nodes"]] == ["one", "three", "two"]
    assert all(node["state"] == "serving" and node["shards"] > 200 for node in status["nodes"])
    assert one.run("cluster", "status").stdout.endswith("1024 of 1024 shards have a home\n")
    for node in status["nodes"]:
        line = f'pulse_cluster_shards{{node="{node["node"]}"}} {node["shards"]}\n'
        until(f"node two knows: {line}", lambda line=line: line in httpx.get(f"{two.ops_url}/metrics").text)
    metrics = httpx.get(f"{two.ops_url}/metrics").text
    assert "pulse_bus_lost_messages 0\n" in metrics and "pulse_cluster_shard_epoch{" in metrics

    (tmp_path / "twin").mkdir()
    twin = Hub(tmp_path / "twin", one.database_url, one.settings)
    refused = twin.run("serve")
    assert refused.returncode == 1 and "another process runs as node `one`" in refused.stderr, refused.stderr
    # One that hangs cannot be seen: it finds out when it wakes.
    assert one.process
    one.process.send_signal(signal.SIGSTOP)
    try:
        twin.start()
        one.process.send_signal(signal.SIGCONT)
        assert one.process.wait(timeout=30) == 1
        assert "another process runs as node `one`" in one.last_log()
        cluster.nodes[0], one.process = twin, None
        cluster.settle()
    finally:
        twin.kill()


def test_redis_restarted_empty_harms_nothing(cluster: Cluster) -> None:
    account = cluster.nodes[0].account()
    enrolled, key = account.add_agent()
    check_id = account.add_device(enrolled["id"])["checks"][0]["id"]
    with Agent(cluster.nodes[1], key).connect() as agent:
        agent.report("online", check_id=check_id)
        agent.acked(1)
        cluster.redis.kill()
        cluster.redis.start()
        cluster.settle()
        agent.report("offline", check_id=check_id)
        until_acked(agent, 2)
        assert "agent.offline" not in whole_journal(account)
