//! New secrets, drawn from the operating system, and their hashes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pulse_domain::record::SecretHash;
use pulse_protocol::key::AgentKey;
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::OsRng;
use rand::{RngCore, TryRngCore};
use sha2::{Digest, Sha256};

/// Base62 characters of an API token after its prefix: 238 bits.
const TOKEN_LEN: usize = 40;
/// Base62 characters of a CSRF token: 190 bits.
const CSRF_LEN: usize = 32;
/// Random base62 characters of an agent key.
const AGENT_KEY_LEN: usize = 26;

/// A new key for an agent of the org with this slug.
///
/// # Panics
///
/// When the operating system gives no randomness.
#[must_use]
#[expect(clippy::expect_used, reason = "a key's form is known here and cannot fail")]
pub fn new_agent_key(slug: &str) -> AgentKey {
    AgentKey::from_random(slug, &base62(AGENT_KEY_LEN)).expect("26 base62 characters make a key")
}

/// A new API token: `vpt_` and 40 base62 characters.
///
/// # Panics
///
/// When the operating system gives no randomness.
#[must_use]
pub fn new_api_token() -> String {
    format!("vpt_{}", base62(TOKEN_LEN))
}

/// A new signing secret for a webhook: `whsec_` and 32 bytes in base64.
///
/// # Panics
///
/// When the operating system gives no randomness.
#[must_use]
pub fn new_webhook_secret() -> String {
    format!("whsec_{}", STANDARD.encode(bytes()))
}

/// A new cookie of a session: 32 bytes in base64 for URLs.
pub(crate) fn new_session_cookie() -> String {
    URL_SAFE_NO_PAD.encode(bytes())
}

/// A new value for `x-csrf-token`.
pub(crate) fn new_csrf_token() -> String {
    base62(CSRF_LEN)
}

/// What is stored of a secret. The secrets above hold so much randomness that no salt is needed.
#[must_use]
pub fn hash_secret(secret: &str) -> SecretHash {
    Sha256::digest(secret.as_bytes()).into()
}

fn base62(len: usize) -> String {
    Alphanumeric.sample_string(&mut OsRng.unwrap_err(), len)
}

fn bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    OsRng.unwrap_err().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_published_forms() {
        let token = new_api_token();
        assert_eq!(token.len(), 44);
        assert!(token.starts_with("vpt_") && token[4..].bytes().all(|b| b.is_ascii_alphanumeric()));

        let secret = new_webhook_secret();
        assert_eq!(STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap().len(), 32);

        let key = new_agent_key("acme");
        assert_eq!(AgentKey::parse(key.secret()).unwrap(), key);
        assert_eq!(URL_SAFE_NO_PAD.decode(new_session_cookie()).unwrap().len(), 32);
    }

    #[test]
    fn no_two_secrets_are_alike() {
        assert_ne!(new_api_token(), new_api_token());
        assert_ne!(new_webhook_secret(), new_webhook_secret());
    }
}
