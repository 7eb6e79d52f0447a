//! A WebSocket client whose every frame is the test's own: RFC 6455 by hand, so that wrong ones can be sent.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;

use super::certificates::{client_config, unchecked_client_config};
use super::message::{Builder, Sip};
use super::{DEADLINE, Edge, Stream, authority};

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// Code and reason; no code: an empty close frame.
    Close(Option<u16>, String),
}

/// Which certificates a client believes.
#[derive(Clone, Debug, Default)]
pub enum Trust {
    /// Any.
    #[default]
    Everything,
    /// What this root has signed, for the name that the URL says.
    Root(CertificateDer<'static>),
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// Sub-protocols; `None`: no such header.
    pub protocol: Option<String>,
    /// Further header lines, such as an Origin.
    pub headers: Vec<(String, String)>,
    pub trust: Trust,
    /// The address to come from.
    pub from: Option<SocketAddr>,
}

impl Default for Handshake {
    fn default() -> Self {
        Handshake { protocol: Some("sip".to_owned()), headers: Vec::new(), trust: Trust::default(), from: None }
    }
}

impl Handshake {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    pub fn protocol(mut self, protocol: Option<&str>) -> Self {
        self.protocol = protocol.map(str::to_owned);
        self
    }

    /// Connects; the server's answer, whatever it is, and the connection.
    pub fn send(&self, url: &str) -> io::Result<(Answer, Stream)> {
        let mut stream = self.connect(url)?;
        let path = url.split_once("://").unwrap().1.split_once('/').map_or(String::new(), |(_, p)| p.to_owned());
        let mut text = format!(
            "GET /{path} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n",
            authority(url),
            "dGhlIHNhbXBsZSBub25jZQ=="
        );
        if let Some(protocol) = &self.protocol {
            text += &format!("Sec-WebSocket-Protocol: {protocol}\r\n");
        }
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        stream.write(format!("{text}\r\n").as_bytes())?;
        let answer = Answer::read(&mut stream)?;
        Ok((answer, stream))
    }

    /// Connects to the host of `url`, with TLS for `wss://`.
    pub fn connect(&self, url: &str) -> io::Result<Stream> {
        let authority = authority(url);
        let address = authority.to_socket_addrs()?.next().ok_or(ErrorKind::NotFound)?;
        let stream = match self.from {
            None => Stream::connect(address)?,
            Some(from) => {
                let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
                socket.bind(&from.into())?;
                socket.connect_timeout(&address.into(), DEADLINE)?;
                Stream::tcp(socket.into())?
            }
        };
        if !url.starts_with("wss://") {
            return Ok(stream);
        }
        let config: Arc<ClientConfig> = match &self.trust {
            Trust::Everything => unchecked_client_config(),
            Trust::Root(root) => client_config(root),
        };
        let name = authority.rsplit_once(':').map_or(authority, |(host, _)| host).trim_matches(['[', ']']);
        stream.tls(config, name)
    }
}

/// A server's answer to a handshake.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// By lower-case name.
    pub headers: HashMap<String, String>,
}

impl Answer {
    /// Reads an HTTP response's head; what follows stays in the stream's buffer.
    pub fn read(stream: &mut Stream) -> io::Result<Answer> {
        let end = Instant::now() + DEADLINE;
        let at = loop {
            if let Some(at) = stream.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            if stream.fill(end)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let head = String::from_utf8_lossy(&stream.take(at + 4)).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|l| l.split(' ').nth(1)?.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        let headers = lines.filter_map(|l| l.split_once(':'));
        let headers = headers.map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned())).collect();
        Ok(Answer { status, headers })
    }
}

/// An open WebSocket connection.
pub struct WsClient {
    pub stream: Stream,
    /// Whether pings are answered while waiting for something else.
    pub answers_pings: bool,
    /// A message whose last fragment has not come.
    partial: Option<(u8, Vec<u8>)>,
}

impl WsClient {
    /// Connects to the first WebSocket listener.
    #[track_caller]
    pub fn open(edge: &Edge) -> WsClient {
        WsClient::open_url(&edge.websocket_urls()[0])
    }

    /// Connects to `url`; `wss` without a look at the certificate.
    #[track_caller]
    pub fn open_url(url: &str) -> WsClient {
        match WsClient::try_open(url, &Handshake::default()) {
            Ok(Ok(client)) => client,
            Ok(Err(answer)) => panic!("{url} answers {answer:?}"),
            Err(e) => panic!("{url}: {e}"),
        }
    }

    /// Connects as `handshake` says; the answer, if it was not 101.
    pub fn try_open(url: &str, handshake: &Handshake) -> io::Result<Result<WsClient, Answer>> {
        let (answer, stream) = handshake.send(url)?;
        if answer.status != 101 {
            return Ok(Err(answer));
        }
        Ok(Ok(WsClient { stream, answers_pings: true, partial: None }))
    }

    /// Our address.
    pub fn local(&self) -> SocketAddr {
        self.stream.socket().local_addr().unwrap()
    }

    /// Sends a message in one text frame.
    pub fn send(&mut self, message: &Builder) {
        self.send_frame(true, TEXT, &message.bytes());
    }

    pub fn send_text(&mut self, text: &str) {
        self.send_frame(true, TEXT, text.as_bytes());
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send_frame(true, BINARY, bytes);
    }

    /// Sends a close frame.
    pub fn send_close(&mut self, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.send_frame(true, CLOSE, &payload);
    }

    /// Sends one frame, masked.
    pub fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        self.send_raw(&frame(fin, opcode, payload));
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.try_send_raw(bytes).unwrap_or_else(|e| panic!("cannot send: {e}"));
    }

    pub fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write(bytes)
    }

    /// The next frame, fragments put together.
    #[track_caller]
    pub fn frame(&mut self) -> Frame {
        match self.try_frame(DEADLINE) {
            Ok(Some(frame)) => frame,
            Ok(None) => panic!("the edge closed the connection"),
            Err(e) => panic!("no frame: {e}"),
        }
    }

    /// The next frame, `None` at the connection's end, an error of the kind `TimedOut` if nothing comes.
    pub fn try_frame(&mut self, time: Duration) -> io::Result<Option<Frame>> {
        let end = Instant::now() + time;
        loop {
            if let Some((fin, opcode, payload)) = self.parse_frame()? {
                let text = |p: Vec<u8>| String::from_utf8(p).map_err(|_| io::Error::from(ErrorKind::InvalidData));
                let whole = match opcode {
                    CLOSE if payload.len() < 2 => return Ok(Some(Frame::Close(None, String::new()))),
                    CLOSE => {
                        let code = u16::from_be_bytes([payload[0], payload[1]]);
                        return Ok(Some(Frame::Close(Some(code), text(payload[2..].to_vec())?)));
                    }
                    PING => return Ok(Some(Frame::Ping(payload))),
                    PONG => return Ok(Some(Frame::Pong(payload))),
                    CONTINUATION => {
                        let (opcode, mut so_far) = self.partial.take().ok_or(ErrorKind::InvalidData)?;
                        so_far.extend_from_slice(&payload);
                        (opcode, so_far)
                    }
                    _ => (opcode, payload),
                };
                if !fin {
                    self.partial = Some(whole);
                    continue;
                }
                return Ok(Some(if whole.0 == TEXT { Frame::Text(text(whole.1)?) } else { Frame::Binary(whole.1) }));
            }
            if self.stream.fill(end)? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse_frame(&mut self) -> io::Result<Option<(bool, u8, Vec<u8>)>> {
        let b = &self.stream.buffer;
        if b.len() < 2 {
            return Ok(None);
        }
        if b[1] & 0x80 != 0 || b[0] & 0x70 != 0 {
            // A server must not mask (RFC 6455 §5.1), and no extension was agreed on.
            return Err(ErrorKind::InvalidData.into());
        }
        let (head, len) = match b[1] {
            126 if b.len() >= 4 => (4, u16::from_be_bytes([b[2], b[3]]) as usize),
            127 if b.len() >= 10 => (10, u64::from_be_bytes(b[2..10].try_into().unwrap()) as usize),
            126 | 127 => return Ok(None),
            n => (2, n as usize),
        };
        if b.len() < head + len {
            return Ok(None);
        }
        let (fin, opcode) = (b[0] & 0x80 != 0, b[0] & 0x0f);
        self.stream.take(head);
        Ok(Some((fin, opcode, self.stream.take(len))))
    }

    /// The next SIP message; pings are answered, and a frame with nothing but a CRLF is passed over.
    #[track_caller]
    pub fn receive(&mut self) -> Sip {
        loop {
            match self.frame() {
                Frame::Text(text) if text == "\r\n" => {}
                Frame::Text(text) => return Sip::parse(text.as_bytes()),
                Frame::Binary(bytes) => return Sip::parse(&bytes),
                Frame::Ping(payload) if self.answers_pings => self.send_frame(true, PONG, &payload),
                Frame::Ping(_) | Frame::Pong(_) => {}
                close => panic!("wanted a message, got {close:?}"),
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

    /// Waits for the close frame, passing over messages and pings: code and reason. (`None`, "") at an end without one.
    #[track_caller]
    pub fn expect_close(&mut self) -> (Option<u16>, String) {
        loop {
            match self.try_frame(DEADLINE) {
                Ok(Some(Frame::Close(code, reason))) => return (code, reason),
                Ok(Some(_)) => {}
                Ok(None) => return (None, String::new()),
                Err(e) if e.kind() == ErrorKind::TimedOut => panic!("no close frame in time"),
                Err(_) => return (None, String::new()),
            }
        }
    }

    /// Asserts that nothing was sent to us before an OPTIONS to the edge, sent now, is answered.
    #[track_caller]
    pub fn expect_nothing(&mut self, edge: &Edge) {
        let fence = super::request("OPTIONS", &format!("sip:{}", edge.sip_authority()));
        self.send(&fence);
        let answer = self.receive();
        assert!(answer.start.starts_with("SIP/2.0 200"), "wanted nothing, got\n{answer:?}");
        assert_eq!(answer.get("Call-ID"), fence.get("Call-ID"), "wanted nothing, got\n{answer:?}");
    }

    /// Ends it with an RST.
    pub fn reset(mut self) {
        self.stream.reset();
    }
}

/// One masked frame.
pub fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![u8::from(fin) << 7 | opcode];
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]));
    out
}
