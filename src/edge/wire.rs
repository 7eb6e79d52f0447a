//! One WebSocket on one stream, without a task of its own: reads and writes happen when somebody polls.
//!
//! tungstenite keeps the protocol (fragments, masks, control frames, the closing handshake); what it and we write
//! goes through the [`Outbox`], so that frames leave in order and many messages leave in one write.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};
use tungstenite::error::{CapacityError, Error as WsError};
pub(super) use tungstenite::protocol::Role;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message as WsMessage, WebSocketConfig, WebSocketContext};

use super::CloseReason;
use super::outbox::{Full, Outbox};
use super::socket::Socket;

/// A stream that is neither TCP nor TLS over TCP.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a flow runs over.
pub(super) enum Stream {
    Tcp(Socket),
    Tls(Box<server::TlsStream<Socket>>),
    TlsClient(Box<client::TlsStream<Socket>>),
    Other(Box<dyn Io>),
}

macro_rules! each {
    ($stream:expr, $s:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($s) => $call,
            Stream::Tls($s) => $call,
            Stream::TlsClient($s) => $call,
            Stream::Other($s) => $call,
        }
    };
}

/// What came next.
pub(super) enum Event {
    Message(Bytes),
    Pong,
    /// Ping or close, which tungstenite has answered.
    Control,
    Ended(CloseReason),
}

pub(super) struct Wire {
    stream: Stream,
    socket: WebSocketContext,
    role: Role,
    outbox: Outbox,
    /// Wakes the flow's task, on whose behalf other threads write.
    waker: Waker,
    /// When the oldest message in the outbox arrived at the proxy.
    oldest: Option<Instant>,
    /// Whether the socket has taken something since this was last asked.
    moved: bool,
    /// Why the flow is being closed by us.
    closing: Option<CloseReason>,
    /// The task reads nothing for now.
    held: bool,
    /// A host reads.
    lent: bool,
    /// When the host last read something, until the task has seen it.
    heard: Option<Instant>,
    /// What the host found when it read: the end.
    ended: Option<CloseReason>,
    /// Nothing is written for now: more is about to be queued.
    corked: bool,
}

/// The stream and the outbox as tungstenite wants to see them.
struct Adaptor<'a, 'c> {
    stream: &'a mut Stream,
    outbox: &'a mut Outbox,
    cx: &'a mut Context<'c>,
}

impl Read for Adaptor<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match each!(self.stream, s => Pin::new(s).poll_read(self.cx, &mut buf)) {
            Poll::Ready(Ok(())) => Ok(buf.filled().len()),
            Poll::Ready(Err(e)) => Err(e),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Adaptor<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.raw(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire {
    /// Our end of a WebSocket whose opening handshake is done; `early` is what came behind it.
    pub(super) fn new(stream: Stream, early: Vec<u8>, role: Role, message_limit: usize, outbox_limit: usize) -> Wire {
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_write_buffer_size(outbox_limit)
            .max_message_size(Some(message_limit))
            .max_frame_size(Some(message_limit));
        Wire {
            stream,
            socket: WebSocketContext::from_partially_read(early, role, Some(config)),
            role,
            outbox: Outbox::new(outbox_limit, role == Role::Client),
            waker: Waker::noop().clone(),
            oldest: None,
            moved: false,
            closing: None,
            held: false,
            lent: false,
            heard: None,
            ended: None,
            corked: false,
        }
    }

    /// The task that has to go on with what other threads begin.
    pub(super) fn attend(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    pub(super) fn closing(&self) -> Option<CloseReason> {
        self.closing
    }

    pub(super) fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// Whether the socket has taken something since the last call.
    pub(super) fn moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether a message of `len` bytes can be queued.
    pub(super) fn has_room(&self, len: usize) -> bool {
        self.outbox.has_room(len)
    }

    /// Has nothing more read, or everything again.
    pub(super) fn hold(&mut self, held: bool) {
        self.held = held;
        if !held {
            self.waker.wake_by_ref();
        }
    }

    /// Lends the reading to a host, which waits on the descriptor. Inside a runtime. None for what is no socket, or is
    /// about to be closed.
    pub(super) fn lend(&mut self) -> Option<OwnedFd> {
        if !self.can_write() {
            return None;
        }
        let lent = match &mut self.stream {
            Stream::Tcp(socket) => socket.lend(),
            Stream::Tls(tls) => tls.get_mut().0.lend(),
            Stream::TlsClient(tls) => tls.get_mut().0.lend(),
            Stream::Other(_) => return None,
        };
        self.held = true;
        self.lent = lent.is_ok();
        lent.ok()
    }

    /// Has the task read again. Inside a runtime.
    pub(super) fn reclaim(&mut self) {
        if std::mem::take(&mut self.lent) {
            let reclaimed = match &mut self.stream {
                Stream::Tcp(socket) => socket.reclaim(),
                Stream::Tls(tls) => tls.get_mut().0.reclaim(),
                Stream::TlsClient(tls) => tls.get_mut().0.reclaim(),
                Stream::Other(_) => Ok(()),
            };
            if reclaimed.is_err() {
                self.abandon(CloseReason::Lost);
            }
        }
        // Also where it was only kept for a host that has never taken it.
        self.held = false;
    }

    /// Whether a host reads.
    pub(super) fn is_lent(&self) -> bool {
        self.lent
    }

    /// What a host's waiting found out: there is something to read.
    pub(super) fn readable(&mut self) {
        match &mut self.stream {
            Stream::Tcp(socket) => socket.readable(),
            Stream::Tls(tls) => tls.get_mut().0.readable(),
            Stream::TlsClient(tls) => tls.get_mut().0.readable(),
            Stream::Other(_) => {}
        }
    }

    /// Has what is queued from now on written later, together; or at once again.
    pub(super) fn cork(&mut self, corked: bool) {
        self.corked = corked;
    }

    /// Takes note that a host has read something.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    /// When a host has last read something, if it was since the last call; and the end, if it has met that.
    pub(super) fn seen(&mut self) -> (Option<Instant>, Option<CloseReason>) {
        (self.heard.take(), self.ended)
    }

    /// The end that a host has met.
    pub(super) fn end(&mut self, why: CloseReason) {
        self.lent = false;
        self.ended = Some(why);
        self.waker.wake_by_ref();
    }

    /// The next thing that the other side sent, for the task.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if self.held { Poll::Pending } else { self.poll_read(cx) }
    }

    /// The next thing that the other side sent, for whoever reads.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut io = Adaptor { stream: &mut self.stream, outbox: &mut self.outbox, cx };
        let why = match self.socket.read(&mut io) {
            Ok(WsMessage::Text(text)) => return Poll::Ready(Event::Message(text.into())),
            Ok(WsMessage::Binary(bytes)) => return Poll::Ready(Event::Message(bytes)),
            Ok(WsMessage::Pong(_)) => return Poll::Ready(Event::Pong),
            // The closing handshake is done once our answer is written. A client need not see the connection's end to
            // know it: a server that never comes to it would keep the flow open.
            Ok(WsMessage::Close(_)) if self.role == Role::Client => {
                let _ = self.socket.flush(&mut io);
                self.closing.unwrap_or(CloseReason::Client)
            }
            Ok(_) => return Poll::Ready(Event::Control),
            Err(WsError::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            // A client that pings on without reading its pongs.
            Err(WsError::Io(e)) if e.kind() == io::ErrorKind::OutOfMemory => CloseReason::SlowReader,
            Err(WsError::Io(_)) => CloseReason::Lost,
            Err(WsError::ConnectionClosed | WsError::AlreadyClosed) => self.closing.unwrap_or(CloseReason::Client),
            Err(WsError::Capacity(CapacityError::MessageTooLong { .. })) => {
                self.close(1009, "message too long", CloseReason::TooLong)
            }
            Err(WsError::Utf8(_)) => self.close(1007, "text is not UTF-8", CloseReason::NotUtf8),
            Err(WsError::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake)) => {
                self.closing.unwrap_or(CloseReason::Lost)
            }
            Err(_) => self.close(1002, "protocol error", CloseReason::Protocol),
        };
        Poll::Ready(Event::Ended(why))
    }

    /// Whether messages may still be sent: neither side has begun to close.
    pub(super) fn can_write(&self) -> bool {
        self.closing.is_none() && self.socket.can_write()
    }

    /// Queues one message; `arrived` is when it came to the proxy.
    pub(super) fn queue(&mut self, len: usize, arrived: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        if !self.can_write() {
            // Gone already: nobody to tell.
            return Ok(());
        }
        self.outbox.message(len, write)?;
        self.oldest.get_or_insert(arrived);
        Ok(())
    }

    /// Queues a ping.
    pub(super) fn ping(&mut self) {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut io = Adaptor { stream: &mut self.stream, outbox: &mut self.outbox, cx: &mut cx };
        let _ = self.socket.write(&mut io, WsMessage::Ping(Bytes::new()));
    }

    /// Queues the close frame, once, and has the task see to the rest.
    pub(super) fn close(&mut self, code: u16, reason: &str, why: CloseReason) -> CloseReason {
        if let Some(first) = self.closing {
            return first;
        }
        self.closing = Some(why);
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut io = Adaptor { stream: &mut self.stream, outbox: &mut self.outbox, cx: &mut cx };
        // What may not stand in a close frame (RFC 6455 §7.4) says no more than that it is over.
        let code = Some(CloseCode::from(code)).filter(|code| code.is_allowed()).unwrap_or(CloseCode::Normal);
        let frame = CloseFrame { code, reason: fitting(reason).into() };
        let _ = self.socket.close(&mut io, Some(frame));
        waker.wake();
        why
    }

    /// Gives up without a close frame: its reader does not read.
    pub(super) fn abandon(&mut self, why: CloseReason) {
        if self.closing.is_none() {
            self.closing = Some(why);
            self.waker.wake_by_ref();
        }
    }

    /// Writes what waits. Ready with the arrival of the oldest message written, once nothing waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Instant>>> {
        while self.outbox.len() > 0 {
            let n = ready!(each!(&mut self.stream, s => Pin::new(s).poll_write(cx, self.outbox.pending())))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.wrote(n);
            self.moved = true;
        }
        // TCP has nothing to flush; TLS may hold records that the socket did not take.
        if !matches!(self.stream, Stream::Tcp(_)) {
            ready!(each!(&mut self.stream, s => Pin::new(s).poll_flush(cx)))?;
        }
        Poll::Ready(Ok(self.oldest.take()))
    }

    /// As [`Wire::poll_flush`], on behalf of the flow's task, which goes on if the socket takes no more.
    pub(super) fn flush(&mut self) -> Poll<io::Result<Option<Instant>>> {
        if self.corked && self.closing.is_none() {
            return Poll::Pending;
        }
        let waker = self.waker.clone();
        self.poll_flush(&mut Context::from_waker(&waker))
    }

    /// Ends our direction.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&mut self.stream, s => Pin::new(s).poll_shutdown(cx))
    }

    /// Reads and throws away; ready at the end of the stream.
    pub(super) fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(each!(&mut self.stream, s => Pin::new(s).poll_read(cx, &mut buf))) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    }
}

/// As much of a close frame's reason as fits: a control frame has at most 125 bytes (RFC 6455 §5.5), two of which are
/// the code.
fn fitting(reason: &str) -> &str {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(fitting("bye"), "bye");
        let long = "x".repeat(200);
        assert_eq!(fitting(&long).len(), 123);
        let wide = "ä".repeat(100);
        assert_eq!(fitting(&wide), "ä".repeat(61));
    }
}
