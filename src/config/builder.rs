//! A configuration put together key by key, for hosts that have no file, or want to change some of it.

use super::draft::Draft;
use super::errors::{ConfigErrors, Place};
use super::key_path::{KeyPath, Segment};
use super::{Config, process_environment};
use std::path::Path;

/// Holds what was given so far, and makes a [`Config`] of it as often as wanted.
///
/// ```
/// # use sipws::config::Builder;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut builder = Builder::new();
/// builder.set("limits.requests_per_second", "50")?;
/// builder.set("listen[0].url", "ws://127.0.0.1:0/")?;
/// assert_eq!(
///     builder.set("limits.brust", "5").unwrap_err().to_string(),
///     "limits.brust: unknown key; did you mean burst?"
/// );
/// assert_eq!(builder.build()?.limits.requests_per_second, 50);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Builder {
    draft: Draft,
}

impl Builder {
    /// Nothing but the defaults.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// What a TOML text says. Only its syntax is looked at here; `file_name` stands in errors, and its folder is where
    /// relative paths start.
    pub fn from_toml(text: &str, file_name: &str) -> Result<Builder, ConfigErrors> {
        Ok(Builder { draft: Draft::from_toml(text, file_name)? })
    }

    /// What a TOML file says; as [`Builder::from_toml`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Builder, ConfigErrors> {
        Ok(Builder { draft: Draft::from_file(path.as_ref())? })
    }

    /// Sets one key, whatever it was before: `limits.burst`, `listen[0].url` or `listen.0.url`, where the element after
    /// a list's last is added. The value is read as TOML if that gives the right type, else it is plain text. Relative
    /// paths start at the working directory.
    ///
    /// A key that does not exist, or a value of the wrong type, is an error, and leaves all as it was; ranges, and what
    /// keys demand of each other, are looked at by [`Builder::build`].
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigErrors> {
        let parts = key.split(['.', '[']).map(|part| part.strip_suffix(']').unwrap_or(part));
        let path = KeyPath(
            parts.map(|part| part.parse().map_or_else(|_| Segment::Key(part.to_owned()), Segment::Index)).collect(),
        );
        let mut draft = self.draft.clone();
        draft.set(&path, Place::Call { key: key.to_owned() }, value);
        draft.judge(&path, &process_environment().collect())?;
        self.draft = draft;
        Ok(())
    }

    /// Types and checks everything, as [`Config::from_toml`] does.
    pub fn build(&self) -> Result<Config, ConfigErrors> {
        self.draft.clone().build(&process_environment().collect())
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // There may be secrets in it.
        f.write_str("Builder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(builder: &mut Builder, key: &str, value: &str) -> String {
        builder.set(key, value).map_or_else(|errors| errors.to_string(), |()| String::new())
    }

    #[test]
    fn nothing_set_is_the_defaults() {
        assert_eq!(Builder::new().build(), Ok(Config::default()));
    }

    #[test]
    fn values_are_toml_where_that_fits_and_text_where_not() {
        let mut b = Builder::new();
        for (key, value) in [
            ("limits.burst", "7"),
            ("limits.outbox_bytes", "1MiB"),
            ("timeouts.ping", "\"45s\""),
            ("timeouts.policy", "250ms"),
            ("cluster.node", "7"),
            ("sip.trusted", "[\"10.0.0.0/8\"]"),
            ("client.verify", "false"),
            ("listen.0.url", "ws://127.0.0.1:0/"),
            ("listen[1].url", "wss://127.0.0.1:0/"),
            ("listen[1].origins", "[\"*\"]"),
            ("client.host[0].host", "pbx:8443"),
            ("client.host[0].headers.Authorization", "1234"),
        ] {
            assert_eq!(said(&mut b, key, value), "", "{key}");
        }
        let config = b.build().expect("right");
        assert_eq!((config.limits.burst, config.limits.outbox_bytes), (Some(7), 1 << 20));
        assert_eq!(config.timeouts.policy, std::time::Duration::from_millis(250));
        assert_eq!((config.cluster.node.as_str(), config.listen.len(), config.client.verify), ("7", 2, false));
        assert_eq!(config.client.host[0].headers["Authorization"].expose(), "1234");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key_and_changes_nothing() {
        let mut b = Builder::from_toml("[limits]\nburst = 5\n", "f.toml").expect("TOML");
        for (key, value, error) in [
            ("limits.brust", "1", "limits.brust: unknown key; did you mean burst?"),
            ("limit.burst", "1", "limit: unknown key; did you mean limits?"),
            ("limits.burst", "-1", "limits.burst: invalid value: integer `-1`, expected a whole number, 0 or more"),
            ("listen[1].url", "ws://a", "listen[1].url: the list has 0 element(s), so the next number is 0"),
            ("listen[0].url", "http://a", "listen[0].url: \"http://a\": must begin with ws:// or wss://"),
            ("", "1", "\"\" is no key; the section, a dot, the key, as in limits.burst"),
            ("limits..burst", "1", "\"limits..burst\" is no key; the section, a dot, the key, as in limits.burst"),
            ("limits", "5", "limits: invalid type: integer `5`, expected a table"),
        ] {
            assert_eq!(said(&mut b, key, value), error, "{key}");
        }
        assert_eq!(b.build().expect("as it was").limits.burst, Some(5));
        assert_eq!(said(&mut b, "limits.burst", "0"), "", "a range, which other keys may yet make right");
        assert_eq!(
            b.build().expect_err("out of range").to_string(),
            "limits.burst: 0 would refuse every request; 1 or more",
            "not the line of the file that it is not from"
        );
        assert_eq!(said(&mut b, "limits.burst", "8"), "");
        assert_eq!(b.build().expect("mended").limits.burst, Some(8));
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_shown() {
        let mut b = Builder::new();
        let error = said(&mut b, "client.host[0].headers.Cookie", "[\"hush\"]");
        assert!(!error.contains("hush"), "{error}");
        assert_eq!(said(&mut b, "cluster", "hush-hush"), "cluster: expected a table");
    }
}
