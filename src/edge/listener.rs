//! Accepts WebSocket connections: a permit first, then a socket, then TLS and HTTP under one deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

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
                        let limit = guest.edge.timeouts.handshake;
                        let metrics = guest.edge.metrics.clone();
                        // The permit and the gauge end with the handshake, whatever comes of it.
                        let _permit = permit;
                        let _counted = Counted(guest.edge.clone());
                        if tokio::time::timeout(limit, guest.receive(socket)).await.is_err() {
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
    async fn receive(self, socket: TcpStream) {
        // SIP messages are small and each is waited for.
        let _ = socket.set_nodelay(true);
        match &self.tls {
            None => self.upgrade(socket, Stream::Tcp).await,
            Some(tls) => match TlsAcceptor::from(tls.current()).accept(socket).await {
                Ok(stream) => self.upgrade(stream, |s| Stream::Tls(Box::new(s))).await,
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "TLS handshake failed");
                    self.edge.metrics.handshake("tls");
                }
            },
        }
    }

    async fn upgrade<S: Io + 'static>(self, mut stream: S, wrap: impl FnOnce(S) -> Stream) {
        let Guest { edge, listen, tls, peer, begun } = self;
        let Some((request, early)) = handshake::read_request(&mut stream).await else {
            edge.metrics.handshake("incomplete");
            return;
        };
        let verdict = handshake::judge(&request, &listen.read());
        let admitted = verdict.and_then(|key| {
            if edge.is_draining() {
                return Err(handshake::DRAINING);
            }
            let share = edge.addresses.enter(peer.ip()).ok_or(handshake::FULL)?;
            Ok((key, share))
        });
        match admitted {
            Ok((key, share)) => {
                if handshake::accept(&mut stream, &key).await.is_err() {
                    edge.metrics.handshake("incomplete");
                    return;
                }
                edge.metrics.handshake("ok");
                tracing::debug!(%peer, took = ?begun.elapsed(), "upgraded");
                // A task of its own: the one of the handshake is several times as large, and ends here.
                tokio::spawn(flow::run(edge, wrap(stream), early, peer, tls.is_some(), share));
            }
            Err(refusal) => {
                edge.metrics.handshake(refusal.label);
                tracing::debug!(%peer, status = refusal.status, "{}", refusal.text);
                let _ = handshake::reject(&mut stream, refusal).await;
            }
        }
    }
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
    Some(flow::run(edge.clone(), Stream::Other(Box::new(stream)), Vec::new(), peer, secure, share))
}
