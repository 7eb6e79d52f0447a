//! A SIP server without an opinion: a TCP (or TLS) socket on which the test says what is answered, and when.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ServerConfig};

use super::message::{Builder, Sip, request};
use super::{DEADLINE, Stream};

/// A listening SIP server.
pub struct SipServer {
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
}

impl SipServer {
    /// Listens on a port that the system chooses.
    pub fn start() -> SipServer {
        SipServer::on("127.0.0.1:0".parse().unwrap())
    }

    /// Listens there.
    pub fn on(address: SocketAddr) -> SipServer {
        let listener = TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        // On Linux a listening socket's accept has a receive timeout, too.
        socket2::SockRef::from(&listener).set_read_timeout(Some(DEADLINE)).unwrap();
        SipServer { listener, tls: None }
    }

    /// Listens with TLS, on a port that the system chooses.
    pub fn tls(config: Arc<ServerConfig>) -> SipServer {
        SipServer { tls: Some(config), ..SipServer::start() }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// How it stands in an `[[upstream]]`.
    pub fn uri(&self) -> String {
        let transport = if self.tls.is_some() { "tls" } else { "tcp" };
        format!("sip:{};transport={transport}", self.address())
    }

    /// The next connection, handshake included.
    #[track_caller]
    pub fn accept(&self) -> SipConnection {
        self.try_accept().unwrap_or_else(|e| panic!("no connection: {e}"))
    }

    /// The next connection, or what went wrong with it.
    pub fn try_accept(&self) -> io::Result<SipConnection> {
        let (stream, _) = self.listener.accept()?;
        let stream = Stream::tcp(stream)?;
        let stream = match &self.tls {
            Some(config) => stream.tls_server(config.clone())?,
            None => stream,
        };
        Ok(SipConnection { stream })
    }

    /// Whether nobody connects for that long. For what must not happen and leaves no other trace.
    pub fn is_left_alone(&self, time: Duration) -> bool {
        let socket = socket2::SockRef::from(&self.listener);
        socket.set_read_timeout(Some(time)).unwrap();
        let alone = self.listener.accept().is_err_and(|e| e.kind() == ErrorKind::WouldBlock);
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        alone
    }
}

/// A connection between the SIP server and the edge, whoever opened it.
pub struct SipConnection {
    pub stream: Stream,
}

impl SipConnection {
    /// Connects to a SIP listener of the edge.
    pub fn connect(address: SocketAddr) -> SipConnection {
        SipConnection { stream: Stream::connect(address).unwrap_or_else(|e| panic!("{address}: {e}")) }
    }

    /// Connects to a `tls://` SIP listener of the edge.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>, name: &str) -> SipConnection {
        let stream = Stream::connect(address).and_then(|s| s.tls(config, name));
        SipConnection { stream: stream.unwrap_or_else(|e| panic!("{address}: {e}")) }
    }

    /// Our address on it.
    pub fn local(&self) -> SocketAddr {
        self.stream.socket().local_addr().unwrap()
    }

    /// What our own requests' Vias begin with.
    pub fn via(&self) -> String {
        format!("SIP/2.0/TCP {}", self.local())
    }

    /// A request of this server's.
    pub fn request(&self, method: &str, uri: &str) -> Builder {
        let r = request(method, uri);
        let via = format!("{};branch={}", self.via(), r.branch());
        let contact = format!("<sip:pbx@{}>", self.local());
        r.set("Via", &via)
            .set("From", "<sip:bob@example.com>;tag=pbx")
            .set("Contact", &contact)
            .set("Content-Length", "0")
    }

    pub fn send(&mut self, message: &Builder) {
        self.send_raw(&message.clone().framed().bytes());
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write(bytes).unwrap_or_else(|e| panic!("cannot send: {e}"));
    }

    /// The next message, framed by its Content-Length.
    #[track_caller]
    pub fn receive(&mut self) -> Sip {
        match self.try_receive(DEADLINE) {
            Ok(Some(message)) => message,
            Ok(None) => panic!("the edge closed the connection"),
            Err(e) => {
                panic!("no message: {e}; so far: {:?}", String::from_utf8_lossy(&self.stream.buffer))
            }
        }
    }

    /// The next message, which must be a request of that method.
    #[track_caller]
    pub fn expect(&mut self, method: &str) -> Sip {
        self.receive().must_ask(method)
    }

    /// The next message, which must be a response of that status.
    #[track_caller]
    pub fn expect_status(&mut self, status: u16) -> Sip {
        self.receive().must_answer(status)
    }

    /// The next message, `None` at the end of the connection, an error of the kind `TimedOut` if nothing comes.
    pub fn try_receive(&mut self, time: Duration) -> io::Result<Option<Sip>> {
        let end = Instant::now() + time;
        loop {
            while self.stream.buffer.starts_with(b"\r\n") {
                self.stream.take(2);
            }
            let at = self.stream.buffer.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(at) = at {
                let head = Sip::parse(&self.stream.buffer[..at + 4]);
                // What has none cannot be framed on a stream.
                let length: usize = head.get("Content-Length").parse().unwrap();
                if self.stream.buffer.len() >= at + 4 + length {
                    return Ok(Some(Sip::parse(&self.stream.take(at + 4 + length))));
                }
            }
            if self.stream.fill(end)? == 0 {
                return Ok(None);
            }
        }
    }

    /// Asserts that nothing was sent to us before an OPTIONS to the edge, sent now, is answered.
    #[track_caller]
    pub fn expect_nothing(&mut self, edge: &super::Edge) {
        let fence = self.request("OPTIONS", &format!("sip:{}", edge.sip_authority()));
        self.send(&fence);
        let answer = self.receive();
        assert!(answer.start.starts_with("SIP/2.0 200"), "wanted nothing, got\n{answer:?}");
        assert_eq!(answer.get("Call-ID"), fence.get("Call-ID"), "wanted nothing, got\n{answer:?}");
    }

    /// Waits until the edge ends the connection.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.try_receive(DEADLINE), Ok(None))
            || !matches!(self.stream.fill(Instant::now()), Err(e) if e.kind() == ErrorKind::TimedOut)
    }

    /// Ends it with an RST.
    pub fn reset(&mut self) {
        self.stream.reset();
    }
}
