//! What a webhook channel may be told to do.

use pulse_protocol::api::WebhookConfig;
use pulse_protocol::problem::FieldError;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::outbound::config::{Fault, MASK, json, origin, read, url_fault};
use crate::outbound::egress::Egress;
use crate::outbound::kind::Checked;

/// Most headers of one channel.
const HEADERS_MAX: usize = 20;
/// Longest value of a header.
const HEADER_CHARS_MAX: usize = 1_024;
/// Headers that belong to the connection or to the message itself.
const RESERVED: &[&str] = &[
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Beginnings of the names of headers that the hub sets.
const RESERVED_PREFIXES: &[&str] = &["content-", "webhook-"];

/// Checks a configuration; see [`crate::outbound::kind::Kind::check`]. The value of a header is not kept when the
/// address moves to another origin: else it could be read by sending it elsewhere.
pub(super) fn checked(
    given: &Value,
    stored: Option<&Value>,
    egress: &Egress,
) -> Result<Checked, Vec<FieldError>> {
    let mut config: WebhookConfig = read(given)?;
    let stored: Option<WebhookConfig> =
        stored.and_then(|stored| serde_json::from_value(stored.clone()).ok());
    let to = origin(Some(config.url.as_str()));
    let stored = stored.filter(|stored| origin(Some(stored.url.as_str())) == to);
    for (name, value) in &mut config.headers {
        let kept = stored.as_ref().and_then(|stored| kept_value(stored, name));
        if let (MASK, Some(kept)) = (value.as_str(), kept) {
            value.clone_from(kept);
        }
    }
    let faults = faults(&config, egress);
    if !faults.is_empty() {
        return Err(faults);
    }
    let whole = json(&config)?;
    config.headers.values_mut().for_each(|value| MASK.clone_into(value));
    Ok(Checked { shown: json(&config)?, whole })
}

/// The stored value of a header, whose name has no case.
fn kept_value<'a>(stored: &'a WebhookConfig, name: &str) -> Option<&'a String> {
    let mut headers = stored.headers.iter();
    headers.find(|(stored, _)| stored.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn faults(config: &WebhookConfig, egress: &Egress) -> Vec<FieldError> {
    let mut faults = Vec::new();
    faults.extend(
        url_fault(&config.url, egress)
            .map(|(code, message)| FieldError::new("config.url", code, message)),
    );
    if config.headers.len() > HEADERS_MAX {
        faults.push(FieldError::new("config.headers", "too_long", "at most 20 headers"));
    }
    for (name, value) in &config.headers {
        faults.extend(header_fault(name, value).map(|(code, message)| {
            FieldError::new(format!("config.headers.{name}"), code, message)
        }));
    }
    faults
}

fn header_fault(name: &str, value: &str) -> Option<Fault> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some(("invalid", "is no name of a header"));
    }
    if RESERVED.contains(&lower.as_str())
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
    {
        return Some(("forbidden", "is set by the hub or belongs to the connection"));
    }
    if value == MASK {
        return Some(("required", "give it again: the address moved, or no value is stored"));
    }
    if value.chars().count() > HEADER_CHARS_MAX {
        return Some(("too_long", "at most 1024 characters"));
    }
    if HeaderValue::from_str(value).is_err() {
        return Some(("invalid", "holds characters that a header cannot carry"));
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(config: Value) -> Vec<(String, String)> {
        let faults = checked(&config, None, &Egress::default()).err().unwrap_or_default();
        faults.into_iter().map(|fault| (fault.field, fault.code)).collect()
    }

    #[test]
    fn a_good_configuration_is_stored_without_what_is_unknown() {
        let config =
            json!({"url": "https://example.com/hook?a=b", "headers": {"X-Api": "1"}, "other": 1});
        let checked = checked(&config, None, &Egress::default()).unwrap();
        assert_eq!(
            checked.whole,
            json!({"url": "https://example.com/hook?a=b", "headers": {"X-Api": "1"}}),
        );
        assert_eq!(
            checked.shown,
            json!({"url": "https://example.com/hook?a=b", "headers": {"X-Api": MASK}}),
        );
    }

    #[test]
    fn a_value_that_is_sent_as_it_is_shown_is_kept_at_the_same_origin() {
        let stored = json!({"url": "https://example.com/a", "headers": {"X-Api": "1", "X-B": "2"}});
        let given =
            json!({"url": "https://example.com:443/b", "headers": {"x-api": MASK, "X-B": "3"}});
        let checked = checked(&given, Some(&stored), &Egress::default()).unwrap();
        assert_eq!(
            checked.whole,
            json!({"url": "https://example.com:443/b", "headers": {"x-api": "1", "X-B": "3"}}),
        );
    }

    #[test]
    fn a_value_is_not_kept_when_the_address_moves_and_the_mask_is_no_value() {
        let required = [("config.headers.X-Api".to_owned(), "required".to_owned())];
        let stored = json!({"url": "https://example.com/a", "headers": {"X-Api": "s3cr3t"}});
        for url in [
            "https://evil.example/a",
            "https://sub.example.com/a",
            "http://example.com/a",
            "https://example.com:8443/a",
        ] {
            let given = json!({"url": url, "headers": {"X-Api": MASK}});
            let faults = checked(&given, Some(&stored), &Egress::default()).err().unwrap();
            let faults: Vec<_> =
                faults.into_iter().map(|fault| (fault.field, fault.code)).collect();
            assert_eq!(faults, required, "{url}");
            let given = json!({"url": url, "headers": {"X-Api": "new"}});
            assert!(checked(&given, Some(&stored), &Egress::default()).is_ok(), "{url}");
        }
        let given = json!({"url": "https://example.com/a", "headers": {"X-Api": MASK}});
        assert_eq!(faults(given.clone()), required);
        let none = json!({"url": "https://example.com/a", "headers": {"X-Other": "1"}});
        assert!(checked(&given, Some(&none), &Egress::default()).is_err());
    }

    #[test]
    fn a_bad_url_is_refused() {
        for url in [
            "",
            "example.com",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://",
            "https://user:pw@example.com/",
            "https://user@example.com/",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            let faults = faults(json!({ "url": url }));
            assert_eq!(faults.len(), 1, "{url}");
            assert_eq!(faults[0].0, "config.url");
        }
        let long = format!("https://example.com/{}", "a".repeat(2_048));
        assert_eq!(faults(json!({ "url": long })), [("config.url".into(), "too_long".into())]);
    }

    #[test]
    fn headers_of_the_hub_and_of_the_connection_are_refused() {
        for name in ["Host", "content-type", "Content-Length", "Webhook-Id", "TE", "a b", "", "é"]
        {
            let faults = faults(json!({"url": "https://example.com", "headers": {name: "x"}}));
            assert_eq!(faults.len(), 1, "{name}");
        }
        let faults =
            faults(json!({"url": "https://example.com", "headers": {"X-A": "a\r\nHost: b"}}));
        assert_eq!(faults, [("config.headers.X-A".into(), "invalid".into())]);
    }

    #[test]
    fn every_fault_is_listed_and_a_wrong_shape_is_one() {
        let config = json!({"url": "ftp://a", "headers": {"Host": "b", "te": "c"}});
        assert_eq!(faults(config).len(), 3);
        assert_eq!(faults(json!("text"))[0].0, "config");
        assert_eq!(faults(json!({"url": 5}))[0].0, "config.url");
        assert_eq!(faults(json!({})).len(), 1);
    }
}
