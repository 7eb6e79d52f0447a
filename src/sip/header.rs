//! Header field names: the ones the edge looks at, by long or compact form (RFC 3261 §7.3.3).

/// A header field's name. [`Name::Other`] is any name the edge has no business with;
/// [`Name::Malformed`] is a line that is no header field at all, kept so that a 400 can be formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Name {
    Via,
    From,
    To,
    CallId,
    CSeq,
    MaxForwards,
    Contact,
    Route,
    RecordRoute,
    Path,
    Supported,
    Require,
    ProxyRequire,
    ContentLength,
    ContentType,
    Expires,
    RetryAfter,
    /// P-Asserted-Identity and the other headers that only a trusted element may assert (RFC 3325 §7, RFC 7315).
    Asserted,
    Other,
    Malformed,
}

/// Longest name in the table below.
const LONGEST: usize = 31;

/// Names that a client outside the trust domain has no right to assert.
const ASSERTED: [&[u8]; 10] = [
    b"p-asserted-identity",
    b"p-asserted-service",
    b"remote-party-id",
    b"p-charging-vector",
    b"p-charging-function-addresses",
    b"p-visited-network-id",
    b"p-profile-key",
    b"p-served-user",
    b"p-user-database",
    b"p-called-party-id",
];

impl Name {
    /// The name that `raw` spells, in any case, long or compact.
    pub fn parse(raw: &[u8]) -> Name {
        // The length and the first letter leave one or two candidates to compare with.
        let is = |long: &[u8]| raw.eq_ignore_ascii_case(long);
        let first = raw.first().map_or(0, u8::to_ascii_lowercase);
        match (raw.len(), first) {
            (1, b'v') => Name::Via,
            (1, b'f') => Name::From,
            (1, b't') => Name::To,
            (1, b'i') => Name::CallId,
            (1, b'm') => Name::Contact,
            (1, b'k') => Name::Supported,
            (1, b'l') => Name::ContentLength,
            (1, b'c') => Name::ContentType,
            (3, b'v') if is(b"via") => Name::Via,
            (4, b'f') if is(b"from") => Name::From,
            (2, b't') if is(b"to") => Name::To,
            (7, b'c') if is(b"call-id") => Name::CallId,
            (7, b'c') if is(b"contact") => Name::Contact,
            (4, b'c') if is(b"cseq") => Name::CSeq,
            (12, b'm') if is(b"max-forwards") => Name::MaxForwards,
            (5, b'r') if is(b"route") => Name::Route,
            (12, b'r') if is(b"record-route") => Name::RecordRoute,
            (4, b'p') if is(b"path") => Name::Path,
            (9, b's') if is(b"supported") => Name::Supported,
            (7, b'r') if is(b"require") => Name::Require,
            (13, b'p') if is(b"proxy-require") => Name::ProxyRequire,
            (14, b'c') if is(b"content-length") => Name::ContentLength,
            (12, b'c') if is(b"content-type") => Name::ContentType,
            (7, b'e') if is(b"expires") => Name::Expires,
            (11, b'r') if is(b"retry-after") => Name::RetryAfter,
            (13..=LONGEST, b'p' | b'r') if ASSERTED.iter().any(|a| is(a)) => Name::Asserted,
            _ => Name::Other,
        }
    }

    /// Whether a message may carry it only once, and only with one value (RFC 3261 §7.3.1, §20).
    pub const fn is_single(self) -> bool {
        matches!(
            self,
            Name::From
                | Name::To
                | Name::CallId
                | Name::CSeq
                | Name::MaxForwards
                | Name::ContentLength
                | Name::ContentType
                | Name::Expires
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_in_compact_form() {
        assert_eq!(Name::parse(b"VIA"), Name::Via);
        assert_eq!(Name::parse(b"v"), Name::Via);
        assert_eq!(Name::parse(b"L"), Name::ContentLength);
        assert_eq!(Name::parse(b"cOnTaCt"), Name::Contact);
        assert_eq!(Name::parse(b"P-Asserted-Identity"), Name::Asserted);
        assert_eq!(Name::parse(b"P-Preferred-Identity"), Name::Other);
        assert_eq!(Name::parse(b"Subject"), Name::Other);
    }

    #[test]
    fn every_asserted_name_fits_the_length_that_is_looked_at() {
        for name in ASSERTED {
            assert!((13..=LONGEST).contains(&name.len()));
            assert_eq!(Name::parse(name), Name::Asserted);
        }
    }
}
