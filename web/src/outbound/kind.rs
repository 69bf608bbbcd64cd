//! The kinds of channels: what each must be told, and how it carries a message.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use pulse_actors::ports::{Message, Sender, StoreError, Verdict};
use pulse_domain::record::{ChannelRecord, Content};
use pulse_protocol::api::{ChannelKind, Suppression};
use pulse_protocol::ids::OrgId;
use pulse_protocol::problem::FieldError;
use serde_json::Value;

/// A configuration that was checked: known fields alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// As it is shown: what is secret is masked.
    pub shown: Value,
    /// The whole, with its secrets.
    pub whole: Value,
}

/// One kind of channel.
#[async_trait]
pub trait Kind: Send + Sync {
    /// Checks a configuration. A secret that `given` leaves out, or holds as it is shown, keeps its value of
    /// `stored`, the whole configuration of a channel that is there.
    ///
    /// # Errors
    ///
    /// Every fault, each with the path of its field (`config.url`).
    fn check(&self, given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<FieldError>>;

    /// Makes one attempt, bounded in time.
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict;

    /// Why a message of this org is not to be tried at all; none for most.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if that cannot be told now.
    async fn held_back(&self, _: OrgId, _: &Content) -> Result<Option<Suppression>, StoreError> {
        Ok(None)
    }
}

/// All kinds of channels.
#[derive(Clone, Default)]
pub struct Kinds(HashMap<ChannelKind, Arc<dyn Kind>>);

impl Kinds {
    /// The same with one more.
    #[must_use]
    pub fn with(mut self, name: ChannelKind, kind: Arc<dyn Kind>) -> Self {
        self.0.insert(name, kind);
        self
    }

    /// Checks the configuration of a channel of this kind, as [`Kind::check`] does.
    ///
    /// # Errors
    ///
    /// Every fault of it.
    pub fn check(
        &self,
        name: ChannelKind,
        given: &Value,
        stored: Option<&Value>,
    ) -> Result<Checked, Vec<FieldError>> {
        match self.0.get(&name) {
            Some(kind) => kind.check(given, stored),
            None => Err(vec![FieldError::new("kind", "invalid", unknown(name))]),
        }
    }
}

fn unknown(name: ChannelKind) -> String {
    format!("this hub has no way to send to {name} channels")
}

#[async_trait]
impl Sender for Kinds {
    async fn send(&self, channel: &ChannelRecord, message: &Message) -> Verdict {
        match self.0.get(&channel.kind) {
            Some(kind) => kind.send(channel, message).await,
            None => Verdict::permanent(None, unknown(channel.kind)).ours(),
        }
    }

    async fn held_back(
        &self,
        channel: &ChannelRecord,
        org_id: OrgId,
        content: &Content,
    ) -> Result<Option<Suppression>, StoreError> {
        match self.0.get(&channel.kind) {
            Some(kind) => kind.held_back(org_id, content).await,
            None => Ok(None),
        }
    }
}
