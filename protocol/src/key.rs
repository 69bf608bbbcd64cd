//! Agent keys: `vp_` + 8 characters of the org's slug + `_` + 26 random and 6 check characters.
//!
//! One type makes, checks and shows them, for the hub and the agent alike, so the two cannot disagree
//! on the alphabet. The check characters let a mistyped key be refused without a look-up.

use std::fmt;

/// Length of the part taken from the org's slug.
const ORG_LEN: usize = 8;
/// Random base62 characters: 26 of them hold 154 bits.
const RANDOM_LEN: usize = 26;
/// Check characters: a CRC-32 (IEEE) in base62 never needs more than 6.
const CHECK_LEN: usize = 6;
const KEY_LEN: usize = 3 + ORG_LEN + 1 + RANDOM_LEN + CHECK_LEN;
/// How much of a key may be shown: `vp_`, the org's part and the first random characters.
const PREFIX_LEN: usize = 3 + ORG_LEN + 1 + 4;

/// An agent's whole key. Its `Debug` form shows the prefix alone.
#[derive(Clone, PartialEq, Eq)]
pub struct AgentKey(String);

/// Why a text is not an agent key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Wrong length, prefix or alphabet.
    #[error("an agent key looks like `vp_<8 characters>_<32 characters>`")]
    Form,
    /// The check characters do not fit: the key was mistyped or cut.
    #[error("the agent key's check characters do not fit: it was mistyped or cut")]
    Check,
}

impl AgentKey {
    /// Builds the key for an org's `slug` from 26 characters that the caller drew at random.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidKey::Form`] unless `random` is 26 characters of `0-9A-Za-z`.
    pub fn from_random(slug: &str, random: &str) -> Result<Self, InvalidKey> {
        if random.len() != RANDOM_LEN || !random.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(InvalidKey::Form);
        }
        let org = org_part(slug);
        let body = format!("vp_{org}_{random}");
        let check = check_characters(&body);
        Ok(Self(body + &check))
    }

    /// Reads a key and verifies its check characters.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidKey`] when the text has another form or fails its check.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = text.as_bytes();
        let in_form = bytes.len() == KEY_LEN
            && text.starts_with("vp_")
            && bytes[3..3 + ORG_LEN].iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
            && bytes[3 + ORG_LEN] == b'_'
            && bytes[3 + ORG_LEN + 1..].iter().all(u8::is_ascii_alphanumeric);
        if !in_form {
            return Err(InvalidKey::Form);
        }
        let (body, check) = text.split_at(KEY_LEN - CHECK_LEN);
        if check_characters(body) != check {
            return Err(InvalidKey::Check);
        }
        Ok(Self(text.to_owned()))
    }

    /// The whole secret, to hash it or to show it once.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// The part that may be shown and stored.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.0[..PREFIX_LEN]
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AgentKey({}…)", self.prefix())
    }
}

fn org_part(slug: &str) -> String {
    let mut part: String = slug
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .take(ORG_LEN)
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        .collect();
    while part.len() < ORG_LEN {
        part.push('0');
    }
    part
}

fn check_characters(body: &str) -> String {
    let crc = base62::encode(crc32fast::hash(body.as_bytes()));
    format!("{crc:0>CHECK_LEN$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: &str = "0123456789ABCDEFGHIJabcdef";

    #[test]
    fn a_key_round_trips() {
        let key = AgentKey::from_random("Acme-Ltd", RANDOM).unwrap();
        assert!(key.secret().starts_with("vp_acmeltd0_0123456789ABCDEFGHIJabcdef"));
        assert_eq!(key.secret().len(), KEY_LEN);
        assert_eq!(AgentKey::parse(key.secret()), Ok(key.clone()));
        assert_eq!(key.prefix(), "vp_acmeltd0_0123");
    }

    #[test]
    fn every_single_mistyped_character_is_noticed() {
        let key = AgentKey::from_random("demo", RANDOM).unwrap();
        for at in 3..KEY_LEN {
            let mut typed = key.secret().as_bytes().to_vec();
            typed[at] = if typed[at] == b'x' { b'y' } else { b'x' };
            assert!(AgentKey::parse(std::str::from_utf8(&typed).unwrap()).is_err(), "at {at}");
        }
    }

    #[test]
    fn the_alphabet_of_the_check_is_digits_upper_lower() {
        // 61 is `z` where the digits come first, then the upper case, then the lower.
        assert_eq!(base62::encode(61_u32), "z");
        assert_eq!(base62::encode(10_u32), "A");
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = AgentKey::from_random("demo", RANDOM).unwrap();
        assert!(!format!("{key:?}").contains("GHIJ"));
    }
}
