//! Settings from environment variables: `SIPWS_LIMITS__BURST=20` is `limits.burst`, `SIPWS_LISTEN__0__URL=ws://…` is
//! the first listener's `url`.
//!
//! A value is read as TOML if it is TOML of the right type (`50`, `["10.0.0.0/8"]`, `{ env = "NAME" }`), else it is the
//! plain text.

use super::draft::Draft;
use super::errors::{ConfigError, Place};
use super::key_path::{KeyPath, Segment};
use std::collections::{BTreeMap, HashMap};

const PREFIX: &str = "SIPWS_";

/// The variable that sets `path`.
pub(super) fn variable(path: &KeyPath) -> String {
    let parts = path.0.iter().map(|segment| match segment {
        Segment::Key(key) => key.to_ascii_uppercase(),
        Segment::Index(index) => index.to_string(),
    });
    format!("{PREFIX}{}", parts.collect::<Vec<_>>().join("__"))
}

/// What to say of an unknown key in `section` that a variable tried to set.
pub(super) fn advice(section: &KeyPath, key: &str, near: Option<&str>, allowed: &[&str]) -> String {
    // SIPWS_LIMITS_BURST for SIPWS_LIMITS__BURST.
    let one_underscore = allowed.iter().find_map(|section| {
        let rest = key.strip_prefix(section)?.strip_prefix('_')?;
        Some(KeyPath::default().key(section).key(rest))
    });
    match (one_underscore, near) {
        (Some(meant), _) if section.0.is_empty() => {
            format!("two underscores stand between section and key; did you mean {}?", variable(&meant))
        }
        (_, Some(near)) => format!("did you mean {}?", variable(&section.key(near))),
        (_, None) => {
            let all: Vec<String> = allowed.iter().map(|key| variable(&section.key(key))).collect();
            format!("allowed: {}", all.join(", "))
        }
    }
}

fn path_of(variable: &str) -> Option<KeyPath> {
    let segment = |part: &str| match part.parse() {
        Ok(index) => Segment::Index(index),
        Err(_) => Segment::Key(part.to_ascii_lowercase()),
    };
    Some(KeyPath(variable.strip_prefix(PREFIX)?.split("__").map(segment).collect()))
}

/// What Kubernetes sets in every container of a namespace that has a Service named `sipws`: not meant for us.
fn is_service_link(variable: &str) -> bool {
    let rest = variable.strip_prefix(PREFIX).unwrap_or_default();
    !rest.contains("__")
        && (rest == "PORT"
            || rest == "SERVICE_HOST"
            || rest == "SERVICE_PORT"
            || rest.starts_with("PORT_")
            || rest.starts_with("SERVICE_PORT_"))
}

impl Draft {
    /// Lays every `SIPWS_` variable of `environment` over what the draft has.
    pub(super) fn overlay(&mut self, environment: &HashMap<String, String>) {
        // In the order of the paths, so that a whole list comes before its elements, and element 0 before element 1.
        let mut settings: BTreeMap<KeyPath, (&str, &str)> = BTreeMap::new();
        for (variable, text) in environment {
            if let Some(path) = path_of(variable).filter(|_| !is_service_link(variable)) {
                settings.insert(path, (variable, text));
            }
        }
        // Secrets first: a variable that one of them is looked up in may well be called SIPWS_SECRET, and is no key.
        let cluster = KeyPath::default().key("cluster");
        let (of_cluster, others): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|(path, _)| path.overlaps(&cluster));
        for (path, (variable, text)) in of_cluster {
            self.set(&path, variable, text);
        }
        let looked_up = self.variables_of_secrets();
        for (path, (variable, text)) in others {
            if !looked_up.iter().any(|name| name == variable) {
                self.set(&path, variable, text);
            }
        }
    }

    fn set(&mut self, path: &KeyPath, variable: &str, text: &str) {
        let place = Place::Environment { variable: variable.to_owned() };
        if path.0.iter().any(|segment| *segment == Segment::Key(String::new())) {
            let message = "the name is SIPWS_, the section, two underscores, the key, as in SIPWS_LIMITS__BURST";
            self.errors.push(ConfigError::new(path.to_string(), message).at(Some(place)));
            return;
        }
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
            Err(message) => self.errors.push(ConfigError::new(path.to_string(), message).at(Some(place))),
        }
    }
}

/// Puts `value` at `path` inside `tree`; tables are merged, all else is replaced, what is missing on the way is made.
fn put(tree: &mut toml::Value, path: &[Segment], value: toml::Value) -> Result<(), String> {
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
                return Err(format!("a list; number its elements from 0, as in __0__{}", key.to_ascii_uppercase()));
            }
            if !tree.is_table() {
                *tree = toml::Value::Table(toml::Table::new());
            }
            let Some(table) = tree.as_table_mut() else { return Ok(()) };
            put(table.entry(key.as_str()).or_insert_with(empty), rest, value)
        }
        Segment::Index(index) => {
            if tree.is_table() {
                return Err(format!("not a list; {index} is no key"));
            }
            if !tree.is_array() {
                *tree = toml::Value::Array(Vec::new());
            }
            let Some(list) = tree.as_array_mut() else { return Ok(()) };
            if *index > list.len() {
                return Err(format!("the list has {} element(s), so the next number is {}", list.len(), list.len()));
            }
            if *index == list.len() {
                list.push(empty());
            }
            put(&mut list[*index], rest, value)
        }
    }
}
