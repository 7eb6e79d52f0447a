//! SIP over WebSocket (RFC 7118) between browsers and SIP systems.
//!
//! ```text
//! browser ──ws/wss──▶ edge ──▶ guard ──▶ SipHandler ─┬─ bridge ──tcp/tls──▶ SIP servers
//!                       ▲                            ├─ pjsip ────────────▶ a pjsip_endpoint (feature `pjsip`)
//!                       │                            └─ ffi ──────────────▶ a C or C++ program (feature `ffi`)
//!                       └─── the way back: a flow's outbox ◀──┘
//! ```
//!
//! Read [`edge`], [`guard`], [`bridge`], and `edge::outbox`, in that order, and you have seen a message's whole trip.
//! [`sip`] is what all of them use to look at messages and to change them; it knows nothing of sockets. A [`Server`] is
//! all of it together, from a [`config::Config`]:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = sipws::config::Config::from_toml(
//!     "[[upstream]]\nuri = \"sip:pbx.example.com;transport=tcp\"",
//!     "inline",
//! )?;
//! let server = sipws::Server::start(config)?;
//! println!("{:?}", server.websocket_urls());
//! # Ok(()) }
//! ```
//!
//! The library installs no signal handler, no logger, no default crypto provider and no allocator, and starts no
//! thread before [`Server::start`].

pub mod bridge;
pub mod config;
pub mod edge;
mod error;
#[cfg(feature = "ffi")]
mod ffi;
pub mod guard;
#[cfg(feature = "pjsip")]
pub mod pjsip;
mod runtime;
mod server;
pub mod sip;
pub mod telemetry;

pub use error::{Error, Kind, Side};
pub use server::{Server, Setup};
