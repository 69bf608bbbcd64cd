//! What mails look like: HTML and text from the same values.
//!
//! `templates/mail/layout.{html,txt}` are the frame of every mail. A template extends both of them, fills the block
//! `content`, and is a struct with at least the field `frame: &Frame`, and for HTML `subject: &str`. Most mails need no
//! template of their own: a [`Letter`] is a heading, paragraphs, facts, lines and buttons in that frame. The HTML
//! template escapes every value; the text template takes them as they are.

use askama::Template;

/// What every mail shows around its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// What a mail program shows beside the subject.
    pub preview: String,
    /// Where people reach the hub.
    pub home: String,
    /// Why this mail is sent to its reader, as a sentence.
    pub why: String,
    /// The link that ends such mails, where they may be ended.
    pub unsubscribe: Option<String>,
}

/// A mail that can be sent: subject and both parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// One line.
    pub subject: String,
    /// The part with markup.
    pub html: String,
    /// The part without.
    pub text: String,
}

/// The content of most mails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// The subject's line.
    pub subject: String,
    /// The heading.
    pub title: String,
    /// Six hexadecimal digits: the colour of the heading's bar and of the buttons.
    pub colour: &'static str,
    /// Plain text.
    pub paragraphs: Vec<String>,
    /// Label and value.
    pub facts: Vec<(String, String)>,
    /// A list.
    pub lines: Vec<String>,
    /// Label and link, the main one first.
    pub buttons: Vec<(String, String)>,
    /// The small print.
    pub note: Option<String>,
}

/// The colour of letters that are no alerts.
pub const BRAND: &str = "2563eb";

#[derive(Template)]
#[template(path = "mail/letter.html")]
struct Html<'a> {
    subject: &'a str,
    frame: &'a Frame,
    letter: &'a Letter,
}

#[derive(Template)]
#[template(path = "mail/letter.txt")]
struct Text<'a> {
    frame: &'a Frame,
    letter: &'a Letter,
}

impl Letter {
    /// The letter in its frame.
    ///
    /// # Errors
    ///
    /// Returns the template engine's error; values are plain text, so none is known.
    pub fn render(&self, frame: &Frame) -> Result<Rendered, askama::Error> {
        Ok(Rendered {
            subject: self.subject.clone(),
            html: Html { subject: &self.subject, frame, letter: self }.render()?,
            text: Text { frame, letter: self }.render()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(word: &str) -> Rendered {
        let letter = Letter {
            subject: word.into(),
            title: word.into(),
            colour: BRAND,
            paragraphs: vec![word.into()],
            facts: vec![("Device".into(), word.into())],
            lines: vec![word.into()],
            buttons: vec![("Acknowledge".into(), "https://hub.example/a?b=1&c=2".into())],
            note: Some(word.into()),
        };
        let frame = Frame {
            preview: word.into(),
            home: "https://hub.example".into(),
            why: word.into(),
            unsubscribe: Some("https://hub.example/unsubscribe/x".into()),
        };
        letter.render(&frame).unwrap()
    }

    #[test]
    fn both_parts_hold_everything() {
        let Rendered { subject, html, text } = letter("Router");
        assert_eq!(subject, "Router");
        assert_eq!(html.matches("Router").count(), 8, "{html}");
        assert!(html.contains(r#"href="https://hub.example/a?b=1&#38;c=2""#), "{html}");
        assert_eq!(
            text,
            "Router\n\nRouter\n\nDevice: Router\n\n- Router\n\nAcknowledge: https://hub.example/a?b=1&c=2\n\nRouter\n\n-- \nVelocityPulse · https://hub.example\nRouter\nUnsubscribe: https://hub.example/unsubscribe/x"
        );
    }

    #[test]
    fn markup_in_a_value_is_text() {
        let html = letter("<b onload='x'>&\"").html;
        assert!(!html.contains("<b ") && !html.contains("'x'"), "{html}");
    }
}
