//! What a receiver may echo and nobody else may read.

use url::Url;

/// Values shorter than this are too common in plain text to be blotted out.
const REDACTED_CHARS_MIN: usize = 4;
/// Parts of a URL shorter than this are words of its vendor.
const URL_PART_CHARS_MIN: usize = 8;

/// Texts to blot out, the longest first.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

impl Secrets {
    /// These texts, and each word of them: of an `Authorization` value the credentials alone may be echoed, too.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<String> = secrets
            .into_iter()
            .flat_map(|secret| secret.split_whitespace().chain([secret]))
            .filter(|word| word.chars().count() >= REDACTED_CHARS_MIN)
            .map(str::to_owned)
            .collect();
        Self(words).sorted()
    }

    /// The same, and a URL that is a secret: the whole, its path, and the parts that make it one.
    #[must_use]
    pub fn and_url(mut self, text: &str) -> Self {
        let Ok(url) = Url::parse(text) else { return self };
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        let values = url.query_pairs().map(|(_, value)| value.into_owned());
        let long = |part: &String| part.chars().count() >= URL_PART_CHARS_MIN;
        let path = [url.path(), url.query().unwrap_or_default()].map(str::to_owned);
        self.0.extend(parts.chain(values).chain(path).filter(long));
        self.0.extend([text.to_owned(), url.to_string()]);
        self.sorted()
    }

    fn sorted(mut self) -> Self {
        self.0.sort_by_key(|word| std::cmp::Reverse(word.len()));
        self
    }

    /// The text without them.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_blotted_out_whole_and_in_parts() {
        let secrets = Secrets::default()
            .and_url("https://hooks.example/services/T0/B0/abcdefghij?sig=0123456789");
        for text in [
            "at https://hooks.example/services/T0/B0/abcdefghij?sig=0123456789",
            "POST /services/T0/B0/abcdefghij",
            "no abcdefghij here",
            "sig 0123456789",
        ] {
            let redacted = secrets.redact(text);
            assert!(
                !redacted.contains("abcdefghij") && !redacted.contains("0123456789"),
                "{redacted}"
            );
        }
        assert_eq!(secrets.redact("T0 was not found"), "T0 was not found");
    }

    #[test]
    fn words_of_a_header_are_blotted_out_and_short_ones_are_not() {
        let secrets = Secrets::of(["Bearer top-secret", "ab"]);
        assert_eq!(secrets.redact("top-secret and ab"), "[redacted] and ab");
    }
}
