//! Keys that must not reach a log, a page or a crash report.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A secret string. `Debug`, `Display` and `Serialize` print `***`; only [`Secret::expose`] shows it.
///
/// In TOML: a string, `{ env = "NAME" }` or `{ file = "path" }`; the last two are looked up while the configuration is
/// read, so a `Secret` always holds the secret itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret as it is.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that computes with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not by a visitor: serde's own type errors quote the value.
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(secret) => Ok(Self(secret)),
            other => Err(serde::de::Error::custom(format_args!(
                "expected a string, {{ env = \"NAME\" }} or {{ file = \"path\" }}, not this {}",
                other.type_str()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_prints_shows_the_secret() {
        let secret = Secret::new("hush-hush-hush-hush");
        let table = toml::to_string(&toml::Table::from_iter([(
            "secret".to_owned(),
            toml::Value::try_from(&secret).expect("serializes"),
        )]))
        .expect("prints");
        for printed in [format!("{secret:?}"), format!("{secret}"), table] {
            assert!(printed.contains("***") && !printed.contains("hush"), "{printed}");
        }
        assert_eq!(secret.expose(), "hush-hush-hush-hush");
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted_in_the_error() {
        let error = Secret::deserialize(toml::Value::Integer(123_456)).expect_err("no string");
        assert!(error.message().contains("not this integer") && !error.message().contains("123456"), "{error}");
    }
}
