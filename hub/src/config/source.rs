//! Where values come from, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use clap::Args;
use url::Url;

use super::Key;
use super::keys::{self, Form, Shown};

/// A name is suggested in place of an unknown one if it is at least this similar (Jaro-Winkler, 0 to 1).
const SUGGESTION_SIMILARITY_MIN: f64 = 0.8;

/// Flags that override the file and the environment.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Overrides {
    /// Public listener, as address:port [PULSE_LISTEN]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) listen: Option<String>,
    /// Operations listener, as address:port [PULSE_OPS_LISTEN]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(crate) ops_listen: Option<String>,
    /// Where browsers reach the hub [PULSE_PUBLIC_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// sqlite://… or postgres://… [PULSE_DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Log filter, such as info or debug [PULSE_LOG]
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// text or json [PULSE_LOG_FORMAT]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
}

impl Overrides {
    fn values(&self) -> impl Iterator<Item = (&'static Key, &str)> {
        [
            (keys::LISTEN, &self.listen),
            (keys::OPS_LISTEN, &self.ops_listen),
            (keys::PUBLIC_URL, &self.public_url),
            (keys::DATABASE_URL, &self.database_url),
            (keys::LOG, &self.log),
            (keys::LOG_FORMAT, &self.log_format),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)))
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    key: String,
    problem: String,
    example: Option<String>,
}

/// Everything that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has 1 fault:")?,
            many => write!(f, "the configuration has {many} faults:")?,
        }
        for Fault { key, problem, example } in &self.0 {
            write!(f, "\n  {key}: {problem}")?;
            if let Some(example) = example {
                write!(f, "; for example {example}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Which of the three a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    File,
    Environment,
    Flag,
}

#[derive(Clone, Debug)]
struct Value {
    text: String,
    origin: Origin,
}

/// What is set, by key name, and what was wrong on the way.
#[derive(Debug, Default)]
pub(super) struct Values {
    set: BTreeMap<&'static str, Value>,
    faults: Faults,
}

impl Values {
    /// Lays the defaults, the file, the environment and the flags over each other.
    pub(super) fn gather(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Self {
        let mut values = Self::default();
        for key in keys::ALL {
            if let Some(default) = key.default {
                values.put(key, default, Origin::Default);
            }
        }
        if let Some(path) = file {
            values.take_file(path);
        }
        values.take_environment(environment);
        for (key, text) in flags.values() {
            values.put(key, text, Origin::Flag);
        }
        values
    }

    fn put(&mut self, key: &'static Key, text: &str, origin: Origin) {
        self.set.insert(key.name, Value { text: text.trim().to_owned(), origin });
    }

    fn fault(&mut self, key: &str, problem: String, example: Option<String>) {
        self.faults.0.push(Fault { key: key.to_owned(), problem, example });
    }

    fn take_file(&mut self, path: &Path) {
        let name = path.display().to_string();
        let table = match std::fs::read_to_string(path) {
            Ok(text) => text.parse::<toml::Table>().map_err(|error| describe_toml(&error, &text)),
            Err(error) => Err(format!("the file cannot be read: {error}")),
        };
        let table = match table {
            Ok(table) => table,
            Err(problem) => return self.fault(&name, problem, None),
        };
        for (word, value) in table {
            let Some(key) = keys::ALL.iter().find(|key| key.name == word) else {
                let likely = suggestion(&word, |key| key.name.to_owned());
                let problem = format!("there is no such key in {name}{likely}");
                self.fault(&word, problem, None);
                continue;
            };
            match file_text(&value) {
                Some(text) => self.put(key, &text, Origin::File),
                None => {
                    let form = match key.form {
                        Form::Text => "a string",
                        Form::Number => "a whole number",
                        Form::List => "an array of strings",
                    };
                    let example = Some(file_example(key));
                    self.fault(key.name, format!("must be {form} in {name}"), example);
                }
            }
        }
    }

    fn take_environment(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        for (variable, text) in environment {
            if !variable.starts_with(keys::PREFIX)
                || keys::FOREIGN_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
            {
                continue;
            }
            match keys::ALL.iter().find(|key| key.variable() == variable) {
                // An empty variable is how a compose file says "not set".
                Some(_) if text.trim().is_empty() => {}
                Some(key) => self.put(key, &text, Origin::Environment),
                None => {
                    // What all variables share says nothing about which one was meant.
                    let word = variable[keys::PREFIX.len()..].to_ascii_lowercase();
                    let problem = format!(
                        "there is no such variable{}",
                        suggestion(&word, |key| key.variable())
                    );
                    self.fault(&variable, problem, None);
                }
            }
        }
    }
}

/// The message and the line, but not the line's text: it may hold a secret.
fn describe_toml(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
    format!("the file is no TOML: line {line}: {}", error.message())
}

fn file_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(items) => {
            let words: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
            Some(words?.join(","))
        }
        _ => None,
    }
}

fn file_example(key: &Key) -> String {
    match key.form {
        Form::Text => format!("{} = \"{}\"", key.name, key.example),
        Form::Number => format!("{} = {}", key.name, key.example),
        Form::List => format!("{} = [\"{}\"]", key.name, key.example),
    }
}

fn suggestion(word: &str, spelling: impl Fn(&Key) -> String) -> String {
    keys::ALL
        .iter()
        .map(|key| (strsim::jaro_winkler(word, key.name), key))
        .filter(|(similarity, _)| *similarity >= SUGGESTION_SIMILARITY_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map_or_else(String::new, |(_, key)| format!("; did you mean {}?", spelling(key)))
}

/// Reads values and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Check {
    values: Values,
}

impl Check {
    pub(super) fn new(values: Values) -> Self {
        Self { values }
    }

    pub(super) fn into_faults(self) -> Faults {
        self.values.faults
    }

    /// The text of a key, if it is set or has a default.
    pub(super) fn text(&self, key: &Key) -> Option<&str> {
        self.values.set.get(key.name).map(|value| value.text.as_str())
    }

    /// Whether somebody set the key.
    pub(super) fn is_set(&self, key: &Key) -> bool {
        self.values.set.get(key.name).is_some_and(|value| value.origin != Origin::Default)
    }

    /// The value of a key. None if it is absent, or if it is wrong, which is noted.
    pub(super) fn parse<T>(
        &mut self,
        key: &Key,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let parsed = parse(self.text(key)?);
        parsed.map_err(|problem| self.fault(key, problem)).ok()
    }

    /// A whole number from `min` to `max`.
    pub(super) fn number(&mut self, key: &Key, min: u64, max: u64) -> Option<u64> {
        self.parse(key, |text| match text.parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => Err(format!("`{text}` is no whole number from {min} to {max}")),
        })
    }

    /// The comma-separated items of a key, none if it is absent. Every wrong item is noted.
    pub(super) fn list<T>(
        &mut self,
        key: &Key,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let text = self.text(key).unwrap_or_default().to_owned();
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        let mut good = Vec::new();
        for item in items {
            match parse(item) {
                Ok(value) => good.push(value),
                Err(problem) => self.fault(key, problem),
            }
        }
        good
    }

    /// Notes that something is wrong with `key`. `problem` must not show the value of a secret.
    pub(super) fn fault(&mut self, key: &Key, problem: impl Into<String>) {
        let origin = self.values.set.get(key.name).map(|value| &value.origin);
        let (name, example) = match origin {
            Some(Origin::File) => (key.name.to_owned(), file_example(key)),
            Some(Origin::Flag) => {
                let flag = format!("--{}", key.name.replace('_', "-"));
                (flag.clone(), format!("{flag} {}", key.example))
            }
            _ if key.shown == Shown::Redacted => (key.variable(), key.example.to_owned()),
            _ => (key.variable(), format!("{}={}", key.variable(), key.example)),
        };
        self.values.fault(&name, problem.into(), Some(example));
    }

    /// Every value that is set or has a default, in its form, with secrets redacted.
    pub(super) fn effective(&self) -> toml::Table {
        let shown = |key: &&Key| Some((key.name.to_owned(), show(key, self.text(key)?)));
        keys::ALL.iter().filter_map(shown).collect()
    }
}

fn show(key: &Key, text: &str) -> toml::Value {
    match (key.shown, key.form) {
        (Shown::Redacted, _) => toml::Value::from("(redacted)"),
        (Shown::UrlWithoutPassword, _) => toml::Value::from(without_password(text)),
        (Shown::Whole, Form::Number) => {
            text.parse::<i64>().map_or_else(|_| toml::Value::from(text), toml::Value::from)
        }
        (Shown::Whole, Form::List) => {
            toml::Value::from(text.split(',').map(str::trim).collect::<Vec<_>>())
        }
        (Shown::Whole, Form::Text) => toml::Value::from(text),
    }
}

/// Addresses of several hosts are no URLs to the library: of those, and of queries, everything that may be secret goes.
fn without_password(text: &str) -> String {
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    let address = match Url::parse(address) {
        Ok(mut url) if url.password().is_some() => {
            // Fails only for a URL that cannot have a password, and this one has.
            let _ = url.set_password(Some("redacted"));
            url.to_string()
        }
        Ok(_) => address.to_owned(),
        Err(_) => match (address.split_once("://"), address.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, hosts))) => format!("{scheme}://redacted@{hosts}"),
            _ => address.to_owned(),
        },
    };
    match query {
        "" => address,
        query if query.contains("password") => format!("{address}?redacted"),
        query => format!("{address}?{query}"),
    }
}
