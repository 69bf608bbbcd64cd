//! The hub as a whole: built in the order its parts need each other, drained in the opposite one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use actix::Arbiter;
use actix_web::dev::{Server, ServerHandle};
use actix_web::{App, HttpServer, web};
use anyhow::Context;
use prometheus::Registry;
use pulse_actors::directory::{Directory, DirectoryPorts};
use pulse_actors::ports::{Accounts, Clock, OrgStore, Sender, SystemClock};
use pulse_domain::org::Liveness;
use pulse_protocol::Timestamp;
use pulse_store::{Database, JournalOptions, JournalWriter, Retention};
use pulse_web::outbound::egress::Egress;
use pulse_web::socket::limits::{LimitSettings, Limits};
use pulse_web::{WebSettings, WebState};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::cluster::{ClusterTask, Joining};
use crate::config::{Config, Tls};
use crate::metrics;

/// Nudges that were lost are made up for this often.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// Settings written by the command line reach a live hub within this.
const RELOAD_EVERY: Duration = Duration::from_secs(2);
/// What has grown old is looked for this often.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);
/// Rows deleted in one transaction: few enough that a commit of the journal never waits long for it.
const PRUNE_BATCH: u32 = 500;
/// Agents of a hub that leaves are to try again after this; by then its successor may be there.
const RECONNECT_AFTER_MS: u64 = 500;
/// Connections one worker holds: the limit on open files is the real bound.
const CONNECTIONS_MAX: usize = 100_000;

/// Everything that runs.
struct Hub {
    state: WebState,
    database: Database,
    journal: JournalWriter,
    retention: Retention,
    cluster: Option<ClusterTask>,
}

/// Runs the hub until it is told to stop.
///
/// # Errors
///
/// Returns an error if the database, an address or the certificate cannot be used.
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut hub = build(&config).await?;
    let public = public_server(&config, hub.state.clone())?;
    let operations = operations_server(&config, hub.state.clone())?;
    let handles = [public.handle(), operations.handle()];
    let servers = [actix::spawn(public), actix::spawn(operations)];

    match &hub.cluster {
        // It says so itself, as soon as it knows where the homes are.
        Some(cluster) => cluster.ready_when_joined(Arc::clone(&hub.state.ready)),
        None => hub.state.ready.store(true, Ordering::Release),
    }
    info!(
        listen = %config.server.listen,
        ops_listen = %config.server.ops_listen,
        database = ?hub.database.kind(),
        duration_ms = began.elapsed().as_millis(),
        "ready"
    );
    let tasks = spawn_tasks(&hub);
    let cut_short = tokio::select! {
        asked = stop_asked_for() => { asked?; None }
        why = fallen_out(&mut hub.cluster) => Some(why),
    };
    for task in tasks {
        task.abort();
    }
    drain(hub, handles, config.server.shutdown_grace).await;
    for server in servers {
        server
            .await
            .context("a listener's task fell")?
            .context("a listener ended with an error")?;
    }
    cut_short.map_or(Ok(()), Err)
}

/// Resolves when this node has no part in its cluster any more.
async fn fallen_out(cluster: &mut Option<ClusterTask>) -> anyhow::Error {
    match cluster {
        Some(cluster) => cluster.over().await,
        None => std::future::pending().await,
    }
}

async fn build(config: &Config) -> anyhow::Result<Hub> {
    let database = crate::database::open(config).await?;
    let registry = Registry::new();
    let on_commit = metrics::journal(&registry)?;
    let journal =
        JournalWriter::start(&database, JournalOptions { on_commit, ..JournalOptions::default() });
    metrics::process(&registry, journal.clone())?;

    let egress = Egress::allowing(&config.server.egress_allow);
    let kinds = crate::kinds::all(config, &egress, Arc::new(database.clone()))?;
    let sender: Arc<dyn Sender> = Arc::new(kinds.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store: Arc<dyn OrgStore> = Arc::new(database.clone());
    let accounts: Arc<dyn Accounts> = Arc::new(database.clone());
    let joining = match &config.storage.cluster {
        Some(cluster) => {
            let joining = Joining::connect(cluster).await?;
            joining.measure(&registry)?;
            Some(joining)
        }
        None => None,
    };
    let actor_metrics = pulse_actors::metrics::Metrics::register(&registry)?;
    let links = crate::kinds::links(config)?;
    let courier = crate::mails::courier(config, &database, &clock, &links, &actor_metrics)?;
    let ports = DirectoryPorts {
        clock: Arc::clone(&clock),
        journal: Arc::new(journal.clone()),
        store: Arc::clone(&store),
        sender: Arc::clone(&sender),
        metrics: actor_metrics,
        liveness: Liveness {
            heartbeat_interval: config.liveness.heartbeat_interval,
            heartbeat_timeout: config.liveness.heartbeat_timeout,
            offline_grace: config.liveness.offline_grace,
        },
        jitter: rand::random,
        cluster: joining.as_ref().map(Joining::ports),
    };
    let directory = Directory::new(ports, home_arbiters());
    let cluster = match joining {
        Some(joining) => Some(joining.join(&directory, &database).await?),
        None => None,
    };
    directory.start_mailer(courier.clone());
    let state = WebState {
        directory,
        store,
        accounts,
        clock,
        kinds,
        sender,
        courier,
        links,
        settings: Arc::new(WebSettings {
            public_url: config.server.public_url.clone(),
            trusted_proxies: config.server.trusted_proxies.clone(),
            egress,
        }),
        metrics: pulse_web::metrics::Metrics::register(&registry)?,
        attempts: Arc::default(),
        passwords: Arc::default(),
        limits: Arc::new(Limits::new(LimitSettings {
            handshakes_per_address: config.limits.handshakes_per_address,
            handshakes_per_node: config.limits.handshakes_per_node,
            frames: config.limits.frames.map(|rate| (rate.per_second, rate.burst)),
            unacked_frames: config.limits.unacked_frames,
        })),
        ready: Arc::new(AtomicBool::new(false)),
    };
    let keep_events = config.storage.retention.events;
    let retention = Retention { database: database.clone(), keep_events, batch: PRUNE_BATCH };
    Ok(Hub { state, database, journal, retention, cluster })
}

fn cores() -> usize {
    available_parallelism().map_or(1, usize::from)
}

/// Threads for the homes: half of the cores, because the sockets need the other half.
fn home_arbiters() -> Vec<actix::ArbiterHandle> {
    (0..(cores() / 2).max(1)).map(|_| Arbiter::new().handle()).collect()
}

fn public_server(config: &Config, state: WebState) -> anyhow::Result<Server> {
    let listen = config.server.listen;
    let tls = config.server.tls.as_ref().map(Tls::server_config).transpose()?;
    pulse_web::server::listen(listen, tls, cores(), CONNECTIONS_MAX, state)
        .with_context(|| cannot_listen(listen, "PULSE_LISTEN"))
}

fn operations_server(config: &Config, state: WebState) -> anyhow::Result<Server> {
    let listen = config.server.ops_listen;
    let data = web::Data::new(state);
    HttpServer::new(move || App::new().app_data(data.clone()).configure(pulse_web::configure_ops))
        .workers(1)
        .disable_signals()
        .bind(listen)
        .with_context(|| cannot_listen(listen, "PULSE_OPS_LISTEN"))
        .map(HttpServer::run)
}

fn cannot_listen(address: SocketAddr, key: &str) -> String {
    format!("cannot listen on {address}: choose another address with {key}, or stop what uses it")
}

/// What runs beside the requests.
fn spawn_tasks(hub: &Hub) -> Vec<tokio::task::JoinHandle<()>> {
    let mut tasks = Vec::new();
    let directory = hub.state.directory.clone();
    tasks.push(actix::spawn(async move {
        if let Err(error) = directory.wake_all().await {
            error!(%error, "homes could not be woken; agents that are away are announced when their org is asked for");
        }
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            directory.wake_mailer();
            if let Err(error) = directory.sweep_channels().await {
                warn!(%error, "channels could not be swept; trying again");
            }
        }
    }));
    let directory = hub.state.directory.clone();
    tasks.push(actix::spawn(async move {
        let mut since = Timestamp::wall_clock();
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            let looked_at = Timestamp::wall_clock();
            match directory.reload_changed(since).await {
                // Other clocks may be a little behind this one.
                Ok(()) => since = looked_at - RELOAD_EVERY,
                Err(error) => warn!(%error, "changed settings could not be read; trying again"),
            }
        }
    }));
    let retention = hub.retention.clone();
    tasks.push(actix::spawn(async move {
        loop {
            tokio::time::sleep(PRUNE_EVERY).await;
            match retention.run_once(Timestamp::wall_clock()).await {
                Ok(pruned) => info!(?pruned, "old rows deleted"),
                Err(error) => warn!(%error, "old rows could not be deleted; trying again later"),
            }
        }
    }));
    tasks
}

async fn stop_asked_for() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be heard")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be heard")?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: draining"),
        _ = interrupt.recv() => info!("SIGINT: draining"),
    }
    Ok(())
}

/// Takes nothing more, makes what was taken durable, sends everybody away, closes.
async fn drain(hub: Hub, handles: [ServerHandle; 2], grace: Duration) {
    let Hub { state, database, journal, retention, cluster } = hub;
    if let Some(cluster) = cluster {
        // First the homes, while this node's sockets can still reach them elsewhere.
        cluster.leave().await;
    }
    state.ready.store(false, Ordering::Release);
    let leave = state.directory.drain(RECONNECT_AFTER_MS, grace);
    tokio::join!(leave, state.directory.stop_mailer(grace));
    let [public, operations] = handles;
    // Sockets were closed above; what is left are requests on their way and idle connections.
    tokio::join!(public.stop(false), operations.stop(false));
    journal.close().await;
    drop((state, retention));
    if let Err(error) = database.close().await {
        warn!(%error, "the database was not closed in order");
    }
    info!("drained");
}
