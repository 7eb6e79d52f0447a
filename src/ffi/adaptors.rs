//! The edge's handler, policy and observer, made of a host's callbacks. Every call into the host is counted in by the
//! gate of its server; after the stop there are none.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;

use super::boundary::{Outcome, c_string};
use super::callback::{Gate, UserData};
use super::event::Record;
use super::flow::{close_reason, connect_error};
use super::flows::Flows;
use super::handle::{self, Loan};
use super::log::Sink;
use super::message::Borrowed;
use super::policy::{Owed, Question};
use super::queue::Queue;
use super::types::*;
use crate::edge::client::Attachment;
use crate::edge::{
    CloseReason, ConnectError, Decision, Event, Flow, FlowId, Handshake, Observer, Policy, SipHandler, Verdict,
};
use crate::sip::Message;

/// A function of the host's, or several, and what they are to be called with.
pub(crate) struct Callback<F> {
    pub(crate) function: F,
    pub(crate) user_data: UserData,
}

type PolicyFn = unsafe extern "C" fn(*mut std::ffi::c_void, *const sipws_policy_request, *mut sipws_decision) -> i32;
type EventFn = unsafe extern "C" fn(*mut std::ffi::c_void, *mut sipws_server, *const sipws_event);

/// Everything that a host wants to be called for.
#[derive(Clone, Default)]
pub(crate) struct Callbacks {
    pub(crate) handler: Option<Arc<Callback<sipws_message_handler>>>,
    pub(crate) policy: Option<Arc<Callback<PolicyFn>>>,
    pub(crate) events: Option<Arc<Callback<EventFn>>>,
}

/// What joins a server to its host. All that runs holds it; so what is the host's is taken out of it when it is to be
/// let go of.
pub(crate) struct Link {
    pub(crate) gate: Gate,
    pub(crate) flows: Flows,
    pub(crate) queue: Option<Queue>,
    callbacks: ArcSwapOption<Callbacks>,
    log: ArcSwapOption<Sink>,
    /// What callbacks get as their server.
    handle: AtomicPtr<sipws_server>,
}

impl Link {
    pub(crate) fn new(callbacks: Callbacks, queue: Option<Queue>) -> Link {
        Link {
            gate: Gate::default(),
            flows: Flows::default(),
            queue,
            callbacks: ArcSwapOption::from_pointee(callbacks),
            log: ArcSwapOption::empty(),
            handle: AtomicPtr::default(),
        }
    }

    pub(crate) fn set_handle(&self, handle: *mut sipws_server) {
        self.handle.store(handle, Ordering::Release);
    }

    fn handle(&self) -> *mut sipws_server {
        self.handle.load(Ordering::Acquire)
    }

    pub(crate) fn set_log(&self, sink: Option<Arc<Sink>>) {
        self.log.store(sink);
    }

    pub(crate) fn log(&self) -> Option<Arc<Sink>> {
        self.log.load_full()
    }

    /// Lets go of what is the host's; its gate is closed.
    pub(crate) fn release(&self) {
        self.callbacks.store(None);
        self.log.store(None);
        self.flows.clear();
    }

    /// Tells of an event: to the callback, or the queue.
    fn tell(&self, record: Record) {
        if let Some(queue) = &self.queue {
            queue.push(record);
            return;
        }
        let callbacks = self.callbacks.load();
        let Some(events) = callbacks.as_ref().and_then(|c| c.events.as_ref()) else {
            return;
        };
        let Some(_entered) = self.gate.enter() else {
            return;
        };
        let event = Loan::new(record);
        // SAFETY: the host promised that it may be called with its pointer, on any thread; the loan outlives the call.
        unsafe { (events.function)(events.user_data.pointer(), self.handle(), event.as_ptr()) };
    }

    /// Calls one function of the message handler's, if there is one and callbacks are still made.
    fn handler<F>(
        &self,
        function: impl Fn(&sipws_message_handler) -> Option<F>,
        call: impl FnOnce(F, *mut std::ffi::c_void),
    ) {
        let callbacks = self.callbacks.load();
        let Some(handler) = callbacks.as_ref().and_then(|c| c.handler.as_ref()) else {
            return;
        };
        let Some(function) = function(&handler.function) else {
            return;
        };
        if let Some(_entered) = self.gate.enter() {
            call(function, handler.user_data.pointer());
        }
    }
}

/// What is attached to a flow of a host's own handler.
struct Attached {
    /// Whether the host has heard of it: then it also hears of its end.
    told: AtomicBool,
    /// The promise that it keeps, if it is one of ours.
    promise: Option<Arc<Promise>>,
}

/// A connection that is being made: the host hears of exactly one of `opened` and `connect_failed`, even where the
/// server stops first and the attempt is simply dropped.
pub(crate) struct Promise {
    link: Arc<Link>,
    /// Set, under its lock, before anybody can hear of it.
    id: Mutex<Option<FlowId>>,
    kept: AtomicBool,
}

impl Promise {
    /// `None`: the server stops.
    pub(crate) fn new(link: &Arc<Link>) -> Option<Arc<Promise>> {
        link.gate
            .owe()
            .then(|| Arc::new(Promise { link: link.clone(), id: Mutex::new(None), kept: AtomicBool::new(false) }))
    }

    pub(crate) fn attachment(self: &Arc<Promise>) -> Attachment {
        Box::new(Attached { told: AtomicBool::new(false), promise: Some(self.clone()) })
    }

    /// Calls `connect`, which says what the flow's id will be.
    pub(crate) fn named(&self, connect: impl FnOnce() -> FlowId) -> FlowId {
        let mut id = self.id.lock();
        *id.insert(connect())
    }

    fn keep(&self) -> bool {
        !self.kept.swap(true, Ordering::AcqRel)
    }

    /// The connection was not made.
    pub(crate) fn fail(&self, error: &ConnectError) {
        if !self.keep() {
            return;
        }
        let Some(id) = *self.id.lock() else {
            return self.link.gate.settle();
        };
        let (code, http_status) = connect_error(error);
        let text = c_string(&error.to_string());
        self.link.handler(
            |h| h.connect_failed,
            // SAFETY: the host promised that it may be called with its pointer, on any thread; `text` outlives the
            // call.
            |f, ud| unsafe { f(ud, self.link.handle(), id.0, code, http_status.into(), text.as_ptr()) },
        );
        self.link.gate.settle();
    }
}

/// Breaks the promise where nobody did anything about it.
pub(crate) struct Broken(pub(crate) Arc<Promise>);

impl Drop for Broken {
    fn drop(&mut self) {
        let id = *self.0.id.lock();
        let error = ConnectError::Full;
        if let Some(id) = id
            && !self.0.kept.load(Ordering::Acquire)
        {
            self.0.link.tell(Record::connect_failed(id.0, &error));
        }
        self.0.fail(&error);
    }
}

/// A host's own handler of messages.
pub(crate) struct Handler(pub(crate) Arc<Link>);

impl SipHandler for Handler {
    fn opened(&self, flow: &Flow) {
        if flow.attached::<Attached>().is_none() {
            flow.attach(Attached { told: AtomicBool::new(false), promise: None });
        }
        let Some(attached) = flow.attached::<Attached>() else {
            return;
        };
        // A connection of ours is owed for since it was promised.
        let told = match &attached.promise {
            Some(promise) => promise.keep(),
            None => self.0.gate.owe(),
        };
        if !told {
            return;
        }
        attached.told.store(true, Ordering::Release);
        self.0.flows.insert(flow);
        // SAFETY: the host promised that it may be called with its pointer, on any thread.
        self.0.handler(|h| h.opened, |f, ud| unsafe { f(ud, self.0.handle(), flow.id().0) });
    }

    fn message(&self, flow: &Flow, message: Message) {
        if !is_told(flow) {
            return;
        }
        let lent = Loan::new(Borrowed::new(&message));
        // SAFETY: the host promised that it may be called with its pointer, on any thread; the loan outlives the call.
        self.0.handler(|h| h.message, |f, ud| unsafe { f(ud, self.0.handle(), flow.id().0, lent.as_ptr()) });
    }

    fn closed(&self, flow: &Flow, why: CloseReason) {
        if !is_told(flow) {
            return;
        }
        // SAFETY: the host promised that it may be called with its pointer, on any thread.
        self.0.handler(|h| h.closed, |f, ud| unsafe { f(ud, self.0.handle(), flow.id().0, close_reason(why)) });
        // Observers hear of it after this: there the flow is taken out, and what is owed is settled.
    }
}

fn is_told(flow: &Flow) -> bool {
    flow.attached::<Attached>().is_some_and(|attached| attached.told.load(Ordering::Acquire))
}

/// Tells a host what happens, and keeps the table of its flows.
pub(crate) struct Watcher(pub(crate) Arc<Link>);

impl Watcher {
    /// Whether a handler of the host's decides which flows the host hears of.
    fn has_handler(&self) -> bool {
        self.0.callbacks.load().as_ref().is_some_and(|c| c.handler.is_some())
    }
}

impl Observer for Watcher {
    fn event(&self, event: &Event<'_>) {
        match event {
            Event::Opened { flow } => {
                if self.has_handler() {
                    if !is_told(flow) {
                        return;
                    }
                } else if self.0.gate.owe() {
                    self.0.flows.insert(flow);
                } else {
                    return;
                }
            }
            Event::Closed { flow, .. } if !self.0.flows.contains(flow.id()) => return,
            _ => {}
        }
        if let Some(record) = Record::of(event) {
            self.0.tell(record);
        }
        if let Event::Closed { flow, .. } = event {
            self.0.flows.remove(flow.id());
            self.0.gate.settle();
        }
    }
}

/// Asks a host who may connect and what may pass.
pub(crate) struct Asker(pub(crate) Arc<Link>);

impl Asker {
    fn ask(&self, question: Question, decision: Decision) {
        let callbacks = self.0.callbacks.load();
        // Without an answer the decision is dropped, which refuses with 503.
        let Some(policy) = callbacks.as_ref().and_then(|c| c.policy.as_ref()) else {
            return;
        };
        let Some(_entered) = self.0.gate.enter() else {
            return;
        };
        let owed = Owed { decision: Arc::new(Mutex::new(Some(decision))), link: self.0.clone() };
        let given = handle::give(owed.clone());
        let what = Loan::new(question);
        // SAFETY: the host promised that it may be called with its pointer, on any thread; the loan outlives the call.
        let verdict = unsafe { (policy.function)(policy.user_data.pointer(), what.as_ptr(), given) };
        if verdict == SIPWS_DEFER {
            return;
        }
        // Still there unless the host has completed it already, against the rules: then the handle is gone, too.
        let Some(decision) = owed.decision.lock().take() else {
            return;
        };
        // SAFETY: nobody has completed it, and nobody may any more.
        let _: Outcome<Owed> = unsafe { handle::take(given) };
        match verdict {
            SIPWS_ACCEPT => drop(decision.accept()),
            SIPWS_REFUSE => drop(decision.complete(Verdict::Refuse { status: 403, reason: String::new() })),
            other => {
                tracing::warn!(verdict = other, "the policy's answer is none of SIPWS_ACCEPT, _REFUSE, _DEFER: refused")
            }
        }
    }
}

impl Policy for Asker {
    fn handshake(&self, handshake: &Handshake<'_>, decision: Decision) {
        let question = Question {
            kind: SIPWS_POLICY_HANDSHAKE,
            flow: 0,
            peer: handshake.peer,
            secure: handshake.secure,
            handshake: sipws_bytes::of(handshake.request),
            message: std::ptr::null(),
            peer_text: OnceLock::new(),
        };
        self.ask(question, decision);
    }

    fn request(&self, flow: &Flow, request: &Message, decision: Decision) {
        let message = Loan::new(Borrowed::new(request));
        let question = Question {
            kind: SIPWS_POLICY_REQUEST,
            flow: flow.id().0,
            peer: flow.peer(),
            secure: flow.secure(),
            handshake: sipws_bytes::NONE,
            message: message.as_ptr(),
            peer_text: OnceLock::new(),
        };
        self.ask(question, decision);
    }
}
