//! Log lines.

use tracing_subscriber::EnvFilter;

use super::{
    RuntimeError,
    args::{LogFormat, ProcessArgs},
};

/// Installs the subscriber that writes log lines to standard error.
///
/// # Errors
/// If the filter cannot be read, or a subscriber was installed before.
pub fn install(args: &ProcessArgs) -> Result<(), RuntimeError> {
    let filter = filter(&args.log)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        LogFormat::Text => lines.try_init(),
    }
    .map_err(|_| RuntimeError::InstalledTwice { what: "the log subscriber" })
}

fn filter(value: &str) -> Result<EnvFilter, RuntimeError> {
    EnvFilter::builder()
        .parse(value)
        .map_err(|error| RuntimeError::LogFilter { value: value.into(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_filter_is_named_with_a_remedy() {
        let error = filter("weightlock=loud").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.starts_with("--log \"weightlock=loud\": "), "{error}");
        assert!(error.contains("Remedy:"), "{error}");
        assert!(filter("info,weightlock=debug").is_ok());
    }
}
