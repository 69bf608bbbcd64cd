//! Receivers of notifications: they accept, refuse, or accept without being heard.

use std::sync::Arc;

use async_trait::async_trait;
use pulse_actors::ports::{Message, Sender, Verdict};
use pulse_domain::record::ChannelRecord;

use crate::plan::Mutation;
use crate::world::World;

/// One process's way to the receivers.
pub(crate) struct NodeSender(pub(crate) Arc<World>);

#[async_trait]
impl Sender for NodeSender {
    async fn send(&self, _: &ChannelRecord, message: &Message) -> Verdict {
        let world = &self.0;
        let (id, seq) = (message.delivery_id, message.event.seq);
        world.note(format_args!("event {seq} is sent"));
        world.checked(|check| check.sent(id, &message.event, message.org_id));
        tokio::time::sleep(world.between(0, 40)).await;
        let chances = world.chances();
        if world.happens(chances.receiver_refuses) {
            if world.lacks(Mutation::SenderLies) {
                return Verdict::accepted(Some(200));
            }
            return Verdict::retry(None, "it refused");
        }
        world.check.lock().accepted(id);
        if world.happens(chances.receiver_unheard) {
            return Verdict::retry(None, "its answer was lost");
        }
        Verdict::accepted(Some(200))
    }
}
