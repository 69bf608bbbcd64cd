//! Configurations made of named texts: what is wrong with one, what of it is kept, and what is shown.

use pulse_protocol::problem::FieldError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::egress::Egress;
use super::kind::Checked;

/// What stands for a secret where it is shown.
pub(super) const MASK: &str = "********";
/// Longest URL: what every receiver and proxy takes.
const URL_CHARS_MAX: usize = 2_048;

/// What is wrong with a value: a code of [`FieldError`] and what to write instead.
pub(super) type Fault = (&'static str, &'static str);

/// One text of a configuration.
pub(super) struct Field {
    name: &'static str,
    is_required: bool,
    shown: Shown,
    is_destination: bool,
    fault: fn(&str, &Egress) -> Option<Fault>,
}

/// What of a text is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Whole,
    /// Of a URL where it leads: its scheme and host.
    Origin,
    Nothing,
}

impl Field {
    /// A text that anybody may read.
    pub(super) const fn new(name: &'static str, fault: fn(&str, &Egress) -> Option<Fault>) -> Self {
        Self { name, is_required: true, shown: Shown::Whole, is_destination: false, fault }
    }

    /// The address of a receiver, which is no secret.
    pub(super) const fn destination(name: &'static str) -> Self {
        Self { is_destination: true, ..Self::new(name, url_fault) }
    }

    /// The address of a receiver; whoever knows it may write there.
    pub(super) const fn secret_url(name: &'static str) -> Self {
        Self { shown: Shown::Origin, ..Self::new(name, url_fault) }
    }

    /// A text that nobody may read.
    pub(super) const fn secret(
        name: &'static str,
        fault: fn(&str, &Egress) -> Option<Fault>,
    ) -> Self {
        Self { shown: Shown::Nothing, ..Self::new(name, fault) }
    }

    /// The same, but it may be absent.
    pub(super) const fn optional(self) -> Self {
        Self { is_required: false, ..self }
    }

    fn mask(&self, text: &str) -> String {
        match self.shown {
            Shown::Whole => text.to_owned(),
            Shown::Nothing => MASK.to_owned(),
            Shown::Origin => Url::parse(text).map_or_else(
                |_| MASK.to_owned(),
                |url| format!("{}/{MASK}", url.origin().ascii_serialization()),
            ),
        }
    }

    fn fault(&self, code: &str, message: &str) -> FieldError {
        FieldError::new(format!("config.{}", self.name), code, message)
    }

    /// The value that counts: what is given, or what is stored where that is meant.
    fn value(
        &self,
        given: &Map<String, Value>,
        stored: Option<&str>,
    ) -> Result<Option<String>, FieldError> {
        let is_secret = self.shown != Shown::Whole;
        let text = match given.get(self.name) {
            Some(Value::String(text)) => text.trim().to_owned(),
            Some(Value::Number(number)) if number.is_i64() => number.to_string(),
            Some(Value::Null) if !self.is_required => return Ok(None),
            None | Some(Value::Null) if is_secret && stored.is_some() => {
                return Ok(stored.map(str::to_owned));
            }
            None if !self.is_required => return Ok(None),
            None | Some(Value::Null) => return Err(self.fault("required", "is missing")),
            Some(_) => return Err(self.fault("invalid", "must be a text")),
        };
        match stored {
            Some(stored) if is_secret && text == self.mask(stored) => Ok(Some(stored.to_owned())),
            _ => Ok(Some(text)),
        }
    }
}

/// Checks a configuration of these fields; see [`super::kind::Kind::check`]. A secret is not kept when the receiver
/// it was given for is another one: else it could be read by sending it elsewhere.
pub(super) fn checked(
    fields: &[Field],
    given: &Value,
    stored: Option<&Value>,
    egress: &Egress,
) -> Result<Checked, Vec<FieldError>> {
    let Value::Object(given) = given else {
        return Err(vec![FieldError::new("config", "invalid", "must be an object")]);
    };
    let text = |name: &str| stored.and_then(|stored| stored.get(name)).and_then(Value::as_str);
    let moved = fields.iter().any(|field| {
        let new = given.get(field.name).and_then(Value::as_str);
        field.is_destination && origin(new) != origin(text(field.name))
    });
    let (mut faults, mut whole, mut shown) = (Vec::new(), Map::new(), Map::new());
    for field in fields {
        let kept = text(field.name).filter(|_| !(moved && field.shown == Shown::Nothing));
        match field.value(given, kept) {
            Ok(Some(value)) => {
                let fault = if value.is_empty() {
                    Some(("required", "must not be empty"))
                } else if moved && field.shown == Shown::Nothing && value == MASK {
                    Some(("required", "must be given again for another receiver"))
                } else {
                    (field.fault)(&value, egress)
                };
                faults.extend(fault.map(|(code, message)| field.fault(code, message)));
                shown.insert(field.name.to_owned(), field.mask(&value).into());
                whole.insert(field.name.to_owned(), value.into());
            }
            Ok(None) => {}
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() {
        return Ok(Checked { shown: Value::Object(shown), whole: Value::Object(whole) });
    }
    Err(faults)
}

/// Where a URL leads: its scheme, host and port. A text that is no URL is its own origin.
pub(super) fn origin(text: Option<&str>) -> Option<String> {
    text.map(|text| {
        Url::parse(text).map_or_else(|_| text.to_owned(), |url| url.origin().ascii_serialization())
    })
}

/// Reads a configuration whose fields are not all texts.
pub(super) fn read<T: DeserializeOwned>(config: &Value) -> Result<T, Vec<FieldError>> {
    serde_path_to_error::deserialize(config).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." => "config".to_owned(),
            path => format!("config.{path}"),
        };
        vec![FieldError::new(field, "invalid", error.inner().to_string())]
    })
}

/// Writes a configuration.
pub(super) fn json<T: Serialize>(config: &T) -> Result<Value, Vec<FieldError>> {
    serde_json::to_value(config)
        .map_err(|error| vec![FieldError::new("config", "invalid", error.to_string())])
}

/// What is wrong with a receiver's URL.
pub(super) fn url_fault(text: &str, egress: &Egress) -> Option<Fault> {
    if text.chars().count() > URL_CHARS_MAX {
        return Some(("too_long", "at most 2048 characters"));
    }
    let Ok(url) = Url::parse(text) else {
        return Some(("invalid", "must be a URL such as `https://example.com/hook`"));
    };
    if !matches!(url.scheme(), "http" | "https") {
        return Some(("invalid", "must begin with `https://` or `http://`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Some(("forbidden", "must not hold credentials; send them as a header"));
    }
    if egress.check_url(&url).is_err() {
        return Some(("forbidden", "must not point into a private or reserved network"));
    }
    None
}

/// What is wrong with a token that goes into a header, a path or a body.
pub(super) fn token_fault(text: &str, _: &Egress) -> Option<Fault> {
    if text.len() > 256 {
        return Some(("too_long", "at most 256 characters"));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.~:=+/".contains(c);
    (!text.chars().all(is_plain)).then_some(("invalid", "holds characters that no token has"))
}

/// What is wrong with a name that is shown to people alone.
pub(super) fn label_fault(text: &str, _: &Egress) -> Option<Fault> {
    (text.chars().count() > 120).then_some(("too_long", "at most 120 characters"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIELDS: &[Field] = &[
        Field::secret_url("webhook_url"),
        Field::destination("server").optional(),
        Field::secret("token", token_fault).optional(),
        Field::new("channel_name", label_fault).optional(),
    ];

    fn check(given: &Value, stored: Option<&Value>) -> Result<Checked, Vec<(String, String)>> {
        checked(FIELDS, given, stored, &Egress::default())
            .map_err(|faults| faults.into_iter().map(|fault| (fault.field, fault.code)).collect())
    }

    fn stored() -> Value {
        json!({"webhook_url": "https://a.example/x/y", "server": "https://b.example", "token": "t0ken"})
    }

    #[test]
    fn secrets_are_masked_and_what_is_unknown_is_dropped() {
        let mut given = stored();
        given["other"] = 1.into();
        let checked = check(&given, None).unwrap();
        assert_eq!(checked.whole, stored());
        assert_eq!(
            checked.shown,
            json!({"webhook_url": "https://a.example/********", "server": "https://b.example", "token": MASK}),
        );
    }

    #[test]
    fn a_secret_left_out_or_sent_as_shown_is_kept_and_null_removes_an_optional_one() {
        let shown = check(&stored(), None).unwrap().shown;
        assert_eq!(check(&shown, Some(&stored())).unwrap().whole, stored());
        let given = json!({"server": "https://b.example/other"});
        let whole = check(&given, Some(&stored())).unwrap().whole;
        assert_eq!(
            (&whole["webhook_url"], &whole["token"]),
            (&stored()["webhook_url"], &"t0ken".into())
        );
        let given = json!({"server": "https://b.example", "token": null});
        assert_eq!(check(&given, Some(&stored())).unwrap().whole.get("token"), None);
    }

    #[test]
    fn a_secret_is_not_sent_to_another_receiver() {
        let given = json!({"server": "https://evil.example", "token": MASK});
        assert_eq!(
            check(&given, Some(&stored())),
            Err(vec![("config.token".into(), "required".into())])
        );
        let given = json!({"server": "https://evil.example"});
        assert_eq!(check(&given, Some(&stored())).unwrap().whole.get("token"), None);
    }

    #[test]
    fn every_fault_is_listed() {
        let given = json!({"server": 5, "token": "a b", "channel_name": "x".repeat(121)});
        let faults: Vec<String> =
            check(&given, None).unwrap_err().into_iter().map(|f| f.0).collect();
        assert_eq!(
            faults,
            ["config.webhook_url", "config.server", "config.token", "config.channel_name"]
        );
        assert_eq!(check(&json!("text"), None).unwrap_err()[0].0, "config");
        for url in [
            "",
            "ftp://a.example",
            "http://127.0.0.1/",
            "http://localhost:1/",
            "https://u:p@a.example/",
        ] {
            assert_eq!(
                check(&json!({"webhook_url": url}), None).unwrap_err()[0].0,
                "config.webhook_url",
                "{url}"
            );
        }
    }
}
