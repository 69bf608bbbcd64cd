//! Passwords: argon2id, off the arbiter, a few at a time.

use std::sync::LazyLock;
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::web;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::error::ApiError;

/// KiB of memory for one hash, passes over it, lanes: the least that OWASP recommends for argon2id.
const COST: (u32, u32, u32) = (19_456, 2, 1);
/// How long a sign-in waits for its turn; then the hub is too busy to be worth waiting for.
const TURN_MAX: Duration = Duration::from_secs(5);

/// Stands in for the password of an account that does not exist, so that both take the same time.
static NOBODYS: LazyLock<Option<String>> = LazyLock::new(|| hash_password("nobody's").ok());

/// A password could not be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// The operating system gave no randomness for the salt.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// The hash function refused.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

/// Hashes a password as argon2id into a PHC string. Takes about 20 ms of one core.
///
/// # Errors
///
/// See [`PasswordError`].
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    let mut salt = [0_u8; 16];
    OsRng.try_fill_bytes(&mut salt).map_err(|_| PasswordError::Randomness)?;
    let refused = |error: argon2::password_hash::Error| PasswordError::Hash(error.to_string());
    let salt = SaltString::encode_b64(&salt).map_err(refused)?;
    Ok(hasher()?.hash_password(password.as_bytes(), &salt).map_err(refused)?.to_string())
}

fn hasher() -> Result<Argon2<'static>, PasswordError> {
    let (memory, passes, lanes) = COST;
    let params = Params::new(memory, passes, lanes, None)
        .map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Verifies passwords on as many threads as there are cores: more would only use more memory at once.
#[derive(Debug)]
pub struct Passwords {
    turns: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Semaphore::new(available_parallelism().map_or(1, usize::from)) }
    }
}

impl Passwords {
    /// Whether `password` is the one of this hash. Without a hash it takes as long, and is not.
    ///
    /// # Errors
    ///
    /// Unavailable when too many sign-ins wait.
    pub(crate) async fn verify(
        &self,
        password: String,
        stored: Option<String>,
    ) -> Result<bool, ApiError> {
        let Ok(Ok(_turn)) = timeout(TURN_MAX, self.turns.acquire()).await else {
            return Err(ApiError::unavailable().caused_by("too many sign-ins wait for their turn"));
        };
        web::block(move || {
            let is_known = stored.is_some();
            is_known & matches(&password, stored.or_else(|| NOBODYS.clone()))
        })
        .await
        .map_err(ApiError::internal)
    }
}

fn matches(password: &str, stored: Option<String>) -> bool {
    let Some(stored) = stored else { return false };
    PasswordHash::new(&stored)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn a_password_fits_its_own_hash_only() {
        let stored = hash_password("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert_ne!(stored, hash_password("correct horse").unwrap(), "the salt must differ");
        let passwords = Passwords::default();
        assert!(passwords.verify("correct horse".into(), Some(stored.clone())).await.unwrap());
        assert!(!passwords.verify("battery staple".into(), Some(stored)).await.unwrap());
    }

    #[actix_web::test]
    async fn an_unknown_account_has_no_password_at_all() {
        let passwords = Passwords::default();
        assert!(!passwords.verify("nobody's".into(), None).await.unwrap());
        assert!(!passwords.verify("x".into(), Some("no PHC string".into())).await.unwrap());
    }
}
