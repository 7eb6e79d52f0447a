//! One setting laid over what a draft has: from the environment, or from a host's call.

use super::draft::Draft;
use super::errors::{ConfigError, ConfigErrors, Place};
use super::key_path::{KeyPath, Segment};
use std::collections::HashMap;

impl Draft {
    /// Puts `text` at `path`, as TOML for now if it is TOML.
    pub(super) fn set(&mut self, path: &KeyPath, place: Place, text: &str) {
        let is_empty = |segment: &Segment| *segment == Segment::Key(String::new());
        if path.0.is_empty() || path.0.iter().any(is_empty) {
            let message = match &place {
                Place::Call { key } => {
                    format!("\"{key}\" is no key; the section, a dot, the key, as in limits.burst")
                }
                _ => "the name is SIPWS_, the section, two underscores, the key, as in SIPWS_LIMITS__BURST".to_owned(),
            };
            let key = if matches!(place, Place::Call { .. }) { String::new() } else { path.to_string() };
            self.errors.push(ConfigError::new(key, message).at(Some(place)));
            return;
        }
        self.texts.retain(|other, _| !other.0.starts_with(&path.0));
        let value = match text.parse::<toml::Value>() {
            Ok(toml::Value::String(unquoted)) => toml::Value::String(unquoted),
            Ok(value) => {
                self.texts.insert(path.clone(), text.to_owned());
                value
            }
            Err(_) => toml::Value::String(text.to_owned()),
        };
        let mut root = toml::Value::Table(std::mem::take(&mut self.tree));
        let done = put(&mut root, &path.0, value);
        if let toml::Value::Table(tree) = root {
            self.tree = tree;
        }
        match done {
            Ok(()) => {
                // Errors of what was there before would point at the wrong place.
                self.places.retain(|other, _| other.0.len() <= path.0.len() || !other.overlaps(path));
                for length in 1..path.0.len() {
                    self.places.entry(KeyPath(path.0[..length].to_vec())).or_insert_with(|| place.clone());
                }
                self.places.insert(path.clone(), place);
            }
            Err(misfit) => {
                let message = misfit.said_of(&place);
                self.errors.push(ConfigError::new(path.to_string(), message).at(Some(place)));
            }
        }
    }

    /// Is what was just set at `path` a key, and a value of its type? Of all else nothing is said.
    pub(super) fn judge(&self, path: &KeyPath, environment: &HashMap<String, String>) -> Result<(), ConfigErrors> {
        let mut draft = self.clone();
        draft.read(environment);
        let just_now = |error: &ConfigError| matches!(error.place, Some(Place::Call { .. })) && error.key.is_empty();
        let below = |error: &ConfigError| KeyPath::parse(&error.key).overlaps(path);
        // A list element whose other keys are still to be set is not whole yet.
        let missing = |error: &ConfigError| error.message.ends_with(" is missing");
        ConfigErrors::none_of(draft.errors).or_else(|all| all.only(|e| just_now(e) || (below(e) && !missing(e))))
    }
}

/// Why a value does not fit in where it was to go.
enum Misfit {
    /// What this would be a key of is a list.
    List { key: String },
    /// What this would be an element of is no list.
    NoList { index: usize },
    /// There are not as many elements.
    Gap { elements: usize },
}

impl Misfit {
    fn said_of(&self, place: &Place) -> String {
        match (self, place) {
            (Misfit::List { key }, Place::Call { .. }) => {
                format!("a list; number its elements from 0, as in [0].{key}")
            }
            (Misfit::List { key }, _) => {
                format!("a list; number its elements from 0, as in __0__{}", key.to_ascii_uppercase())
            }
            (Misfit::NoList { index }, _) => format!("not a list; {index} is no key"),
            (Misfit::Gap { elements }, _) => {
                format!("the list has {elements} element(s), so the next number is {elements}")
            }
        }
    }
}

/// Puts `value` at `path` inside `tree`; tables are merged, all else is replaced, what is missing on the way is made.
fn put(tree: &mut toml::Value, path: &[Segment], value: toml::Value) -> Result<(), Misfit> {
    let Some((segment, rest)) = path.split_first() else {
        match (tree, value) {
            (toml::Value::Table(old), toml::Value::Table(new)) => old.extend(new),
            (tree, value) => *tree = value,
        }
        return Ok(());
    };
    let empty = || match rest.first() {
        Some(Segment::Index(_)) => toml::Value::Array(Vec::new()),
        _ => toml::Value::Table(toml::Table::new()),
    };
    match segment {
        Segment::Key(key) => {
            if tree.is_array() {
                return Err(Misfit::List { key: key.clone() });
            }
            if !tree.is_table() {
                *tree = toml::Value::Table(toml::Table::new());
            }
            let Some(table) = tree.as_table_mut() else { return Ok(()) };
            put(table.entry(key.as_str()).or_insert_with(empty), rest, value)
        }
        Segment::Index(index) => {
            if tree.is_table() {
                return Err(Misfit::NoList { index: *index });
            }
            if !tree.is_array() {
                *tree = toml::Value::Array(Vec::new());
            }
            let Some(list) = tree.as_array_mut() else { return Ok(()) };
            if *index > list.len() {
                return Err(Misfit::Gap { elements: list.len() });
            }
            if *index == list.len() {
                list.push(empty());
            }
            put(&mut list[*index], rest, value)
        }
    }
}
