//! Names and answers are data: what of them may stand in a message.

/// One printable line: control characters, and those that turn the direction of what follows, are spaces.
#[must_use]
pub fn line(text: &str) -> String {
    let printable = text.replace(is_unprintable, " ");
    printable.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One printable line of at most `chars_max` characters; a longer one ends with an ellipsis.
#[must_use]
pub fn bounded(text: &str, chars_max: usize) -> String {
    cut(&line(text), chars_max)
}

/// At most `chars_max` characters; a longer text ends with an ellipsis.
#[must_use]
pub fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect()
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// The text with a backslash before each of these characters.
#[must_use]
pub fn backslashed(text: &str, special: &[char]) -> String {
    let escaped = |c: char| special.contains(&c).then_some('\\').into_iter().chain([c]);
    text.chars().flat_map(escaped).collect()
}

/// The text with the characters that begin markup or an entity replaced by entities.
#[must_use]
pub fn without_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_control_characters() {
        assert_eq!(line(" a\r\nb\u{7}\u{202e}c\t "), "a b c");
        assert_eq!(bounded("abcdef", 4), "abc…");
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(cut("", 0), "");
    }

    #[test]
    fn markup_is_taken_away() {
        assert_eq!(without_markup("<a>&amp;"), "&lt;a&gt;&amp;amp;");
        assert_eq!(backslashed("a_b\\", &['\\', '_']), "a\\_b\\\\");
    }
}
