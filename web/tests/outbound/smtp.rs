use std::sync::Arc;
use std::time::{Duration, Instant};

use pulse_actors::ports::Verdict;
use pulse_protocol::api::AttemptOutcome::{self, Permanent, Retry};
use pulse_protocol::ids::DeliveryId;
use pulse_web::outbound::mail::smtp::Smtp;
use pulse_web::outbound::mail::template::Rendered;
use pulse_web::outbound::mail::transport::{MailTransport, MailVerdict, OutgoingMail};

use crate::smtp_server::{Act, SmtpServer};
use Act::{Drip, Drop, Hang, Say};

pub(crate) fn mail() -> OutgoingMail {
    OutgoingMail {
        id: DeliveryId::new(),
        from: "Pulse <pulse@example.com>".parse().unwrap(),
        host: "hub.example".into(),
        to: "ops@example.org".parse().unwrap(),
        content: Rendered {
            subject: "Router is offline".into(),
            html: "<p>Röuter</p>".into(),
            text: "Röuter".into(),
        },
        list_unsubscribe: Some("https://hub.example/unsubscribe/x".into()),
        one_click: true,
    }
}

fn smtp(server: &SmtpServer, login: &str, query: &str, timeout: Duration) -> Smtp {
    let url = format!("smtp://{login}{}{query}", server.address);
    Smtp::new(url.parse().unwrap(), "hub.example", timeout).unwrap()
}

fn patient(server: &SmtpServer) -> Smtp {
    smtp(server, "", "", Duration::from_secs(10))
}

async fn sent(script: &[(&'static str, Act)], login: &str, query: &str) -> MailVerdict {
    let server = SmtpServer::start(script).await;
    smtp(&server, login, query, Duration::from_secs(10)).send(&mail()).await
}

#[actix_web::test]
async fn a_mail_that_was_taken_says_what_the_server_said_and_holds_both_parts() {
    let server = SmtpServer::start(&[]).await;
    let (transport, mail) = (patient(&server), mail());
    let taken = MailVerdict::from(Verdict::accepted(Some(250)).answered("2.0.0 queued as 1"));
    assert_eq!(transport.send(&mail).await, taken);
    assert_eq!(transport.send(&mail).await, taken);
    assert_eq!(server.connections(), 1, "the connection is kept");
    let mails = server.seen.mails.lock();
    assert_eq!(headers(&mails[0]), headers(&mails[1]), "every attempt has the same headers");
    for line in [
        &format!("Message-ID: <{}@hub.example>\r\n", mail.id),
        "From: Pulse <pulse@example.com>\r\n",
        "To: ops@example.org\r\n",
        "Subject: Router is offline\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "X-Auto-Response-Suppress: All\r\n",
        "List-Unsubscribe: <https://hub.example/unsubscribe/x>\r\n",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
        "Content-Type: multipart/alternative;",
        "Content-Type: text/plain; charset=utf-8\r\n",
        "Content-Type: text/html; charset=utf-8\r\n",
    ] {
        assert!(mails[0].contains(line), "{line} in\n{}", mails[0]);
    }
    assert!(mails[0].is_ascii() && mails[0].contains("\r\nDate: "));
    let commands = server.seen.commands.lock();
    let steps = [
        "EHLO hub.example",
        "MAIL FROM:<pulse@example.com>",
        "RCPT TO:<ops@example.org>",
        "DATA",
        "RSET",
    ];
    assert_eq!(commands[..5], steps);
}

/// All but the boundary of the parts, which is drawn.
fn headers(mail: &str) -> Vec<&str> {
    let (headers, _) = mail.split_once("\r\n\r\n").unwrap();
    headers.lines().filter(|line| !line.contains("boundary=")).collect()
}

#[actix_web::test]
async fn what_comes_before_the_recipient_is_the_hubs_own_fault_and_tried_again() {
    for (at, act, code) in [
        ("banner", Say("421 too busy"), Some(421)),
        ("banner", Say("554 go away"), Some(554)),
        ("banner", Say("no mail server"), None),
        ("banner", Drop, None),
        ("EHLO", Say("502 what"), Some(502)),
        ("EHLO", Drop, None),
        ("AUTH", Say("535 5.7.8 bad password"), Some(535)),
        ("AUTH", Say("454 4.7.0 later"), Some(454)),
        ("AUTH", Drop, None),
        ("MAIL", Say("451 4.3.0 later"), Some(451)),
        ("MAIL", Say("550 5.7.1 not you"), Some(550)),
        ("MAIL", Drop, None),
    ] {
        let MailVerdict { verdict, suppress } = sent(&[(at, act)], "user:hunter22@", "").await;
        let told = (verdict.outcome, verdict.status, verdict.is_ours, suppress);
        assert_eq!(told, (Retry, code, true, false), "{at} {act:?}: {verdict:?}");
        assert!(!format!("{verdict:?}").contains("hunter22"));
    }
}

#[actix_web::test]
async fn a_password_and_a_mail_do_not_go_in_the_clear_where_tls_is_required() {
    let server = SmtpServer::start(&[]).await;
    let login = "user:hunter22@";
    let required = smtp(&server, login, "?tls=required", Duration::from_secs(10));
    let verdict = required.send(&mail()).await.verdict;
    assert_eq!((verdict.outcome, verdict.is_ours), (Retry, true));
    assert!(verdict.error.unwrap().contains("no STARTTLS"));
    assert!(!server.seen.commands.lock().iter().any(|command| !command.starts_with("EHLO")));

    for answer in [Say("454 4.7.0 not now"), Say("220 go ahead"), Drop] {
        // Where it is offered it is used, and what fails does not go on without it.
        let script = [("EHLO", Say("250-mail.test\r\n250 STARTTLS")), ("STARTTLS", answer)];
        let server = SmtpServer::start(&script).await;
        let verdict = smtp(&server, "", "", Duration::from_secs(1)).send(&mail()).await.verdict;
        assert_eq!((verdict.outcome, verdict.is_ours), (Retry, true), "{answer:?}");
        assert!(server.seen.mails.lock().is_empty());
    }
}

#[actix_web::test]
async fn a_recipient_is_tried_again_or_given_up_or_never_written_to_again() {
    for (answer, outcome, code, suppress) in [
        ("450 4.2.0 greylisted", Retry, 450, false),
        ("451 4.3.0 later", Retry, 451, false),
        ("452 4.2.2 full", Retry, 452, false),
        ("550 5.1.1 no such user", Permanent, 550, true),
        ("550 (#5.1.1) no such user", Permanent, 550, true),
        ("550-no\r\n550 such user", Permanent, 550, false),
        ("551 user not local", Permanent, 551, false),
        ("553 5.1.3 bad address", Permanent, 553, true),
        ("550 5.7.1 policy", Permanent, 550, false),
        ("552 5.2.2 mailbox full", Permanent, 552, false),
    ] {
        let verdict = sent(&[("RCPT", Say(answer))], "", "").await;
        let told = (verdict.verdict.outcome, verdict.verdict.status, verdict.suppress);
        assert_eq!(told, (outcome, Some(code), suppress), "{answer}");
        assert!(!verdict.verdict.is_ours);
    }
}

#[actix_web::test]
async fn a_server_that_does_not_relay_for_the_hub_is_no_fault_of_the_recipient() {
    for answer in [
        "530 5.7.0 authentication required",
        "550 5.1.7 bad sender",
        "550 5.1.8 bad domain of the sender",
        "554 5.7.1 <ops@example.org>: Relay access denied",
        "550 relaying denied",
    ] {
        let MailVerdict { verdict, suppress } = sent(&[("RCPT", Say(answer))], "", "").await;
        assert_eq!((verdict.outcome, verdict.is_ours, suppress), (Retry, true, false), "{answer}");
    }
}

#[actix_web::test]
async fn a_message_is_judged_by_the_answer_to_its_last_dot() {
    for (at, act, outcome, is_ours) in [
        ("DATA", Say("451 4.3.0 later"), Retry, false),
        ("DATA", Say("554 5.5.1 no valid recipients"), Permanent, false),
        ("dot", Say("451 4.3.0 later"), Retry, false),
        ("dot", Say("452 4.3.1 no space"), Retry, false),
        ("dot", Say("552 5.3.4 too big"), Permanent, false),
        ("dot", Say("554 5.7.1 spam"), Permanent, false),
        ("dot", Say("550 5.7.1 spam"), Permanent, false),
        ("dot", Say("421 4.3.2 shutting down"), Retry, true),
        ("dot", Drop, Retry, true),
        ("DATA", Drop, Retry, true),
        ("RCPT", Drop, Retry, true),
    ] {
        let MailVerdict { verdict, suppress } = sent(&[(at, act)], "", "").await;
        assert_eq!((verdict.outcome, verdict.is_ours), (outcome, is_ours), "{at} {act:?}");
        assert!(!suppress, "{at} {act:?}");
    }
}

#[actix_web::test]
async fn a_server_that_hangs_or_drips_anywhere_holds_an_attempt_for_its_time_only() {
    for at in ["banner", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "dot"] {
        for act in [Hang, Drip] {
            let server = SmtpServer::start(&[(at, act)]).await;
            let impatient = smtp(&server, "user:hunter22@", "", Duration::from_millis(150));
            let began = Instant::now();
            let verdict = impatient.send(&mail()).await.verdict;
            assert!(began.elapsed() < Duration::from_secs(5), "{at} {act:?}");
            assert_eq!(
                (verdict.outcome, verdict.is_ours),
                (Retry, true),
                "{at} {act:?} {verdict:?}"
            );
        }
    }
}

#[actix_web::test]
async fn a_kept_connection_that_broke_is_replaced_and_counts_for_nothing() {
    // The server closes after the first mail, when asked whether it is still there, or at the next sender.
    let later = Say("421 4.4.2 idle too long");
    let scripts: [&[(&'static str, Act)]; 5] = [
        &[("RSET", Drop)],
        &[("RSET", later)],
        &[("RSET", Hang)],
        &[("MAIL again", Drop)],
        &[("MAIL again", later)],
    ];
    for script in scripts {
        let server = SmtpServer::starting_with(&[script, &[]]).await;
        let transport = patient(&server);
        for _ in 0..2 {
            let verdict = transport.send(&mail()).await.verdict;
            assert_eq!(verdict.outcome, AttemptOutcome::Accepted, "{script:?}");
        }
        assert_eq!(server.connections(), 2, "{script:?}");
        assert_eq!(server.seen.mails.lock().len(), 2);
    }
}

#[actix_web::test]
async fn a_refused_mail_leaves_no_connection_behind() {
    let server = SmtpServer::start(&[("RCPT", Say("450 4.2.0 later"))]).await;
    let transport = patient(&server);
    for _ in 0..2 {
        assert_eq!(transport.send(&mail()).await.verdict.outcome, Retry);
    }
    assert_eq!(server.connections(), 2);
}

#[actix_web::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("smtp://{}", listener.local_addr().unwrap());
    drop(listener);
    let transport = Smtp::new(url.parse().unwrap(), "hub.example", Duration::from_secs(5)).unwrap();
    let verdict = transport.send(&mail()).await.verdict;
    assert_eq!((verdict.outcome, verdict.is_ours, verdict.status), (Retry, true, None));
    assert!(verdict.error.unwrap().starts_with("no connection to the mail server"));
}

#[actix_web::test]
async fn several_mails_at_once_are_all_taken_and_few_connections_are_kept() {
    let server = SmtpServer::start(&[]).await;
    let transport = Arc::new(patient(&server));
    let burst = || async {
        let mails: Vec<_> = (0..10).map(|_| mail()).collect();
        let sends = mails.iter().map(|mail| transport.send(mail));
        for verdict in futures_util::future::join_all(sends).await {
            assert_eq!(verdict.verdict.outcome, AttemptOutcome::Accepted);
        }
    };
    burst().await;
    burst().await;
    assert_eq!(server.connections(), 10 + 6, "four of the first ten are used again");
}

#[actix_web::test]
async fn a_link_without_tls_ends_mails_too_but_not_with_one_click() {
    let server = SmtpServer::start(&[]).await;
    let mut mail = mail();
    mail.list_unsubscribe = Some("http://hub.example/unsubscribe/x".into());
    assert_eq!(patient(&server).send(&mail).await.verdict.outcome, AttemptOutcome::Accepted);
    let mails = server.seen.mails.lock();
    assert!(mails[0].contains("List-Unsubscribe: <http://hub.example/unsubscribe/x>\r\n"));
    assert!(!mails[0].contains("List-Unsubscribe-Post"), "{}", mails[0]);
}

#[actix_web::test]
async fn nothing_in_a_mail_becomes_a_header_or_a_command() {
    let server = SmtpServer::start(&[]).await;
    let mut mail = mail();
    mail.content.subject = "a\r\nBcc: evil@example.net\r\n\r\nbody".into();
    mail.content.text = "one\r\n.\r\nMAIL FROM:<evil@example.net>\r\n".into();
    mail.list_unsubscribe = Some("https://hub.example/x>\r\nBcc: evil@example.net".into());
    assert_eq!(patient(&server).send(&mail).await.verdict.outcome, AttemptOutcome::Accepted);
    let mails = server.seen.mails.lock();
    assert_eq!(mails.len(), 1);
    assert!(!mails[0].contains("\r\nBcc:"), "{}", mails[0]);
    assert!(mails[0].contains("\r\n..\r\n"), "a dot of its own is doubled: {}", mails[0]);
    assert!(!server.seen.commands.lock().iter().any(|command| command.contains("evil")));
}
