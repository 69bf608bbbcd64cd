//! Query parameters, and lists that are read page by page.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pulse_protocol::api::Page;
use pulse_protocol::problem::FieldError;
use url::form_urlencoded;

use crate::error::ApiError;

/// Items on a page unless the client says otherwise.
const LIMIT_DEFAULT: usize = 100;
/// What a client may say.
pub(crate) const LIMITS: RangeInclusive<usize> = 1..=500;

/// The query of a URL; collects every fault before it refuses.
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<FieldError>,
}

impl Params {
    pub(crate) fn new(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { pairs, faults: Vec::new() }
    }

    /// The value of a parameter as `read` takes it; none when it is absent or at fault.
    pub(crate) fn read<T>(
        &mut self,
        name: &str,
        form: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, text) = self.pairs.iter().find(|(key, _)| key == name)?;
        let value = read(text);
        if value.is_none() {
            self.faults.push(FieldError::new(name, "invalid", format!("must be {form}")));
        }
        value
    }

    /// How many items are wanted.
    pub(crate) fn limit(&mut self, allowed: &RangeInclusive<usize>) -> usize {
        let form = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        self.read("limit", &form, |text| text.parse().ok().filter(|limit| allowed.contains(limit)))
            .unwrap_or(LIMIT_DEFAULT)
    }

    /// The last item of the page before.
    pub(crate) fn cursor<Id: FromStr>(&mut self) -> Option<Id> {
        self.read("cursor", "the `next_cursor` of an earlier answer", |text| {
            let id = URL_SAFE_NO_PAD.decode(text).ok()?;
            std::str::from_utf8(&id).ok()?.parse().ok()
        })
    }

    /// # Errors
    ///
    /// 422 with every fault, if there was one.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        if self.faults.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.faults)) }
    }
}

/// Which page of a list is wanted.
pub(crate) struct Paging<Id> {
    /// The last item of the page before.
    pub(crate) after: Option<Id>,
    /// Items on the page.
    pub(crate) limit: usize,
}

impl<Id: FromStr> Paging<Id> {
    pub(crate) fn read(params: &mut Params) -> Self {
        Self { after: params.cursor(), limit: params.limit(&LIMITS) }
    }

    /// What to ask for: one more than fits tells whether there is a further page.
    pub(crate) const fn probe(&self) -> usize {
        self.limit + 1
    }
}

impl<Id> Paging<Id> {
    /// The page of items that were asked for with [`Paging::probe`].
    pub(crate) fn page<T>(&self, mut items: Vec<T>, id: impl Fn(&T) -> Id) -> Page<T>
    where
        Id: Display,
    {
        let is_more = items.len() > self.limit;
        items.truncate(self.limit);
        let last = items.last().filter(|_| is_more);
        let next_cursor = last.map(|item| URL_SAFE_NO_PAD.encode(id(item).to_string()));
        Page { items, next_cursor }
    }
}

#[cfg(test)]
mod tests {
    use pulse_protocol::ids::AgentId;

    use super::*;

    fn paging(query: &str) -> Result<Paging<AgentId>, ApiError> {
        let mut params = Params::new(query);
        let paging = Paging::read(&mut params);
        params.finish().map(|()| paging)
    }

    #[test]
    fn a_cursor_leads_to_the_next_page_and_the_last_page_has_none() {
        let ids: Vec<AgentId> = (0..3).map(|_| AgentId::new()).collect();
        let first = paging("limit=2").unwrap();
        let page = first.page(ids.clone(), |id| *id);
        assert_eq!(page.items, ids[..2]);

        let next = paging(&format!("limit=2&cursor={}", page.next_cursor.unwrap())).unwrap();
        assert_eq!(next.after, Some(ids[1]));
        assert_eq!(next.page(vec![ids[2]], |id| *id).next_cursor, None);
        assert_eq!(next.page(ids[1..].to_vec(), |id| *id).next_cursor, None, "a full last page");
    }

    #[test]
    fn every_fault_is_listed() {
        for query in ["limit=0", "limit=501", "limit=x", "limit=", "cursor=x", "cursor=%00"] {
            assert!(paging(query).is_err(), "{query}");
        }
        let message = paging("limit=0&cursor=x").err().unwrap().to_string();
        assert_eq!(message, "2 fields are not valid");
        assert_eq!(paging("").unwrap().limit, 100);
        assert_eq!(paging("other=1").unwrap().after, None);
    }
}
