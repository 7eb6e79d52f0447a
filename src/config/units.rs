//! Durations ("250ms", "5s", "2m", "1h", or whole seconds) and byte sizes ("64KiB", "8MiB", or bytes).

use serde::de::{self, Deserializer, Visitor};
use std::fmt;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
const SIZES: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A number with one of `units` behind it, in the smallest of them; `None` if it is not that, or too large.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// `#[serde(with = "units::duration")]` for `std::time::Duration`.
pub(super) mod duration {
    use super::*;
    use std::time::Duration;

    const EXPECTED: &str = "a duration such as \"250ms\", \"5s\", \"2m\" or \"1h\", or whole seconds";

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
                u64::try_from(seconds)
                    .map(Duration::from_secs)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(seconds), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                amount(text, &DURATIONS)
                    .map(Duration::from_millis)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }

    pub(in crate::config) fn serialize<S: serde::Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&display(*value))
    }

    /// The shortest exact spelling (milliseconds are the finest).
    pub(in crate::config) fn display(value: Duration) -> String {
        let millis = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
        let whole = DURATIONS.iter().rev().find(|(_, factor)| millis > 0 && millis.is_multiple_of(*factor));
        match whole {
            Some((unit, factor)) => format!("{}{unit}", millis / factor),
            None => "0s".to_owned(),
        }
    }
}

/// `#[serde(with = "units::bytes")]` for `usize`, in bytes.
pub(super) mod bytes {
    use super::*;

    const EXPECTED: &str = "a size such as \"64KiB\" or \"8MiB\", or whole bytes";

    pub(in crate::config) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = usize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<usize, E> {
                usize::try_from(bytes).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
                amount(text, &SIZES)
                    .and_then(|bytes| usize::try_from(bytes).ok())
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Text)
    }

    pub(in crate::config) fn serialize<S: serde::Serializer>(value: &usize, to: S) -> Result<S::Ok, S::Error> {
        let bytes = *value as u64;
        match SIZES.iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor)) {
            Some((unit, factor)) => to.collect_str(&format_args!("{}{unit}", bytes / factor)),
            None => to.serialize_u64(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[derive(serde::Deserialize, serde::Serialize)]
    struct Wait {
        #[serde(with = "duration")]
        wait: Duration,
    }

    #[derive(serde::Deserialize, serde::Serialize)]
    struct Room {
        #[serde(with = "bytes")]
        room: usize,
    }

    fn wait(value: &str) -> Result<Duration, String> {
        toml::from_str::<Wait>(&format!("wait = {value}")).map(|w| w.wait).map_err(|e| e.message().to_owned())
    }

    fn room(value: &str) -> Result<usize, String> {
        toml::from_str::<Room>(&format!("room = {value}")).map(|r| r.room).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn durations_are_read_in_every_unit() {
        assert_eq!(wait("\"250ms\""), Ok(Duration::from_millis(250)));
        assert_eq!(wait("\"5s\""), Ok(Duration::from_secs(5)));
        assert_eq!(wait("\"2 m\""), Ok(Duration::from_secs(120)));
        assert_eq!(wait("\"1h\""), Ok(Duration::from_secs(3600)));
        assert_eq!(wait("7"), Ok(Duration::from_secs(7)));
    }

    #[test]
    fn a_wrong_duration_hears_what_is_allowed() {
        for wrong in [
            "\"5\"",
            "\"5 sec\"",
            "\"s\"",
            "\"\"",
            "-1",
            "1.5",
            "\"-5s\"",
            "\"99999999999999999999s\"",
            "\"9999999999999999h\"",
        ] {
            let message = wait(wrong).expect_err(wrong);
            assert!(message.contains("\"250ms\", \"5s\", \"2m\" or \"1h\""), "{wrong}: {message}");
        }
    }

    #[test]
    fn sizes_are_read_in_every_unit() {
        assert_eq!(room("\"64KiB\""), Ok(65_536));
        assert_eq!(room("\"8 MiB\""), Ok(8 << 20));
        assert_eq!(room("\"1GiB\""), Ok(1 << 30));
        assert_eq!(room("1000"), Ok(1000));
        for wrong in ["\"64KB\"", "\"64\"", "-1", "\"99999999999GiB\""] {
            assert!(room(wrong).expect_err(wrong).contains("\"64KiB\""));
        }
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same() {
        for millis in [0, 1, 250, 1000, 1500, 60_000, 61_000, 181_000, 3_600_000] {
            let text = toml::to_string(&Wait { wait: Duration::from_millis(millis) }).expect("prints");
            let back: Wait = toml::from_str(&text).expect("reads");
            assert_eq!(back.wait.as_millis(), u128::from(millis), "{text}");
        }
        for bytes in [0, 1, 1000, 1024, 65_536, 8 << 20, 1 << 30] {
            let text = toml::to_string(&Room { room: bytes }).expect("prints");
            assert_eq!(toml::from_str::<Room>(&text).expect("reads").room, bytes, "{text}");
        }
    }
}
