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
    frames: VecDeque<(Bytes, usize)>,
    bytes: usize,
    events: usize,
    waker: Option<Waker>,
}

impl Outbox {
    /// Queues frames that carry `events` events, if they fit.
    pub(super) fn push(&self, frames: Bytes, events: usize) -> Result<(), TooSlow> {
        let queue = self.0.queue.borrow();
        let fits = queue.bytes + frames.len() <= BYTES_MAX && queue.events + events <= EVENTS_MAX;
        drop(queue);
        if !fits {
            return Err(TooSlow);
        }
        self.push_anyway(frames, events);
        Ok(())
    }

    /// Queues what must be told whatever its size, such as a snapshot: one at a time.
    pub(super) fn push_anyway(&self, frames: Bytes, events: usize) {
        let mut queue = self.0.queue.borrow_mut();
        queue.bytes += frames.len();
        queue.events += events;
        queue.frames.push_back((frames, events));
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    /// Drops everything that waits.
    pub(super) fn clear(&self) {
        let mut queue = self.0.queue.borrow_mut();
        queue.frames.clear();
        queue.bytes = 0;
        queue.events = 0;
    }

    fn take(&self) -> Option<Bytes> {
        let mut queue = self.0.queue.borrow_mut();
        let (frames, events) = queue.frames.pop_front()?;
        queue.bytes -= frames.len();
        queue.events -= events;
        self.0.taken.notify_waiters();
        Some(frames)
    }

    /// Waits until the socket has taken everything.
    pub(super) async fn drained(&self) {
        loop {
            let mut taken = std::pin::pin!(self.0.taken.notified());
            taken.as_mut().enable();
            if self.0.queue.borrow().frames.is_empty() {
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
        outbox.push_anyway(Bytes::from_static(b"event"), 1);
        let sent: Vec<_> = std::iter::from_fn(|| body.next().now_or_never().flatten()).collect();
        assert_eq!(sent, [Ok(Bytes::from_static(b"event")), Ok(Bytes::from_static(b"close"))]);
        assert!(outbox.drained().now_or_never().is_some());
    }

    #[test]
    fn drained_waits_for_the_socket() {
        let outbox = Outbox::default();
        outbox.push_anyway(Bytes::from_static(b"event"), 1);
        assert!(outbox.drained().now_or_never().is_none());
        assert!(outbox.take().is_some());
        assert!(outbox.drained().now_or_never().is_some());
    }
}
