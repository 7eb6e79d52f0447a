//! A message as it may be logged: credentials are not for logs.

use std::fmt;

use crate::sip::Message;

/// Displays a message with the values of Authorization and Proxy-Authorization masked.
pub struct Masked<'a>(pub &'a Message);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.0;
        let text = |from: usize, to: usize| String::from_utf8_lossy(message.slice(from..to)).into_owned();
        let mut at = 0;
        for field in message.fields() {
            let (span, value) = (field.span(), field.value());
            let name = message.slice(span.start..value.start);
            let name = name.split(|b| matches!(b, b':' | b' ' | b'\t')).next().unwrap_or(b"");
            if name.eq_ignore_ascii_case(b"Authorization") || name.eq_ignore_ascii_case(b"Proxy-Authorization") {
                write!(f, "{}***", text(at, value.start))?;
                at = value.end;
            }
        }
        f.write_str(&text(at, message.bytes().len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn credentials_are_masked_and_the_rest_is_shown() {
        let m = Message::parse(Bytes::from_static(
            b"REGISTER sip:x SIP/2.0\r\nauthorization : Digest a=1,\r\n b=2\r\nTo: <sip:a@x>\r\n\r\nbody",
        ))
        .expect("parses");
        assert_eq!(
            Masked(&m).to_string(),
            "REGISTER sip:x SIP/2.0\r\nauthorization : ***\r\nTo: <sip:a@x>\r\n\r\nbody"
        );
    }
}
