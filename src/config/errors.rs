//! What is wrong with a configuration: where it stands, which key, and what would be right.
//!
//! One line an error, so that an editor can jump to it:
//! `config.toml:12: limits.requests_per_secnd: unknown key; did you mean requests_per_second?`

use std::fmt;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A configuration file, as it was named by the caller.
    File {
        /// The name that the caller gave.
        name: String,
        /// Line, counted from 1; `None` where the file as a whole is meant (it cannot be read).
        line: Option<usize>,
    },
    /// An environment variable.
    Environment {
        /// The variable's whole name, `SIPWS_` included.
        variable: String,
    },
    /// A call of [`Builder::set`](super::Builder::set).
    Call {
        /// The key that was set.
        key: String,
    },
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it stands; `None` for a configuration made by code, or a key that was not given at all.
    pub place: Option<Place>,
    /// The dotted key, as in `listen[0].url`; empty where the text is no TOML at all.
    pub key: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl ConfigError {
    /// An error that knows its key but not (yet) its place.
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: None, key: key.into(), message: message.into() }
    }

    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(Place::File { name, line: Some(line) }) => write!(f, "{name}:{line}: ")?,
            Some(Place::File { name, line: None }) => write!(f, "{name}: ")?,
            // The variable's name says the key already.
            Some(Place::Environment { variable }) => {
                return write!(f, "environment: {variable}: {}", self.message);
            }
            Some(Place::Call { .. }) | None => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Everything that could be found wrong in one go; never empty. Prints one error a line, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` when nothing is wrong.
    pub(super) fn none_of(mut errors: Vec<ConfigError>) -> Result<(), Self> {
        if errors.is_empty() {
            return Ok(());
        }
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        errors.dedup();
        Err(Self(errors))
    }

    /// Only those that `about` says yes to; `Ok` when there is none.
    pub(super) fn only(self, about: impl FnMut(&ConfigError) -> bool) -> Result<(), Self> {
        Self::none_of(self.0.into_iter().filter(about).collect())
    }

    /// The errors, in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
