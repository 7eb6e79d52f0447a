//! What is still to be written to the other side: bounded, and empty-handed when idle.
//!
//! Buffers are lent from a pool of the thread's own and go back when they are drained: 50,000 idle flows hold none.

use std::cell::RefCell;
use std::io;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::mask;

/// Buffers kept by a thread, and the largest that is worth keeping.
const POOL: usize = 64;
const LARGEST: usize = 64 * 1024;
/// The longest frame header (RFC 6455 §5.2).
const FRAME_HEADER: usize = 14;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Frames that wait to be written.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Allocated only while something waits.
    buffer: Vec<u8>,
    /// How much of `buffer` is written already.
    written: usize,
    limit: usize,
    /// Whether our frames are masked, as a client's are (RFC 6455 §5.3).
    masks: bool,
}

/// There is no room for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Outbox {
    pub(super) const fn new(limit: usize, masks: bool) -> Outbox {
        Outbox { buffer: Vec::new(), written: 0, limit, masks }
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Whether a message of `len` bytes fits.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.len() + len + FRAME_HEADER <= self.limit
    }

    fn room(&mut self, len: usize) -> Result<&mut Vec<u8>, Full> {
        if self.len() + len > self.limit {
            return Err(Full);
        }
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        Ok(&mut self.buffer)
    }

    /// Puts a message of `len` bytes, which `write` appends, into a frame of its own (RFC 7118 §5). The frame says text
    /// if it is UTF-8, else binary: a browser has to fail the connection for a text frame that is not (RFC 6455 §8.1).
    ///
    /// The length is taken at its word only for the header, which comes first: if `write` appends more or less, the
    /// header is made again, and the limit holds for what it did append.
    pub(super) fn message(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        let waiting = self.len();
        let mask = if self.masks { Some(mask::next().ok_or(Full)?) } else { None };
        let limit = self.limit;
        let buffer = self.room(len + FRAME_HEADER)?;
        let header_at = buffer.len();
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), mask, ..FrameHeader::default() };
        // Writing to a Vec does not fail.
        let _ = header.format(len as u64, buffer);
        let mut body_at = buffer.len();
        write(buffer);
        if buffer.len() != body_at + len {
            body_at = amend(buffer, header_at, body_at, &header);
            if waiting + buffer.len().saturating_sub(body_at) + FRAME_HEADER > limit {
                buffer.truncate(header_at);
                self.wrote(0);
                return Err(Full);
            }
        }
        if std::str::from_utf8(&buffer[body_at..]).is_err() {
            buffer[header_at] = buffer[header_at] & 0xf0 | u8::from(OpCode::Data(Data::Binary));
        }
        if let Some(mask) = mask {
            mask::apply(mask, &mut buffer[body_at..]);
        }
        Ok(())
    }

    /// Adds bytes that are framed already.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let buffer = self.room(bytes.len()).map_err(|Full| io::Error::from(io::ErrorKind::OutOfMemory))?;
        buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// What waits.
    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer[self.written..]
    }

    /// Takes note that `n` bytes more are written.
    pub(super) fn wrote(&mut self, n: usize) {
        self.written += n;
        if self.written == self.buffer.len() {
            self.written = 0;
            let mut buffer = std::mem::take(&mut self.buffer);
            if buffer.capacity() <= LARGEST {
                buffer.clear();
                SPARE.with_borrow_mut(|spare| {
                    if spare.len() < POOL {
                        spare.push(buffer);
                    }
                });
            }
        }
    }
}

/// Puts the header right for the body that is there, whatever was promised. Returns where the body begins now.
#[cold]
fn amend(buffer: &mut Vec<u8>, header_at: usize, body_at: usize, header: &FrameHeader) -> usize {
    // Whoever took bytes away instead of appending some gets an empty message.
    buffer.resize(buffer.len().max(body_at), 0);
    let mut right = Vec::with_capacity(FRAME_HEADER);
    let _ = header.format((buffer.len() - body_at) as u64, &mut right);
    let moved_to = header_at + right.len();
    buffer.splice(header_at..body_at, right);
    moved_to
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_frame_of_its_own() {
        let mut o = Outbox::new(1000, false);
        o.message(2, |b| b.extend_from_slice(b"hi")).expect("room");
        o.message(2, |b| b.extend_from_slice(b"\xff\xfe")).expect("room");
        assert_eq!(o.pending(), b"\x81\x02hi\x82\x02\xff\xfe");
        o.wrote(3);
        assert_eq!(o.pending(), b"i\x82\x02\xff\xfe");
        o.wrote(5);
        assert_eq!((o.len(), o.buffer.capacity()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let mut o = Outbox::new(100, false);
        assert!(o.message(80, |b| b.resize(b.len() + 80, b'x')).is_ok());
        assert!(o.message(80, |_| unreachable!()).is_err());
        assert_eq!(o.len(), 82);
    }

    #[test]
    fn a_wrong_promise_is_put_right_in_the_header() {
        let body = [b'x'; 70_000];
        // Each length of header becomes each other: 2, 4 and 10 bytes (RFC 6455 §5.2).
        for promised in [0, 2, 125, 126, 65_535, 65_536] {
            for given in [0, 2, 125, 126, 65_535, 65_536] {
                for masks in [false, true] {
                    let mut o = Outbox::new(100_000, masks);
                    o.message(2, |b| b.extend_from_slice(b"hi")).expect("room");
                    let before = o.pending().to_vec();
                    o.message(promised, |b| b.extend_from_slice(&body[..given])).expect("room");
                    assert!(o.pending().starts_with(&before), "{promised} {given}");
                    let (header, payload) = parse(&o.pending()[before.len()..]);
                    assert_eq!(header.mask.is_some(), masks);
                    assert_eq!(payload, &body[..given], "{promised} {given}");
                }
            }
        }
    }

    #[test]
    fn more_than_was_promised_is_still_held_to_the_limit() {
        let mut o = Outbox::new(100, false);
        o.message(2, |b| b.extend_from_slice(b"hi")).expect("room");
        assert_eq!(o.message(2, |b| b.resize(b.len() + 90, b'x')), Err(Full));
        assert_eq!(o.pending(), b"\x81\x02hi");
        o.message(2, |b| b.resize(b.len() + 82, b'x')).expect("room");
        o.wrote(4 + 2 + 82);
        assert_eq!(o.message(2, |b| b.resize(b.len() + 90, b'x')), Err(Full));
        assert_eq!((o.len(), o.buffer.capacity()), (0, 0), "the buffer has gone back");
    }

    #[test]
    fn a_writer_that_takes_bytes_away_gets_an_empty_message() {
        let mut o = Outbox::new(100, true);
        o.message(5, |b| b.truncate(b.len() - 3)).expect("room");
        let (_, payload) = parse(o.pending());
        assert_eq!(payload, b"");
    }

    #[test]
    fn a_clients_frames_are_masked_each_with_its_own_mask() {
        let mut o = Outbox::new(1000, true);
        o.message(5, |b| b.extend_from_slice(b"hello")).expect("room");
        let (first, payload) = parse(o.pending());
        assert_eq!((first.mask.is_some(), &payload[..]), (true, &b"hello"[..]));
        o.wrote(o.len());
        o.message(2, |b| b.extend_from_slice(b"\xff\xfe")).expect("room");
        let (second, payload) = parse(o.pending());
        assert_eq!((second.opcode, &payload[..]), (OpCode::Data(Data::Binary), &b"\xff\xfe"[..]));
        assert_ne!(first.mask, second.mask);
    }

    /// The one frame in `bytes`, its payload unmasked.
    fn parse(bytes: &[u8]) -> (FrameHeader, Vec<u8>) {
        let mut cursor = io::Cursor::new(bytes);
        let (header, length) = FrameHeader::parse(&mut cursor).expect("a header").expect("all of it");
        let mut payload = bytes[cursor.position() as usize..].to_vec();
        assert_eq!(payload.len() as u64, length, "one frame and nothing else");
        if let Some(mask) = header.mask {
            mask::apply(mask, &mut payload);
        }
        (header, payload)
    }
}
