//! What is still to be written to a client: bounded, and empty-handed when idle.
//!
//! Buffers are lent from a pool of the thread's own and go back when they are drained: 50,000 idle flows hold none.

use std::cell::RefCell;
use std::io;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

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
}

/// There is no room for it.
#[derive(Debug)]
pub(super) struct Full;

impl Outbox {
    pub(super) const fn new(limit: usize) -> Outbox {
        Outbox { buffer: Vec::new(), written: 0, limit }
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

    /// Puts a message of `len` bytes, which `write` writes, into a frame of its own (RFC 7118 §5). The frame says text
    /// if it is UTF-8, else binary: a browser has to fail the connection for a text frame that is not (RFC 6455 §8.1).
    pub(super) fn message(&mut self, len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        let buffer = self.room(len + FRAME_HEADER)?;
        let header_at = buffer.len();
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        // Writing to a Vec does not fail.
        let _ = header.format(len as u64, buffer);
        let body_at = buffer.len();
        write(buffer);
        debug_assert_eq!(buffer.len() - body_at, len, "the length was promised");
        if std::str::from_utf8(&buffer[body_at..]).is_err() {
            buffer[header_at] = buffer[header_at] & 0xf0 | u8::from(OpCode::Data(Data::Binary));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_frame_of_its_own() {
        let mut o = Outbox::new(1000);
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
        let mut o = Outbox::new(100);
        assert!(o.message(80, |b| b.resize(b.len() + 80, b'x')).is_ok());
        assert!(o.message(80, |_| unreachable!()).is_err());
        assert_eq!(o.len(), 82);
    }
}
