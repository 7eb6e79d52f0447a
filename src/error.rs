//! What can go wrong with a server as a whole. A message's or a connection's trouble is answered where it happens.

use std::fmt;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The configuration can't be used.
    Config,
    /// An address can't be listened on.
    Bind,
    /// A certificate, a key, or TLS itself.
    Tls,
    /// Threads or descriptors: the system refused.
    System,
}

/// Whose side it went wrong on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards WebSocket clients.
    Downstream,
    /// Towards SIP servers.
    Upstream,
    /// Here.
    Internal,
}

/// An error with its kind, its side, and words that name the thing and the mend.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    side: Side,
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: Kind, text: String) -> Error {
        Error { kind, side: Side::Internal, text, source: None }
    }

    pub(crate) fn on(mut self, side: Side) -> Error {
        self.side = side;
        self
    }

    pub(crate) fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Error {
        self.source = Some(Box::new(source));
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose side it went wrong on.
    pub fn side(&self) -> Side {
        self.side
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}
