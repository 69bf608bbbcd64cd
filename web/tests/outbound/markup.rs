//! No name breaks out of what it stands in, whatever it holds.

use std::sync::Arc;

use proptest::prelude::*;
use pulse_actors::ports::Message;
use pulse_protocol::api::{ChannelKind, Reason};
use pulse_web::outbound::discord::Discord;
use pulse_web::outbound::kind::Kind;
use pulse_web::outbound::mail::smtp::Smtp;
use pulse_web::outbound::mail::transport::MailTransport;
use pulse_web::outbound::slack::Slack;
use pulse_web::outbound::teams::Teams;
use pulse_web::outbound::telegram::Telegram;
use serde_json::{Value, json};

use crate::email::{Outbox, email};
use crate::smtp_server::SmtpServer;
use crate::support::{Receiver, channel, device, digest, http, links, local};

/// Names made of what markup and headers are made of.
fn names() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "<",
        ">",
        "&",
        "\"",
        "'",
        "[",
        "]",
        "(",
        ")",
        "*",
        "_",
        "`",
        "~",
        "|",
        "\\",
        "@",
        "#",
        "!",
        "\r",
        "\n",
        "\0",
        "\u{202e}",
        "<!channel>",
        "<@U1>",
        "<https://evil.example|x>",
        "[x](https://evil.example)",
        "</b>",
        "<script>",
        "&lt;",
        "Bcc: evil@example.net",
        "a",
        " ",
        "é",
        "𝄞",
        ":",
        ".",
    ]);
    prop::collection::vec(pieces, 1..40).prop_map(|pieces| pieces.concat())
}

fn messages(name: &str) -> [Message; 2] {
    [device("offline", Reason::Alert, name), digest(3, 1, name)].map(|mut message| {
        message.content.org_name = name.into();
        message.content.rule_name = name.into();
        message
    })
}

/// Every text inside a body, with where it stands.
fn texts(at: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) => found.push((at.to_owned(), text.clone())),
        Value::Array(items) => items.iter().for_each(|item| texts(at, item, found)),
        Value::Object(fields) => {
            for (name, value) in fields {
                texts(&format!("{at}.{name}"), value, found);
            }
        }
        _ => {}
    }
}

async fn bodies(
    kind: &dyn Kind,
    name: ChannelKind,
    config: Value,
    receiver: &Receiver,
    of: &str,
) -> Vec<Value> {
    let channel = channel(name, config);
    let mut bodies = Vec::new();
    for message in messages(of) {
        kind.send(&channel, &message).await;
        bodies.push(receiver.request().body);
    }
    bodies
}

fn has_control(text: &str) -> bool {
    text.replace('\n', "").contains(|c: char| c.is_control() || c == '\u{202e}')
}

/// Whether a backslash stands before each of these characters.
fn is_escaped(text: &str, special: &[char]) -> bool {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => drop(chars.next()),
            c if special.contains(&c) => return false,
            _ => {}
        }
    }
    true
}

#[test]
fn no_name_breaks_out_of_chat_markup() {
    let runtime = actix_web::rt::System::new();
    let receiver = runtime.block_on(async { Receiver::start() });
    proptest!(ProptestConfig::with_cases(48), |(name in names())| {
        runtime.block_on(async {
            let url = json!({"webhook_url": receiver.url("/hook")});
            let http = http(local());

            let slack = Slack::new(http.clone(), links());
            for body in bodies(&slack, ChannelKind::Slack, url.clone(), &receiver, &name).await {
                let mut found = Vec::new();
                texts("", &body["blocks"], &mut found);
                let marked = body["blocks"].as_array().unwrap().iter().skip(1);
                let marked: Vec<Value> = marked.filter(|block| block["type"] != "actions").cloned().collect();
                let mut inside = vec![("text".to_owned(), body["text"].as_str().unwrap().to_owned())];
                texts("", &Value::Array(marked), &mut inside);
                prop_assert!(inside.iter().all(|(_, text)| !text.contains(['<', '>'])), "{inside:?}");
                prop_assert!(found.iter().all(|(_, text)| !has_control(text)));
            }

            let teams = Teams::new(http.clone(), links());
            for body in bodies(&teams, ChannelKind::Teams, url.clone(), &receiver, &name).await {
                let mut found = Vec::new();
                texts("", &body["attachments"][0]["content"]["body"], &mut found);
                for (at, text) in found.iter().filter(|(at, _)| at.ends_with(".text") || at.ends_with(".value")) {
                    prop_assert!(is_escaped(text, &['[', ']', '*', '_', '`', '<']) && !has_control(text), "{at} {text}");
                }
            }

            let discord = Discord::new(http.clone(), links());
            for body in bodies(&discord, ChannelKind::Discord, url.clone(), &receiver, &name).await {
                let embed = &body["embeds"][0];
                prop_assert!(is_escaped(embed["title"].as_str().unwrap(), &['[', '*', '_', '`', '<', '@']));
                for line in embed["description"].as_str().unwrap().lines() {
                    let is_ours = line.starts_with("[Acknowledge](https://hub.example/");
                    prop_assert!(is_ours || is_escaped(line, &['[', '*', '_', '`', '<', '@']), "{line}");
                }
                for field in embed["fields"].as_array().unwrap() {
                    prop_assert!(is_escaped(field["value"].as_str().unwrap(), &['[', '*', '_', '`', '<', '@']));
                }
            }

            let config = json!({"bot_token": "1:a", "chat_id": "1", "api_base": receiver.url("")});
            let telegram = Telegram::new(http, links());
            for body in bodies(&telegram, ChannelKind::Telegram, config, &receiver, &name).await {
                prop_assert_eq!(foreign_tags(body["text"].as_str().unwrap(), &["b", "/b", "i", "/i", "/a"]), Vec::<String>::new());
            }
            Ok(())
        })?;
    });
}

/// Tags other than these, and other than links to the hub.
fn foreign_tags(text: &str, known: &[&str]) -> Vec<String> {
    let tags = text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
    tags.filter(|tag| !known.contains(tag) && !tag.starts_with("a href=\"https://hub.example/"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn no_name_breaks_out_of_a_mail() {
    let runtime = actix_web::rt::System::new();
    drop(http(local()));
    let server = runtime.block_on(SmtpServer::start(&[]));
    let url = format!("smtp://{}", server.address);
    let smtp =
        Smtp::new(url.parse().unwrap(), "hub.example", std::time::Duration::from_secs(10)).unwrap();
    let outbox = Arc::new(Outbox::default());
    let channel = channel(ChannelKind::Email, json!({"recipients": ["a@example.com"]}));
    let kind = email(outbox.clone());
    // The tags are those of the template, whatever the name is.
    let tags = runtime.block_on(async {
        kind.send(&channel, &messages("x")[0]).await;
        outbox.0.lock().remove(0).content.html.matches('<').count()
    });
    proptest!(ProptestConfig::with_cases(48), |(name in names())| {
        runtime.block_on(async {
            let [alert, _] = messages(&name);
            kind.send(&channel, &alert).await;
            let mail = outbox.0.lock().remove(0);
            let count = mail.content.html.matches('<').count();
            prop_assert_eq!(count, tags, "{}", mail.content.html);
            prop_assert!(!mail.content.html.contains("<script"));
            prop_assert!(!mail.content.subject.contains(char::is_control));
            prop_assert!(smtp.send(&mail).await.verdict.error.is_none());
            let written = server.seen.mails.lock().pop().unwrap();
            let headers = written.split_once("\r\n\r\n").unwrap().0;
            prop_assert!(!headers.to_ascii_lowercase().contains("\nbcc:"), "{headers}");
            Ok(())
        })?;
    });
}
