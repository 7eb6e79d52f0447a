//! From an upstream's host name to addresses.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

/// What resolving gives: addresses in the order in which they are to be tried.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Resolves an upstream's host and port. Asked at each connection attempt.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `host` (a name, or an address without brackets) with `port`.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a>;
}

/// Asks the system: hosts file and DNS, A and AAAA.
#[derive(Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}
