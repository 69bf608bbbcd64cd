//! Where Redis is: one server, the primary that Sentinels name, or a Redis Cluster.

use redis::aio::{ConnectionLike, ConnectionManager};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, RedisFuture, RedisResult, TlsMode, Value,
};
use tokio::sync::Mutex;
use url::Url;

use super::{CALL, PATIENCE, config};

const DEFAULT_PORT: u16 = 6_379;
const DEFAULT_SENTINEL_PORT: u16 = 26_379;

/// How to reach Redis; connects to nothing by itself.
pub(super) enum Address {
    /// One server.
    One(Client),
    /// Whichever server the Sentinels call the primary.
    Sentinel(Mutex<SentinelClient>),
    /// A Redis Cluster. All keys are in one slot, so one shard of it does the work; messages reach every server.
    Cluster { client: ClusterClient, servers: Mutex<Vec<Client>> },
}

/// What every kind of URL comes to.
struct Parts {
    /// `sentinel`, `cluster`, or nothing.
    kind: String,
    servers: Vec<ConnectionInfo>,
    /// The first server's, without its path: who to log in as.
    first: Url,
}

impl Address {
    /// Reads an address:
    ///
    /// ```text
    /// redis://[user:password@]host[:port][/number]
    /// redis+sentinel://[user:password@]host[:port],host[:port],…/name[?sentinel_user=…&sentinel_password=…]
    /// redis+cluster://[user:password@]host[:port],host[:port],…
    /// ```
    ///
    /// With `rediss` in place of `redis` all connections are TLS.
    ///
    /// # Errors
    ///
    /// Returns an error when the text is none of these.
    pub(super) fn parse(text: &str) -> RedisResult<Self> {
        let Parts { kind, mut servers, first } = parts(text)?;
        match kind.as_str() {
            "" if servers.len() == 1 => Ok(Self::One(Client::open(servers.remove(0))?)),
            "sentinel" => sentinel(&servers, &first).map(Mutex::new).map(Self::Sentinel),
            "cluster" => {
                let client = ClusterClient::builder(servers.clone())
                    .connection_timeout(PATIENCE)
                    .response_timeout(PATIENCE)
                    .retries(1)
                    .tcp_settings(tcp_settings())
                    .build()?;
                let servers = servers.into_iter().map(Client::open).collect::<RedisResult<_>>()?;
                Ok(Self::Cluster { client, servers: Mutex::new(servers) })
            }
            _ => Err(unreadable("several servers need redis+sentinel:// or redis+cluster://")),
        }
    }

    /// The server to subscribe at now. Of a Redis Cluster, where every server hears every message, another one each time.
    ///
    /// # Errors
    ///
    /// Returns an error if no Sentinel answers, or none knows of a primary.
    pub(super) async fn server(&self) -> RedisResult<Client> {
        match self {
            Self::One(client) => Ok(client.clone()),
            Self::Sentinel(client) => client.lock().await.async_get_client().await,
            Self::Cluster { servers, .. } => {
                let mut servers = servers.lock().await;
                servers.rotate_left(1);
                Ok(servers[0].clone())
            }
        }
    }

    /// A connection for calls.
    ///
    /// # Errors
    ///
    /// Returns an error if nobody answers.
    pub(super) async fn connect(&self) -> RedisResult<Calls> {
        match self {
            Self::Cluster { client, .. } => client.get_async_connection().await.map(Calls::Cluster),
            Self::One(_) | Self::Sentinel(_) => {
                let server = self.server().await?;
                ConnectionManager::new_with_config(server, config()).await.map(Calls::One)
            }
        }
    }
}

/// A connection that comes back by itself, to the same server or within the same cluster.
#[derive(Clone)]
pub(super) enum Calls {
    One(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Calls {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(commands, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(commands, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Takes a URL with several hosts apart: each becomes a URL of its own, which the library reads.
fn parts(text: &str) -> RedisResult<Parts> {
    let (scheme, rest) = text.split_once("://").ok_or_else(|| unreadable("is no URL"))?;
    let (base, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    if !matches!(base, "redis" | "rediss") || !matches!(kind, "" | "sentinel" | "cluster") {
        return Err(unreadable(
            "begins with none of redis://, redis+sentinel:// and redis+cluster:// (rediss for TLS)",
        ));
    }
    let default_port = if kind == "sentinel" { DEFAULT_SENTINEL_PORT } else { DEFAULT_PORT };
    let (authority, path) =
        rest.split_once('/').map_or((rest, ""), |(before, after)| (before, after));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let at = if login.is_empty() { "" } else { "@" };
    let mut first = None;
    let mut servers = Vec::new();
    for host in hosts.split(',') {
        let address = format!("{base}://{login}{at}{host}/{path}");
        let mut url = Url::parse(&address).map_err(|_| unreadable("is no URL"))?;
        if !url.has_host() {
            return Err(unreadable("has no host"));
        }
        if url.port().is_none() {
            // Cannot fail: the URL has a host.
            let _ = url.set_port(Some(default_port));
        }
        let mut server = url.clone();
        if !kind.is_empty() {
            server.set_path("");
            server.set_query(None);
        }
        servers.push(server.into_connection_info()?.set_tcp_settings(tcp_settings()));
        first.get_or_insert(url);
    }
    let first = first.ok_or_else(|| unreadable("has no host"))?;
    Ok(Parts { kind: kind.to_owned(), servers, first })
}

/// The URL's login is the servers'; that of the Sentinels themselves is in the query.
fn sentinel(sentinels: &[ConnectionInfo], url: &Url) -> RedisResult<SentinelClient> {
    let name = url.path().trim_matches('/');
    if name.is_empty() || name.contains('/') {
        return Err(unreadable("names no primary, as in redis+sentinel://host:26379/name"));
    }
    let addresses: Vec<ConnectionAddr> =
        sentinels.iter().map(|sentinel| sentinel.addr().clone()).collect();
    let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
        .set_client_to_redis_tcp_settings(tcp_settings())
        .set_client_to_sentinel_tcp_settings(tcp_settings());
    if url.scheme() == "rediss" {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    let login = sentinels.first().map(ConnectionInfo::redis_settings);
    if let Some(user) = login.and_then(|login| login.username()) {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = login.and_then(|login| login.password()) {
        builder = builder.set_client_to_redis_password(password);
    }
    for (key, value) in url.query_pairs() {
        builder = match &*key {
            "sentinel_user" => builder.set_client_to_sentinel_username(value),
            "sentinel_password" => builder.set_client_to_sentinel_password(value),
            _ => {
                return Err(unreadable("knows only sentinel_user and sentinel_password after `?`"));
            }
        };
    }
    builder.build()
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default();
    // A peer that vanished without a word does not break the connection for a quarter of an hour otherwise, and calls
    // that are not answered do not make a new one.
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(CALL);
    settings
}

/// Never shows the text: it may hold a password.
fn unreadable(what: &'static str) -> RedisError {
    (ErrorKind::InvalidClientConfig, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<&'static str, String> {
        match Address::parse(text) {
            Ok(Address::One(_)) => Ok("one"),
            Ok(Address::Sentinel(_)) => Ok("sentinel"),
            Ok(Address::Cluster { .. }) => Ok("cluster"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_form_of_address_is_read() {
        let good = [
            ("redis://cache", "one"),
            ("redis://user:secret@cache:7000/2", "one"),
            ("rediss://[::1]:7000", "one"),
            ("redis+sentinel://a,b:26380,c/pulse", "sentinel"),
            ("rediss+sentinel://:secret@a:26379/pulse?sentinel_password=other", "sentinel"),
            ("redis+cluster://user:secret@a:7000,b:7001,[::1]:7002", "cluster"),
        ];
        for (text, expected) in good {
            assert_eq!(kind(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn ports_and_logins_are_those_of_the_url() {
        let ports = |text| -> Vec<String> {
            parts(text).unwrap().servers.iter().map(|server| server.addr().to_string()).collect()
        };
        assert_eq!(ports("redis+sentinel://a,b:1/pulse"), ["a:26379", "b:1"]);
        assert_eq!(ports("redis+cluster://a,b:1"), ["a:6379", "b:1"]);
        let servers = parts("redis+cluster://user:se%40cret@a,b").unwrap().servers;
        assert_eq!(servers[1].redis_settings().username(), Some("user"));
        assert_eq!(servers[1].redis_settings().password(), Some("se@cret"));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_shown() {
        for text in [
            "cache:6379",
            "http://secret@cache",
            "redis://",
            "redis://a,b",
            "redis+raft://secret@a",
            "redis+sentinel://secret@a:26379",
            "redis+sentinel://a/pulse?secret=1",
            "redis+cluster://a,,b",
        ] {
            let error = kind(text).unwrap_err();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
