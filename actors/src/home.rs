//! The way to an org's home, wherever it is.

use actix::dev::ToEnvelope;
use actix::prelude::*;
use futures_util::future::Either;

use crate::cluster::RemoteHome;
use crate::org::OrgActor;

/// The address of an org's home: on this node, or at the other end of a line.
#[derive(Clone, Debug)]
pub enum HomeAddr {
    /// On this node.
    Here(Addr<OrgActor>),
    /// On another.
    There(Addr<RemoteHome>),
}

impl HomeAddr {
    /// Whether the home is on another node.
    #[must_use]
    pub const fn is_remote(&self) -> bool {
        matches!(self, Self::There(_))
    }

    /// Sends, and resolves when the home (or the line to it) has taken the message.
    ///
    /// # Errors
    ///
    /// Resolves to an error if the home is gone, or the line to it.
    pub fn send<M>(
        &self,
        message: M,
    ) -> impl Future<Output = Result<(), MailboxError>> + Send + use<M>
    where
        OrgActor: Handler<M>,
        RemoteHome: Handler<M>,
        Context<OrgActor>: ToEnvelope<OrgActor, M>,
        Context<RemoteHome>: ToEnvelope<RemoteHome, M>,
        M: Message<Result = ()> + Send + Unpin + 'static,
    {
        match self {
            Self::Here(home) => Either::Left(home.send(message)),
            Self::There(home) => Either::Right(home.send(message)),
        }
    }

    /// Sends if there is room.
    ///
    /// # Errors
    ///
    /// Hands the message back if there is no room, or nobody to take it.
    pub fn try_send<M>(&self, message: M) -> Result<(), SendError<M>>
    where
        OrgActor: Handler<M>,
        RemoteHome: Handler<M>,
        Context<OrgActor>: ToEnvelope<OrgActor, M>,
        Context<RemoteHome>: ToEnvelope<RemoteHome, M>,
        M: Message<Result = ()> + Send + 'static,
    {
        match self {
            Self::Here(home) => home.try_send(message),
            Self::There(home) => home.try_send(message),
        }
    }

    /// Sends past the bound of the mailbox.
    pub fn do_send<M>(&self, message: M)
    where
        OrgActor: Handler<M>,
        RemoteHome: Handler<M>,
        Context<OrgActor>: ToEnvelope<OrgActor, M>,
        Context<RemoteHome>: ToEnvelope<RemoteHome, M>,
        M: Message<Result = ()> + Send + 'static,
    {
        match self {
            Self::Here(home) => home.do_send(message),
            Self::There(home) => home.do_send(message),
        }
    }
}
