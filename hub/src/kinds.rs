//! Every kind of channel, as configured.

use std::sync::Arc;

use anyhow::Context;
use pulse_actors::ports::MailStore;
use pulse_protocol::api::ChannelKind;
use pulse_store::seal::SecretKey;
use pulse_web::links::Links;
use pulse_web::outbound::discord::Discord;
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::email::{Email, Letterhead};
use pulse_web::outbound::http::{Http, TIMEOUT};
use pulse_web::outbound::kind::Kinds;
use pulse_web::outbound::mail::none::NoMail;
use pulse_web::outbound::mail::resend::Resend;
use pulse_web::outbound::mail::smtp::{self, Smtp};
use pulse_web::outbound::mail::transport::MailTransport;
use pulse_web::outbound::ntfy::Ntfy;
use pulse_web::outbound::pagerduty::Pagerduty;
use pulse_web::outbound::slack::Slack;
use pulse_web::outbound::teams::Teams;
use pulse_web::outbound::telegram::Telegram;
use pulse_web::outbound::webhook::WebhookSender;

use crate::config::{Config, MailWay};

/// All kinds of channels.
///
/// # Errors
///
/// Returns an error if the secret key or the system's certificates cannot be read.
pub(crate) fn all(
    config: &Config,
    egress: &Egress,
    mails: Arc<dyn MailStore>,
) -> anyhow::Result<Kinds> {
    let http = Http::new(egress.clone(), TIMEOUT)?;
    let links = links(config)?;
    let email = Email::new(mail(config)?, letterhead(config)?, links.clone()).heeding(mails);
    Ok(Kinds::default()
        .with(ChannelKind::Webhook, Arc::new(WebhookSender::new(http.clone())))
        .with(ChannelKind::Email, Arc::new(email))
        .with(ChannelKind::Slack, Arc::new(Slack::new(http.clone(), links.clone())))
        .with(ChannelKind::Teams, Arc::new(Teams::new(http.clone(), links.clone())))
        .with(ChannelKind::Discord, Arc::new(Discord::new(http.clone(), links.clone())))
        .with(ChannelKind::Telegram, Arc::new(Telegram::new(http.clone(), links.clone())))
        .with(ChannelKind::Pagerduty, Arc::new(Pagerduty::new(http.clone(), links.clone())))
        .with(ChannelKind::Ntfy, Arc::new(Ntfy::new(http, links))))
}

/// The links of messages.
///
/// # Errors
///
/// Returns an error if the secret key cannot be read.
pub(crate) fn links(config: &Config) -> anyhow::Result<Links> {
    let keys = config.secret_keys.load_or_create()?.iter().map(SecretKey::for_links).collect();
    Ok(Links::new(config.server.public_url.clone(), keys))
}

/// How mail leaves the hub.
///
/// # Errors
///
/// Returns an error if the system's certificates cannot be read.
pub(crate) fn mail(config: &Config) -> anyhow::Result<Arc<dyn MailTransport>> {
    Ok(match config.mail.as_ref().map(|mail| &mail.way) {
        Some(MailWay::Smtp(settings)) => {
            Arc::new(Smtp::new(settings.clone(), host(config), smtp::TIMEOUT)?)
        }
        Some(MailWay::Resend(base, key)) => Arc::new(Resend::new(base, key)?),
        None => Arc::new(NoMail),
    })
}

/// Who mail comes from.
///
/// # Errors
///
/// None is known: where no sender is configured, no mail is sent either.
pub(crate) fn letterhead(config: &Config) -> anyhow::Result<Letterhead> {
    let from = match &config.mail {
        Some(mail) => mail.from.clone(),
        None => "pulse@localhost".parse().context("the sender of mail")?,
    };
    Ok(Letterhead { from, host: host(config).to_owned() })
}

fn host(config: &Config) -> &str {
    config.server.public_url.host_str().unwrap_or("localhost")
}
