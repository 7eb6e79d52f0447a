//! Settings that are written as one string: what serde needs to read them, to print them, and to say what was expected.

/// `Deserialize` and `Serialize` for a type that has `FromStr` (with a readable error) and `Display`.
macro_rules! text_value {
    ($type:ty, $expected:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                        text.parse().map_err(|why| E::custom(format_args!("\"{text}\": {why}")))
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// The spelling of an enum whose variants are words: `FromStr`, `Display` and the serde traits.
macro_rules! words {
    ($type:ident, $expected:literal, { $($word:literal => $variant:ident),+ $(,)? }) => {
        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    other => Err($crate::config::text::not_one_of(other, &[$($word),+])),
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        $crate::config::text::text_value!($type, $expected);
    };
}

pub(super) use {text_value, words};

/// The error for a word that is none of `allowed`.
pub(super) fn not_one_of(word: &str, allowed: &[&str]) -> String {
    let list = allowed.iter().map(|allowed| format!("\"{allowed}\"")).collect::<Vec<_>>().join(", ");
    match nearest(word, allowed.iter().copied()) {
        Some(near) => format!("not one of {list}; did you mean \"{near}\"?"),
        None => format!("not one of {list}"),
    }
}

/// The candidate that `word` was probably meant to be, if any is near enough to be worth a guess.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, candidate), candidate))
        // One slip in three letters is a typing error; more is another word.
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_mended_and_another_word_is_not() {
        let keys = ["requests_per_second", "burst", "connections"];
        assert_eq!(nearest("requests_per_secnd", keys), Some("requests_per_second"));
        assert_eq!(nearest("Conections", keys), Some("connections"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn a_wrong_word_hears_the_right_ones() {
        assert_eq!(not_one_of("pth", &["path", "rewrite"]), "not one of \"path\", \"rewrite\"; did you mean \"path\"?");
    }
}
