//! Takes a socket out of the HTTP server once it has become a websocket.
//!
//! The server's own connection holds two buffers of 8 KiB for as long as it lives, and copies everything that is sent
//! into one of them. A websocket that mostly waits needs neither: it is read through one buffer that all sockets of a
//! thread share, and what waits to be sent is written as it is, many frames in one call.
//!
//! The request itself goes the ordinary way, through the app's middleware and handlers. Only when the answer is `101`
//! does the socket change hands.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_codec::{AsyncRead, AsyncWrite, Framed, ReadBuf};
use actix_http::body::{BodySize, BoxBody, MessageBody};
use actix_http::error::PayloadError;
use actix_http::h1::{Codec, Message};
use actix_http::{Payload, Request, StatusCode};
use actix_service::Service;
use actix_web::Error;
use actix_web::dev::ServiceResponse;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::Stream;
use tokio::time::Sleep;
use tokio_util::codec::Encoder;
use tracing::debug;

/// Bytes read from a socket at a time, by all sockets of a thread in turn.
const SCRATCH_BYTES: usize = 16 * 1024;
/// While this much waits to be written, the session is not asked for more.
const QUEUED_BYTES_MAX: usize = 64 * 1024;
/// Pieces written in one call; more than Linux takes (1,024) would not help.
const SLICES_MAX: usize = 128;
/// A peer that takes nothing for this long is gone.
const STALLED_MAX: Duration = Duration::from_secs(60);

/// How long a peer may take to end its side after the hub has ended its own.
const PARTING_MAX: Duration = Duration::from_secs(2);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Answers a request that asks for an upgrade, and serves the socket to its end.
///
/// # Errors
///
/// When the socket fails; the peer is gone then.
pub(crate) async fn serve<T, S>(
    app: &S,
    request: Request,
    framed: Framed<T, Codec>,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
    S: Service<Request, Response = ServiceResponse<BoxBody>, Error = Error>,
{
    let (io, mut codec, first) = taken_over(framed);
    let incoming = Incoming { io: Rc::clone(&io), first };
    let (request, _) =
        request.replace_payload(Payload::Stream { payload: Box::pin(incoming) as _ });
    let response = match app.call(request).await {
        Ok(response) => response.into_parts().1,
        Err(error) => error.error_response(),
    };
    let is_websocket = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    let (response, body) = response.into_parts();
    let mut head = BytesMut::new();
    codec.encode(Message::Item((response.into(), body.size())), &mut head)?;
    // A refusal has a body in the form that its head announced; a websocket's body is its frames.
    let framing = if is_websocket || body.size() == BodySize::None { None } else { Some(codec) };
    Outgoing::new(io, head.freeze(), body, framing).await
}

/// The socket without the server's buffers; what they hold already is copied out of them.
fn taken_over<T>(framed: Framed<T, Codec>) -> (Rc<RefCell<T>>, Codec, Bytes) {
    let parts = framed.into_parts();
    (Rc::new(RefCell::new(parts.io)), parts.codec, Bytes::copy_from_slice(&parts.read_buf))
}

/// What comes in from the socket.
struct Incoming<T> {
    io: Rc<RefCell<T>>,
    /// What was read together with the request.
    first: Bytes,
}

impl<T: AsyncRead + Unpin> Stream for Incoming<T> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.first))));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *self.io.borrow_mut()).poll_read(context, &mut buffer))?;
            match buffer.filled() {
                [] => Poll::Ready(None),
                filled => Poll::Ready(Some(Ok(Bytes::copy_from_slice(filled)))),
            }
        })
    }
}

/// Writes a head and what a body gives, until the body ends.
struct Outgoing<T> {
    io: Rc<RefCell<T>>,
    body: Option<BoxBody>,
    framing: Option<Codec>,
    queue: VecDeque<Bytes>,
    queued: usize,
    stalled: Option<Pin<Box<Sleep>>>,
    parting: Option<Pin<Box<Sleep>>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Outgoing<T> {
    fn new(io: Rc<RefCell<T>>, head: Bytes, body: BoxBody, framing: Option<Codec>) -> Self {
        let queued = head.len();
        Self {
            io,
            body: Some(body),
            framing,
            queue: VecDeque::from([head]),
            queued,
            stalled: None,
            parting: None,
        }
    }

    fn enqueue(&mut self, bytes: Bytes) {
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Takes what the body has to give, while there is room; says whether the body may have more.
    fn fill(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        while self.queued < QUEUED_BYTES_MAX
            && let Some(body) = &mut self.body
        {
            match pin!(body).poll_next(context) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Some(Ok(bytes))) => match &mut self.framing {
                    None => self.enqueue(bytes),
                    Some(codec) => {
                        let mut chunk = BytesMut::new();
                        codec.encode(Message::Chunk(Some(bytes)), &mut chunk)?;
                        self.enqueue(chunk.freeze());
                    }
                },
                Poll::Ready(None) => {
                    self.body = None;
                    if let Some(codec) = &mut self.framing {
                        let mut end = BytesMut::new();
                        codec.encode(Message::Chunk(None), &mut end)?;
                        self.enqueue(end.freeze());
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    debug!(%error, "a body broke off");
                    self.body = None;
                }
            }
        }
        Ok(self.body.is_some())
    }

    /// Writes what waits; ready when nothing does.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.queue.len().min(SLICES_MAX);
            for (slice, bytes) in slices.iter_mut().zip(&self.queue) {
                *slice = IoSlice::new(bytes);
            }
            let mut written =
                ready!(Pin::new(&mut *io).poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stalled = None;
            self.queued -= written;
            while let Some(front) = self.queue.front_mut().filter(|_| written > 0) {
                let taken = written.min(front.len());
                front.advance(taken);
                written -= taken;
                if front.is_empty() {
                    self.queue.pop_front();
                }
            }
        }
        if self.queue.capacity() > 4 * SLICES_MAX {
            // A burst is over; a quiet socket needs no queue.
            self.queue = VecDeque::new();
        }
        Pin::new(&mut *io).poll_flush(context)
    }

    /// Says that nothing more comes, and reads until the peer says so too. A socket closed with something unread is
    /// reset, and a reset overtakes the close frame that was written last.
    fn part(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.borrow_mut();
        ready!(Pin::new(&mut *io).poll_shutdown(context))?;
        let patience =
            self.parting.get_or_insert_with(|| Box::pin(tokio::time::sleep(PARTING_MAX)));
        if patience.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            loop {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *io).poll_read(context, &mut buffer))?;
                if buffer.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
        })
    }

    /// Whether the peer has taken nothing for too long.
    fn has_stalled(&mut self, context: &mut Context<'_>) -> bool {
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALLED_MAX)));
        stalled.as_mut().poll(context).is_ready()
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Future for Outgoing<T> {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let has_more = self.fill(context)?;
            match self.write(context) {
                Poll::Ready(written) => written?,
                Poll::Pending if self.has_stalled(context) => {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
            }
            if self.body.is_none() {
                return self.part(context);
            }
            if !has_more {
                return Poll::Pending;
            }
        }
    }
}
