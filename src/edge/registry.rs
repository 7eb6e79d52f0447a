//! The open flows by id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::flow::{Flow, FlowId};

const SHARDS: usize = 64;

/// The open flows of one server. All methods may be called from any thread.
#[derive(Debug)]
pub struct Registry {
    shards: Box<[Mutex<HashMap<FlowId, Flow>>]>,
    hasher: RandomState,
    next: AtomicU64,
    count: AtomicUsize,
    empty: Notify,
}

impl Registry {
    pub(super) fn new() -> Registry {
        // Ids go on from the time of start, so that one from before a restart is never met again: a flow token outlives
        // the process that made it.
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Registry {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            next: AtomicU64::new(millis << 20),
            count: AtomicUsize::new(0),
            empty: Notify::new(),
        }
    }

    pub(crate) fn next_id(&self) -> FlowId {
        FlowId(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn shard(&self, id: FlowId) -> &Mutex<HashMap<FlowId, Flow>> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    pub(super) fn insert(&self, flow: Flow) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.shard(flow.id()).lock().insert(flow.id(), flow);
    }

    pub(super) fn remove(&self, id: FlowId) {
        let removed = {
            let mut shard = self.shard(id).lock();
            let removed = shard.remove(&id);
            if shard.capacity() > 256 && shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
            removed
        };
        if removed.is_some() && self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.empty.notify_waiters();
        }
    }

    /// The flow with that id, if it is open.
    pub fn get(&self, id: FlowId) -> Option<Flow> {
        self.shard(id).lock().get(&id).cloned()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All open flows, in no order.
    pub fn all(&self) -> Vec<Flow> {
        self.shards.iter().flat_map(|s| s.lock().values().cloned().collect::<Vec<_>>()).collect()
    }

    /// Returns once no flow is open.
    pub async fn emptied(&self) {
        loop {
            let notified = self.empty.notified();
            if self.is_empty() {
                return;
            }
            notified.await;
        }
    }
}
