//! The TCP connection under a flow, or under TLS. Two things that tokio's own does not do:
//!
//! It never raises SIGPIPE, which a C host may have left at its default: to end the process. The standard library writes
//! one buffer with `send` and MSG_NOSIGNAL, but several with `writev`, which has no such flag (rust-lang/rust 62569); and
//! rustls writes several wherever it has more than one record.
//!
//! And it can be lent to a host whose own threads wait until there is something to read: then tokio, which would be woken
//! by every packet for nothing, waits only for when it can be written to again.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// Writes that are put together are at most this long.
const LONGEST: usize = 64 * 1024;

/// The connection.
#[derive(Debug)]
pub(crate) struct Socket(State);

#[derive(Debug)]
enum State {
    Own(TcpStream),
    Lent {
        /// Waited for only until it can be written to.
        socket: AsyncFd<std::net::TcpStream>,
        /// All that was there has been read.
        drained: bool,
    },
    /// Changing from one to the other failed.
    Broken,
}

impl Socket {
    pub(crate) fn new(socket: TcpStream) -> Socket {
        Socket(State::Own(socket))
    }

    /// Lends it: a descriptor of the same socket, to be waited on by others. Inside a runtime.
    // Unsound only for what has no descriptor of its own, says tokio (PR 8587); a std TcpStream has.
    #[allow(deprecated)]
    pub(super) fn lend(&mut self) -> io::Result<OwnedFd> {
        match std::mem::replace(&mut self.0, State::Broken) {
            State::Own(socket) => {
                let socket = socket.into_std()?;
                let theirs = socket.as_fd().try_clone_to_owned()?;
                let socket = AsyncFd::with_interest(socket, Interest::WRITABLE)?;
                self.0 = State::Lent { socket, drained: false };
                Ok(theirs)
            }
            state => {
                self.0 = state;
                Err(io::ErrorKind::InvalidInput.into())
            }
        }
    }

    /// Takes it back, so that tokio waits for all that happens. Inside a runtime.
    pub(super) fn reclaim(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.0, State::Broken) {
            State::Lent { socket, .. } => self.0 = State::Own(TcpStream::from_std(socket.into_inner())?),
            state => self.0 = state,
        }
        Ok(())
    }

    /// There may be something to read again in what is lent.
    pub(super) fn readable(&mut self) {
        if let State::Lent { drained, .. } = &mut self.0 {
            *drained = false;
        }
    }
}

fn broken<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl AsyncRead for Socket {
    /// Pending on what is lent wakes nobody: whoever it is lent to waits for it.
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Own(socket) => Pin::new(socket).poll_read(cx, buf),
            State::Lent { drained: true, .. } => Poll::Pending,
            State::Lent { socket, drained } => match socket.get_ref().read(buf.initialize_unfilled()) {
                Ok(n) => {
                    // Less than there is room for: more would have come along. The end is met again and again.
                    *drained = n > 0 && n < buf.remaining();
                    buf.advance(n);
                    Poll::Ready(Ok(()))
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    *drained = true;
                    Poll::Pending
                }
                Err(e) => Poll::Ready(Err(e)),
            },
            State::Broken => broken(),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            State::Own(socket) => Pin::new(socket).poll_write(cx, bytes),
            State::Lent { socket, .. } => loop {
                // First the write: that it can't be written to is the exception.
                match socket.get_ref().write(bytes) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        ready!(socket.poll_write_ready(cx))?.clear_ready();
                    }
                    done => return Poll::Ready(done),
                }
            },
            State::Broken => broken(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = slices {
            return self.poll_write(cx, one);
        }
        let mut together = Vec::with_capacity(slices.iter().map(|s| s.len()).sum::<usize>().min(LONGEST));
        for slice in slices {
            let fits = slice.len().min(LONGEST - together.len());
            together.extend_from_slice(&slice[..fits]);
        }
        self.poll_write(cx, &together)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Own(socket) => Pin::new(socket).poll_shutdown(cx),
            State::Lent { socket, .. } => Poll::Ready(socket.get_ref().shutdown(Shutdown::Write)),
            State::Broken => broken(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_is_put_together_arrives_in_order_and_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (mut server, _) = listener.accept().await.expect("a connection");
        let parts: Vec<Vec<u8>> = [0, 5, 16_000, 0, 70_000, 3].map(|n| (0..n).map(|i| i as u8).collect()).to_vec();
        let sent = parts.concat();
        let expected = sent.len();
        let received = tokio::spawn(async move {
            let mut received = vec![0; expected];
            server.read_exact(&mut received).await.map(|_| received)
        });
        let mut client = Socket::new(client);
        let mut done = 0;
        while done < sent.len() {
            // What is left, cut where the parts were.
            let mut at = 0;
            let left: Vec<IoSlice<'_>> = parts
                .iter()
                .map(|part| {
                    let from = done.saturating_sub(at).min(part.len());
                    at += part.len();
                    IoSlice::new(&part[from..])
                })
                .collect();
            done += poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &left)).await.expect("written");
        }
        assert_eq!(received.await.expect("no panic").expect("all of it"), sent);
    }
}
