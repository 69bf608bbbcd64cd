//! Puts fragmented messages together (RFC 6455, section 5.4), up to the largest frame.

use actix_http::ws::Item;
use bytes::Bytes;
use pulse_protocol::agent::{CloseCode, FRAME_BYTES_MAX};

/// What a fragment completes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Nothing yet.
    Part,
    /// A text.
    Text(String),
}

/// The fragments of the message that is coming in.
#[derive(Debug, Default)]
pub(super) struct Fragments(Option<Vec<u8>>);

impl Fragments {
    /// Takes the next fragment; an error is what to close the socket with.
    pub(super) fn take(&mut self, item: Item) -> Result<Fragment, CloseCode> {
        match item {
            Item::FirstText(bytes) if self.0.is_none() => {
                self.0 = Some(Vec::new());
                self.append(&bytes)
            }
            Item::Continue(bytes) => self.append(&bytes),
            Item::Last(bytes) => {
                self.append(&bytes)?;
                let whole = self.0.take().unwrap_or_default();
                String::from_utf8(whole).map(Fragment::Text).map_err(|_| CloseCode::Malformed)
            }
            Item::FirstText(_) | Item::FirstBinary(_) => Err(CloseCode::Malformed),
        }
    }

    fn append(&mut self, bytes: &Bytes) -> Result<Fragment, CloseCode> {
        let whole = self.0.as_mut().ok_or(CloseCode::Malformed)?;
        if whole.len() + bytes.len() > FRAME_BYTES_MAX {
            return Err(CloseCode::TooBig);
        }
        whole.extend_from_slice(bytes);
        Ok(Fragment::Part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_text() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(Item::FirstText(Bytes::from("{\"a\""))), Ok(Fragment::Part));
        assert_eq!(fragments.take(Item::Continue(Bytes::from(":1"))), Ok(Fragment::Part));
        let whole = fragments.take(Item::Last(Bytes::from("}")));
        assert_eq!(whole, Ok(Fragment::Text("{\"a\":1}".to_owned())));
    }

    #[test]
    fn what_does_not_fit_closes() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.take(Item::Continue(Bytes::from("x"))), Err(CloseCode::Malformed));
        assert_eq!(fragments.take(Item::FirstBinary(Bytes::from("x"))), Err(CloseCode::Malformed));
        let big = Bytes::from(vec![b'x'; FRAME_BYTES_MAX]);
        assert_eq!(fragments.take(Item::FirstText(big)), Ok(Fragment::Part));
        assert_eq!(fragments.take(Item::Continue(Bytes::from("x"))), Err(CloseCode::TooBig));
    }
}
