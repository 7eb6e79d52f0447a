//! Settings from environment variables: `SIPWS_LIMITS__BURST=20` is `limits.burst`, `SIPWS_LISTEN__0__URL=ws://…` is
//! the first listener's `url`.
//!
//! A value is read as TOML if it is TOML of the right type (`50`, `["10.0.0.0/8"]`, `{ env = "NAME" }`), else it is the
//! plain text.

use super::draft::Draft;
use super::errors::Place;
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
        let (with_secrets, others): (Vec<_>, Vec<_>) =
            settings.into_iter().partition(|(path, _)| matches!(path.0.first(), Some(Segment::Key(section)) if section == "cluster" || section == "client"));
        for (path, (variable, text)) in with_secrets {
            self.set(&path, Place::Environment { variable: variable.to_owned() }, text);
        }
        let looked_up = self.variables_of_secrets();
        for (path, (variable, text)) in others {
            if !looked_up.iter().any(|name| name == variable) {
                self.set(&path, Place::Environment { variable: variable.to_owned() }, text);
            }
        }
    }
}
