//! A wire between a node and a server, that can be cut, blocked and made slow.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::FutureExt as _;
use futures_util::future::pending;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::hub::free_address;

/// How the wire is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// As if it were not there.
    Whole,
    /// Everything arrives so much later, in each direction.
    Slow(Duration),
    /// Nothing arrives and nothing is closed. What was on its way comes when the wire is whole again, as TCP sends it
    /// again; but what is sent is acknowledged, for the wire ends in this process and not in a firewall.
    Blocked,
    /// Connections end, and new ones end at once.
    Cut,
}

/// What every connection watches.
#[derive(Clone, Debug)]
struct Watched {
    condition: watch::Receiver<Condition>,
    /// Changes when connections so far are to be forgotten.
    forgotten: watch::Receiver<()>,
}

/// One wire; it is gone when dropped.
#[derive(Debug)]
pub(crate) struct Wire {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    forgotten: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    /// A wire to `server` that begins at a free port of the loopback interface.
    pub(crate) async fn to(server: SocketAddr) -> Result<Self> {
        let address = free_address()?;
        let listener = TcpListener::bind(address).await.context("cannot lay a wire")?;
        let (condition, condition_seen) = watch::channel(Condition::Whole);
        let (forgotten, forgotten_seen) = watch::channel(());
        let watched = Watched { condition: condition_seen, forgotten: forgotten_seen };
        let task = tokio::spawn(accept(listener, server, watched));
        Ok(Self { address, condition, forgotten, task })
    }

    /// Where it begins.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }

    /// The connections that there are carry nothing any more and are never closed; new ones are whole. As when a
    /// firewall forgets them, or a server vanishes and another one takes its address.
    pub(crate) fn forget(&self) {
        self.forgotten.send_replace(());
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, watched: Watched) {
    // They end with the wire.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connect(stream, server, watched.clone()));
                }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(near: TcpStream, server: SocketAddr, watched: Watched) {
    let Watched { mut condition, mut forgotten } = watched;
    forgotten.mark_unchanged();
    let is_open = |condition: &Condition| *condition != Condition::Blocked;
    if condition.wait_for(is_open).await.is_ok_and(|now| *now == Condition::Cut) {
        return;
    }
    // A server that is away closes, and so does this.
    let Ok(far) = TcpStream::connect(server).await else { return };
    if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
        return;
    }
    let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
    let mut cut = condition.clone();
    let there = carry(near_read, far_write, condition.clone());
    let back = carry(far_read, near_write, condition);
    tokio::pin!(there, back);
    tokio::select! {
        () = &mut there => {}
        () = &mut back => {}
        () = is_cut(&mut cut) => {}
        // Both ends stay open.
        Ok(()) = forgotten.changed() => pending().await,
    }
}

async fn is_cut(condition: &mut watch::Receiver<Condition>) {
    // A wire that is gone is cut as well.
    let _ = condition.wait_for(|condition| *condition == Condition::Cut).await;
}

/// Chunks that are on their way at once; beyond, the sender waits, as with any full buffer.
const ON_THE_WAY: usize = 256;
const CHUNK_BYTES: usize = 64 * 1024;

/// Carries one direction until either end closes.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, condition: watch::Receiver<Condition>) {
    let (queue, queued) = mpsc::channel(ON_THE_WAY);
    // What was taken in before the end still arrives.
    let taking = take_in(from, queue, condition.clone()).then(|()| pending());
    tokio::select! {
        () = taking => {}
        () = give_out(to, queued, condition) => {}
    }
}

async fn take_in(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<(Instant, Vec<u8>)>,
    condition: watch::Receiver<Condition>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(size @ 1..) = from.read(&mut buffer).await {
        let delay = match *condition.borrow() {
            Condition::Slow(delay) => delay,
            _ => Duration::ZERO,
        };
        let chunk = (Instant::now() + delay, buffer[..size].to_vec());
        if queue.send(chunk).await.is_err() {
            return;
        }
    }
}

async fn give_out(
    mut to: OwnedWriteHalf,
    mut queued: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut condition: watch::Receiver<Condition>,
) {
    while let Some((due, chunk)) = queued.recv().await {
        sleep_until(due).await;
        let is_open = |condition: &Condition| *condition != Condition::Blocked;
        if condition.wait_for(is_open).await.is_err() || to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that says everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await.unwrap_or(0)
                });
            }
        });
        address
    }

    async fn ask(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map(|_| answer)
    }

    #[tokio::test]
    async fn a_whole_wire_carries_both_ways_and_a_slow_one_later() {
        let wire = Wire::to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        wire.set(Condition::Slow(Duration::from_millis(50)));
        let began = Instant::now();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_blocked_wire_carries_nothing_until_it_is_whole() {
        let wire = Wire::to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        wire.set(Condition::Blocked);
        let mut asking = Box::pin(ask(&mut stream));
        assert!(timeout(Duration::from_millis(100), &mut asking).await.is_err());
        wire.set(Condition::Whole);
        assert_eq!(&asking.await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn what_one_end_closes_is_closed_at_the_other() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Wire::to(listener.local_addr().unwrap()).await.unwrap();
        let mut near = TcpStream::connect(wire.address()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        far.write_all(b"bye").await.unwrap();
        drop(far);
        let mut said = Vec::new();
        near.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, b"bye");
    }

    #[tokio::test]
    async fn a_forgotten_connection_is_silent_and_a_new_one_is_whole() {
        let wire = Wire::to(echo().await).await.unwrap();
        let mut old = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut old).await.unwrap(), b"ping");
        wire.forget();
        assert!(timeout(Duration::from_millis(100), ask(&mut old)).await.is_err());
        let mut new = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut new).await.unwrap(), b"ping");
    }

    #[tokio::test]
    async fn a_cut_wire_ends_what_goes_through_it_and_what_comes_new() {
        let wire = Wire::to(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut stream).await.unwrap(), b"ping");
        wire.set(Condition::Cut);
        assert_eq!(stream.read(&mut [0; 4]).await.unwrap_or(0), 0);
        let mut fresh = TcpStream::connect(wire.address()).await.unwrap();
        assert!(ask(&mut fresh).await.is_err());
        wire.set(Condition::Whole);
        let mut again = TcpStream::connect(wire.address()).await.unwrap();
        assert_eq!(&ask(&mut again).await.unwrap(), b"ping");
    }
}
