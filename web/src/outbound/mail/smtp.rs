//! Mail over SMTP, step by step: what a refusal means depends on the step.

mod dialogue;
mod settings;

use std::time::Duration;

use async_trait::async_trait;
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::Rset;
use lettre::transport::smtp::extension::ClientId;
use parking_lot::Mutex;
use pulse_actors::ports::Verdict;
use tokio::time::{Instant, timeout, timeout_at};

use self::dialogue::{Refusal, Stage, deliver, open};
pub use self::settings::{InvalidSmtpUrl, SmtpSettings, TlsMode};
use super::message::written;
use super::transport::{MailTransport, MailVerdict, OutgoingMail};

/// How long an attempt may take, from the connection to the last answer.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections that are kept.
const IDLE_MAX: usize = 4;
/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a kept connection has to show that it still works.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The system's certificates cannot be read, or the server's name is none.
#[derive(Debug, thiserror::Error)]
#[error("TLS to the mail server cannot be set up")]
pub struct SmtpTlsError(#[from] lettre::transport::smtp::Error);

/// Sends over SMTP and keeps a few connections.
pub struct Smtp {
    settings: SmtpSettings,
    tls: TlsParameters,
    hello: ClientId,
    timeout: Duration,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Sends through this server, greets it as `host`, and takes at most `timeout` for an attempt; [`TIMEOUT`]
    /// outside of tests.
    ///
    /// # Errors
    ///
    /// When the system's certificates cannot be read.
    pub fn new(
        settings: SmtpSettings,
        host: &str,
        timeout: Duration,
    ) -> Result<Self, SmtpTlsError> {
        let tls = TlsParameters::new(settings.host.clone())?;
        let hello = settings::client_id(host);
        Ok(Self { settings, tls, hello, timeout, idle: Mutex::default() })
    }

    async fn attempt(&self, mail: &OutgoingMail) -> MailVerdict {
        let message = match written(mail) {
            Ok(message) => message,
            Err(error) => return Verdict::permanent(None, error.to_string()).into(),
        };
        let (deadline, bytes) = (Instant::now() + self.timeout, message.formatted());
        let mut kept = self.kept().await;
        loop {
            let is_kept = kept.is_some();
            let mut stage = Stage::Connect;
            let tried = timeout_at(deadline, async {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => open(&self.settings, &self.tls, &self.hello, &mut stage).await?,
                };
                let answer = deliver(&mut connection, mail, &bytes, &mut stage).await?;
                Ok((connection, answer))
            });
            let refusal = match tried.await {
                Ok(Ok((connection, answer))) => {
                    self.keep(connection);
                    return Verdict::accepted(Some(answer.0)).answered(answer.1).into();
                }
                Ok(Err(refusal)) => refusal,
                Err(_) => Refusal::Timeout,
            };
            // A kept connection that the server has closed says nothing of the mail.
            if is_kept && stage <= Stage::Sender && refusal.is_of_connection() {
                continue;
            }
            return refusal.verdict(stage, &self.settings);
        }
    }

    /// A connection that was kept and still works.
    async fn kept(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle.lock().pop()?;
            if since.elapsed() >= IDLE_TIMEOUT {
                continue;
            }
            if matches!(timeout(CHECK_TIMEOUT, connection.command(Rset)).await, Ok(Ok(_))) {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: AsyncSmtpConnection) {
        let mut idle = self.idle.lock();
        idle.retain(|(_, since)| since.elapsed() < IDLE_TIMEOUT);
        if idle.len() < IDLE_MAX {
            idle.push((connection, Instant::now()));
        }
    }
}

#[async_trait]
impl MailTransport for Smtp {
    async fn send(&self, mail: &OutgoingMail) -> MailVerdict {
        self.attempt(mail).await
    }
}
