//! How a receiver answers, well or badly.

use std::io;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::RETRY_AFTER;
use hyper::{Response, StatusCode};

/// The body of an answer, which may break off.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// How a receiver treats what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Manner {
    /// Accepts at once.
    Fast,
    /// Accepts, and drips its answer over a second.
    Slow,
    /// Accepts, and closes in the middle of its answer.
    HalfAnswering,
    /// 500 for two seconds, then well for two, and so on.
    Flapping,
    /// Wants to be left alone for a second, two times of three: 429 with `Retry-After`.
    Throttling,
    /// 500, always.
    Failing,
    /// 410, always.
    Gone,
    /// Reads everything, and never answers.
    Hanging,
    /// Closes while it is sent to.
    HalfReading,
    /// Takes the connection and resets it.
    Resetting,
}

/// What becomes of one request.
pub(super) enum Reaction {
    /// This status, at once or asking for a pause.
    Answer(StatusCode, Option<u64>),
    /// 200, with a body that drips.
    Drip,
    /// 200, with a body that breaks off.
    BreakOff,
    /// None at all, until the sender gives up.
    Hang,
    /// The connection ends without an answer.
    Close,
}

const FLAP: Duration = Duration::from_secs(2);
const THROTTLE_S: u64 = 1;
const DRIPS: usize = 10;
const DRIP_EVERY: Duration = Duration::from_millis(100);
const BREAK_AFTER: Duration = Duration::from_millis(50);

impl Manner {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Fast,
        Self::Slow,
        Self::HalfAnswering,
        Self::Flapping,
        Self::Throttling,
        Self::Failing,
        Self::Gone,
        Self::Hanging,
        Self::HalfReading,
        Self::Resetting,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Slow => "slow, dripping",
            Self::HalfAnswering => "closing in its answer",
            Self::Flapping => "flapping",
            Self::Throttling => "429 with Retry-After",
            Self::Failing => "failing with 500",
            Self::Gone => "gone with 410",
            Self::Hanging => "hanging",
            Self::HalfReading => "closing while it reads",
            Self::Resetting => "resetting",
        }
    }

    /// Whether the head of every answer says 2xx.
    pub(crate) const fn always_accepts(self) -> bool {
        matches!(self, Self::Fast | Self::Slow | Self::HalfAnswering)
    }

    /// Whether a connection ends with a reset.
    pub(super) const fn resets(self) -> bool {
        matches!(self, Self::Resetting)
    }

    /// Whether it ends before the request is read.
    pub(super) const fn closes_early(self) -> bool {
        matches!(self, Self::HalfReading | Self::Resetting)
    }

    /// What becomes of request number `nth` of its path, from 0, `age` after the receiver's start.
    pub(super) const fn react(self, nth: usize, age: Duration) -> Reaction {
        match self {
            Self::Fast => Reaction::Answer(StatusCode::NO_CONTENT, None),
            Self::Slow => Reaction::Drip,
            Self::HalfAnswering => Reaction::BreakOff,
            Self::Flapping if (age.as_secs() / FLAP.as_secs()).is_multiple_of(2) => {
                Reaction::Answer(StatusCode::INTERNAL_SERVER_ERROR, None)
            }
            Self::Throttling if nth % 3 != 2 => {
                Reaction::Answer(StatusCode::TOO_MANY_REQUESTS, Some(THROTTLE_S))
            }
            Self::Flapping | Self::Throttling => Reaction::Answer(StatusCode::NO_CONTENT, None),
            Self::Failing => Reaction::Answer(StatusCode::INTERNAL_SERVER_ERROR, None),
            Self::Gone => Reaction::Answer(StatusCode::GONE, None),
            Self::Hanging => Reaction::Hang,
            Self::HalfReading | Self::Resetting => Reaction::Close,
        }
    }
}

impl Reaction {
    /// Whether the receiver has accepted the message, as far as the sender can tell.
    pub(super) fn accepts(&self) -> bool {
        match self {
            Self::Answer(status, _) => status.is_success(),
            Self::Drip | Self::BreakOff => true,
            Self::Hang | Self::Close => false,
        }
    }

    /// The answer; none where there is to be none.
    pub(super) fn response(&self) -> Option<Response<Body>> {
        let response = match self {
            Self::Answer(status, pause) => {
                let mut response = Response::new(empty());
                *response.status_mut() = *status;
                if let Some(seconds) = pause {
                    response.headers_mut().insert(RETRY_AFTER, (*seconds).into());
                }
                response
            }
            Self::Drip => Response::new(dripping()),
            Self::BreakOff => Response::new(breaking_off()),
            Self::Hang | Self::Close => return None,
        };
        Some(response)
    }
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

fn dripping() -> Body {
    let drops = stream::iter(0..DRIPS).then(|_| async {
        tokio::time::sleep(DRIP_EVERY).await;
        Ok(Frame::data(Bytes::from_static(b".")))
    });
    BodyExt::boxed(StreamBody::new(drops))
}

fn breaking_off() -> Body {
    let parts = stream::iter([true, false]).then(|is_first| async move {
        if is_first {
            return Ok(Frame::data(Bytes::from_static(b"half of")));
        }
        // What came before is on its way first, or the head would not be seen either.
        tokio::time::sleep(BREAK_AFTER).await;
        Err(io::Error::from(io::ErrorKind::BrokenPipe))
    });
    BodyExt::boxed(StreamBody::new(parts))
}
