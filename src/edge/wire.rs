//! One WebSocket on one stream, without a task of its own: reads and writes happen when somebody polls.
//!
//! tungstenite keeps the protocol (fragments, masks, control frames, the closing handshake); what it and we write
//! goes through the [`Outbox`], so that frames leave in order and many messages leave in one write.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tungstenite::error::{CapacityError, Error as WsError};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Message as WsMessage, Role, WebSocketConfig, WebSocketContext};

use super::CloseReason;
use super::outbox::{Full, Outbox};

/// A stream that is neither TCP nor TLS over TCP.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a flow runs over.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Other(Box<dyn Io>),
}

macro_rules! each {
    ($stream:expr, $s:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($s) => $call,
            Stream::Tls($s) => $call,
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
    outbox: Outbox,
    /// Wakes the flow's task, on whose behalf other threads write.
    waker: Waker,
    /// When the oldest message in the outbox arrived at the proxy.
    oldest: Option<Instant>,
    /// Whether the socket has taken something since this was last asked.
    moved: bool,
    /// Why the flow is being closed by us.
    closing: Option<CloseReason>,
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
    /// A server's end of a WebSocket whose opening handshake is done; `early` is what came behind it.
    pub(super) fn new(stream: Stream, early: Vec<u8>, message_limit: usize, outbox_limit: usize) -> Wire {
        let config = WebSocketConfig::default()
            .read_buffer_size(4096)
            .write_buffer_size(0)
            .max_write_buffer_size(outbox_limit)
            .max_message_size(Some(message_limit))
            .max_frame_size(Some(message_limit));
        Wire {
            stream,
            socket: WebSocketContext::from_partially_read(early, Role::Server, Some(config)),
            outbox: Outbox::new(outbox_limit),
            waker: Waker::noop().clone(),
            oldest: None,
            moved: false,
            closing: None,
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

    /// The next thing that the client sent.
    pub(super) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let mut io = Adaptor { stream: &mut self.stream, outbox: &mut self.outbox, cx };
        let why = match self.socket.read(&mut io) {
            Ok(WsMessage::Text(text)) => return Poll::Ready(Event::Message(text.into())),
            Ok(WsMessage::Binary(bytes)) => return Poll::Ready(Event::Message(bytes)),
            Ok(WsMessage::Pong(_)) => return Poll::Ready(Event::Pong),
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

    /// Queues one message; `arrived` is when it came to the proxy.
    pub(super) fn queue(&mut self, len: usize, arrived: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Full> {
        if self.closing.is_some() || !self.socket.can_write() {
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
    pub(super) fn close(&mut self, code: u16, reason: &'static str, why: CloseReason) -> CloseReason {
        if let Some(first) = self.closing {
            return first;
        }
        self.closing = Some(why);
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut io = Adaptor { stream: &mut self.stream, outbox: &mut self.outbox, cx: &mut cx };
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
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
