//! How often somebody may mistype a password.
//!
//! Counted by address and account together, so that nobody can lock somebody else out, and by address alone,
//! so that one address cannot try many accounts. Only failures count: an attempt is charged when it begins
//! and given back when it succeeds, so that parallel guesses do not slip past the count.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use pulse_protocol::Timestamp;

/// How long a failure is held against somebody.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Failures in a window for one account from one address: a person who tries all they can remember.
const PER_ACCOUNT_MAX: u32 = 10;
/// Failures in a window from one address: an office behind one address on a Monday.
const PER_ADDRESS_MAX: u32 = 100;
/// Keys held at once: about 4 MiB. Beyond it sign-ins from new addresses wait for the window to pass.
const KEYS_MAX: usize = 100_000;

/// How often passed windows are looked for once the table is full: it is walked whole for that.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Strikes {
    count: u32,
    since: Timestamp,
}

/// Failed sign-ins of the last 15 minutes, in bounded memory.
#[derive(Default)]
pub struct Attempts {
    /// Keys are hashed: the map holds neither addresses nor accounts, and an entry has one size.
    hasher: RandomState,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    strikes: HashMap<u64, Strikes>,
    swept_at: Timestamp,
}

impl Table {
    /// Whether two more keys fit, after what has passed was swept out.
    fn has_room(&mut self, now: Timestamp) -> bool {
        let is_full = |table: &Self| table.strikes.len() + 2 > KEYS_MAX;
        if is_full(self) && now >= self.swept_at + SWEEP_EVERY {
            self.strikes.retain(|_, earlier| now < earlier.since + WINDOW);
            self.swept_at = now;
        }
        !is_full(self)
    }
}

impl Attempts {
    /// Charges one attempt.
    ///
    /// # Errors
    ///
    /// Returns how long to wait when the address, or the account from this address, failed too often.
    pub fn begin(&self, address: IpAddr, account: &str, now: Timestamp) -> Result<(), Duration> {
        let mut table = self.table.lock();
        let keys = self.keys(address, account);
        for (key, allowed) in keys {
            if let Some(earlier) = table.strikes.get(&key)
                && now < earlier.since + WINDOW
                && earlier.count >= allowed
            {
                return Err((earlier.since + WINDOW).duration_since(now));
            }
        }
        let is_new = keys.iter().any(|(key, _)| !table.strikes.contains_key(key));
        if is_new && !table.has_room(now) {
            return Err(SWEEP_EVERY);
        }
        for (key, _) in keys {
            let entry = table.strikes.entry(key).or_insert(Strikes { count: 0, since: now });
            if now >= entry.since + WINDOW {
                *entry = Strikes { count: 0, since: now };
            }
            entry.count += 1;
        }
        Ok(())
    }

    /// Gives an attempt back, and forgives the account's failures: the password was right.
    pub fn succeeded(&self, address: IpAddr, account: &str) {
        let [(account_key, _), (address_key, _)] = self.keys(address, account);
        let mut table = self.table.lock();
        table.strikes.remove(&account_key);
        if let Some(entry) = table.strikes.get_mut(&address_key) {
            entry.count = entry.count.saturating_sub(1);
        }
    }

    fn keys(&self, address: IpAddr, account: &str) -> [(u64, u32); 2] {
        let network = network_of(address);
        [
            (self.hasher.hash_one((network, Some(account))), PER_ACCOUNT_MAX),
            (self.hasher.hash_one((network, None::<&str>)), PER_ADDRESS_MAX),
        ]
    }
}

/// An IPv6 customer owns a whole /64 and can change the rest at will.
fn network_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
    const NOON: Timestamp = Timestamp::from_unix_ms(1_772_366_400_000);

    fn fail(attempts: &Attempts, times: u32) {
        for _ in 0..times {
            attempts.begin(HOME, "a@example.com", NOON).unwrap();
        }
    }

    #[test]
    fn the_eleventh_failure_waits_for_the_window() {
        let attempts = Attempts::default();
        fail(&attempts, PER_ACCOUNT_MAX);
        let later = NOON + Duration::from_secs(60);
        assert_eq!(attempts.begin(HOME, "a@example.com", later), Err(Duration::from_secs(14 * 60)));
        assert_eq!(attempts.begin(HOME, "a@example.com", NOON + WINDOW), Ok(()));
    }

    #[test]
    fn one_account_does_not_lock_another_out_nor_another_address() {
        let attempts = Attempts::default();
        fail(&attempts, PER_ACCOUNT_MAX);
        assert_eq!(attempts.begin(HOME, "b@example.com", NOON), Ok(()));
        assert_eq!(attempts.begin("192.0.2.1".parse().unwrap(), "a@example.com", NOON), Ok(()));
    }

    #[test]
    fn a_success_forgives() {
        let attempts = Attempts::default();
        for _ in 0..1_000 {
            attempts.begin(HOME, "a@example.com", NOON).unwrap();
            attempts.succeeded(HOME, "a@example.com");
        }
    }

    #[test]
    fn one_address_cannot_try_account_after_account() {
        let attempts = Attempts::default();
        let allowed =
            (0..500).take_while(|i| attempts.begin(HOME, &format!("{i}@x"), NOON).is_ok()).count();
        assert_eq!(allowed, PER_ADDRESS_MAX as usize);
    }

    #[test]
    fn memory_is_bounded_and_freed_by_the_window() {
        let attempts = Attempts::default();
        let from = |i: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(i));
        let refused =
            (0..120_000).filter(|i| attempts.begin(from(*i), "a@x", NOON).is_err()).count();
        assert_eq!(refused, 120_000 - KEYS_MAX / 2);
        assert_eq!(attempts.table.lock().strikes.len(), KEYS_MAX);
        assert_eq!(attempts.begin(from(300_000), "a@x", NOON + WINDOW), Ok(()));
        assert_eq!(attempts.table.lock().strikes.len(), 2);
    }

    #[test]
    fn a_whole_ipv6_customer_is_one_address() {
        let attempts = Attempts::default();
        for i in 0..PER_ACCOUNT_MAX {
            attempts.begin(format!("2001:db8:1:2::{i:x}").parse().unwrap(), "a@x", NOON).unwrap();
        }
        assert!(attempts.begin("2001:db8:1:2:ffff::".parse().unwrap(), "a@x", NOON).is_err());
        assert!(attempts.begin("2001:db8:1:3::1".parse().unwrap(), "a@x", NOON).is_ok());
    }
}
