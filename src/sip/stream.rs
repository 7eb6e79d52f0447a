//! SIP over a byte stream: where one message ends and the next begins (RFC 3261 §18.3, RFC 5626 §3.5.1).

use bytes::BytesMut;
use memchr::memmem;

use super::header::Name;
use super::message::{Index, Message, ParseError};
use super::number;

/// What came next on the stream.
#[derive(Debug)]
pub enum Framed {
    /// A message, with as much body as its Content-Length says.
    Message(Message),
    /// A double CRLF: answer with a single one.
    Ping,
    /// A single CRLF: the answer to one of ours, or leftovers.
    Pong,
    /// Bytes whose end could be found and whose meaning could not, already skipped.
    Skipped(ParseError),
}

/// Why the stream can't be read on: the place of the next message is unknown. The connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum StreamError {
    #[error("a message without Content-Length, which a stream cannot frame")]
    NoContentLength,
    #[error("a Content-Length that is no number, or two that differ")]
    BadContentLength,
    #[error("a header section over the limit")]
    HeaderTooLong,
}

/// Finds messages in a growing buffer. Holds what it has learnt about an unfinished one, so that no byte is searched
/// twice, however the bytes are cut.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    /// Bytes at the start of the buffer in which no header section ends.
    searched: usize,
    /// The header section's length and the body's, once known.
    sizes: Option<(usize, usize)>,
    /// Bytes of an overlong message still to be thrown away.
    skip: usize,
}

impl Framer {
    /// A framer for messages of at most `limit` bytes each.
    pub const fn new(limit: usize) -> Framer {
        Framer { limit, searched: 0, sizes: None, skip: 0 }
    }

    /// The next thing in `buffer`, taken out of it; `None` until there is more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Framed>, StreamError> {
        if self.skip > 0 {
            let n = self.skip.min(buffer.len());
            let _ = buffer.split_to(n);
            self.skip -= n;
            if self.skip > 0 {
                return Ok(None);
            }
        }
        if self.sizes.is_none() {
            match buffer[..] {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    let _ = buffer.split_to(4);
                    return Ok(Some(Framed::Ping));
                }
                // Either half of a ping or all of a pong: only the next byte tells.
                [] | [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Ok(None),
                [b'\r', b'\n', ..] => {
                    let _ = buffer.split_to(2);
                    return Ok(Some(Framed::Pong));
                }
                _ => {}
            }
        }
        let (head, body) = match self.sizes {
            Some(sizes) => sizes,
            None => match self.sizes_of(buffer)? {
                Some(sizes) => *self.sizes.insert(sizes),
                None => return Ok(None),
            },
        };
        let total = head.saturating_add(body);
        if total > self.limit {
            self.sizes = None;
            self.searched = 0;
            self.skip = total;
            let n = self.skip.min(buffer.len());
            let _ = buffer.split_to(n);
            self.skip -= n;
            return Ok(Some(Framed::Skipped(ParseError::TooLong)));
        }
        if buffer.len() < total {
            buffer.reserve(total - buffer.len());
            return Ok(None);
        }
        self.sizes = None;
        self.searched = 0;
        let bytes = buffer.split_to(total).freeze();
        let message = Index::start(&bytes).and_then(|mut index| {
            let at = index.fields(&bytes)?;
            Ok(index.into_message(bytes, at))
        });
        Ok(Some(match message {
            Ok(message) => Framed::Message(message),
            Err(e) => Framed::Skipped(e),
        }))
    }

    fn sizes_of(&mut self, buffer: &[u8]) -> Result<Option<(usize, usize)>, StreamError> {
        let from = self.searched.saturating_sub(3);
        let Some(end) = memmem::find(&buffer[from..], b"\r\n\r\n") else {
            self.searched = buffer.len();
            return if buffer.len() > self.limit { Err(StreamError::HeaderTooLong) } else { Ok(None) };
        };
        let head = from + end + 4;
        if head > self.limit {
            return Err(StreamError::HeaderTooLong);
        }
        Ok(Some((head, content_length(&buffer[..head])?)))
    }
}

/// The Content-Length of a header section, read without regard to anything else in it.
fn content_length(head: &[u8]) -> Result<usize, StreamError> {
    let mut found = None;
    let mut at = memmem::find(head, b"\r\n").map_or(head.len(), |p| p + 2);
    while at < head.len() {
        let mut end = at + memmem::find(&head[at..], b"\r\n").unwrap_or(head.len() - at);
        while matches!(head.get(end + 2), Some(b' ' | b'\t')) {
            end = end + 2 + memmem::find(&head[end + 2..], b"\r\n").unwrap_or(head.len() - end - 2);
        }
        let line = &head[at..end];
        at = end + 2;
        if !matches!(line.first(), Some(b'c' | b'C' | b'l' | b'L')) {
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        if Name::parse(super::trim(&line[..colon])) != Name::ContentLength {
            continue;
        }
        let n = number(super::trim(&line[colon + 1..])).ok_or(StreamError::BadContentLength)?;
        if found.replace(n).is_some_and(|before| before != n) {
            return Err(StreamError::BadContentLength);
        }
    }
    found.map(|n| n as usize).ok_or(StreamError::NoContentLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(framer: &mut Framer, buffer: &mut BytesMut) -> Vec<String> {
        let mut out = Vec::new();
        while let Some(f) = framer.next(buffer).expect("frames") {
            out.push(match f {
                Framed::Message(m) => String::from_utf8_lossy(m.body()).into_owned(),
                Framed::Ping => "ping".into(),
                Framed::Pong => "pong".into(),
                Framed::Skipped(e) => e.to_string(),
            });
        }
        out
    }

    const STREAM: &[u8] =
        b"\r\n\r\nOPTIONS sip:a SIP/2.0\r\nContent-Length: 3\r\n\r\nabc\r\nOPTIONS sip:a SIP/2.0\r\nl:\r\n 2\r\n\r\nde\
        rubbish\r\nl: 1\r\n\r\nxOPTIONS sip:a SIP/2.0\r\nl: 900\r\n\r\n";

    #[test]
    fn framing_does_not_depend_on_how_the_bytes_are_cut() {
        let mut stream = STREAM.to_vec();
        stream.extend_from_slice(&[b'z'; 900]);
        stream.extend_from_slice(b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\n\r\nf");
        let expected = ["ping", "abc", "pong", "de", "no SIP start line", "longer than the limit", "f"];
        for step in [1, 2, 3, 7, 50, 1000, stream.len()] {
            let mut framer = Framer::new(500);
            let mut buffer = BytesMut::new();
            let mut seen = Vec::new();
            for chunk in stream.chunks(step) {
                buffer.extend_from_slice(chunk);
                seen.extend(all(&mut framer, &mut buffer));
            }
            assert_eq!(seen, expected, "cut every {step} bytes");
        }
    }

    #[test]
    fn what_cannot_be_framed_ends_the_stream() {
        let next = |text: &[u8]| Framer::new(100).next(&mut BytesMut::from(text)).map(|_| ());
        assert_eq!(next(b"OPTIONS sip:a SIP/2.0\r\nTo: x\r\n\r\n"), Err(StreamError::NoContentLength));
        assert_eq!(
            next(b"OPTIONS sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n"),
            Err(StreamError::BadContentLength)
        );
        assert_eq!(next(b"OPTIONS sip:a SIP/2.0\r\nl: -1\r\n\r\n"), Err(StreamError::BadContentLength));
        assert_eq!(next(&[b'x'; 101]), Err(StreamError::HeaderTooLong));
    }
}
