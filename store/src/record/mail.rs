//! Mails.

use pulse_actors::ports::StoreError;
use pulse_domain::notification::mail::MailRecord;
use pulse_protocol::Timestamp;
use pulse_protocol::api::{Attempt, DeliveryState, Mail, MailTemplate, Suppression};
use pulse_protocol::ids::{DeliveryId, OrgId};
use uuid::Uuid;

use super::{
    Record, from_json, number, optional_instant, optional_ms, optional_number, to_json, word,
};
use crate::entity::mail;
use crate::error::corrupt;
use crate::seal::{Place, Sealer};

const WHAT: &str = "mail";

fn params_of(mail_id: Uuid) -> Place {
    Place { column: "mails.params", row: mail_id }
}

/// Its row says nothing of claims: nobody holds it.
impl Record for MailRecord {
    type Row = mail::Model;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    fn row(&self, org_id: OrgId, sealer: &Sealer) -> Result<mail::Model, StoreError> {
        let sealed = sealer.seal(params_of(self.key()), &to_json(&self.params, WHAT)?);
        Ok(mail::Model {
            org_id: org_id.uuid(),
            id: self.key(),
            template: self.template.as_str().to_owned(),
            key: self.key.clone(),
            recipient: self.recipient.clone(),
            params: sealed.map_err(|error| corrupt("mail's parameters", error))?,
            state: self.state.as_str().to_owned(),
            suppressed_by: self.suppressed_by.map(|reason| reason.as_str().to_owned()),
            tries: self.tries.into(),
            next_attempt_at: optional_ms(self.next_attempt_at),
            expires_at: self.expires_at.unix_ms(),
            created_at: self.created_at.unix_ms(),
            ended_at: optional_ms(self.ended_at),
            status: self.status.map(i64::from),
            error: self.error.clone(),
            claimed_by: None,
            claimed_until: None,
        })
    }

    fn read(row: mail::Model, sealer: &Sealer) -> Result<Self, StoreError> {
        let opened = sealer.open(params_of(row.id), &row.params);
        let opened = opened.map_err(|error| corrupt("mail's parameters", error))?;
        let suppressed_by = row.suppressed_by.as_deref();
        Ok(Self {
            org_id: OrgId::from_uuid(row.org_id),
            id: DeliveryId::from_uuid(row.id),
            template: word(MailTemplate::from_word, &row.template, WHAT)?,
            key: row.key,
            recipient: row.recipient,
            params: from_json(&opened, WHAT)?,
            state: word(DeliveryState::from_word, &row.state, WHAT)?,
            suppressed_by: suppressed_by
                .map(|stored| word(Suppression::from_word, stored, WHAT))
                .transpose()?,
            tries: number(row.tries, WHAT)?,
            next_attempt_at: optional_instant(row.next_attempt_at),
            expires_at: Timestamp::from_unix_ms(row.expires_at),
            created_at: Timestamp::from_unix_ms(row.created_at),
            ended_at: optional_instant(row.ended_at),
            status: optional_number(row.status, WHAT)?,
            error: row.error,
        })
    }
}

/// A mail as it is shown: without what it says.
pub(crate) fn mail_view(record: &MailRecord, attempts: Vec<Attempt>) -> Mail {
    Mail {
        id: record.id,
        template: record.template,
        recipient: record.recipient.clone(),
        state: record.state,
        suppressed_by: record.suppressed_by,
        created_at: record.created_at,
        expires_at: record.expires_at,
        attempts,
        next_attempt_at: record.next_attempt_at,
        error: record.error.clone(),
    }
}
