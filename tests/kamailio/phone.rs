//! A SIP client on a WebSocket, as a browser's would be: it registers, calls and is called, and keeps account of every
//! request: which final response it got, and what it was asked itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::common::ws::{Reader, Writer};
use super::digest;
use super::process::DOMAIN;

/// Longer than any timer of a proxy that a request may meet: without a response by then there will be none.
const DEADLINE: Duration = Duration::from_secs(45);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}
