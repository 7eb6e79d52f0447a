//! Our own SIP listener: servers connect here when they have something for a client and no connection of ours at hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Bridge;
use super::connection::{self, Connection, Running};
use crate::config::Cidr;
use crate::edge::socket::Socket;
use crate::edge::tls::ServerTls;

/// Connections that servers may have open with one listener.
const MOST: usize = 4096;

/// A listening socket for SIP over TCP or TLS.
pub(crate) struct SipListener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<Arc<ServerTls>>,
    pub(crate) trusted: Arc<[Cidr]>,
    pub(crate) bridge: Arc<Bridge>,
}

impl SipListener {
    /// Accepts until the future is dropped.
    pub(crate) async fn run(self) {
        let permits = Arc::new(Semaphore::new(MOST));
        let mut pause = Duration::ZERO;
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else {
                return;
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    pause = Duration::ZERO;
                    let ip = peer.ip().to_canonical();
                    // A message from here may ring any client: it has to be from one of our own servers.
                    if !self.trusted.iter().any(|c| c.contains(ip)) && !self.bridge.is_target(ip) {
                        self.bridge.metrics.refused("untrusted_source");
                        tracing::warn!(%peer, "refused a SIP connection: not in sip.trusted, and no upstream's address");
                        continue;
                    }
                    let (bridge, tls) = (self.bridge.clone(), self.tls.clone());
                    tokio::spawn(async move {
                        let _permit = permit;
                        let why = serve(&bridge, tls, stream, peer).await;
                        tracing::debug!(%peer, why, "SIP connection closed");
                    });
                }
                Err(error) => {
                    pause = (pause * 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
                    tracing::warn!(%error, "cannot accept SIP connections, trying again in {pause:?}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }
}

async fn serve(bridge: &Bridge, tls: Option<Arc<ServerTls>>, stream: TcpStream, peer: SocketAddr) -> String {
    connection::tune(&stream);
    let connection = Connection::new(tls.is_some(), None, bridge.limits.upstream_bytes);
    connection.connected(peer);
    let with = Running {
        receiver: bridge,
        metrics: &bridge.metrics,
        message_limit: bridge.limits.message_bytes,
        write_deadline: bridge.timeouts.write,
    };
    match tls {
        None => connection::run(&connection, stream, with).await,
        Some(tls) => {
            let accepting = TlsAcceptor::from(tls.current()).accept(Socket::new(stream));
            match tokio::time::timeout(bridge.timeouts.handshake, accepting).await {
                Ok(Ok(stream)) => connection::run(&connection, stream, with).await,
                Ok(Err(e)) => e.to_string(),
                Err(_) => "no TLS handshake in time".to_owned(),
            }
        }
    }
}
