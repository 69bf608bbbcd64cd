//! What is logged, and in which form.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::keys;
use super::source::Check;

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and in which form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Directives of tracing's filter.
    pub(crate) filter: String,
    /// The form of a line.
    pub(crate) format: LogFormat,
}

impl Log {
    pub(super) fn read(check: &mut Check) -> Option<Self> {
        let filter = check.parse(keys::LOG, |text| match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("`{text}` is no log filter: {error}")),
        });
        let format = check.parse(keys::LOG_FORMAT, |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("`{text}` is neither `text` nor `json`")),
        });
        Some(Self { filter: filter?, format: format.unwrap_or_else(usual_format) })
    }
}

fn usual_format() -> LogFormat {
    if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json }
}
