//! Requests in flight, in both directions: what is needed to answer each of them exactly once.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::branch::Way;
use super::connection::Connection;
use super::upstream::Target;
use crate::edge::Flow;
use crate::sip::{Message, Method};
use crate::telemetry::Metrics;

const SHARDS: usize = 64;

/// The other transaction with an INVITE's branch: that of its CANCEL.
pub(super) const fn cancel_of(key: u64) -> u64 {
    key ^ 1
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing has come back yet: it may still be sent elsewhere.
    Waiting,
    /// A provisional response has come: it stays where it is.
    Proceeding,
    /// Its final response has been passed on or made here. Kept for an INVITE's ACK and late responses.
    Ended,
}

/// Whether somebody wants a request no more. It is sent nowhere else then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// As soon as there is a provisional response: before, a CANCEL might overtake its INVITE (RFC 3261 §9.1).
    Wanted,
    /// Its CANCEL has been passed on.
    Sent,
}

/// A request in flight.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) way: Way,
    pub(super) method: Method,
    pub(super) flow: Flow,
    /// Where it was sent, or where it came from.
    pub(super) connection: Arc<Connection>,
    /// Where it was sent, if it goes to a server.
    pub(super) target: Option<Arc<Target>>,
    /// How many targets were tried before this one.
    pub(super) attempt: u8,
    /// The targets that have failed, by their hash.
    pub(super) tried: Vec<u64>,
    pub(super) progress: Progress,
    pub(super) cancel: Cancel,
    /// The request; gone once it has ended.
    pub(super) request: Option<Message>,
    pub(super) deadline: Instant,
}

impl Entry {
    /// A request that has just been sent on, or is about to be.
    pub(super) fn new(
        way: Way,
        flow: &Flow,
        connection: &Arc<Connection>,
        target: Option<&Arc<Target>>,
        request: Message,
        deadline: Instant,
    ) -> Entry {
        let method = request.method().unwrap_or(Method::Other);
        Entry {
            way,
            method,
            flow: flow.clone(),
            connection: connection.clone(),
            target: target.cloned(),
            attempt: 0,
            tried: Vec::new(),
            progress: Progress::Waiting,
            // A CANCEL is wanted only where its INVITE is.
            cancel: if method == Method::Cancel { Cancel::Sent } else { Cancel::No },
            request: Some(request),
            deadline,
        }
    }
}

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = n;
    }
}

type Shard = HashMap<u64, Entry, BuildHasherDefault<Identity>>;

/// All requests in flight of a bridge.
pub(super) struct Pending {
    shards: Box<[Mutex<Shard>]>,
    count: AtomicUsize,
    limit: usize,
    metrics: Arc<Metrics>,
}

/// Why a request can't be taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// It is here already: a retransmission, which a reliable transport needs none of.
    Known,
    /// There are as many as may be.
    Full,
}

impl Pending {
    pub(super) fn new(limit: usize, metrics: Arc<Metrics>) -> Pending {
        Pending { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), count: AtomicUsize::new(0), limit, metrics }
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        // The map takes its buckets from the low bits and its tags from the topmost.
        &self.shards[(key >> 40) as usize % SHARDS]
    }

    pub(super) fn insert(&self, key: u64, entry: Entry) -> Result<(), NoRoom> {
        if self.count.load(Ordering::Relaxed) >= self.limit {
            return Err(NoRoom::Full);
        }
        match self.shard(key).lock().entry(key) {
            Slot::Occupied(_) => return Err(NoRoom::Known),
            Slot::Vacant(slot) => {
                slot.insert(entry);
            }
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
        Ok(())
    }

    /// Looks at an entry, and changes it, under its lock.
    pub(super) fn with<R>(&self, key: u64, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.shard(key).lock().get_mut(&key).map(look)
    }

    /// Looks at an entry and takes it out if `look` says so.
    pub(super) fn take_if(&self, key: u64, look: impl FnOnce(&mut Entry) -> bool) -> Option<Entry> {
        let mut shard = self.shard(key).lock();
        let Slot::Occupied(mut slot) = shard.entry(key) else {
            return None;
        };
        if !look(slot.get_mut()) {
            return None;
        }
        let entry = slot.remove();
        drop(shard);
        self.forget(1);
        Some(entry)
    }

    /// Takes an entry out.
    pub(super) fn take(&self, key: u64) -> Option<Entry> {
        self.take_if(key, |_| true)
    }

    /// The keys of all entries that `wanted` picks.
    pub(super) fn keys(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<u64> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            keys.extend(shard.lock().iter().filter(|(_, e)| wanted(e)).map(|(k, _)| *k));
        }
        keys
    }

    /// The keys of those that are over time; ended ones among them are dropped at once.
    pub(super) fn overdue(&self, now: Instant) -> Vec<u64> {
        let mut keys = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|key, entry| {
                let over = entry.deadline <= now;
                if over && entry.progress != Progress::Ended {
                    keys.push(*key);
                }
                !over || entry.progress != Progress::Ended
            });
            let dropped = before - shard.len();
            if shard.capacity() > 1024 && shard.len() < shard.capacity() / 8 {
                shard.shrink_to_fit();
            }
            drop(shard);
            self.forget(dropped);
        }
        keys
    }

    fn forget(&self, n: usize) {
        self.count.fetch_sub(n, Ordering::Relaxed);
        self.metrics.in_flight.dec_by(n as i64);
    }
}
