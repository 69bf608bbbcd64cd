//! The mailer tries what is due until it has ended, and shares the work with the other nodes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use pulse_actors::mailer::{Courier, LEASE};
use pulse_actors::ports::{Clock, MailClaim, MailStore, MailVerdict, StrictCause, Verdict};
use pulse_actors::testing::{MemoryCause, MemoryMails, ScriptedMailSender, World, settle};
use pulse_domain::notification::mail::{EXPIRED, MailRecord, MailRequest, NO_ORG, PasswordReset};
use pulse_protocol::api::{DeliveryState, MailOutcome, Suppression, SuppressionReason};
use pulse_protocol::ids::DeliveryId;

/// One node of a hub.
struct Node {
    world: World,
    sender: Arc<ScriptedMailSender>,
}

impl Node {
    fn new(mails: &Arc<MemoryMails>, sender: &Arc<ScriptedMailSender>) -> Self {
        let world = World::new().unwrap();
        let store: Arc<dyn MailStore> = Arc::clone(mails) as _;
        world.directory.start_mailer(Courier {
            clock: Arc::clone(&world.clock) as _,
            store,
            sender: Arc::clone(sender) as _,
            metrics: world.metrics.clone(),
            jitter: || 1.0,
        });
        Self { world, sender: Arc::clone(sender) }
    }
}

struct Stage {
    node: Node,
    mails: Arc<MemoryMails>,
}

impl Stage {
    async fn new() -> Self {
        tokio::time::pause();
        let mails = MemoryMails::new();
        let node = Node::new(&mails, &ScriptedMailSender::new());
        settle().await;
        Self { node, mails }
    }

    fn request(&self, request_id: &str, lasts: Duration) -> MailRequest {
        let now = self.node.world.clock.now();
        let reset = PasswordReset {
            request_id: request_id.to_owned(),
            token: "secret".to_owned(),
            expires_at: now + lasts,
        };
        MailRequest::to_addresses(reset, vec!["a@example.org".to_owned()], now)
    }

    async fn call_for(&self, request_id: &str, lasts: Duration) {
        self.mails.enqueue(NO_ORG, &self.request(request_id, lasts)).await.unwrap();
    }

    fn only(&self) -> (MailRecord, usize) {
        let mut records = self.mails.records();
        assert_eq!(records.len(), 1);
        records.remove(0)
    }

    fn sent(&self) -> usize {
        self.node.sender.sent().len()
    }
}

async fn pass(time: Duration) {
    for _ in 0..time.as_secs() {
        tokio::time::advance(Duration::from_secs(1)).await;
        settle().await;
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

fn tried(verdict: Verdict) -> MailVerdict {
    MailVerdict::Tried { verdict, is_bounce: false }
}

#[actix::test]
async fn a_nudge_sends_at_once_and_a_lost_one_costs_half_a_minute() {
    let stage = Stage::new().await;
    stage.call_for("r1", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    assert_eq!((stage.only().0.state, stage.sent()), (DeliveryState::Delivered, 1));
    stage.call_for("r2", HOUR).await;
    pass(Duration::from_secs(31)).await;
    assert_eq!(stage.sent(), 2);
    pass(Duration::from_secs(300)).await;
    assert_eq!(stage.sent(), 2, "what ended is left alone");
}

/// N03, N33
#[actix::test]
async fn a_mail_that_is_put_off_is_tried_again_when_it_is_due() {
    let stage = Stage::new().await;
    for _ in 0..2 {
        stage.node.sender.will_answer(tried(Verdict::retry(Some(451), "greylisted")));
    }
    stage.call_for("r1", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    let (mail, attempts) = stage.only();
    assert_eq!((mail.state, attempts, mail.status), (DeliveryState::Retrying, 1, Some(451)));
    assert_eq!(mail.outcome(), MailOutcome::Queued);
    // Five seconds, then fifteen.
    pass(Duration::from_secs(6)).await;
    assert_eq!(stage.only().1, 2);
    pass(Duration::from_secs(10)).await;
    assert_eq!(stage.only().1, 2);
    pass(Duration::from_secs(6)).await;
    assert_eq!((stage.only().0.state, stage.only().1), (DeliveryState::Delivered, 3));
}

/// N02: tried until it is sent or expires.
#[actix::test]
async fn a_mail_that_nobody_takes_ends_when_it_has_no_point() {
    let stage = Stage::new().await;
    for _ in 0..100 {
        stage.node.sender.will_answer(tried(Verdict::retry(None, "no route").ours()));
    }
    stage.call_for("r1", Duration::from_secs(60)).await;
    stage.node.world.directory.wake_mailer();
    pass(Duration::from_secs(120)).await;
    let (mail, attempts) = stage.only();
    assert_eq!(mail.state, DeliveryState::Dead);
    assert!(mail.error.unwrap().starts_with(EXPIRED) && attempts > 1);
}

/// N34: what is refused for good ends at once; the address gets no more mail, and that is visible.
#[actix::test]
async fn a_refused_address_is_not_tried_again_by_the_next_mail() {
    let stage = Stage::new().await;
    let verdict = Verdict::permanent(Some(550), "5.1.1 no such user");
    stage.node.sender.will_answer(MailVerdict::Tried { verdict, is_bounce: true });
    stage.call_for("r1", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    assert_eq!(stage.only().0.state, DeliveryState::Dead);
    stage.call_for("r2", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    let held = &stage.mails.records()[1];
    assert_eq!((held.0.state, held.1), (DeliveryState::Suppressed, 0));
    assert_eq!(held.0.suppressed_by, Some(Suppression::Recipient));
    assert_eq!(held.0.error.as_deref(), Some("the recipient is suppressed: bounce"));
    assert_eq!(stage.sent(), 1);
    let why = stage.mails.suppressions(None).await.unwrap()[0].reason;
    assert_eq!(why, SuppressionReason::Bounce);
}

#[actix::test]
async fn without_a_way_to_send_a_mail_is_kept_and_says_so() {
    let stage = Stage::new().await;
    stage.node.sender.will_answer(MailVerdict::NotConfigured);
    stage.call_for("r1", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    let (mail, attempts) = stage.only();
    assert_eq!((mail.outcome(), attempts), (MailOutcome::NotConfigured, 0));
    let again = mail.clone().replayed(stage.node.world.clock.now()).unwrap();
    assert!(stage.mails.change_mail(&mail, &again).await.unwrap());
    stage.node.world.directory.wake_mailer();
    settle().await;
    assert_eq!(stage.only().0.state, DeliveryState::Delivered);
}

/// N35: a node that sent and could not store it: the mail is sent again, under the same id, once the claim has ended.
#[actix::test]
async fn an_outcome_that_was_not_stored_leads_to_another_attempt_after_the_lease() {
    let stage = Stage::new().await;
    stage.mails.fail_settles(1);
    stage.call_for("r1", HOUR * 2).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    assert_eq!((stage.sent(), stage.only().1), (1, 0));
    pass(LEASE - Duration::from_secs(2)).await;
    assert_eq!(stage.sent(), 1, "its claim has not ended");
    pass(Duration::from_secs(33)).await;
    let sent = stage.node.sender.sent();
    assert_eq!((sent.len(), sent[0].0), (2, sent[1].0));
    assert_eq!((stage.only().0.state, stage.only().1), (DeliveryState::Delivered, 1));
}

/// N35: another node takes over what a fallen one held, and no mail is sent by two.
#[actix::test]
async fn two_nodes_share_the_work_and_one_takes_over_from_the_other() {
    let stage = Stage::new().await;
    let other = Node::new(&stage.mails, &ScriptedMailSender::new());
    for nth in 0..100 {
        stage.call_for(&nth.to_string(), HOUR).await;
    }
    stage.node.world.directory.wake_mailer();
    other.world.directory.wake_mailer();
    settle().await;
    pass(Duration::from_secs(2)).await;
    let (here, there) = (stage.node.sender.sent(), other.sender.sent());
    let mut all: Vec<DeliveryId> = here.iter().chain(&there).map(|(id, _)| *id).collect();
    all.sort_unstable();
    all.dedup();
    assert_eq!((all.len(), here.len() + there.len()), (100, 100));
    assert!(stage.mails.records().iter().all(|(mail, _)| mail.state == DeliveryState::Delivered));

    // Claimed by somebody who fell.
    stage.call_for("held", HOUR).await;
    let now = stage.node.world.clock.now();
    assert_eq!(stage.mails.claim_due(now, LEASE, 10).await.unwrap().len(), 1);
    pass(LEASE - Duration::from_secs(1)).await;
    assert_eq!(stage.sent() + other.sender.sent().len(), 100);
    pass(Duration::from_secs(32)).await;
    assert_eq!(stage.sent() + other.sender.sent().len(), 101);
}

#[actix::test]
async fn a_mail_server_that_hangs_is_given_up_and_holds_four_mails_at_most() {
    let stage = Stage::new().await;
    stage.node.sender.hang(4);
    for nth in 0..10 {
        stage.call_for(&nth.to_string(), HOUR).await;
    }
    stage.node.world.directory.wake_mailer();
    settle().await;
    assert_eq!(stage.sent(), 4);
    pass(Duration::from_secs(60)).await;
    let records = stage.mails.records();
    assert!(records.iter().all(|(mail, _)| mail.state == DeliveryState::Delivered));
    assert_eq!(records.iter().map(|(_, attempts)| attempts).sum::<usize>(), 14);
}

#[actix::test]
async fn a_mailer_that_stops_begins_no_attempt_and_ends_those_under_way() {
    let stage = Stage::new().await;
    stage.node.sender.hang(1);
    stage.call_for("r1", HOUR).await;
    stage.node.world.directory.wake_mailer();
    settle().await;
    stage.call_for("r2", HOUR).await;
    stage.node.world.directory.stop_mailer(Duration::from_secs(40)).await;
    assert_eq!((stage.sent(), stage.mails.records()[0].1), (1, 1), "its outcome is stored");
    stage.node.world.directory.wake_mailer();
    pass(Duration::from_secs(60)).await;
    assert_eq!(stage.sent(), 1);
}

/// A strict mail whose sender fell: the mailer sends it when the claim has ended, and the cause stands.
#[actix::test]
async fn a_strict_mail_whose_sender_fell_is_sent_by_the_mailer() {
    let stage = Stage::new().await;
    let request = stage.request("r1", HOUR);
    let mail = request.record(NO_ORG, DeliveryId::new(), "a@example.org").unwrap();
    let cause = MemoryCause::new(&stage.mails, mail);
    cause.begin(&MailClaim::new(stage.node.world.clock.now(), LEASE)).await.unwrap();
    pass(LEASE - Duration::from_secs(1)).await;
    assert_eq!(stage.sent(), 0);
    pass(Duration::from_secs(32)).await;
    assert_eq!((stage.only().0.state, cause.is_there()), (DeliveryState::Delivered, true));
}
