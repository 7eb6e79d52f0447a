//! One connection with a SIP server, opened by us or by it: frames what comes, coalesces what goes.
//!
//! Anybody may queue; the connection's task writes. It waits for one turn of the scheduler before it does, so that what
//! other flows have to say in that turn leaves in the same write.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::upstream::Target;
use crate::edge::Flow;
use crate::sip::stream::{Framed, Framer};
use crate::sip::{Message, stream};
use crate::telemetry::Metrics;

/// What is read at a time.
const CHUNK: usize = 64 * 1024;
/// Reads before others get their turn.
const TURN: usize = 8;

/// Where what a connection delivers goes.
pub(super) trait Receiver: Send + Sync + 'static {
    /// A message from the server. Flows that have something to send afterwards go into `dirty`, and are flushed when
    /// everything that was read is handled.
    fn received(&self, connection: &Arc<Connection>, message: Message, dirty: &mut Vec<Flow>);
    /// Bytes that were no message.
    fn skipped(&self, connection: &Connection, why: crate::sip::ParseError);
}

/// Why something can't be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full: the server reads too slowly.
    Full,
    /// The connection is gone.
    Gone,
}

/// A connection with a SIP server: a handle that may outlive it.
#[derive(Debug)]
pub(super) struct Connection {
    /// Tells connections apart; never used twice.
    pub(super) id: u64,
    /// Whether it runs over TLS.
    pub(super) tls: bool,
    /// Whose it is, if we opened it.
    pub(super) target: Option<Weak<Target>>,
    /// The server's address, once connected.
    peer: OnceLock<SocketAddr>,
    out: Mutex<Out>,
    limit: usize,
}

#[derive(Debug)]
struct Out {
    /// What the task has not taken yet. May be filled while the connection is still being made.
    buffer: Vec<u8>,
    /// When the oldest message in it arrived at the proxy.
    oldest: Option<Instant>,
    /// The task is awake, or will be: no need to wake it.
    woken: bool,
    waker: Waker,
    gone: bool,
}

impl Connection {
    pub(super) fn new(tls: bool, target: Option<&Arc<Target>>, limit: usize) -> Arc<Connection> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Connection {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            tls,
            target: target.map(Arc::downgrade),
            peer: OnceLock::new(),
            out: Mutex::new(Out {
                buffer: Vec::new(),
                oldest: None,
                // Until the connection is made there is no task to wake.
                woken: true,
                waker: Waker::noop().clone(),
                gone: false,
            }),
            limit,
        })
    }

    /// The server's address, once connected.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get().copied()
    }

    /// Takes note of the server's address.
    pub(super) fn connected(&self, peer: SocketAddr) {
        let _ = self.peer.set(peer);
    }

    /// Queues one message of about `len` bytes, which `write` writes.
    pub(super) fn queue(&self, len: usize, arrived: Instant, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Refused> {
        let mut out = self.out.lock();
        if out.gone {
            return Err(Refused::Gone);
        }
        if out.buffer.len() + len > self.limit {
            return Err(Refused::Full);
        }
        write(&mut out.buffer);
        out.oldest.get_or_insert(arrived);
        if !out.woken {
            out.woken = true;
            out.waker.wake_by_ref();
        }
        Ok(())
    }

    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.out.lock().buffer.len()
    }

    /// From now on nothing can be queued.
    pub(super) fn end(&self) {
        let mut out = self.out.lock();
        out.gone = true;
        out.buffer = Vec::new();
        out.waker.wake_by_ref();
    }
}

/// What a connection's task needs to know.
pub(super) struct Running<'a> {
    pub(super) receiver: &'a dyn Receiver,
    pub(super) metrics: &'a Metrics,
    pub(super) message_limit: usize,
    /// How long the server may take nothing before the connection counts as lost.
    pub(super) write_deadline: Duration,
}

/// Keeps idle connections alive through NATs and finds dead peers.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    // Whatever the system does not support is no reason not to talk.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(
        &socket2::TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(5)),
    );
}

/// Runs `connection` on `stream` until it ends; says why.
pub(super) async fn run<S>(connection: &Arc<Connection>, stream: S, with: Running<'_>) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut task = Task {
        connection,
        stream,
        framer: Framer::new(with.message_limit),
        read: BytesMut::with_capacity(CHUNK),
        writing: Vec::new(),
        written: 0,
        oldest: None,
        waited: false,
        blocked: None,
        dirty: Vec::new(),
        with,
    };
    // Writes to many flows in one turn would use up a cooperative budget meant for one; turns end by `TURN` instead.
    let why = tokio::task::coop::unconstrained(poll_fn(|cx| task.poll(cx))).await;
    connection.end();
    why
}

struct Task<'a, S> {
    connection: &'a Arc<Connection>,
    stream: S,
    framer: Framer,
    read: BytesMut,
    writing: Vec<u8>,
    written: usize,
    oldest: Option<Instant>,
    /// Whether the turn that lets others queue has been waited for.
    waited: bool,
    blocked: Option<Pin<Box<Sleep>>>,
    /// Flows with something to flush.
    dirty: Vec<Flow>,
    with: Running<'a>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Task<'_, S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        for turn in 0..=TURN {
            match self.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(why)) => return Poll::Ready(why),
                Poll::Ready(Ok(())) if turn == TURN => cx.waker().wake_by_ref(),
                Poll::Ready(Ok(())) => {}
            }
        }
        match self.poll_write(cx) {
            Poll::Ready(Err(e)) => Poll::Ready(e.to_string()),
            _ => Poll::Pending,
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if self.read.capacity() - self.read.len() < CHUNK / 4 {
            self.read.reserve(CHUNK);
        }
        let n = match pin!(self.stream.read_buf(&mut self.read)).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(e.to_string())),
            Poll::Ready(Ok(n)) => n,
        };
        if n == 0 {
            return Poll::Ready(Err("closed by the server".to_owned()));
        }
        let framed = self.frame();
        for flow in self.dirty.drain(..) {
            flow.flush();
        }
        Poll::Ready(framed.map_err(|e| e.to_string()))
    }

    fn frame(&mut self) -> Result<(), stream::StreamError> {
        while let Some(framed) = self.framer.next(&mut self.read)? {
            match framed {
                Framed::Message(message) => {
                    self.with.receiver.received(self.connection, message, &mut self.dirty);
                }
                Framed::Ping => {
                    let _ = self.connection.queue(2, Instant::now(), |out| out.extend_from_slice(b"\r\n"));
                }
                Framed::Pong => {}
                Framed::Skipped(why) => self.with.receiver.skipped(self.connection, why),
            }
        }
        Ok(())
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.writing.is_empty() {
                let mut out = self.connection.out.lock();
                if out.gone {
                    return Poll::Ready(Err(io::Error::other("ended")));
                }
                if out.buffer.is_empty() {
                    out.woken = false;
                    out.waker.clone_from(cx.waker());
                    self.waited = false;
                    drop(out);
                    self.blocked = None;
                    // TLS may hold records that the socket has not taken.
                    return Pin::new(&mut self.stream).poll_flush(cx);
                }
                if !self.waited {
                    self.waited = true;
                    out.woken = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                std::mem::swap(&mut out.buffer, &mut self.writing);
                self.oldest = out.oldest.take();
            }
            match Pin::new(&mut self.stream).poll_write(cx, &self.writing[self.written..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.blocked = None;
                    self.written += n;
                    if self.written == self.writing.len() {
                        self.written = 0;
                        self.writing.clear();
                        self.writing.shrink_to(4 * CHUNK);
                        if let Some(oldest) = self.oldest.take() {
                            self.with.metrics.relayed(oldest.elapsed());
                        }
                    }
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => {
                    let deadline = self.with.write_deadline;
                    let blocked = self.blocked.get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline)));
                    return match blocked.as_mut().poll(cx) {
                        Poll::Ready(()) => {
                            Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the server has stopped reading")))
                        }
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}
