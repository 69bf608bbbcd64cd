"""Three nodes under the faults that networks, databases and disks have: nothing acked is lost, nothing is said twice,
nobody is told that an agent is offline which is not, and the cluster recovers by itself.

Each test has agents, dashboards and writers at every node, for an org at home on each, all the time.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from conftest import make_database
from pulse.balancer import Balancer
from pulse.cluster import TAKEN_OVER_WITHIN_S, Cluster, Redis, WiredCluster, through, until_made, whole_journal
from pulse.disk import SmallDisk
from pulse.hub import Hub, free_port
from pulse.proxy import Fault, messages
from pulse.traffic import Quiet, Traffic, Worker
from pulse.waiting import until
from services import Postgres

# Printed with every run; this only says when something hangs for good.
RECOVERED_WITHIN_S = 45
# Longer than the hub lets a home take for an answer.
ASKED_AGAIN_AFTER_S = 15
FAULTS = pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.value)

Record = Callable[[str, object], None]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WiredCluster]:
    url, drop = make_database("postgres", tmp_path)
    cluster = WiredCluster(tmp_path, url)
    try:
        yield cluster.start()
    finally:
        cluster.end()
        drop()


@pytest.fixture
def traffic(cluster: WiredCluster) -> Iterator[Traffic]:
    with Traffic(cluster.account_of_each(), cluster.nodes) as traffic:
        yield traffic


@pytest.fixture
def traffic_with_quiet_agents(cluster: WiredCluster) -> Iterator[Traffic]:
    with Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents() as traffic:
        yield traffic


def at(*nodes: Hub) -> Callable[[Worker], bool]:
    """Whose hub is one of these."""
    return lambda worker: any(f" {node.url} " in worker.name for node in nodes)


def until_ready_is(status: int, traffic: Traffic, *nodes: Hub) -> None:
    until(
        f"readiness is {status}", lambda: all(traffic.readiness_of(node).latest() == status for node in nodes),
        within_s=TAKEN_OVER_WITHIN_S,
    )


def recover(cluster: Cluster, traffic: Traffic, shares: list[int], heal: Callable[[], None], record: Record) -> None:
    """Ends the fault; measures until everybody is served by everybody and each node has the share it had."""
    began = time.monotonic()
    heal()
    healed = time.monotonic()
    traffic.until_served(healed, within_s=RECOVERED_WITHIN_S)
    record("served again after", f"{time.monotonic() - began:.1f} s")
    until("all are ready", lambda: all(one.latest() == 200 for one in traffic.readiness), RECOVERED_WITHIN_S)
    until("the shares are as before", lambda: cluster.shares() == shares, RECOVERED_WITHIN_S)
    record("shards even again after", f"{time.monotonic() - began:.1f} s")


# Not strict: only an agent that has nothing under way when the home is lost is kept waiting.
@FAULTS
def test_a_node_without_redis(cluster: WiredCluster, traffic: Traffic, fault: Fault, record_property: Record) -> None:
    *others, lonely = cluster.nodes
    wire, shares = cluster.wires[2].redis, cluster.shares()
    began = time.monotonic()
    wire.break_off(fault)
    until("the others have all", lambda: sum(map(cluster.shards, others)) == 1024, within_s=TAKEN_OVER_WITHIN_S)
    until_ready_is(503, traffic, lonely)
    record_property("not ready after", f"{time.monotonic() - began:.1f} s")
    traffic.until_served(time.monotonic(), at(*others))
    traffic.until_answered(lonely)
    recover(cluster, traffic, shares, wire.heal, record_property)
    assert not any(traffic.readiness_of(node).said(503, began) for node in others)
    traffic.end()
    assert traffic.resyncs() == []


def test_quiet_agents_of_a_node_without_redis_are_not_taken_for_dead(cluster: WiredCluster) -> None:
    *others, lonely = cluster.nodes
    quiet = [Quiet(account, [lonely, *others]) for account in cluster.account_of_each()]
    for agent in quiet:
        agent.start()
    try:
        for agent in quiet:
            through(agent.account, others[0]).event("agent.online", agent_id=agent.agent_id)
        cluster.wires[2].redis.break_off(Fault.BLACKHOLE)
        # To the end of the grace of those who did not come back.
        until("all have gone elsewhere", lambda: all(agent.at > 0 for agent in quiet), within_s=60)
        for agent in quiet:
            agent.until_served(time.monotonic())
            assert "agent.offline" not in whole_journal(through(agent.account, others[0]))
    finally:
        for agent in quiet:
            agent.stop()


@FAULTS
def test_a_node_without_postgres(
    cluster: WiredCluster, traffic_with_quiet_agents: Traffic, fault: Fault, record_property: Record
) -> None:
    *others, lonely = cluster.nodes
    wire, shares, traffic = cluster.wires[2].postgres, cluster.shares(), traffic_with_quiet_agents
    began = time.monotonic()
    wire.break_off(fault)
    until_ready_is(503, traffic, lonely)
    record_property("not ready after", f"{time.monotonic() - began:.1f} s")
    elsewhere = [account.org_id for account in traffic.accounts if cluster.home(account) != "three"]
    assert elsewhere
    served = at(*others)
    traffic.until_served(time.monotonic() + 3, lambda worker: served(worker) and worker.name.split()[-1] in elsewhere)
    recover(cluster, traffic, shares, wire.heal, record_property)
    assert not any(traffic.readiness_of(node).said(503, began) for node in others)
    traffic.end()
    assert traffic.resyncs() == []


def test_a_request_is_answered_although_postgres_is_a_blackhole(cluster: WiredCluster) -> None:
    account = through(cluster.account_of_each()[0], cluster.nodes[2])
    assert account.get("")
    cluster.wires[2].postgres.break_off(Fault.BLACKHOLE)
    assert account.client.get("", timeout=ASKED_AGAIN_AFTER_S).status_code == 503


def test_the_shards_of_a_node_without_postgres_go_to_others(cluster: WiredCluster) -> None:
    *others, lonely = cluster.nodes
    account = next(one for one in cluster.account_of_each() if cluster.home(one) == "three")
    cluster.wires[2].postgres.break_off(Fault.RESET)
    until_made(through(account, others[0]), "Attic")


def test_a_node_cut_off_from_its_peers(cluster: WiredCluster, traffic: Traffic, record_property: Record) -> None:
    wire, shares = cluster.wires[2].redis, cluster.shares()
    wire.break_off(Fault.BLACKHOLE, messages)
    # Until every line is known to be silent, and longer.
    traffic.until_served(time.monotonic() + 8, at(*cluster.nodes[:2]), within_s=20)
    recover(cluster, traffic, shares, wire.heal, record_property)
    traffic.end()
    assert traffic.resyncs() == []


def test_a_slow_redis_slows_but_breaks_nothing(cluster: WiredCluster, traffic: Traffic, record_property: Record) -> None:
    shares, began = cluster.shares(), time.monotonic()
    for wires in cluster.wires:
        wires.redis.delay_s = 0.1
    traffic.until_served(time.monotonic() + 10)
    assert not any(one.said(503, began) for one in traffic.readiness)
    assert cluster.shares() == shares

    def heal() -> None:
        for wires in cluster.wires:
            wires.redis.heal()

    recover(cluster, traffic, shares, heal, record_property)
    assert all(answer.status == 200 for writer in traffic.writers for answer in writer.answers)
    traffic.end()
    assert traffic.resyncs() == []


def test_a_redis_too_slow_for_leases_is_as_good_as_none(
    cluster: WiredCluster, traffic: Traffic, record_property: Record
) -> None:
    shares, began = cluster.shares(), time.monotonic()
    for wires in cluster.wires:
        wires.redis.delay_s = 1.5
    until_ready_is(503, traffic, *cluster.nodes)
    record_property("not ready after", f"{time.monotonic() - began:.1f} s")
    traffic.until_answered(*cluster.nodes)

    def heal() -> None:
        for wires in cluster.wires:
            wires.redis.heal()

    recover(cluster, traffic, shares, heal, record_property)
    traffic.end()
    assert traffic.resyncs() == []


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """Where another user may put a server's files: the folders of pytest are its owner's alone."""
    folder = Path(tempfile.mkdtemp(prefix="pulse-postgres-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_postgres_killed_and_restarted(tmp_path: Path, server_folder: Path, record_property: Record) -> None:
    with ExitStack() as stack:
        server = Postgres(server_folder, free_port())
        stack.callback(server.stop)
        server.start()
        cluster = Cluster(tmp_path, server.url)
        stack.callback(cluster.end)
        cluster.start()
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents())
        shares, began = cluster.shares(), time.monotonic()
        server.kill()
        until_ready_is(503, traffic, *cluster.nodes)
        record_property("not ready after", f"{time.monotonic() - began:.1f} s")
        traffic.until_answered(*cluster.nodes)
        recover(cluster, traffic, shares, server.start, record_property)
        traffic.end()
        assert traffic.resyncs() == []


def test_no_room_for_the_tables(tmp_path: Path, server_folder: Path, record_property: Record) -> None:
    """PostgreSQL stays up and refuses what would need another page."""
    with ExitStack() as stack:
        disk = SmallDisk(server_folder / "disk", size_mib=64)
        stack.callback(disk.end)
        server = Postgres(server_folder, free_port())
        stack.callback(server.stop)
        server.start()
        shutil.chown(disk.folder, *([server.data.owner()] * 2))
        with psycopg.connect(server.url, autocommit=True) as operator:
            operator.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
            operator.execute("CREATE DATABASE small TABLESPACE small")
        cluster = Cluster(tmp_path, server.url.removesuffix("postgres") + "small")
        stack.callback(cluster.end)
        cluster.start()
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents())
        shares = cluster.shares()
        disk.fill()
        until("writes are refused", lambda: all(
            any(one.status == 503 for one in writer.answers) for writer in traffic.writers
        ))
        assert [one.latest() for one in traffic.readiness] == [200] * len(cluster.nodes), "the database answers"
        recover(cluster, traffic, shares, disk.free, record_property)
        traffic.end()
        assert traffic.resyncs() == []


def test_no_room_for_the_log(tmp_path: Path, server_folder: Path, record_property: Record) -> None:
    """PostgreSQL falls, and cannot be started until there is room."""
    with ExitStack() as stack:
        disk = SmallDisk(server_folder / "disk", size_mib=64)
        stack.callback(disk.end)
        settings = "-c min_wal_size=2MB -c max_wal_size=32MB -c wal_recycle=off"
        server = Postgres(server_folder, free_port(), wal_folder=disk.folder, settings=settings)
        stack.callback(server.stop)
        server.start()
        cluster = Cluster(tmp_path, server.url)
        stack.callback(cluster.end)
        cluster.start()
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents())
        shares = cluster.shares()
        disk.fill()
        with pytest.raises(psycopg.OperationalError), psycopg.connect(server.url, autocommit=True) as operator:
            # What it has set aside already has some room left.
            for _ in range(100):
                operator.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 500000))")
        until_ready_is(503, traffic, *cluster.nodes)
        traffic.until_answered(*cluster.nodes)

        def heal() -> None:
            disk.free()
            server.stop()
            server.start()

        recover(cluster, traffic, shares, heal, record_property)
        traffic.end()
        assert traffic.resyncs() == []


def test_all_nodes_are_restarted_behind_a_load_balancer(tmp_path: Path, record_property: Record) -> None:
    with ExitStack() as stack:
        url, drop = make_database("postgres", tmp_path)
        stack.callback(drop)
        cluster = Cluster(tmp_path, url)
        stack.callback(cluster.end)
        cluster.start()
        balancer = Balancer(tmp_path, cluster.nodes)
        stack.callback(balancer.end)
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), [balancer] * len(cluster.nodes)).and_quiet_agents())
        shares, began = cluster.shares(), time.monotonic()
        for node in cluster.nodes:
            assert node.stop() == 0
            stopped = time.monotonic()
            traffic.until_served(stopped)
            record_property(f"{node.settings['PULSE_NODE_ID']} stopped, all served after", f"{time.monotonic() - stopped:.1f} s")
            node.start()
            until("the shares are as before", lambda: cluster.shares() == shares, RECOVERED_WITHIN_S)
            until("the load balancer sends to all nodes", lambda: balancer.up() == len(cluster.nodes))
        record_property("three restarts took", f"{time.monotonic() - began:.1f} s")
        traffic.until_served(time.monotonic())
        traffic.end()
        assert traffic.resyncs() == []


class SentinelCluster(Cluster):
    """Its Redis has a replica, and a Sentinel that puts it in the primary's place."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.folder, self.sentinel_port = folder, free_port()
        super().__init__(folder, server_url)

    def urls(self, _name: str, database_url: str) -> tuple[str, str]:
        return database_url, f"redis+sentinel://127.0.0.1:{self.sentinel_port}/pulse"

    def start(self) -> Cluster:
        self.replica = Redis(self.folder, "--replicaof", "127.0.0.1", str(self.redis.port))
        settings = self.folder / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor pulse 127.0.0.1 {self.redis.port} 1\n"
            "sentinel down-after-milliseconds pulse 1000\nsentinel failover-timeout pulse 5000\n"
        )
        self.sentinel = Redis(self.folder, str(settings), "--sentinel", port=self.sentinel_port)
        asked = ["redis-cli", "-p", str(self.sentinel_port), "sentinel", "replicas", "pulse"]
        until("the Sentinel knows the replica", lambda: str(self.replica.port) in subprocess.check_output(asked, text=True))
        return super().start()

    def end(self) -> None:
        super().end()
        self.replica.kill()
        self.sentinel.kill()


def test_redis_fails_over_behind_a_sentinel(tmp_path: Path, record_property: Record) -> None:
    with ExitStack() as stack:
        url, drop = make_database("postgres", tmp_path)
        stack.callback(drop)
        cluster = SentinelCluster(tmp_path, url)
        stack.callback(cluster.end)
        cluster.start()
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents())
        shares = cluster.shares()

        def heal() -> None:
            cluster.redis.kill()
            # Where the leases are from now on.
            cluster.redis, cluster.replica = cluster.replica, cluster.redis

        recover(cluster, traffic, shares, heal, record_property)
        traffic.end()
        assert traffic.resyncs() == []


def test_postgres_fails_over_to_its_standby(tmp_path: Path, server_folder: Path, record_property: Record) -> None:
    with ExitStack() as stack:
        folders = [server_folder / name for name in ("first", "second")]
        for folder in folders:
            folder.mkdir()
        server_folder.chmod(0o755)
        first = Postgres(folders[0], free_port(), settings="-c synchronous_standby_names=*")
        stack.callback(first.stop)
        # The database is made before anybody waits for the standby.
        first.start()
        second = Postgres(folders[1], free_port(), standby_of=first)
        stack.callback(second.stop)
        second.start()
        cluster = Cluster(tmp_path, f"postgres://pulse@127.0.0.1:{first.port},127.0.0.1:{second.port}/postgres")
        stack.callback(cluster.end)
        cluster.start()
        traffic = stack.enter_context(Traffic(cluster.account_of_each(), cluster.nodes).and_quiet_agents())
        shares = cluster.shares()

        def heal() -> None:
            first.kill()
            second.promote()

        recover(cluster, traffic, shares, heal, record_property)
        traffic.end()
        assert traffic.resyncs() == []
