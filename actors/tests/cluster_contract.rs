//! What a cluster's ports promise, asked of both implementations.
//!
//! Redis is the server in `PULSE_TEST_REDIS_URL`, the one behind a Sentinel in `PULSE_TEST_REDIS_SENTINEL_URL` and the
//! Redis Cluster in `PULSE_TEST_REDIS_CLUSTER_URL`; each test has a hub's cluster of its own there. Without the variable
//! those tests say so and pass. The test that restarts a server starts one for itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use pulse_actors::cluster::{
    Bus, Coordination, Inbox, Member, MemoryCluster, NodeId, RedisCluster, SHARDS, Shard,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// No promise takes longer to keep.
const DEADLINE: Duration = Duration::from_secs(20);
/// Not over within any test.
const LONG: Duration = Duration::from_secs(120);
/// Soon over.
const SHORT: Duration = Duration::from_millis(50);

/// Where clients meet.
trait Site {
    type Client: Bus + Coordination;

    async fn client(&self) -> Self::Client;
}

struct InMemory(MemoryCluster);

impl Site for InMemory {
    type Client = MemoryCluster;

    async fn client(&self) -> MemoryCluster {
        self.0.clone()
    }
}

struct OnRedis {
    url: String,
    name: String,
}

impl OnRedis {
    fn at(variable: &str) -> Option<Self> {
        let Ok(url) = std::env::var(variable) else {
            // Past the harness, which shows what a passing test printed to nobody.
            let note = format!("SKIPPED, nothing is tested on Redis: {variable} is not set\n");
            std::io::stderr().write_all(note.as_bytes()).unwrap();
            return None;
        };
        Some(Self { url, name: Uuid::new_v4().to_string() })
    }
}

impl Site for OnRedis {
    type Client = RedisCluster;

    async fn client(&self) -> RedisCluster {
        RedisCluster::connect_named(&self.url, &self.name).await.unwrap()
    }
}

macro_rules! promises {
    ($($name:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&super::InMemory(super::MemoryCluster::new())).await;
            })*
        }

        mod redis {
            $(promises!(@redis $name "PULSE_TEST_REDIS_URL");)*
        }

        mod redis_sentinel {
            $(promises!(@redis $name "PULSE_TEST_REDIS_SENTINEL_URL");)*
        }

        mod redis_cluster {
            $(promises!(@redis $name "PULSE_TEST_REDIS_CLUSTER_URL");)*
        }
    };
    (@redis $name:ident $variable:literal) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            if let Some(site) = super::OnRedis::at($variable) {
                super::$name(&site).await;
            }
        }
    };
}

promises! {
    members_see_each_other_in_order_of_their_names
    a_member_that_leaves_is_gone_but_not_its_successor
    of_two_under_one_name_the_newer_stays
    who_looks_sees_how_long_each_still_counts
    a_member_that_falls_silent_is_gone_after_its_time
    a_lease_is_refused_to_others_until_it_is_released
    a_lease_that_ran_out_goes_to_whom_asks_first
    all_shards_are_held_in_one_call
    holding_and_releasing_touch_only_what_is_ones_own
    of_contenders_exactly_one_holds_each_shard
    messages_reach_the_named_node_only_and_in_order
    a_message_to_nobody_vanishes
    any_bytes_are_delivered_as_they_are
}

async fn members_see_each_other_in_order_of_their_names(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (member("a"), Member { draining: true, ..member("b|odd") });
    assert_eq!(two.announce(&b, LONG).await.unwrap(), vec![b.clone()]);
    assert_eq!(one.announce(&a, LONG).await.unwrap(), [a.clone(), b.clone()]);

    let restarted = Member { incarnation: Uuid::now_v7(), version: "2".into(), ..a };
    assert_eq!(one.announce(&restarted, LONG).await.unwrap(), [restarted.clone(), b.clone()]);
    assert_eq!(two.announce(&b, LONG).await.unwrap(), [restarted, b]);
}

async fn a_member_that_leaves_is_gone_but_not_its_successor(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (member("a"), member("b"));
    one.announce(&a, LONG).await.unwrap();
    one.leave(&a).await.unwrap();
    assert_eq!(two.announce(&b, LONG).await.unwrap(), vec![b.clone()]);
    one.leave(&a).await.unwrap();

    let restarted = member("a");
    one.announce(&restarted, LONG).await.unwrap();
    two.leave(&a).await.unwrap();
    assert_eq!(two.announce(&b, LONG).await.unwrap(), [restarted, b]);
}

async fn of_two_under_one_name_the_newer_stays(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (older, newer) = (member("a"), member("a"));
    one.announce(&older, LONG).await.unwrap();
    assert_eq!(two.announce(&newer, LONG).await.unwrap(), vec![newer.clone()]);
    assert_eq!(one.announce(&older, LONG).await.unwrap(), vec![newer.clone()]);
    two.announce(&newer, SHORT).await.unwrap();
    until(async || one.announce(&older, LONG).await.unwrap() == [older.clone()]).await;
}

async fn who_looks_sees_how_long_each_still_counts(site: &impl Site) {
    let client = site.client().await;
    assert_eq!(client.members().await.unwrap(), []);
    let (a, b) = (member("a"), member("b"));
    client.announce(&b, LONG).await.unwrap();
    client.announce(&a, LONG / 2).await.unwrap();
    let seen = client.members().await.unwrap();
    assert_eq!(seen.iter().map(|it| it.member.clone()).collect::<Vec<_>>(), [a.clone(), b]);
    assert!((LONG / 4..=LONG / 2).contains(&seen[0].time_left), "{:?}", seen[0].time_left);
    assert!((LONG * 3 / 4..=LONG).contains(&seen[1].time_left), "{:?}", seen[1].time_left);
    client.announce(&a, SHORT).await.unwrap();
    until(async || client.members().await.unwrap().len() == 1).await;
}

async fn a_member_that_falls_silent_is_gone_after_its_time(site: &impl Site) {
    let client = site.client().await;
    let (a, b) = (member("a"), member("b"));
    client.announce(&a, SHORT).await.unwrap();
    until(async || client.announce(&b, LONG).await.unwrap() == [b.clone()]).await;
}

async fn a_lease_is_refused_to_others_until_it_is_released(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    assert_eq!(one.hold(&a, &shards(7..9), LONG).await.unwrap(), shards(7..9));
    assert_eq!(two.hold(&b, &shards(7..9), LONG).await.unwrap(), []);
    assert_eq!(one.hold(&a, &shards(7..9), LONG).await.unwrap(), shards(7..9), "renewed");

    one.release(&a, &shards(7..8)).await.unwrap();
    assert_eq!(two.hold(&b, &shards(7..9), LONG).await.unwrap(), shards(7..8));
    assert_eq!(one.hold(&a, &shards(7..9), LONG).await.unwrap(), shards(8..9));
}

async fn a_lease_that_ran_out_goes_to_whom_asks_first(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    one.hold(&a, &shards(1..2), SHORT).await.unwrap();
    one.hold(&a, &shards(2..3), SHORT).await.unwrap();
    until(async || one.holders().await.unwrap().is_empty()).await;
    assert_eq!(one.hold(&a, &shards(2..3), LONG).await.unwrap(), shards(2..3), "counts as renewed");
    assert_eq!(two.hold(&b, &shards(1..3), LONG).await.unwrap(), shards(1..2));
    assert_eq!(one.hold(&a, &shards(1..2), LONG).await.unwrap(), []);

    // A renewal counts from when it is made.
    one.hold(&a, &shards(2..3), SHORT).await.unwrap();
    until(async || two.hold(&b, &shards(2..3), LONG).await.unwrap() == shards(2..3)).await;
}

async fn all_shards_are_held_in_one_call(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    let all: Vec<Shard> = Shard::all().collect();
    assert_eq!(one.hold(&a, &all, LONG).await.unwrap(), all);
    assert_eq!(two.hold(&b, &all, LONG).await.unwrap(), []);
    let holders = two.holders().await.unwrap();
    assert_eq!(holders, all.iter().map(|shard| (*shard, a.clone())).collect::<BTreeMap<_, _>>());

    one.release(&a, &all).await.unwrap();
    assert_eq!(two.holders().await.unwrap(), BTreeMap::new());
}

async fn holding_and_releasing_touch_only_what_is_ones_own(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    one.hold(&a, &shards(0..2), LONG).await.unwrap();
    assert_eq!(two.hold(&b, &shards(0..4), LONG).await.unwrap(), shards(2..4));
    two.release(&b, &shards(0..3)).await.unwrap();
    let expected = [(0, &a), (1, &a), (3, &b)];
    let expected = expected.map(|(number, node)| (Shard::numbered(number).unwrap(), node.clone()));
    assert_eq!(one.holders().await.unwrap(), BTreeMap::from(expected));

    assert_eq!(two.hold(&b, &[], LONG).await.unwrap(), []);
    two.release(&b, &[]).await.unwrap();
}

async fn of_contenders_exactly_one_holds_each_shard(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    for number in 0..64 {
        let wanted = shards(number..number + 1);
        let (first, second) =
            tokio::join!(one.hold(&a, &wanted, LONG), two.hold(&b, &wanted, LONG));
        assert_eq!(first.unwrap().len() + second.unwrap().len(), 1);
    }
}

async fn messages_reach_the_named_node_only_and_in_order(site: &impl Site) {
    const MESSAGES: u32 = 10_000;
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    let (mut at_a, mut at_b) = (one.listen(&a).await.unwrap(), two.listen(&b).await.unwrap());
    for number in 0..MESSAGES {
        one.send(&b, Bytes::copy_from_slice(&number.to_be_bytes()));
    }
    for number in 0..MESSAGES {
        assert_eq!(next(&mut at_b).await, number.to_be_bytes()[..], "message {number}");
    }
    // Had a message for B come to A, it would be before these.
    two.send(&a, Bytes::from_static(b"from two"));
    assert_eq!(next(&mut at_a).await, "from two");
    one.send(&a, Bytes::from_static(b"to oneself"));
    assert_eq!(next(&mut at_a).await, "to oneself");
}

async fn a_message_to_nobody_vanishes(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let (a, b) = (node("a"), node("b"));
    let mut at_b = one.listen(&b).await.unwrap();
    two.send(&a, Bytes::from_static(b"to nobody"));
    two.send(&b, Bytes::from_static(b"after it"));
    // By now the first is gone through.
    assert_eq!(next(&mut at_b).await, "after it");
    let mut at_a = one.listen(&a).await.unwrap();
    two.send(&a, Bytes::from_static(b"to somebody"));
    assert_eq!(next(&mut at_a).await, "to somebody");
}

async fn any_bytes_are_delivered_as_they_are(site: &impl Site) {
    let (one, two) = (site.client().await, site.client().await);
    let a = node("a");
    let mut inbox = one.listen(&a).await.unwrap();
    let large = Bytes::from((0..3_000_000_u32).map(|n| (n % 251) as u8).collect::<Vec<_>>());
    for message in [Bytes::new(), Bytes::from_static(b"\r\n\0\xff|"), large] {
        two.send(&a, message.clone());
        assert!(next(&mut inbox).await == message, "{} bytes were changed", message.len());
    }
}

#[tokio::test(start_paused = true)]
async fn in_memory_a_node_can_be_cut_off_and_healed() {
    let cluster = MemoryCluster::new();
    let (a, b) = (node("a"), node("b"));
    let (from_a, from_b) = (cluster.seen_from(&a), cluster.seen_from(&b));
    let (mut at_a, mut at_b) = (from_a.listen(&a).await.unwrap(), from_b.listen(&b).await.unwrap());
    from_a.hold(&a, &shards(0..1), SHORT).await.unwrap();

    cluster.cut(&a);
    from_a.send(&b, Bytes::from_static(b"lost"));
    from_b.send(&a, Bytes::from_static(b"lost"));
    assert_eq!(cluster.lost(), 2);
    assert!(cluster.hold(&a, &shards(0..1), SHORT).await.is_err());
    assert!(from_a.holders().await.is_err());
    assert_eq!(from_b.hold(&b, &shards(0..1), LONG).await.unwrap(), [], "still held");
    tokio::time::advance(SHORT).await;
    assert_eq!(from_b.hold(&b, &shards(0..1), LONG).await.unwrap(), shards(0..1));

    cluster.heal(&a);
    from_a.send(&b, Bytes::from_static(b"hello"));
    from_b.send(&a, Bytes::from_static(b"hello"));
    assert_eq!((next(&mut at_a).await, next(&mut at_b).await), ("hello".into(), "hello".into()));
    assert_eq!(from_a.hold(&a, &shards(0..1), LONG).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_a_message_of_more_than_8_mib_is_refused_and_counted() {
    let Some(site) = OnRedis::at("PULSE_TEST_REDIS_URL") else { return };
    let client = site.client().await;
    let mut inbox = client.listen(&node("a")).await.unwrap();
    client.send(&node("a"), Bytes::from(vec![0; (8 << 20) + 1]));
    client.send(&node("a"), Bytes::from_static(b"small"));
    assert_eq!(next(&mut inbox).await, "small");
    assert_eq!(client.lost(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_redis_everything_goes_on_after_a_server_is_restarted_empty() {
    if OnRedis::at("PULSE_TEST_REDIS_URL").is_none() {
        return;
    }
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let mut server = start(port).await;
    let site = OnRedis { url: format!("redis://127.0.0.1:{port}"), name: "restarted".into() };
    let client = site.client().await;
    let (a, b) = (member("a"), member("b"));
    let mut inbox = client.listen(&a.node).await.unwrap();
    client.announce(&a, LONG).await.unwrap();
    client.hold(&a.node, &shards(0..2), LONG).await.unwrap();

    server.kill().await.unwrap();
    assert!(client.holders().await.is_err());
    client.send(&a.node, Bytes::from_static(b"into the void"));
    until(async || client.lost() >= 1).await;
    let mut server = start(port).await;

    until(async || client.announce(&b, LONG).await.is_ok_and(|members| members == [b.clone()]))
        .await;
    assert_eq!(client.hold(&b.node, &shards(0..2), LONG).await.unwrap(), shards(0..2));
    until(async || {
        client.send(&a.node, Bytes::from_static(b"again"));
        inbox.try_recv().is_ok_and(|message| message == "again")
    })
    .await;
    server.kill().await.unwrap();
}

/// A server that keeps nothing, once it accepts connections.
async fn start(port: u16) -> Child {
    let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""];
    let mut command = Command::new("redis-server");
    command.args(arguments).current_dir(std::env::temp_dir()).stdout(Stdio::null());
    let server = command.kill_on_drop(true).spawn().expect("redis-server is not installed");
    until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    server
}

/// Asks until it holds.
async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn next(inbox: &mut Inbox) -> Bytes {
    timeout(DEADLINE, inbox.recv()).await.expect("nothing was delivered").expect("the inbox ended")
}

fn node(name: &str) -> NodeId {
    NodeId(name.into())
}

fn member(name: &str) -> Member {
    let incarnation = Uuid::now_v7();
    Member { node: node(name), incarnation, draining: false, version: "1".into() }
}

fn shards(numbers: std::ops::Range<u16>) -> Vec<Shard> {
    assert!(numbers.end <= SHARDS);
    numbers.filter_map(Shard::numbered).collect()
}
