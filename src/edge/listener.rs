//! Accepts WebSocket connections: a permit first, then a socket, then TLS and HTTP under one deadline.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::error::Elapsed;
use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;

use super::flow::Upgraded;
use super::policy::{self, Decision, Verdict};
use super::socket::Socket;
use super::tls::ServerTls;
use super::wire::{Io, Stream};
use super::{Edge, flow, handshake};
use crate::config::Listen;
use crate::error::{Error, Kind, Side};

/// Connections that the kernel holds for us: enough for all clients of a lost node to come at once.
const BACKLOG: u32 = 16 * 1024;

/// A listening socket for ws or wss.
pub struct WebSocketListener {
    socket: TcpListener,
    address: SocketAddr,
    /// Path and origins, as they are for connections that begin now.
    listen: Arc<RwLock<Listen>>,
    tls: Option<Arc<ServerTls>>,
    edge: Arc<Edge>,
    handshakes: Arc<Semaphore>,
}

impl WebSocketListener {
    /// Binds the socket of a listener.
    pub async fn bind(listen: &Listen) -> Result<TcpListener, Error> {
        bind(&listen.url.host, listen.url.port).await.map_err(|e| {
            Error::new(Kind::Bind, format!("cannot listen on {}: {e}", listen.url)).on(Side::Downstream).because(e)
        })
    }

    /// A listener on `socket`. `tls` is needed for a wss URL; `handshakes` is the cap on handshakes under way, which
    /// listeners share.
    pub fn new(
        socket: TcpListener,
        listen: Listen,
        tls: Option<Arc<ServerTls>>,
        edge: Arc<Edge>,
        handshakes: Arc<Semaphore>,
    ) -> Result<WebSocketListener, Error> {
        let address = socket.local_addr().map_err(|e| Error::new(Kind::Bind, e.to_string()).because(e))?;
        let tls = if listen.url.secure { tls } else { None };
        Ok(WebSocketListener { socket, address, tls, listen: Arc::new(RwLock::new(listen)), edge, handshakes })
    }

    /// The address it is bound to: with port 0 in the configuration, the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, with the real port.
    pub fn url(&self) -> String {
        let listen = self.listen.read();
        let scheme = if listen.url.secure { "wss" } else { "ws" };
        format!("{scheme}://{}{}", self.address, listen.url.path)
    }

    /// What may be exchanged while it runs: new connections are judged by it.
    pub fn settings(&self) -> Arc<RwLock<Listen>> {
        self.listen.clone()
    }

    /// Accepts until the future is dropped.
    pub async fn run(self) {
        let mut pause = Duration::ZERO;
        loop {
            // The permit first: what can't be served stays in the kernel's queue, where it costs nothing.
            let Ok(permit) = self.handshakes.clone().acquire_owned().await else {
                return;
            };
            match self.socket.accept().await {
                Ok((socket, peer)) => {
                    pause = Duration::ZERO;
                    let guest = Guest {
                        edge: self.edge.clone(),
                        listen: self.listen.clone(),
                        tls: self.tls.clone(),
                        peer,
                        begun: Instant::now(),
                    };
                    self.edge.metrics.handshaking.inc();
                    tokio::spawn(async move {
                        let metrics = guest.edge.metrics.clone();
                        // The permit and the gauge end with the handshake, whatever comes of it.
                        let _permit = permit;
                        let _counted = Counted(guest.edge.clone());
                        if guest.receive(socket).await.is_err() {
                            metrics.handshake("timeout");
                        }
                    });
                }
                Err(e) if is_the_peers_fault(&e) => {}
                // Out of descriptors or memory: trying on at once would only burn what is left. Others will close.
                Err(e) => {
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    self.edge.metrics.handshake("accept_error");
                    tracing::warn!(error = %e, listener = %self.address, "cannot accept, trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

/// Errors of `accept` that belong to the connection that was to be accepted (accept(2)).
fn is_the_peers_fault(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

pub(crate) async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(e) => error = e,
        }
    }
    Err(error)
}

/// Binds and listens, with the address reusable at once after a restart.
pub(crate) fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

struct Counted(Arc<Edge>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.metrics.handshaking.dec();
    }
}

/// A connection that wants to become a flow.
struct Guest {
    edge: Arc<Edge>,
    listen: Arc<RwLock<Listen>>,
    tls: Option<Arc<ServerTls>>,
    peer: SocketAddr,
    begun: Instant,
}

impl Guest {
    /// The handshake under its deadline, in which the time that a host takes to decide is not counted: that has one of
    /// its own.
    async fn receive(self, socket: TcpStream) -> Result<(), Elapsed> {
        let deadline = tokio::time::Instant::now() + self.edge.timeouts.handshake;
        let _ = socket.set_nodelay(self.edge.host.nodelay);
        match &self.tls {
            None => self.upgrade(Socket::new(socket), Stream::Tcp, deadline).await,
            Some(tls) => {
                match timeout_at(deadline, TlsAcceptor::from(tls.current()).accept(Socket::new(socket))).await? {
                    Ok(stream) => self.upgrade(stream, |s| Stream::Tls(Box::new(s)), deadline).await,
                    Err(error) => {
                        tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                        self.edge.metrics.handshake("tls");
                        Ok(())
                    }
                }
            }
        }
    }

    async fn upgrade<S: Io + 'static>(
        self,
        mut stream: S,
        wrap: impl FnOnce(S) -> Stream,
        mut deadline: tokio::time::Instant,
    ) -> Result<(), Elapsed> {
        let Guest { edge, listen, tls, peer, begun } = self;
        let read = timeout_at(deadline, handshake::read_head(&mut stream, Vec::new())).await?;
        let Ok((request, mut early)) = read else {
            edge.metrics.handshake("incomplete");
            return Ok(());
        };
        let secure = tls.is_some();
        let verdict = handshake::judge(&request, &listen.read());
        let mut admitted = verdict.map_err(Rejection::from).and_then(|key| {
            if edge.is_draining() {
                return Err(handshake::DRAINING.into());
            }
            let share = edge.addresses.enter(peer.ip()).ok_or(handshake::FULL)?;
            Ok((key, share))
        });
        if let (Ok(_), Some(policy)) = (&admitted, &edge.host.policy) {
            let (decision, verdict) = Decision::new();
            policy.handshake(&policy::Handshake { peer, secure, request: &request }, decision);
            let asked = tokio::time::Instant::now();
            let verdict = tokio::select! {
                // What was decided at once needs no look at the socket.
                biased;
                verdict = tokio::time::timeout(edge.timeouts.policy, verdict) => verdict.ok().and_then(Result::ok),
                () = gone(&mut stream, &mut early) => {
                    edge.metrics.handshake("incomplete");
                    return Ok(());
                }
            };
            deadline += asked.elapsed();
            match verdict {
                Some(Verdict::Accept) => {}
                Some(Verdict::Refuse { status, reason }) => {
                    let status = policy::in_range(status, 400..=599);
                    admitted = Err(Rejection { status, text: reason.into(), label: "policy" });
                }
                None => {
                    let text = "Nobody decided on this connection in time; try again later.".into();
                    admitted = Err(Rejection { status: 503, text, label: "policy_timeout" });
                }
            }
        }
        match admitted {
            Ok((key, share)) => {
                if timeout_at(deadline, handshake::accept(&mut stream, &key)).await?.is_err() {
                    edge.metrics.handshake("incomplete");
                    return Ok(());
                }
                edge.metrics.handshake("ok");
                tracing::debug!(%peer, took = ?begun.elapsed(), "upgraded");
                let id = edge.registry.next_id();
                let upgraded = Upgraded { stream: wrap(stream), early, peer, secure, outgoing: false, share };
                // A task of its own: the one of the handshake is several times as large, and ends here.
                tokio::spawn(flow::run(edge, id, upgraded, None));
            }
            Err(Rejection { status, text, label }) => {
                edge.metrics.handshake(label);
                tracing::debug!(%peer, status, "{text}");
                // The outcome is counted; that the client takes its time to go is none.
                let _ = timeout_at(deadline, handshake::reject(&mut stream, status, &text)).await;
            }
        }
        Ok(())
    }
}

/// Ours or a host's refusal.
struct Rejection {
    status: u16,
    text: Cow<'static, str>,
    label: &'static str,
}

impl From<handshake::Refusal> for Rejection {
    fn from(refusal: handshake::Refusal) -> Rejection {
        Rejection { status: refusal.status, text: refusal.text.into(), label: refusal.label }
    }
}

/// Returns when the client is gone; what it sends before its answer, if it does, is kept for the flow.
async fn gone(stream: &mut (impl AsyncRead + Unpin), early: &mut Vec<u8>) {
    while early.len() < handshake::MAX_HEAD {
        if !matches!(stream.read_buf(early).await, Ok(1..)) {
            return;
        }
    }
    std::future::pending().await
}

/// Runs a flow over a stream whose handshake somebody else has done (an embedding host, a benchmark). `None` when the
/// peer's address, or the server, has as many connections as it may.
pub fn adopt(
    edge: &Arc<Edge>,
    stream: impl Io + 'static,
    peer: SocketAddr,
    secure: bool,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    let share = edge.addresses.enter(peer.ip())?;
    let stream = Stream::Other(Box::new(stream));
    let upgraded = Upgraded { stream, early: Vec::new(), peer, secure, outgoing: false, share };
    Some(flow::run(edge.clone(), edge.registry.next_id(), upgraded, None))
}
