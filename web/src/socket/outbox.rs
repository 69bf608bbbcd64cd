//! What a dashboard's socket has still to carry: bounded, and shared with the stream that the socket drains.
//!
//! The framework's own queue has no bound and cannot be looked into, so events go past it: they are pushed here,
//! as whole websocket frames, and the response's body takes them as fast as the socket does.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::Notify;

/// Bytes that may wait for one viewer.
const BYTES_MAX: usize = 1024 * 1024;
/// Events that may wait for one viewer.
const EVENTS_MAX: usize = 1_000;
/// What the socket is given at a time.
const PIECE_MAX: usize = 32 * 1024;

/// The viewer reads too slowly.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

/// The queue of one viewer. Not for other threads: the session and its socket share one.
#[derive(Clone, Default)]
pub(super) struct Outbox(Rc<Shared>);

#[derive(Default)]
struct Shared {
    queue: RefCell<Queue>,
    taken: Notify,
}

#[derive(Default)]
struct Queue {
    entries: VecDeque<Entry>,
    /// What is left of the entry that the socket is taking. Never dropped: half a frame would garble the rest.
    under_way: Bytes,
    bytes: usize,
    events: usize,
    waker: Option<Waker>,
}

struct Entry {
    frames: Bytes,
    /// What it counts against the bounds.
    bytes: usize,
    events: usize,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.under_way.is_empty()
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += entry.bytes;
        self.events += entry.events;
        self.entries.push_back(entry);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Outbox {
    /// Queues frames that carry `events` events, if they fit.
    pub(super) fn push(&self, frames: Bytes, events: usize) -> Result<(), TooSlow> {
        let mut queue = self.0.queue.borrow_mut();
        let bytes = frames.len();
        if queue.bytes + bytes > BYTES_MAX || queue.events + events > EVENTS_MAX {
            return Err(TooSlow);
        }
        queue.push(Entry { frames, bytes, events });
        Ok(())
    }

    /// Queues what must be told whatever its size, once for each watch, such as a snapshot. It counts for nothing: a
    /// large snapshot must not make its viewer too slow for the events after it.
    pub(super) fn push_anyway(&self, frames: Bytes) {
        self.0.queue.borrow_mut().push(Entry { frames, bytes: 0, events: 0 });
    }

    /// Drops everything that waits, but for the rest of what the socket is taking.
    pub(super) fn clear(&self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.entries.clear();
        queue.bytes = 0;
        queue.events = 0;
    }

    /// The next piece: small, because some connections copy what they send, where a snapshot is shared by all who
    /// wait for it.
    fn take(&self) -> Option<Bytes> {
        let mut queue = self.0.queue.borrow_mut();
        if queue.under_way.is_empty() {
            let Entry { frames, bytes, events } = queue.entries.pop_front()?;
            queue.bytes -= bytes;
            queue.events -= events;
            queue.under_way = frames;
        }
        let len = queue.under_way.len().min(PIECE_MAX);
        let piece = queue.under_way.split_to(len);
        self.0.taken.notify_waiters();
        Some(piece)
    }

    /// Waits until the socket has taken everything.
    pub(super) async fn drained(&self) {
        loop {
            let mut taken = std::pin::pin!(self.0.taken.notified());
            taken.as_mut().enable();
            if self.0.queue.borrow().is_empty() {
                return;
            }
            taken.await;
        }
    }

    fn wake_later(&self, waker: &Waker) {
        self.0.queue.borrow_mut().waker = Some(waker.clone());
    }
}

/// A response's body: what waits in the outbox, then what the session's context has to say.
pub(super) struct Body<S: Stream> {
    session: Pin<Box<S>>,
    outbox: Outbox,
    said: Option<S::Item>,
    ended: bool,
}

impl<S: Stream> Body<S> {
    pub(super) fn new(session: S, outbox: Outbox) -> Self {
        Self { session: Box::pin(session), outbox, said: None, ended: false }
    }
}

impl<S, E> Stream for Body<S>
where
    S: Stream<Item = Result<Bytes, E>>,
    S::Item: Unpin,
{
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<S::Item>> {
        // The session is polled first because that is what fills the outbox; what it says itself comes after.
        if self.said.is_none() && !self.ended {
            match self.session.as_mut().poll_next(context) {
                Poll::Ready(Some(said)) => self.said = Some(said),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending => {}
            }
        }
        if let Some(frames) = self.outbox.take() {
            return Poll::Ready(Some(Ok(frames)));
        }
        if let Some(said) = self.said.take() {
            return Poll::Ready(Some(said));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.outbox.wake_later(context.waker());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt, stream};

    use super::*;

    #[test]
    fn it_is_bounded_in_bytes_and_in_events() {
        let outbox = Outbox::default();
        assert_eq!(outbox.push(Bytes::from(vec![0; BYTES_MAX]), 1), Ok(()));
        assert_eq!(outbox.push(Bytes::from_static(b"x"), 1), Err(TooSlow));
        outbox.clear();
        assert_eq!(outbox.push(Bytes::from_static(b"x"), EVENTS_MAX), Ok(()));
        assert_eq!(outbox.push(Bytes::from_static(b"x"), 1), Err(TooSlow));
    }

    #[test]
    fn what_was_queued_goes_out_before_what_the_session_says() {
        let outbox = Outbox::default();
        let says: Vec<Result<Bytes, ()>> = vec![Ok(Bytes::from_static(b"close"))];
        let mut body = Body::new(stream::iter(says), outbox.clone());
        outbox.push_anyway(Bytes::from_static(b"event"));
        let sent: Vec<_> = std::iter::from_fn(|| body.next().now_or_never().flatten()).collect();
        assert_eq!(sent, [Ok(Bytes::from_static(b"event")), Ok(Bytes::from_static(b"close"))]);
        assert!(outbox.drained().now_or_never().is_some());
    }

    #[test]
    fn a_large_frame_goes_out_in_pieces_whole_and_leaves_room_for_events() {
        let outbox = Outbox::default();
        let snapshot: Vec<u8> = (0..3 * BYTES_MAX).map(|at| at.to_le_bytes()[1]).collect();
        outbox.push_anyway(Bytes::from(snapshot.clone()));
        assert_eq!(outbox.push(Bytes::from_static(b"event"), 1), Ok(()));
        let first = outbox.take().unwrap();
        assert_eq!(first.len(), PIECE_MAX);
        // Dropping the queue keeps the frame that is half sent.
        outbox.clear();
        assert!(outbox.drained().now_or_never().is_none());
        let rest = std::iter::from_fn(|| outbox.take()).fold(first.to_vec(), |mut sent, piece| {
            sent.extend_from_slice(&piece);
            sent
        });
        assert!(rest == snapshot, "the pieces are not the frame");
    }

    #[test]
    fn drained_waits_for_the_socket() {
        let outbox = Outbox::default();
        outbox.push_anyway(Bytes::from_static(b"event"));
        assert!(outbox.drained().now_or_never().is_none());
        assert!(outbox.take().is_some());
        assert!(outbox.drained().now_or_never().is_some());
    }
}
