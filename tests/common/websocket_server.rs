//! A WebSocket server by hand, for connections that the edge makes: it can answer wrongly, late, or not at all.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;

use super::message::Sip;
use super::websocket::{CLOSE, PING, PONG, TEXT};
use super::{DEADLINE, Stream};

/// A listening socket on loopback.
pub struct WsServer {
    listener: TcpListener,
}

/// A connection to a [`WsServer`].
pub struct WsPeer {
    pub stream: Stream,
    /// The request's head, as it came.
    pub request: String,
}

/// A frame of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFrame {
    pub opcode: u8,
    pub mask: [u8; 4],
    /// Unmasked.
    pub payload: Vec<u8>,
}

impl WsServer {
    pub fn start() -> WsServer {
        WsServer::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> WsServer {
        let listener = TcpListener::bind(address).unwrap();
        WsServer { listener }
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub fn url(&self) -> String {
        format!("ws://{}/", self.address())
    }

    /// The next connection, nothing read from it.
    #[track_caller]
    pub fn accept_raw(&self) -> Stream {
        self.listener.set_nonblocking(true).unwrap();
        let end = Instant::now() + DEADLINE;
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    socket.set_nonblocking(false).unwrap();
                    return Stream::tcp(socket).unwrap();
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < end, "no connection came");
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(e) => panic!("cannot accept: {e}"),
            }
        }
    }

    /// The next connection and its request, not answered yet.
    #[track_caller]
    pub fn accept(&self) -> WsPeer {
        WsPeer::read(self.accept_raw())
    }

    /// The next connection over TLS and its request; the error if it does not come to one.
    pub fn accept_tls(&self, config: Arc<ServerConfig>) -> io::Result<WsPeer> {
        WsPeer::try_read(self.accept_raw().tls_server(config)?)
    }

    /// The next connection, upgraded.
    #[track_caller]
    pub fn open(&self) -> WsPeer {
        let mut peer = self.accept();
        peer.upgrade();
        peer
    }
}

impl WsPeer {
    /// Reads the request.
    #[track_caller]
    pub fn read(stream: Stream) -> WsPeer {
        WsPeer::try_read(stream).unwrap_or_else(|e| panic!("no request: {e}"))
    }

    pub fn try_read(mut stream: Stream) -> io::Result<WsPeer> {
        let end = Instant::now() + DEADLINE;
        let at = loop {
            if let Some(at) = stream.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.fill(end)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        };
        let request = String::from_utf8(stream.take(at)).unwrap();
        Ok(WsPeer { stream, request })
    }

    /// The value of a header of the request.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.request.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).next()
    }

    /// The answer that RFC 6455 and RFC 7118 want.
    pub fn right_answer(&self) -> String {
        let key = self.header("Sec-WebSocket-Key").expect("a key");
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
        )
    }

    pub fn upgrade(&mut self) {
        let answer = self.right_answer();
        self.write(answer.as_bytes());
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write(bytes).unwrap_or_else(|e| panic!("cannot send: {e}"));
    }

    /// Sends one frame.
    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        self.write(&server_frame(opcode, payload));
    }

    pub fn send_text(&mut self, text: &str) {
        self.send_frame(TEXT, text.as_bytes());
    }

    pub fn send_close(&mut self, code: u16) {
        self.send_frame(CLOSE, &code.to_be_bytes());
    }

    /// The next frame; `None` at the connection's end. One that is not masked fails the test (RFC 6455 §5.1).
    #[track_caller]
    pub fn frame(&mut self) -> Option<ClientFrame> {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            match self.stream.fill(end) {
                Ok(0) => return None,
                Ok(_) => {}
                Err(e) => panic!("no frame: {e}"),
            }
        }
    }

    fn parse(&mut self) -> Option<ClientFrame> {
        let b = &self.stream.buffer;
        let (head, length) = match *b.get(1)? {
            masked if masked & 0x80 == 0 => panic!("a client's frame without a mask: {b:02x?}"),
            0xfe => (8, usize::from(u16::from_be_bytes(b.get(2..4)?.try_into().unwrap()))),
            0xff => (14, u64::from_be_bytes(b.get(2..10)?.try_into().unwrap()) as usize),
            short => (6, usize::from(short & 0x7f)),
        };
        if b.len() < head + length {
            return None;
        }
        assert_eq!(b[0] & 0xf0, 0x80, "one whole frame without extensions");
        let opcode = b[0] & 0x0f;
        let header = self.stream.take(head);
        let mask: [u8; 4] = header[head - 4..].try_into().unwrap();
        let payload = self.stream.take(length).iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
        Some(ClientFrame { opcode, mask, payload })
    }

    /// The next SIP message; pings are answered.
    #[track_caller]
    pub fn receive(&mut self) -> Sip {
        loop {
            match self.frame() {
                Some(ClientFrame { opcode: PING, payload, .. }) => self.send_frame(PONG, &payload),
                Some(frame) => return Sip::parse(&frame.payload),
                None => panic!("wanted a message, got the connection's end"),
            }
        }
    }

    /// Waits for the close frame, answers it, and ends the connection: its code.
    #[track_caller]
    pub fn expect_close(mut self) -> Option<u16> {
        loop {
            let frame = self.frame().expect("a close frame");
            if frame.opcode == CLOSE {
                let code = frame.payload.first_chunk().map(|c| u16::from_be_bytes(*c));
                self.send_frame(CLOSE, &frame.payload);
                return code;
            }
        }
    }

    /// Waits for the connection's end, passing over all frames but the close frame, whose code it returns.
    #[track_caller]
    pub fn expect_end(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(frame) = self.frame() {
            if frame.opcode == CLOSE {
                code = frame.payload.first_chunk().map(|c| u16::from_be_bytes(*c));
            }
        }
        code
    }
}

/// A server's frame: not masked.
pub fn server_frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode];
    match payload.len() {
        n @ 0..=125 => out.push(n as u8),
        n @ 126..=65_535 => {
            out.push(126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
    out
}
