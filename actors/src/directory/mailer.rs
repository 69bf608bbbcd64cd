//! The mailer of this node.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::warn;

use super::{Directory, Inner, MailerSlot};
use crate::mailer::{self, Courier, Mailer};

impl Directory {
    /// Sends the product's own mail from this node, from now on.
    pub fn start_mailer(&self, courier: Courier) {
        self.inner.mailer.lock().courier = Some(courier);
        self.wake_mailer();
    }

    /// Nudges the mailer to look for what is due, and starts it anew if it fell. Losing a nudge costs half a minute, never
    /// a mail.
    pub fn wake_mailer(&self) {
        let Inner { ports, places, mailer, .. } = &*self.inner;
        let MailerSlot { courier, slot } = &mut *mailer.lock();
        let (Some(courier), Some(cell)) = (courier, slot.cell()) else { return };
        if let Some(address) = cell.get() {
            // A full mailbox holds a nudge already.
            drop(address.try_send(mailer::Wake));
            return;
        }
        slot.starts.push_back(Instant::now());
        ports.metrics.starts.with_label_values(&["mailer"]).inc();
        drop(cell.set(places.start(0, Mailer::new(courier.clone()))));
    }

    /// Begins no attempt of a mail any more. Returns when those under way have ended, or after `patience`.
    pub async fn stop_mailer(&self, patience: Duration) {
        let address = {
            let mut mailer = self.inner.mailer.lock();
            mailer.courier = None;
            mailer.slot.address.get().cloned()
        };
        let Some(address) = address else { return };
        let (stopped, has_stopped) = oneshot::channel();
        address.do_send(mailer::Stop { stopped });
        if tokio::time::timeout(patience, has_stopped).await.is_err() {
            warn!(
                "a mail is still on its way; what becomes of it is not stored, and it may be sent again"
            );
        }
    }
}
