//! From records to rows and back.

mod alert;
mod delivery;
mod device;
mod fleet;
mod mail;
mod org;
mod work;

use pulse_actors::ports::StoreError;
use pulse_protocol::Timestamp;
use pulse_protocol::ids::OrgId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::entity::Row;
use crate::error::{UnknownWord, corrupt};
use crate::seal::Sealer;

pub(crate) use delivery::{attempt_row, delivery_view, read_attempt};
pub(crate) use mail::mail_view;
pub(crate) use org::{org_status, read_event};
pub(crate) use work::command_view;

/// A record that is one row of a table.
pub(crate) trait Record: Sized {
    /// Its row.
    type Row: Row;

    /// What tells it from others of its org.
    fn key(&self) -> Uuid;

    /// Writes it down.
    fn row(&self, org_id: OrgId, sealer: &Sealer) -> Result<Self::Row, StoreError>;

    /// Reads it.
    fn read(row: Self::Row, sealer: &Sealer) -> Result<Self, StoreError>;
}

/// Reads every row.
pub(crate) fn read_all<R: Record>(
    rows: Vec<R::Row>,
    sealer: &Sealer,
) -> Result<Vec<R>, StoreError> {
    rows.into_iter().map(|row| R::read(row, sealer)).collect()
}

/// A number as the tables hold it.
pub(crate) fn stored(number: u64, what: &'static str) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| corrupt(what, error))
}

/// A stored number as what it should be.
pub(crate) fn number<T>(stored: i64, what: &'static str) -> Result<T, StoreError>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    T::try_from(stored).map_err(|error| corrupt(what, error))
}

/// A stored number that may be absent.
pub(crate) fn optional_number<T>(
    stored: Option<i64>,
    what: &'static str,
) -> Result<Option<T>, StoreError>
where
    T: TryFrom<i64, Error: std::error::Error + Send + Sync + 'static>,
{
    stored.map(|stored| number(stored, what)).transpose()
}

/// A stored word as the value it names.
pub(crate) fn word<T>(
    from_word: fn(&str) -> Option<T>,
    stored: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    from_word(stored).ok_or_else(|| corrupt(what, UnknownWord(stored.to_owned())))
}

/// A value as JSON text.
pub(crate) fn to_json<T: Serialize>(value: &T, what: &'static str) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| corrupt(what, error))
}

/// JSON text as the value it should be.
pub(crate) fn from_json<T: DeserializeOwned>(
    stored: &str,
    what: &'static str,
) -> Result<T, StoreError> {
    serde_json::from_str(stored).map_err(|error| corrupt(what, error))
}

pub(crate) fn optional_ms(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::unix_ms)
}

pub(crate) fn optional_instant(stored: Option<i64>) -> Option<Timestamp> {
    stored.map(Timestamp::from_unix_ms)
}

/// A stored hash.
pub(crate) fn hash(stored: &[u8], what: &'static str) -> Result<[u8; 32], StoreError> {
    stored.try_into().map_err(|error| corrupt(what, error))
}
