//! The way to one setting: `limits.burst`, `listen[0].origins[2]`.

use std::fmt;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct KeyPath(pub(super) Vec<Segment>);

impl KeyPath {
    /// Reads what `Display` prints. No key of ours holds a dot or a bracket, so nothing is quoted.
    pub(super) fn parse(text: &str) -> Self {
        let mut path = Self::default();
        for part in text.split(['.', '[']).filter(|part| !part.is_empty()) {
            match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
                Some(index) => path.0.push(Segment::Index(index)),
                None => path.0.push(Segment::Key(part.to_owned())),
            }
        }
        path
    }

    pub(super) fn with(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// What holds it, and its last segment.
    pub(super) fn split_last(&self) -> Option<(Self, &Segment)> {
        let (last, parent) = self.0.split_last()?;
        Some((Self(parent.to_vec()), last))
    }

    /// Is one of the two inside the other, or are they the same?
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a == b)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// The value at `path`, to change.
pub(super) fn value_at<'a>(tree: &'a mut toml::Table, path: &KeyPath) -> Option<&'a mut toml::Value> {
    let (first, rest) = path.0.split_first()?;
    let Segment::Key(first) = first else { return None };
    rest.iter().try_fold(tree.get_mut(first)?, |value, segment| match segment {
        Segment::Key(key) => value.as_table_mut()?.get_mut(key),
        Segment::Index(index) => value.as_array_mut()?.get_mut(*index),
    })
}

/// The value at `path`, to look at.
pub(super) fn look_at<'a>(tree: &'a toml::Table, path: &KeyPath) -> Option<&'a toml::Value> {
    let (first, rest) = path.0.split_first()?;
    let Segment::Key(first) = first else { return None };
    rest.iter().try_fold(tree.get(first)?, |value, segment| match segment {
        Segment::Key(key) => value.as_table()?.get(key),
        Segment::Index(index) => value.as_array()?.get(*index),
    })
}

/// Takes the value at `path` out.
pub(super) fn remove_at(tree: &mut toml::Table, path: &KeyPath) -> Option<toml::Value> {
    let (parent, last) = path.split_last()?;
    match last {
        Segment::Key(key) => table_at(tree, &parent)?.remove(key),
        Segment::Index(index) => {
            let list = value_at(tree, &parent)?.as_array_mut()?;
            (*index < list.len()).then(|| list.remove(*index))
        }
    }
}

/// The table at `path`; the whole tree for the empty path.
pub(super) fn table_at<'a>(tree: &'a mut toml::Table, path: &KeyPath) -> Option<&'a mut toml::Table> {
    if path.0.is_empty() { Some(tree) } else { value_at(tree, path)?.as_table_mut() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_prints() {
        for text in ["limits", "limits.burst", "listen[0].origins[12]", "sip.trusted[3]"] {
            assert_eq!(KeyPath::parse(text).to_string(), text);
        }
    }

    #[test]
    fn what_is_inside_overlaps_and_a_neighbour_does_not() {
        let overlaps = |a, b| KeyPath::parse(a).overlaps(&KeyPath::parse(b));
        assert!(overlaps("listen[0].url", "listen[0]") && overlaps("listen", "listen[0].url"));
        assert!(!overlaps("listen[0].url", "listen[1].url") && !overlaps("tls.key", "tls.certificate"));
    }
}
