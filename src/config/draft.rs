//! A configuration while it is put together: the TOML file below, the environment above it, and for every value where
//! it came from. `build` turns it into a [`Config`], or into all the errors that can be found in one go.
//!
//! serde stops at its first error. So: read, note the error, take the value out (its default is put in its place), and
//! read again, until it goes through. An unknown key with a near neighbour is read on as that neighbour, so that its
//! value is looked at too.

use super::Config;
use super::check;
use super::errors::{ConfigError, ConfigErrors, Place};
use super::key_path::{KeyPath, Segment, look_at, remove_at, table_at, value_at};
use super::text::nearest;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// Keys whose value is a path.
const PATHS: [&str; 7] =
    ["tls.certificate", "tls.key", "sip.certificate", "sip.key", "sip.ca", "client.ca", "admin.pages"];

#[derive(Clone, Default)]
pub(super) struct Draft {
    pub(super) tree: toml::Table,
    /// Where each key was set.
    pub(super) places: BTreeMap<KeyPath, Place>,
    pub(super) errors: Vec<ConfigError>,
    /// Values of single settings that were read as TOML but may have been meant as the plain text that is kept here.
    pub(super) texts: BTreeMap<KeyPath, String>,
    /// Elements that `build` took out of lists, by their path in the file.
    gone: Vec<KeyPath>,
}

impl Draft {
    /// The lowest layer: a TOML text. Its syntax errors end it here; nothing else could be trusted.
    pub(super) fn from_toml(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        let line = |offset: usize| 1 + text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count();
        let place = |offset| Some(Place::File { name: file_name.to_owned(), line: Some(line(offset)) });
        let syntax = |error: &toml::de::Error| {
            ConfigError::new("", error.message()).at(place(error.span().map_or(0, |span| span.start)))
        };

        let (spanned, errors) = DeTable::parse_recoverable(text);
        ConfigErrors::none_of(errors.iter().map(syntax).collect())?;
        let tree = toml::from_str(text).map_err(|error| ConfigErrors::from(syntax(&error)))?;

        let mut draft = Self { tree, ..Self::default() };
        note_lines(spanned.get_ref(), &KeyPath::default(), &mut |path, offset| {
            if let Some(place) = place(offset) {
                draft.places.insert(path, place);
            }
        });
        draft.anchor_paths(Path::new(file_name).parent().unwrap_or(Path::new("")));
        Ok(draft)
    }

    /// Relative paths in a file are meant from the file's folder.
    fn anchor_paths(&mut self, folder: &Path) {
        let secret_files = self.secrets().into_iter().map(|secret| secret.key("file"));
        for key in PATHS.map(KeyPath::parse).into_iter().chain(secret_files) {
            if let Some(toml::Value::String(path)) = value_at(&mut self.tree, &key)
                && !path.is_empty()
            {
                *path = folder.join(&*path).to_string_lossy().into_owned();
            }
        }
    }

    /// Types and checks everything. `environment` is where `{ env = "NAME" }` looks.
    pub(super) fn build(self, environment: &HashMap<String, String>) -> Result<Config, ConfigErrors> {
        self.build_with(environment, check::check)
    }

    /// The same, with these checks.
    pub(super) fn build_with(
        mut self,
        environment: &HashMap<String, String>,
        checks: impl FnOnce(&Config) -> Vec<ConfigError>,
    ) -> Result<Config, ConfigErrors> {
        let config = self.read(environment);
        let found: Vec<KeyPath> = self.errors.iter().map(|error| KeyPath::parse(&error.key)).collect();
        for error in checks(&config) {
            let path = self.in_file(&KeyPath::parse(&error.key));
            // What is already said of a key needs no second error that only follows from the first.
            if !found.iter().any(|other| other.overlaps(&path)) {
                let place = self.place(&path);
                self.errors.push(ConfigError { key: path.to_string(), ..error }.at(place));
            }
        }
        ConfigErrors::none_of(self.errors)?;
        Ok(config)
    }

    /// Types everything. What is wrong is noted, and its default taken.
    pub(super) fn read(&mut self, environment: &HashMap<String, String>) -> Config {
        let mut as_toml: BTreeMap<KeyPath, ConfigError> = BTreeMap::new();
        loop {
            // Each time: a mistyped key may since have turned out to be a secret.
            self.look_up_secrets(environment);
            let failure = match serde_path_to_error::deserialize(toml::Value::Table(self.tree.clone())) {
                Ok(config) => return config,
                Err(failure) => failure,
            };
            let path = from_serde(failure.path());
            let original = self.in_file(&path);
            let message = failure.inner().message();

            if message.starts_with("unknown field") {
                self.unknown_key(&path, &original, message);
                continue;
            }
            let said = if may_hold_a_secret(&original) { without_value(message) } else { message };
            let error = ConfigError::new(original.to_string(), in_plain_words(said)).at(self.place(&original));
            if let Some(first) = as_toml.remove(&original) {
                self.errors.push(first);
            } else if let Some(text) = self.texts.remove(&original)
                && let Some(value) = value_at(&mut self.tree, &path)
            {
                *value = toml::Value::String(text);
                as_toml.insert(original, error);
                continue;
            } else if !self.was_taken_out(&original, message) {
                self.errors.push(error);
            }
            if matches!(path.0.last(), Some(Segment::Index(_))) {
                self.gone.push(original);
            }
            if remove_at(&mut self.tree, &path).is_none() {
                // Not in the tree: nothing that could be taken out would help.
                return Config::default();
            }
        }
    }

    /// Is a key missing only because its value was wrong, and has been reported?
    fn was_taken_out(&self, table: &KeyPath, message: &str) -> bool {
        let missing =
            message.strip_prefix("missing field `").map(|key| table.key(key.trim_end_matches('`')).to_string());
        missing.is_some_and(|key| self.errors.iter().any(|error| error.key == key))
    }

    fn unknown_key(&mut self, path: &KeyPath, original: &KeyPath, message: &str) {
        let (Some((parent, Segment::Key(key))), Some(value)) = (path.split_last(), remove_at(&mut self.tree, path))
        else {
            return;
        };
        // serde's message has the allowed keys in backquotes, the unknown one first.
        let allowed: Vec<&str> = message.split('`').skip(1).step_by(2).skip(1).collect();
        let near = nearest(key, allowed.iter().copied());
        let (in_file, place) =
            (original.split_last().map(|(parent, _)| parent).unwrap_or_default(), self.place(original));

        let advice = match &place {
            Some(Place::Environment { .. }) => super::env::advice(&in_file, key, near, &allowed),
            _ => match near {
                Some(near) => format!("did you mean {near}?"),
                None => format!("allowed: {}", allowed.join(", ")),
            },
        };
        self.errors.push(ConfigError::new(original.to_string(), format!("unknown key; {advice}")).at(place));

        if let Some(near) = near
            && let Some(table) = table_at(&mut self.tree, &parent)
            && !table.contains_key(near)
        {
            table.insert(near.to_owned(), value);
            self.copy_places(original, &in_file.key(near));
        }
    }

    /// What is read on as `to` was set where `from`, and all below it, was.
    fn copy_places(&mut self, from: &KeyPath, to: &KeyPath) {
        let below = self.places.iter().filter(|(path, _)| path.0.starts_with(&from.0));
        let copies: Vec<_> = below
            .map(|(path, place)| {
                let rest = path.0[from.0.len()..].iter().cloned();
                (rest.fold(to.clone(), |path, segment| path.with(segment)), place.clone())
            })
            .collect();
        self.places.extend(copies);
    }

    /// Puts the secrets themselves in the place of `{ env = … }` and `{ file = … }`.
    fn look_up_secrets(&mut self, environment: &HashMap<String, String>) {
        for path in self.secrets() {
            let Some(value) = value_at(&mut self.tree, &path) else { continue };
            let Some(table) = value.as_table() else { continue };
            let mut entries = table.iter();
            let found = match (entries.next(), entries.next()) {
                (Some((key, toml::Value::String(name))), None) if key == "env" => {
                    environment.get(name).cloned().ok_or_else(|| format!("the environment variable {name} is not set"))
                }
                (Some((key, toml::Value::String(file))), None) if key == "file" => std::fs::read_to_string(file)
                    .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                    .map_err(|error| format!("cannot read {file}: {error}")),
                _ => Err("expected a string, { env = \"NAME\" } or { file = \"path\" }".to_owned()),
            };
            match found {
                Ok(secret) => *value = toml::Value::String(secret),
                Err(message) => {
                    let original = self.in_file(&path);
                    let place = self.place(&original);
                    self.errors.push(ConfigError::new(original.to_string(), message).at(place));
                    // Any secret will do: the error above stands already.
                    if let Some(value) = value_at(&mut self.tree, &path) {
                        *value = toml::Value::String("unreadable, and never used".to_owned());
                    }
                }
            }
        }
    }

    /// The environment variables that secrets are looked up in.
    pub(super) fn variables_of_secrets(&self) -> Vec<String> {
        let variable = |path: &KeyPath| Some(look_at(&self.tree, &path.key("env"))?.as_str()?.to_owned());
        self.secrets().iter().filter_map(variable).collect()
    }

    /// Where secrets stand.
    fn secrets(&self) -> Vec<KeyPath> {
        let length = |list: &KeyPath| look_at(&self.tree, list).and_then(toml::Value::as_array).map_or(0, Vec::len);
        let previous = KeyPath::parse("cluster.previous_secrets");
        let previous = (0..length(&previous)).map(|index| previous.index(index));
        let hosts = KeyPath::parse("client.host");
        let headers = (0..length(&hosts)).map(|index| hosts.index(index).key("headers")).flat_map(|headers| {
            let names =
                look_at(&self.tree, &headers).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
            names.map(|name| headers.key(name)).collect::<Vec<_>>()
        });
        std::iter::once(KeyPath::parse("cluster.secret")).chain(previous).chain(headers).collect()
    }

    /// Where `path`, or else what holds it, was set.
    fn place(&self, path: &KeyPath) -> Option<Place> {
        (1..=path.0.len()).rev().find_map(|length| self.places.get(&KeyPath(path.0[..length].to_vec())).cloned())
    }

    /// `path` as it was before elements were taken out of lists.
    fn in_file(&self, path: &KeyPath) -> KeyPath {
        path.0.iter().fold(KeyPath::default(), |original, segment| {
            let Segment::Index(index) = segment else { return original.with(segment.clone()) };
            let mut gone: Vec<usize> = self
                .gone
                .iter()
                .filter_map(|gone| match gone.split_last()? {
                    (list, Segment::Index(index)) if list == original => Some(*index),
                    _ => None,
                })
                .collect();
            gone.sort_unstable();
            let index = gone.into_iter().fold(*index, |index, gone| index + usize::from(gone <= index));
            original.index(index)
        })
    }
}

/// Tells every key's and every list element's byte offset.
fn note_lines(table: &DeTable<'_>, at: &KeyPath, note: &mut dyn FnMut(KeyPath, usize)) {
    fn inside(value: &DeValue<'_>, at: &KeyPath, note: &mut dyn FnMut(KeyPath, usize)) {
        match value {
            DeValue::Table(table) => note_lines(table, at, note),
            DeValue::Array(list) => {
                for (index, element) in list.iter().enumerate() {
                    let at = at.index(index);
                    note(at.clone(), element.span().start);
                    inside(element.get_ref(), &at, note);
                }
            }
            _ => {}
        }
    }
    for (key, value) in table.iter() {
        let at = at.key(key.get_ref());
        note(at.clone(), key.span().start);
        inside(value.get_ref(), &at, note);
    }
}

fn from_serde(path: &serde_path_to_error::Path) -> KeyPath {
    KeyPath(
        path.iter()
            .filter_map(|segment| match segment {
                serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
                serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
                _ => None,
            })
            .collect(),
    )
}

fn may_hold_a_secret(path: &KeyPath) -> bool {
    let is_below_headers = || match path.0.as_slice() {
        // Of a host's other keys only the headers are secret.
        [Segment::Key(client), Segment::Key(host), Segment::Index(_), Segment::Key(key), ..] => {
            client == "client" && host == "host" && key == "headers"
        }
        short => KeyPath(short.to_vec()).overlaps(&KeyPath::parse("client.host")),
    };
    ["cluster.secret", "cluster.previous_secrets"].iter().any(|secret| KeyPath::parse(secret).overlaps(path))
        || is_below_headers()
}

/// serde's message without the value that it quotes.
fn without_value(message: &str) -> &str {
    message.find(", expected ").map_or(message, |comma| &message[comma..])
}

/// serde speaks Rust; whoever writes a configuration file need not.
fn in_plain_words(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field `") {
        return format!("the key {} is missing", field.trim_end_matches('`'));
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected {
        "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more",
        "a sequence" => "a list, as in [\"…\", \"…\"]",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    };
    let found = found
        .replace("invalid type: sequence", "invalid type: list")
        .replace("invalid type: map", "invalid type: table");
    if found.is_empty() { format!("expected {expected}") } else { format!("{found}, expected {expected}") }
}
