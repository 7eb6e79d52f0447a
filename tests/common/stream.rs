//! A TCP connection, with or without TLS, whose reads and writes have deadlines.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::DEADLINE;

/// One end of a connection.
pub struct Stream {
    layer: Layer,
    /// What was read and not taken yet.
    pub buffer: Vec<u8>,
}

enum Layer {
    Tcp(TcpStream),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    pub fn connect(address: SocketAddr) -> io::Result<Stream> {
        Stream::tcp(TcpStream::connect_timeout(&address, DEADLINE)?)
    }

    pub fn tcp(stream: TcpStream) -> io::Result<Stream> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Stream { layer: Layer::Tcp(stream), buffer: Vec::new() })
    }

    /// The client's TLS handshake, to its end.
    pub fn tls(self, config: Arc<ClientConfig>, name: &str) -> io::Result<Stream> {
        let name = name.to_owned().try_into().map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tcp = self.into_tcp();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(Stream { layer: Layer::Client(Box::new(StreamOwned::new(connection, tcp))), buffer: Vec::new() })
    }

    /// The server's TLS handshake, to its end.
    pub fn tls_server(self, config: Arc<ServerConfig>) -> io::Result<Stream> {
        let mut connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut tcp = self.into_tcp();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp)?;
        }
        Ok(Stream { layer: Layer::Server(Box::new(StreamOwned::new(connection, tcp))), buffer: Vec::new() })
    }

    /// Whether the peer showed a certificate.
    pub fn peer_certificates(&self) -> usize {
        match &self.layer {
            Layer::Tcp(_) => 0,
            Layer::Client(s) => s.conn.peer_certificates().map_or(0, <[_]>::len),
            Layer::Server(s) => s.conn.peer_certificates().map_or(0, <[_]>::len),
        }
    }

    pub fn socket(&self) -> &TcpStream {
        match &self.layer {
            Layer::Tcp(s) => s,
            Layer::Client(s) => &s.sock,
            Layer::Server(s) => &s.sock,
        }
    }

    fn into_tcp(self) -> TcpStream {
        match self.layer {
            Layer::Tcp(s) => s,
            Layer::Client(s) => s.sock,
            Layer::Server(s) => s.sock,
        }
    }

    /// Ends the connection by an RST: whatever is under way is lost. What is left is a socket without a connection.
    pub fn reset(&mut self) {
        let _ = socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
        let unconnected = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        self.layer = Layer::Tcp(unconnected.expect("a socket").into());
        self.buffer.clear();
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writer: &mut dyn Write = match &mut self.layer {
            Layer::Tcp(s) => s,
            Layer::Client(s) => s,
            Layer::Server(s) => s,
        };
        writer.write_all(bytes)?;
        writer.flush()
    }

    /// Reads more into the buffer, until `end` at most: how much, 0 at the end of the connection.
    pub fn fill(&mut self, end: Instant) -> io::Result<usize> {
        let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.socket().set_read_timeout(Some(left))?;
        let mut chunk = [0; 16 * 1024];
        let reader: &mut dyn Read = match &mut self.layer {
            Layer::Tcp(s) => s,
            Layer::Client(s) => s,
            Layer::Server(s) => s,
        };
        let n = match reader.read(&mut chunk) {
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            // TLS without a close_notify is an end as well.
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => 0,
            Err(e) => return Err(e),
        };
        self.buffer.extend_from_slice(&chunk[..n]);
        Ok(n)
    }

    /// Takes `n` bytes out of the buffer.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        self.buffer.drain(..n).collect()
    }
}
