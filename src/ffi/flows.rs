//! A server's flows as its host knows them: from `opened` on, to the end of `closed`, with the host's user data. Also
//! what is attached to a flow of a host's own handler.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::boundary::{Failure, Outcome};
use super::callback::UserData;
use super::types::*;
use crate::edge::{Flow, FlowId};

const SHARDS: usize = 16;

struct Entry {
    flow: Flow,
    user_data: Option<Arc<UserData>>,
}

/// The flows that a host has heard of. Never calls into the host while it holds a lock.
#[derive(Default)]
pub(crate) struct Flows {
    shards: [Mutex<HashMap<FlowId, Entry>>; SHARDS],
    outgoing: AtomicUsize,
}

impl Flows {
    fn shard(&self, id: FlowId) -> &Mutex<HashMap<FlowId, Entry>> {
        // Ids are handed out one after the other.
        &self.shards[id.0 as usize % SHARDS]
    }

    /// Puts it in, before the host hears of it.
    pub(crate) fn insert(&self, flow: &Flow) {
        let entry = Entry { flow: flow.clone(), user_data: None };
        if self.shard(flow.id()).lock().insert(flow.id(), entry).is_none() && flow.outgoing() {
            self.outgoing.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes it out, after the host has heard of its end.
    pub(crate) fn remove(&self, id: FlowId) {
        let entry = self.shard(id).lock().remove(&id);
        if entry.as_ref().is_some_and(|entry| entry.flow.outgoing()) {
            self.outgoing.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether the host has heard of it, and not yet of its end.
    pub(crate) fn contains(&self, id: FlowId) -> bool {
        self.shard(id).lock().contains_key(&id)
    }

    /// Takes all out.
    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            let entries = std::mem::take(&mut *shard.lock());
            drop(entries);
        }
    }

    /// The flow of that id.
    pub(crate) fn get(&self, id: sipws_flow_id) -> Outcome<Flow> {
        let id = FlowId(id);
        self.shard(id).lock().get(&id).map(|entry| entry.flow.clone()).ok_or_else(|| gone(id))
    }

    /// Sets its user data and returns the old one. On failure `new` comes back.
    pub(crate) fn set_user_data(
        &self,
        id: sipws_flow_id,
        new: UserData,
    ) -> Result<Option<Arc<UserData>>, (UserData, Failure)> {
        let id = FlowId(id);
        match self.shard(id).lock().get_mut(&id) {
            Some(entry) => Ok(entry.user_data.replace(Arc::new(new))),
            None => Err((new, gone(id))),
        }
    }

    /// Its user data.
    pub(crate) fn user_data(&self, id: sipws_flow_id) -> Outcome<Option<Arc<UserData>>> {
        let id = FlowId(id);
        self.shard(id).lock().get(&id).map(|entry| entry.user_data.clone()).ok_or_else(|| gone(id))
    }

    /// How many of them we made.
    pub(crate) fn outgoing(&self) -> usize {
        self.outgoing.load(Ordering::Relaxed)
    }
}

fn gone(id: FlowId) -> Failure {
    Failure::new(SIPWS_E_GONE, format!("flow {id} is not open"))
}
