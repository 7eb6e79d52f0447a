//! The SIP servers behind the edge: their connections, and which of them can be reached.
//!
//! A target has a fixed number of slots, each with a connection that a task makes, runs, and makes again. A message
//! may be queued while the connection is still being made; if that fails, everything queued finds another way.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{self, Connection, Receiver, Running};
use super::rendezvous;
use super::resolve::Resolve;
use crate::config::{Limits, Timeouts, Upstream};
use crate::edge::FlowId;
use crate::edge::socket::Socket;
use crate::telemetry::Metrics;

/// The pause behind the first failed attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a connection has to last for its loss to be followed by another at once.
const SETTLED: Duration = Duration::from_secs(1);

/// Whether a target can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Health {
    /// A connection is open.
    Up,
    /// A connection is being made for the first time since there was none: worth waiting for.
    Trying,
    /// The last attempt failed.
    Down,
}

/// One SIP server.
#[derive(Debug)]
pub(super) struct Target {
    /// What it is called in logs and metrics.
    pub(super) name: String,
    /// What it is called in Record-Route parameters and in the hash: the same on every node.
    pub(super) hash: u64,
    pub(super) upstream: Upstream,
    slots: Vec<ArcSwap<Connection>>,
    open: AtomicUsize,
    health: AtomicU8,
    /// Whether the host was told last that it can be reached, if it was told.
    told: Mutex<Option<bool>>,
    /// The addresses it was last seen at, whose own connections to us are trusted.
    addresses: Mutex<Vec<IpAddr>>,
}

impl Target {
    pub(super) fn new(upstream: &Upstream, limits: &Limits) -> Arc<Target> {
        let name = upstream.uri.to_string();
        let target = Arc::new(Target {
            hash: rendezvous::hash(name.as_bytes(), 0),
            upstream: upstream.clone(),
            slots: (0..upstream.connections.max(1))
                .map(|_| ArcSwap::from(Connection::new(upstream.uri.tls, None, limits.upstream_bytes)))
                .collect(),
            open: AtomicUsize::new(0),
            health: AtomicU8::new(Health::Trying as u8),
            told: Mutex::new(None),
            addresses: Mutex::new(Vec::new()),
            name,
        });
        for slot in &target.slots {
            slot.store(target.fresh(limits));
        }
        target
    }

    fn fresh(self: &Arc<Self>, limits: &Limits) -> Arc<Connection> {
        Connection::new(self.upstream.uri.tls, Some(self), limits.upstream_bytes)
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Up,
            1 => Health::Trying,
            _ => Health::Down,
        }
    }

    /// Lets it go: nothing more is queued. Returns the connections it had.
    pub(super) fn retire(&self) -> Vec<Arc<Connection>> {
        let connections: Vec<_> = self.slots.iter().map(ArcSwap::load_full).collect();
        for connection in &connections {
            connection.end();
        }
        connections
    }

    /// How it is called in a URI parameter.
    pub(super) fn id(&self) -> u32 {
        self.hash as u32
    }

    /// The connection for a flow: always the same one while it lasts, so that its messages stay in order.
    pub(super) fn connection(&self, flow: FlowId) -> Arc<Connection> {
        self.slots[flow.0 as usize % self.slots.len()].load_full()
    }

    /// Whether it was last seen at `ip`.
    pub(super) fn is_at(&self, ip: IpAddr) -> bool {
        self.addresses.lock().contains(&ip)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Bytes that wait to be written to it.
    pub(super) fn waiting(&self) -> usize {
        self.slots.iter().map(|s| s.load().waiting()).sum()
    }

    fn opened(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.set(Health::Up);
    }

    fn lost(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.set(Health::Trying);
        }
    }

    fn failed(&self) {
        if self.open.load(Ordering::Acquire) == 0 {
            self.set(Health::Down);
        }
    }

    /// Has the host told whether it can be reached, if that is news. A connection that is lost and made again at once
    /// is none.
    pub(super) fn tell(&self, tell: impl FnOnce(bool)) {
        // Held while the host is told: what it hears last is how things are.
        let mut told = self.told.lock();
        let up = match self.health() {
            Health::Up => true,
            Health::Down => false,
            Health::Trying => return,
        };
        if *told != Some(up) {
            *told = Some(up);
            tell(up);
        }
    }

    fn set(&self, health: Health) {
        self.health.store(health as u8, Ordering::Release);
    }
}

/// Who is told that a connection is no more.
pub(super) trait Loss: Receiver {
    /// `connection` is gone; its server may still be there.
    fn lost(&self, connection: &Arc<Connection>);
    /// Whether `target` can be reached may be otherwise than before.
    fn changed(&self, target: &Target);
    /// An attempt to reach `target` failed.
    fn unreachable(&self, target: &Arc<Target>);
}

/// How connections to targets are made.
pub(super) struct Dialer {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) metrics: Arc<Metrics>,
}

impl Dialer {
    /// Keeps one slot of `target` connected, for ever.
    pub(super) async fn keep(&self, target: &Arc<Target>, slot: usize, loss: &dyn Loss) {
        let failures = self.metrics.upstream_failures.get_or_create(&[("target", target.name.clone())]).clone();
        let mut pause = FIRST_PAUSE;
        loop {
            let connection = target.slots[slot].load_full();
            let why = match tokio::time::timeout(self.timeouts.connect, self.dial(target, &connection)).await {
                Ok(Ok(stream)) => {
                    tracing::info!(target = %target.name, "upstream connected");
                    target.opened();
                    loss.changed(target);
                    let opened = Instant::now();
                    let with = Running {
                        receiver: loss,
                        metrics: &self.metrics,
                        message_limit: self.limits.message_bytes,
                        write_deadline: self.timeouts.write,
                    };
                    let why = match stream {
                        Dialed::Tcp(s) => connection::run(&connection, s, with).await,
                        Dialed::Tls(s) => connection::run(&connection, *s, with).await,
                    };
                    failures.inc();
                    target.slots[slot].store(target.fresh(&self.limits));
                    target.lost();
                    tracing::warn!(target = %target.name, why, "upstream connection lost");
                    loss.lost(&connection);
                    if opened.elapsed() > SETTLED {
                        // At once: a server that closed an idle connection is there.
                        pause = FIRST_PAUSE;
                        continue;
                    }
                    // One that takes connections only to end them is no better than one that refuses them.
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
                Ok(Err(e)) => e.to_string(),
                Err(_) => "no connection in time".to_owned(),
            };
            failures.inc();
            if target.health() != Health::Down {
                tracing::warn!(target = %target.name, why, "upstream cannot be reached");
            }
            target.failed();
            loss.changed(target);
            connection.end();
            target.slots[slot].store(target.fresh(&self.limits));
            loss.lost(&connection);
            loss.unreachable(target);
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn dial(&self, target: &Target, connection: &Connection) -> io::Result<Dialed> {
        let uri = &target.upstream.uri;
        let addresses = self.resolver.resolve(&uri.host, uri.port).await?;
        *target.addresses.lock() = addresses.iter().map(SocketAddr::ip).collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", uri.host));
        for address in addresses {
            match self.dial_address(target, address).await {
                Ok(stream) => {
                    connection.connected(address);
                    return Ok(stream);
                }
                Err(e) => last = io::Error::new(e.kind(), format!("{address}: {e}")),
            }
        }
        Err(last)
    }

    async fn dial_address(&self, target: &Target, address: SocketAddr) -> io::Result<Dialed> {
        let stream = TcpStream::connect(address).await?;
        connection::tune(&stream);
        if !target.upstream.uri.tls {
            return Ok(Dialed::Tcp(stream));
        }
        let config = self.tls.clone().ok_or_else(|| io::Error::other("TLS is not configured"))?;
        let name = ServerName::try_from(target.upstream.uri.host.clone())
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let stream = TlsConnector::from(config).connect(name, Socket::new(stream)).await?;
        Ok(Dialed::Tls(Box::new(stream)))
    }
}

enum Dialed {
    Tcp(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<Socket>>),
}
