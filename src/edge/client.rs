//! WebSocket connections that we open (RFC 6455 §4.1, RFC 7118 §4.1): resolve, connect, TLS, upgrade, under one deadline;
//! then a flow like any other.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tungstenite::handshake::derive_accept_key;

use super::flow::{self, Upgraded};
use super::handshake::{MAX_HEADERS, read_head};
use super::socket::Socket;
use super::wire::{Io, Stream};
use super::{Edge, FlowId};
use crate::config::{Config, check_header, check_target, check_value};

/// Where to connect, and how.
#[derive(Clone)]
pub struct Connect {
    /// Over TLS.
    pub secure: bool,
    /// The host, a name or an address (IPv6 without brackets): for the resolver, Host, SNI, and the certificate's check.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The request target: path and query, `/ws?token=…`.
    pub target: String,
    /// Where `host` is, if that is known already.
    pub address: Option<SocketAddr>,
    /// The Origin to say (RFC 6454), if any.
    pub origin: Option<String>,
    /// Further headers: Authorization, Cookie.
    pub headers: Vec<(String, String)>,
    /// What certificates are verified with. Needed where `secure`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// For all of it, to the end of the upgrade.
    pub deadline: Duration,
}

impl Connect {
    /// How to connect to a host (an IPv6 address without brackets) as the configuration's `[client]` says. `tls` is needed
    /// where `secure`: [`ClientTls`](super::tls::ClientTls) makes it.
    pub fn new(
        config: &Config,
        secure: bool,
        host: &str,
        port: u16,
        address: Option<SocketAddr>,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Connect {
        let entry = config.client.host(host, port);
        let headers = entry.into_iter().flat_map(|e| &e.headers);
        Connect {
            secure,
            host: host.to_owned(),
            port,
            target: entry.map_or_else(|| "/".to_owned(), |e| e.target.clone()),
            address,
            origin: entry.and_then(|e| e.origin.clone()).or_else(|| config.client.origin.clone()),
            headers: headers.map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
            tls,
            deadline: config.timeouts.connect,
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host has no address.
    Resolve(String),
    /// No TCP connection: refused, unreachable, reset.
    Connect(std::io::ErrorKind, String),
    /// TLS failed, for another reason than the certificate.
    Tls(String),
    /// The server's certificate is not for that host, not trusted, or expired.
    Certificate(String),
    /// The server answered the upgrade with this HTTP status.
    Refused(u16),
    /// The server's 101 does not name the subprotocol `sip`.
    Subprotocol,
    /// What came back is no answer to a WebSocket handshake.
    Protocol(&'static str),
    /// No answer in time.
    Timeout,
    /// We are stopping, or have as many connections as we may.
    Full,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectError::Resolve(why) => write!(f, "the host has no address: {why}"),
            ConnectError::Connect(_, why) => write!(f, "no connection: {why}"),
            ConnectError::Tls(why) => write!(f, "TLS: {why}"),
            ConnectError::Certificate(why) => write!(f, "the server's certificate is refused: {why}"),
            ConnectError::Refused(status) => write!(f, "the server answered the upgrade with {status}"),
            ConnectError::Subprotocol => write!(f, "the server does not speak the subprotocol sip"),
            ConnectError::Protocol(why) => write!(f, "no WebSocket handshake: {why}"),
            ConnectError::Timeout => write!(f, "no answer in time"),
            ConnectError::Full => write!(f, "no more connections are made"),
        }
    }
}

impl std::error::Error for ConnectError {}

impl ConnectError {
    /// The label that metrics carry.
    pub const fn as_str(&self) -> &'static str {
        match self {
            ConnectError::Resolve(_) => "resolve",
            ConnectError::Connect(..) => "connect",
            ConnectError::Tls(_) => "tls",
            ConnectError::Certificate(_) => "certificate",
            ConnectError::Refused(_) => "refused",
            ConnectError::Subprotocol => "subprotocol",
            ConnectError::Protocol(_) => "protocol",
            ConnectError::Timeout => "timeout",
            ConnectError::Full => "full",
        }
    }

    /// What an error of the connection means, TLS's own included.
    fn of(error: &io::Error) -> ConnectError {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(tls @ (rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)) => {
                ConnectError::Certificate(tls.to_string())
            }
            Some(tls) => ConnectError::Tls(tls.to_string()),
            None => ConnectError::Connect(error.kind(), error.to_string()),
        }
    }
}

/// What a flow of ours gets attached before it is opened.
pub type Attachment = Box<dyn Any + Send + Sync>;

/// Connects and runs the flow `id` (from `Registry::next_id`) to its end. An error means that it did not come
/// about, and that no handler has heard of it. Dropped: the connection is given up.
pub async fn run(edge: Arc<Edge>, id: FlowId, to: Connect, attachment: Option<Attachment>) -> Result<(), ConnectError> {
    // In a box: connecting takes several times as much memory as the flow that lives on.
    let connected = Box::pin(connect(&edge, &to)).await;
    edge.metrics.connect(connected.as_ref().err().map_or("ok", ConnectError::as_str));
    let upgraded = connected
        .inspect_err(|error| tracing::debug!(flow = %id, host = to.host, port = to.port, %error, "not connected"))?;
    tracing::debug!(flow = %id, peer = %upgraded.peer, "connected");
    drop(to);
    flow::run(edge, id, upgraded, attachment).await;
    Ok(())
}

async fn connect(edge: &Edge, to: &Connect) -> Result<Upgraded, ConnectError> {
    if edge.is_draining() {
        return Err(ConnectError::Full);
    }
    let share = edge.addresses.place().ok_or(ConnectError::Full)?;
    let request = Request::new(to)?;
    let deadline = Instant::now() + to.deadline;
    let connecting = async {
        let (socket, peer) = dial(to, deadline).await?;
        let _ = socket.set_nodelay(edge.host.nodelay);
        let (stream, early) = if to.secure {
            let config = to.tls.clone().ok_or(ConnectError::Tls("no TLS configuration is given".to_owned()))?;
            let name = ServerName::try_from(without_zone(&to.host).to_owned())
                .map_err(|_| ConnectError::Tls(format!("no certificate can be for {:?}", to.host)))?;
            let secured = TlsConnector::from(config).connect(name, Socket::new(socket)).await;
            let mut stream = secured.map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => ConnectError::Tls("the server ended the connection".to_owned()),
                _ => ConnectError::of(&e),
            })?;
            let early = request.send(&mut stream).await?;
            (Stream::TlsClient(Box::new(stream)), early)
        } else {
            let mut socket = Socket::new(socket);
            let early = request.send(&mut socket).await?;
            (Stream::Tcp(socket), early)
        };
        Ok(Upgraded { stream, early, peer, secure: to.secure, outgoing: true, share })
    };
    let upgraded = tokio::time::timeout_at(deadline, connecting).await.unwrap_or(Err(ConnectError::Timeout))?;
    if edge.is_draining() { Err(ConnectError::Full) } else { Ok(upgraded) }
}

/// A TCP connection to the first of the host's addresses that takes one. Each has an equal part of the time that is left,
/// so that one that is silent does not use up the others'.
async fn dial(to: &Connect, deadline: Instant) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let addresses: Vec<SocketAddr> = match to.address {
        Some(address) => vec![address],
        None => tokio::net::lookup_host((to.host.as_str(), to.port))
            .await
            .map_err(|e| ConnectError::Resolve(e.to_string()))?
            .collect(),
    };
    let mut error = ConnectError::Resolve(format!("{} is not known", to.host));
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let part = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        error = match tokio::time::timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok((socket, *address)),
            Ok(Err(e)) => ConnectError::Connect(e.kind(), format!("{address}: {e}")),
            Err(_) => ConnectError::Timeout,
        };
    }
    Err(error)
}

/// An IPv6 address without its zone (RFC 6874), which says something to this machine only.
fn without_zone(host: &str) -> &str {
    match host.split_once('%') {
        Some((address, _)) if address.parse::<Ipv6Addr>().is_ok() => address,
        _ => host,
    }
}

/// The opening handshake of a client (RFC 6455 §4.1, RFC 7118 §4.1).
struct Request {
    bytes: Vec<u8>,
    /// The Sec-WebSocket-Accept that answers it.
    accept: String,
}

impl Request {
    fn new(to: &Connect) -> Result<Request, ConnectError> {
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| ConnectError::Protocol("no random numbers"))?;
        let key = STANDARD.encode(random);
        let mut host = without_zone(&to.host).to_owned();
        if host.parse::<Ipv6Addr>().is_ok() {
            host = format!("[{host}]");
        }
        if to.port != if to.secure { 443 } else { 80 } {
            host = format!("{host}:{}", to.port);
        }
        let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if to.host.is_empty() || !visible(&host) || host.contains(['/', '?', '#', '@']) {
            return Err(ConnectError::Protocol("the host is neither a name nor an address"));
        }
        check_target(&to.target).map_err(ConnectError::Protocol)?;
        let mut text = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n",
            to.target
        );
        if let Some(origin) = &to.origin {
            check_value(origin).map_err(ConnectError::Protocol)?;
            text.extend(["Origin: ", origin, "\r\n"]);
        }
        for (name, value) in &to.headers {
            check_header(name, value).map_err(ConnectError::Protocol)?;
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        Ok(Request { accept: derive_accept_key(key.as_bytes()), bytes: text.into_bytes() })
    }

    /// Sends it and reads the answer. Returns what came behind that.
    async fn send(&self, stream: &mut impl Io) -> Result<Vec<u8>, ConnectError> {
        let sent = async {
            stream.write_all(&self.bytes).await?;
            stream.flush().await
        };
        let sent = sent.await;
        let mut early = Vec::new();
        loop {
            // Whoever does not read the request to its end may have answered it all the same.
            let read = read_head(stream, early).await;
            let (head, rest) = read.map_err(|e| match (&sent, e.kind()) {
                (_, io::ErrorKind::FileTooLarge) => ConnectError::Protocol("the answer has no end"),
                (Ok(()), io::ErrorKind::UnexpectedEof) => {
                    ConnectError::Protocol("the server ended the connection instead of answering")
                }
                (Err(e), _) => ConnectError::of(e),
                (Ok(()), _) => ConnectError::of(&e),
            })?;
            match judge(&head, &self.accept)? {
                Answer::Open => return Ok(rest),
                Answer::Provisional => early = rest,
            }
        }
    }
}

enum Answer {
    Open,
    /// 100 Continue and its kin (RFC 9110 §15.2): the answer is still to come.
    Provisional,
}

/// Judges the answer (RFC 6455 §4.1, from "Once the client's opening handshake has been sent").
fn judge(head: &[u8], accept: &str) -> Result<Answer, ConnectError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let complete = matches!(parsed.parse(head), Ok(httparse::Status::Complete(_)));
    let status = parsed.code.filter(|_| complete).ok_or(ConnectError::Protocol("the answer is not HTTP"))?;
    match status {
        101 => {}
        100..200 => return Ok(Answer::Provisional),
        // A redirection too: whoever wants us elsewhere tells our host's owner, not us.
        _ => return Err(ConnectError::Refused(status)),
    }
    let all = |name: &'static str| {
        parsed.headers.iter().filter(move |h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value.trim_ascii())
    };
    let only = |name| {
        let mut values = all(name);
        values.next().filter(|_| values.next().is_none())
    };
    if parsed.version != Some(1) {
        return Err(ConnectError::Protocol("the answer is not HTTP/1.1"));
    }
    if !only("upgrade").is_some_and(|v| v.eq_ignore_ascii_case(b"websocket")) {
        return Err(ConnectError::Protocol("the 101 does not upgrade to websocket"));
    }
    if !all("connection").flat_map(|v| v.split(|&b| b == b',')).any(|v| v.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
    {
        return Err(ConnectError::Protocol("the 101 has no Connection: Upgrade"));
    }
    if only("sec-websocket-accept") != Some(accept.as_bytes()) {
        return Err(ConnectError::Protocol("the 101 has the wrong Sec-WebSocket-Accept"));
    }
    if all("sec-websocket-extensions").next().is_some() {
        return Err(ConnectError::Protocol("the 101 has an extension that was not asked for"));
    }
    if only("sec-websocket-protocol") != Some(b"sip") {
        return Err(ConnectError::Subprotocol);
    }
    Ok(Answer::Open)
}
