//! No way to send mail.

use async_trait::async_trait;
use pulse_actors::ports::Verdict;

use super::transport::{MailTransport, MailVerdict, OutgoingMail};

/// What is said of a mail when the hub has no way to send it.
pub const NOT_CONFIGURED: &str = "mail is not configured: PULSE_SMTP_URL or PULSE_RESEND_API_KEY must be set, and PULSE_MAIL_FROM";

/// Stands in where no way to send mail is configured.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoMail;

#[async_trait]
impl MailTransport for NoMail {
    async fn send(&self, _: &OutgoingMail) -> MailVerdict {
        Verdict::permanent(None, NOT_CONFIGURED).ours().into()
    }

    fn is_configured(&self) -> bool {
        false
    }
}
