//! Links in messages that act without a sign-in: whoever was sent one may do this one thing.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use pulse_protocol::ids::{AlertId, OrgId};
use sha2::Sha256;
use url::Url;
use uuid::Uuid;

type HmacSha256 = Hmac<Sha256>;

/// Bytes of a tag, and of an org's id.
const TAG: usize = 32;
const ID: usize = 16;

/// What a link does. The words are part of what is signed: a link for one thing is none for another.
#[derive(Clone, Copy)]
enum Purpose {
    Acknowledge,
    Unsubscribe,
}

impl Purpose {
    const fn word(self) -> &'static str {
        match self {
            Self::Acknowledge => "acknowledge",
            Self::Unsubscribe => "unsubscribe",
        }
    }
}

/// Makes links and knows its own again (HMAC-SHA256 over the purpose, the org and the subject).
#[derive(Clone)]
pub struct Links {
    public_url: Url,
    /// The first one signs, any is believed.
    keys: Vec<[u8; 32]>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links")
            .field("public_url", &self.public_url.as_str())
            .finish_non_exhaustive()
    }
}

impl Links {
    /// Links below `public_url`. Of several keys the first one signs, and any is believed.
    #[must_use]
    pub const fn new(public_url: Url, keys: Vec<[u8; 32]>) -> Self {
        Self { public_url, keys }
    }

    /// Where people reach the hub, without a slash at its end.
    #[must_use]
    pub fn base(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// The host by which people reach the hub.
    #[must_use]
    pub fn host(&self) -> &str {
        self.public_url.host_str().unwrap_or("localhost")
    }

    /// A page below the hub's address. A segment may hold anything: it stays one segment.
    #[must_use]
    pub fn page(&self, segments: &[&str]) -> String {
        let mut url = self.public_url.clone();
        // Fails only for addresses that cannot have a path, which no public URL is.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url.into()
    }

    /// Where an org's page is.
    #[must_use]
    pub fn org(&self, org_id: OrgId) -> String {
        format!("{}/orgs/{org_id}", self.base())
    }

    /// The link that acknowledges an alert.
    #[must_use]
    pub fn acknowledge(&self, org_id: OrgId, alert_id: AlertId) -> String {
        let token = self.token(Purpose::Acknowledge, org_id, &alert_id.to_string());
        format!("{}/acknowledge/{token}", self.base())
    }

    /// The link that keeps an org's notifications from a mail address.
    #[must_use]
    pub fn unsubscribe(&self, org_id: OrgId, address: &str) -> String {
        format!("{}/unsubscribe/{}", self.base(), self.token(Purpose::Unsubscribe, org_id, address))
    }

    /// Which alert a token of [`Links::acknowledge`] is for; none if it is no such token.
    #[must_use]
    pub fn acknowledged(&self, token: &str) -> Option<(OrgId, AlertId)> {
        let (org_id, subject) = self.read(Purpose::Acknowledge, token)?;
        Some((org_id, subject.parse().ok()?))
    }

    /// Which org and address a token of [`Links::unsubscribe`] is for; none if it is no such token.
    #[must_use]
    pub fn unsubscribed(&self, token: &str) -> Option<(OrgId, String)> {
        self.read(Purpose::Unsubscribe, token)
    }

    fn token(&self, purpose: Purpose, org_id: OrgId, subject: &str) -> String {
        let Some(signed) = self.keys.first().and_then(|key| mac(key, purpose, org_id, subject))
        else {
            return String::new();
        };
        let tag = signed.finalize().into_bytes();
        URL_SAFE_NO_PAD.encode([&tag[..], org_id.uuid().as_bytes(), subject.as_bytes()].concat())
    }

    fn read(&self, purpose: Purpose, token: &str) -> Option<(OrgId, String)> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, rest) = bytes.split_at_checked(TAG)?;
        let (org, subject) = rest.split_at_checked(ID)?;
        let org_id = OrgId::from_uuid(Uuid::from_slice(org).ok()?);
        let subject = std::str::from_utf8(subject).ok()?;
        let is_ours = |key| {
            mac(key, purpose, org_id, subject).is_some_and(|mac| mac.verify_slice(tag).is_ok())
        };
        self.keys.iter().any(is_ours).then(|| (org_id, subject.to_owned()))
    }
}

fn mac(key: &[u8; 32], purpose: Purpose, org_id: OrgId, subject: &str) -> Option<HmacSha256> {
    // HMAC takes keys of any length, so there is always one.
    let mut mac = <HmacSha256 as Mac>::new_from_slice(key).ok()?;
    // The purpose has no NUL and the id one length: no two things are signed alike.
    mac.update(purpose.word().as_bytes());
    mac.update(&[0]);
    mac.update(org_id.uuid().as_bytes());
    mac.update(subject.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(keys: &[u8]) -> Links {
        let keys = keys.iter().map(|key| [*key; 32]).collect();
        Links::new("https://hub.example/".parse().unwrap(), keys)
    }

    fn token(link: &str) -> &str {
        link.rsplit('/').next().unwrap()
    }

    #[test]
    fn a_link_is_known_again_for_its_own_purpose_alone() {
        let (org, alert) = (OrgId::new(), AlertId::new());
        let link = links(&[1]).acknowledge(org, alert);
        assert!(link.starts_with("https://hub.example/acknowledge/"));
        assert_eq!(links(&[1]).acknowledged(token(&link)), Some((org, alert)));
        assert_eq!(links(&[1]).unsubscribed(token(&link)), None);
        let link = links(&[1]).unsubscribe(org, "ä@example.com");
        assert_eq!(links(&[1]).unsubscribed(token(&link)), Some((org, "ä@example.com".into())));
    }

    #[test]
    fn a_key_that_is_rotated_out_is_believed_until_it_is_taken_away() {
        let (org, alert) = (OrgId::new(), AlertId::new());
        let link = links(&[1]).acknowledge(org, alert);
        assert!(links(&[2, 1]).acknowledged(token(&link)).is_some());
        assert!(links(&[2]).acknowledged(token(&link)).is_none());
    }

    #[test]
    fn a_token_that_was_touched_anywhere_is_none() {
        let link = links(&[1]).acknowledge(OrgId::new(), AlertId::new());
        let bytes = URL_SAFE_NO_PAD.decode(token(&link)).unwrap();
        for place in 0..bytes.len() {
            let mut touched = bytes.clone();
            touched[place] ^= 1;
            assert_eq!(links(&[1]).acknowledged(&URL_SAFE_NO_PAD.encode(touched)), None, "{place}");
        }
        for other in ["", "a", "é", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(links(&[1]).acknowledged(other), None);
        }
    }
}
