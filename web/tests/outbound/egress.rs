//! N45: no kind of channel reaches into a private network, neither when it is written nor when it is sent to.

use std::sync::Arc;

use pulse_protocol::api::{AttemptOutcome, ChannelKind, Reason};
use pulse_web::outbound::discord::Discord;
use pulse_web::outbound::egress::Egress;
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::ntfy::Ntfy;
use pulse_web::outbound::pagerduty::Pagerduty;
use pulse_web::outbound::slack::Slack;
use pulse_web::outbound::teams::Teams;
use pulse_web::outbound::telegram::Telegram;
use pulse_web::outbound::webhook::WebhookSender;
use pulse_web::secrets::new_webhook_secret;
use serde_json::{Value, json};

use crate::support::{Receiver, channel, device, http, links, local};

/// A kind, and a configuration of it that leads to a URL.
type Case = (ChannelKind, Arc<dyn Kind>, fn(&str) -> Value);

/// Every kind that connects where a customer says.
fn kinds(egress: &Egress) -> Vec<Case> {
    let http = http(egress.clone());
    let webhook_url: fn(&str) -> Value = |url| json!({"webhook_url": url});
    vec![
        (
            ChannelKind::Webhook,
            Arc::new(WebhookSender::new(http.clone())),
            |url| json!({"url": url}),
        ),
        (ChannelKind::Slack, Arc::new(Slack::new(http.clone(), links())), webhook_url),
        (ChannelKind::Teams, Arc::new(Teams::new(http.clone(), links())), webhook_url),
        (ChannelKind::Discord, Arc::new(Discord::new(http.clone(), links())), webhook_url),
        (
            ChannelKind::Telegram,
            Arc::new(Telegram::new(http.clone(), links())),
            |url| json!({"bot_token": "1:a", "chat_id": "1", "api_base": url}),
        ),
        (
            ChannelKind::Pagerduty,
            Arc::new(Pagerduty::new(http.clone(), links())),
            |url| json!({"routing_key": "key", "api_base": url}),
        ),
        (
            ChannelKind::Ntfy,
            Arc::new(Ntfy::new(http, links())),
            |url| json!({"topic": "ops", "server": url}),
        ),
    ]
}

#[actix_web::test]
async fn n45_private_addresses_are_refused_when_a_channel_is_written() {
    for (name, kind, config) in kinds(&Egress::default()) {
        for host in [
            "127.0.0.1",
            "2130706433",
            "0x7f.1",
            "localhost",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "169.254.169.254",
            "100.64.0.1",
            "[::1]",
            "[::ffff:10.0.0.1]",
            "[fd00::1]",
            "[64:ff9b::a00:1]",
        ] {
            let faults = kind.check(&config(&format!("http://{host}/x")), None).err().unwrap();
            let codes: Vec<&str> = faults.iter().map(|fault| fault.code.as_str()).collect();
            assert_eq!(codes, ["forbidden"], "{name} {host}");
        }
        for url in ["ftp://example.com/", "file:///etc/passwd", "gopher://example.com/"] {
            assert!(kind.check(&config(url), None).is_err(), "{name} {url}");
        }
        let good = kind.check(&config("https://example.com/x"), None);
        assert!(good.is_ok(), "{name} {:?}", good.err());
    }
}

#[actix_web::test]
async fn n45_private_addresses_are_refused_when_a_message_is_sent() {
    let receiver = Receiver::start();
    for (name, kind, config) in kinds(&Egress::default()) {
        for host in ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"] {
            let url = format!("http://{host}:{}/x", receiver.address.port());
            let mut channel = channel(name, config(&url));
            channel.hidden.signing = vec![new_webhook_secret()];
            let verdict = kind.send(&channel, &device("offline", Reason::Alert, "Router")).await;
            assert_eq!(verdict.outcome, AttemptOutcome::Permanent, "{name} {host}");
            assert!(verdict.error.unwrap().contains("may not reach"), "{name} {host}");
        }
    }
    assert_eq!(receiver.count(), 0);
}

#[actix_web::test]
async fn no_kind_follows_a_redirect_and_all_of_them_wait_out_a_busy_receiver() {
    let receiver = Receiver::start();
    for (name, kind, config) in kinds(&local()) {
        let mut channel = channel(name, config(&receiver.url("/x")));
        channel.hidden.signing = vec![new_webhook_secret()];
        let message = device("offline", Reason::Alert, "Router");
        let before = receiver.count();
        receiver.answers_with(307, ("location", "/elsewhere"), "");
        assert_eq!(
            kind.send(&channel, &message).await.outcome,
            AttemptOutcome::Permanent,
            "{name}"
        );
        assert_eq!(receiver.count(), before + 1, "{name}");
        receiver.answers_with(503, ("retry-after", "7"), "later");
        let verdict = kind.send(&channel, &message).await;
        assert_eq!(verdict.outcome, AttemptOutcome::Retry, "{name}");
        assert_eq!(verdict.retry_after.unwrap().as_secs(), 7, "{name}");
        receiver.answers(410, "");
        assert_eq!(kind.send(&channel, &message).await.outcome, AttemptOutcome::Gone, "{name}");
    }
}
