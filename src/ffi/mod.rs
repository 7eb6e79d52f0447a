//! The C ABI: what `include/sipws.h` declares. In: calls of a C host's threads, and its callbacks. Out: nothing that a
//! C compiler could not read, and no panic.
//!
//! ```text
//! host ──▶ library · config · server · flow · message · policy · event     the exported functions, by noun
//!              │         every one inside `boundary` (panics, last error), every pointer through `handle`
//!              ▼
//!          embedded    a server that a host has started: its state, and the stop after which no callback runs
//!              │
//! host ◀── adaptors    the edge's handler, policy and observer, each call counted in by `callback`
//! ```
//!
//! `types` has the constants, structures and function types; the header is made of it and of the exported functions by
//! `tests/ffi_header.rs`. The page for those who link it is `bindings/c/README.md`.

#![allow(unsafe_code)]
#![allow(non_camel_case_types)]
// What a host has to keep to stands in the whole of an exported function's comment, which becomes the header's.
#![allow(clippy::missing_safety_doc)]
// Exported functions are reached from C.
#![allow(unreachable_pub)]

mod adaptors;
mod boundary;
mod callback;
mod config;
mod embedded;
mod event;
mod flow;
mod flows;
mod handle;
mod library;
mod log;
mod message;
#[cfg(feature = "pjsip")]
mod pjsip;
mod policy;
mod queue;
mod server;
mod types;
