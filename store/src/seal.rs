//! Encryption of the secrets in the tables: XChaCha20-Poly1305, bound to the place where they are stored.
//!
//! A sealed value reads `v1.<key id>.<base64 of nonce and ciphertext>`. It opens only under the table, column
//! and row it was sealed for, so that a row cannot be given another row's secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, AeadCore, KeyInit, OsRng, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const VERSION: &str = "v1";
const NONCE_BYTES: usize = 24;

/// A key of 32 bytes. Shows itself to nobody.
#[derive(Clone)]
pub struct SecretKey {
    id: String,
    cipher: XChaCha20Poly1305,
    links: [u8; 32],
}

/// A text that is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 bytes in base64, as `openssl rand -base64 32` prints them")]
pub struct InvalidKey;

impl SecretKey {
    /// The key with these bytes.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let digest = Sha256::new().chain_update(b"pulse key id").chain_update(bytes).finalize();
        Self {
            id: hex::encode(&digest[..4]),
            cipher: XChaCha20Poly1305::new(bytes.into()),
            links: derived(bytes, b"pulse links"),
        }
    }

    /// The key that signs links in messages: derived from this one, so that neither tells anything of the other.
    #[must_use]
    pub const fn for_links(&self) -> [u8; 32] {
        self.links
    }

    /// Reads 32 bytes in base64.
    ///
    /// # Errors
    ///
    /// Returns [`InvalidKey`] for anything else.
    pub fn from_base64(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| InvalidKey)?;
        Ok(Self::new(&bytes))
    }
}

/// A key of its own for one purpose (the expand step of HKDF, RFC 5869, for one block).
fn derived(key: &[u8; 32], purpose: &[u8]) -> [u8; 32] {
    // HMAC takes keys of any length; hashing is what it does with those that do not fit.
    let mac = <Hmac<Sha256> as Mac>::new_from_slice(key);
    mac.map_or_else(
        |_| Sha256::new().chain_update(key).chain_update(purpose).finalize().into(),
        |mac| mac.chain_update(purpose).chain_update([1]).finalize().into_bytes().into(),
    )
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a sealed value did not open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is not in the form that this version writes.
    #[error("the value is not sealed in a form this version reads")]
    Malformed,
    /// It was sealed under a key that is not in the list. Configure that key as well.
    #[error("the value was sealed under key {key_id}, which is not configured")]
    UnknownKey {
        /// Which key.
        key_id: String,
    },
    /// It was changed, or sealed for another place.
    #[error("the value was altered or belongs elsewhere")]
    Forged,
    /// There is no key to seal with.
    #[error("no secret key is configured")]
    NoKey,
}

/// Where a sealed value is stored.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Table and column.
    pub column: &'static str,
    /// The row.
    pub row: Uuid,
}

impl Place {
    fn associated_data(self) -> Vec<u8> {
        [self.column.as_bytes(), b"/", self.row.as_bytes()].concat()
    }
}

/// Seals under the first of its keys, opens under any.
#[derive(Clone, Debug)]
pub struct Sealer {
    keys: Vec<SecretKey>,
}

impl Sealer {
    /// A sealer with these keys, the current one first.
    #[must_use]
    pub const fn new(keys: Vec<SecretKey>) -> Self {
        Self { keys }
    }

    /// Seals `text` for `place`.
    ///
    /// # Errors
    ///
    /// Returns [`SealError::NoKey`] if there is no key.
    pub fn seal(&self, place: Place, text: &str) -> Result<String, SealError> {
        let key = self.keys.first().ok_or(SealError::NoKey)?;
        let nonce = XChaCha20Poly1305::generate_nonce(&mut OsRng);
        let payload = Payload { msg: text.as_bytes(), aad: &place.associated_data() };
        // Fails only for texts beyond 256 GiB.
        let sealed = key.cipher.encrypt(&nonce, payload).map_err(|_| SealError::Malformed)?;
        let bytes = [nonce.as_slice(), &sealed].concat();
        Ok(format!("{VERSION}.{}.{}", key.id, STANDARD.encode(bytes)))
    }

    /// Opens what was sealed for `place`.
    ///
    /// # Errors
    ///
    /// Returns [`SealError`] if it cannot be opened here.
    pub fn open(&self, place: Place, sealed: &str) -> Result<String, SealError> {
        let rest = sealed.strip_prefix(VERSION).and_then(|rest| rest.strip_prefix('.'));
        let (key_id, text) =
            rest.and_then(|rest| rest.split_once('.')).ok_or(SealError::Malformed)?;
        let bytes = STANDARD.decode(text).map_err(|_| SealError::Malformed)?;
        let (nonce, msg) = bytes.split_at_checked(NONCE_BYTES).ok_or(SealError::Malformed)?;
        let key = self.keys.iter().find(|key| key.id == key_id);
        let key = key.ok_or_else(|| SealError::UnknownKey { key_id: key_id.to_owned() })?;
        let payload = Payload { msg, aad: &place.associated_data() };
        let open = key.cipher.decrypt(XNonce::from_slice(nonce), payload);
        String::from_utf8(open.map_err(|_| SealError::Forged)?).map_err(|_| SealError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SecretKey {
        SecretKey::new(&[byte; 32])
    }

    fn place(row: u128) -> Place {
        Place { column: "channels.secrets", row: Uuid::from_u128(row) }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let sealer = Sealer::new(vec![key(1)]);
        let sealed = sealer.seal(place(1), "whsec_a").unwrap();
        assert!(sealed.starts_with("v1.") && !sealed.contains("whsec"));
        assert_eq!(sealer.open(place(1), &sealed), Ok("whsec_a".to_owned()));
        assert_eq!(sealer.open(place(2), &sealed), Err(SealError::Forged));
        let elsewhere = Place { column: "users.totp", row: Uuid::from_u128(1) };
        assert_eq!(sealer.open(elsewhere, &sealed), Err(SealError::Forged));
    }

    #[test]
    fn equal_texts_are_sealed_differently() {
        let sealer = Sealer::new(vec![key(1)]);
        assert_ne!(sealer.seal(place(1), "a"), sealer.seal(place(1), "a"));
    }

    #[test]
    fn an_older_key_opens_and_the_first_one_seals() {
        let sealed = Sealer::new(vec![key(1)]).seal(place(1), "a").unwrap();
        let rotated = Sealer::new(vec![key(2), key(1)]);
        assert_eq!(rotated.open(place(1), &sealed), Ok("a".to_owned()));
        let newly = rotated.seal(place(1), "a").unwrap();
        assert_eq!(Sealer::new(vec![key(2)]).open(place(1), &newly), Ok("a".to_owned()));
        let without = Sealer::new(vec![key(2)]).open(place(1), &sealed);
        assert!(matches!(without, Err(SealError::UnknownKey { .. })));
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        let sealer = Sealer::new(vec![key(1)]);
        let sealed = sealer.seal(place(1), "secret").unwrap();
        let (head, text) = sealed.rsplit_once('.').unwrap();
        let bytes = STANDARD.decode(text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = format!("{head}.{}", STANDARD.encode(changed));
            assert_eq!(sealer.open(place(1), &changed), Err(SealError::Forged));
        }
    }

    #[test]
    fn nonsense_does_not_open() {
        let sealer = Sealer::new(vec![key(1)]);
        for text in ["", "v1", "v1.", "v1.x", "v1.x.!", "v2.x.AAAA", "plain", "v1.00000000.AAAA"] {
            assert!(sealer.open(place(1), text).is_err(), "{text}");
        }
        assert_eq!(Sealer::new(vec![]).seal(place(1), "a"), Err(SealError::NoKey));
    }

    #[test]
    fn a_key_is_read_from_base64_and_never_shown() {
        let key = SecretKey::from_base64(&format!("{}\n", STANDARD.encode([7; 32]))).unwrap();
        let shown = format!("{key:?}");
        assert!(!shown.contains(&STANDARD.encode([7; 32])) && !shown.contains("07"));
        assert_eq!(SecretKey::from_base64("c2hvcnQ=").unwrap_err(), InvalidKey);
    }
}
