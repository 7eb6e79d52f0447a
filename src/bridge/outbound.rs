//! What clients ask of servers: requests up, responses down.

use std::sync::Arc;
use std::time::Instant;

use super::branch::{Branch, Way};
use super::connection::{Connection, Refused};
use super::identity::OwnRoutes;
use super::pending::{Cancel, Entry, NoRoom, Progress, cancel_of};
use super::rendezvous;
use super::upstream::{Health, Target};
use super::{Bridge, FlowState, REMEMBERED, RETRY_AFTER, registration, translator, with_edits};
use crate::config::{HashKey, Registration};
use crate::edge::{Event, Flow};
use crate::sip::address::Address;
use crate::sip::response::Reply;
use crate::sip::uri::Uri;
use crate::sip::via::Via;
use crate::sip::{Message, Method, Name};
use crate::telemetry::metrics::{Direction, Kind};

/// What we say of ourselves to an OPTIONS (RFC 3261 §11.2).
const ABOUT_US: &[u8] = b"Allow: REGISTER, INVITE, ACK, BYE, CANCEL, OPTIONS, SUBSCRIBE, NOTIFY, MESSAGE, INFO, UPDATE, PRACK, REFER, PUBLISH\r\n\
    Supported: path, outbound\r\nAccept: application/sdp\r\n";

/// A request on its way to a server.
struct Outgoing<'a> {
    flow: &'a Flow,
    message: &'a Message,
    routes: &'a OwnRoutes,
    method: Method,
    in_dialog: bool,
    key: u64,
    attempt: u8,
}

impl Bridge {
    pub(super) fn request_to_server(&self, flow: &Flow, message: Message) {
        let arrived = Instant::now();
        let method = message.method().unwrap_or(Method::Other);
        let Some(via) = message.values(Name::Via).next().and_then(|(v, _)| Via::parse(v)) else {
            return;
        };
        let key = self.brancher.key(&message, &via, flow.id(), Way::ToServer);
        if let Some((status, label)) = self.unfit(&message, method, flow, Way::ToServer) {
            self.metrics.refused(label);
            let unsupported = super::inbound::unsupported(&message, status);
            return self.answer_client(flow, &message, Reply { headers: &unsupported, ..Reply::new(status, b"") });
        }
        let routes = self.identity.own_routes(&message);
        let in_dialog = message.in_dialog();
        match method {
            Method::Ack => return self.ack_to_server(flow, &message, &routes, key, arrived),
            Method::Cancel => return self.cancel_to_server(flow, message, &routes, key, arrived),
            Method::Options if !in_dialog && routes.rest.is_none() && self.is_for_us(&message) => {
                return self.answer_client(flow, &message, Reply { headers: ABOUT_US, ..Reply::new(200, b"") });
            }
            _ => {}
        }
        if in_dialog
            && method != Method::Register
            && let Err((status, label)) = self.owns_dialog(flow, &routes)
        {
            self.metrics.refused(label);
            return self.answer_client(flow, &message, Reply::new(status, b""));
        }
        let Some(target) = self.target_for(&message, &routes, in_dialog, &[]) else {
            self.metrics.refused("no_upstream");
            let reply = Reply { headers: RETRY_AFTER, ..Reply::new(503, b"") };
            return self.answer_client(flow, &message, reply);
        };
        let connection = target.connection(flow.id());
        let deadline = arrived + self.timeouts.request;
        let entry = Entry::new(Way::ToServer, flow, &connection, Some(&target), message.clone(), deadline);
        match self.pending.insert(key, entry) {
            Ok(()) => {}
            Err(NoRoom::Known) => return self.metrics.refused("retransmission"),
            Err(NoRoom::Full) => {
                self.metrics.refused("in_flight");
                let reply = Reply { headers: RETRY_AFTER, ..Reply::new(503, b"") };
                return self.answer_client(flow, &message, reply);
            }
        }
        if method == Method::Invite {
            if let Some(state) = flow.attached::<FlowState>() {
                state.invites.lock().push(key);
            }
            self.answer_client(flow, &message, Reply::new(100, b""));
        }
        let outgoing = Outgoing { flow, message: &message, routes: &routes, method, in_dialog, key, attempt: 0 };
        if self.write_to_server(&outgoing, &target, &connection, arrived).is_err() {
            self.retry(key, 0);
        }
    }

    /// What keeps any request from being passed on (RFC 3261 §16.3): status and label. An ACK cannot be answered, but
    /// is not passed on either.
    pub(super) fn unfit(
        &self,
        message: &Message,
        method: Method,
        flow: &Flow,
        way: Way,
    ) -> Option<(u16, &'static str)> {
        if translator::hops_left(message) == Some(0) {
            return Some((483, "too_many_hops"));
        }
        if method != Method::Ack && method != Method::Cancel && message.field(Name::ProxyRequire).is_some() {
            return Some((420, "proxy_require"));
        }
        let mut vias = message.values(Name::Via).skip(1).filter_map(|(v, _)| Via::parse(v)).peekable();
        if vias.peek().is_some() {
            let loops = self.brancher.loops(message, flow.id(), way);
            let again = vias.any(|v| {
                self.identity.is_own_via(v.host, v.port)
                    && v.branch.and_then(Branch::parse).is_some_and(|b| b.loops == loops)
            });
            if again {
                return Some((482, "loop"));
            }
        }
        None
    }

    /// Whether the request is addressed to the edge itself: a URI of ours without a user.
    pub(super) fn is_for_us(&self, message: &Message) -> bool {
        message
            .request_uri()
            .and_then(|(uri, _)| Uri::parse(uri))
            .is_some_and(|uri| uri.user.is_none() && self.identity.is_own(&uri))
    }

    /// A request in a dialog passes only if the dialog's token is the flow's: or anybody who has seen a Call-ID could
    /// end the call.
    fn owns_dialog(&self, flow: &Flow, routes: &OwnRoutes) -> Result<(), (u16, &'static str)> {
        match routes.claim {
            Some(claim) if claim.flow == flow.id() && claim.node == self.identity.keys.node() => Ok(()),
            Some(_) => Err((403, "foreign_dialog")),
            None => Err((481, "no_dialog")),
        }
    }

    fn ack_to_server(&self, flow: &Flow, message: &Message, routes: &OwnRoutes, key: u64, arrived: Instant) {
        // The ACK of a failure has its INVITE's branch and goes where that went.
        let failed = self.pending.take_if(key, |e| e.progress == Progress::Ended && e.flow == *flow);
        let (target, connection, attempt) = match failed {
            Some(Entry { target: Some(target), connection, attempt, .. }) => (target, connection, attempt),
            _ => {
                if let Err((_, label)) = self.owns_dialog(flow, routes) {
                    return self.metrics.refused(label);
                }
                let Some(target) = self.target_for(message, routes, true, &[]) else {
                    return self.metrics.refused("no_upstream");
                };
                let connection = target.connection(flow.id());
                (target, connection, 0)
            }
        };
        let method = Method::Ack;
        let outgoing = Outgoing { flow, message, routes, method, in_dialog: true, key, attempt };
        if self.write_to_server(&outgoing, &target, &connection, arrived).is_err() {
            self.metrics.refused("upstream_queue");
        }
    }

    fn cancel_to_server(&self, flow: &Flow, message: Message, routes: &OwnRoutes, key: u64, arrived: Instant) {
        let invite = self.pending.with(key, |e| {
            if e.method != Method::Invite || e.flow != *flow {
                return None;
            }
            e.cancel = Cancel::Sent;
            Some((e.progress, e.connection.clone(), e.target.clone()?, e.attempt))
        });
        let (connection, target, attempt) = match invite.flatten() {
            Some((Progress::Ended, ..)) => return self.answer_client(flow, &message, Reply::new(200, b"")),
            Some((_, connection, target, attempt)) => (connection, target, attempt),
            None => {
                self.metrics.refused("no_transaction");
                return self.answer_client(flow, &message, Reply::new(481, b""));
            }
        };
        let deadline = arrived + self.timeouts.request;
        let entry =
            Entry { attempt, ..Entry::new(Way::ToServer, flow, &connection, Some(&target), message.clone(), deadline) };
        if self.pending.insert(cancel_of(key), entry).is_err() {
            return self.metrics.refused("retransmission");
        }
        let outgoing =
            Outgoing { flow, message: &message, routes, method: Method::Cancel, in_dialog: false, key, attempt };
        if self.write_to_server(&outgoing, &target, &connection, arrived).is_err() {
            self.retry(cancel_of(key), attempt);
        }
    }

    /// The target for a request: that of its dialog, or the best by rendezvous hashing of those that can be reached
    /// and have not failed it yet.
    fn target_for(&self, message: &Message, routes: &OwnRoutes, in_dialog: bool, tried: &[u64]) -> Option<Arc<Target>> {
        let targets = self.targets.load();
        if in_dialog {
            let leaving = self.leaving.load();
            let find =
                |wanted: &dyn Fn(&Target) -> bool| targets.iter().chain(leaving.iter()).find(|t| wanted(t)).cloned();
            let named = routes.target.and_then(|id| find(&|t| t.id() == id));
            // A dialog that a server began on a connection of its own names no target: its next hop does.
            let at = |uri: &[u8]| {
                let uri = Uri::parse(uri)?;
                find(&|t| {
                    let u = &t.upstream.uri;
                    uri.is_at(u.host.as_bytes(), u.port, if u.tls { 5061 } else { 5060 })
                })
            };
            let next = || {
                let route = message.values(Name::Route).find(|(_, r)| Some(r.start) == routes.rest)?.0;
                at(&route[Address::parse(route)?.uri])
            };
            if let Some(target) = named.or_else(next).or_else(|| at(message.request_uri()?.0)) {
                return Some(target).filter(|t| t.health() != Health::Down && !tried.contains(&t.hash));
            }
        }
        if let [only] = &targets[..] {
            return (only.health() != Health::Down && tried.is_empty()).then(|| only.clone());
        }
        let key = rendezvous::hash(self.hash_key(message), 0);
        let best = |health| {
            targets
                .iter()
                .filter(|t| t.health() == health && !tried.contains(&t.hash))
                .map(|t| (rendezvous::score(key, t.hash, t.upstream.weight), t))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .map(|(_, t)| t.clone())
        };
        best(Health::Up).or_else(|| best(Health::Trying))
    }

    /// What the choice of a target hangs on.
    fn hash_key<'a>(&self, message: &'a Message) -> &'a [u8] {
        let party = |name| {
            let value = message.header(name).unwrap_or(b"");
            Address::parse(value).map_or(value, |a| &value[a.uri])
        };
        match self.hash {
            HashKey::CallId => message.call_id().unwrap_or(b""),
            HashKey::From => party(Name::From),
            HashKey::To => party(Name::To),
        }
    }

    /// Writes the request, edited, into the connection's queue.
    fn write_to_server(
        &self,
        o: &Outgoing<'_>,
        target: &Target,
        connection: &Connection,
        arrived: Instant,
    ) -> Result<(), Refused> {
        let Some(state) = o.flow.attached::<FlowState>() else {
            return Ok(());
        };
        let tls = connection.tls;
        let (authority, _) = self.identity.authority(tls);
        let branch = Branch {
            flow: o.flow.id(),
            key: o.key,
            loops: self.brancher.loops(o.message, o.flow.id(), Way::ToServer),
            attempt: o.attempt,
        };
        with_edits(|edits| {
            let top = o.message.headers_start();
            edits.insert(top, |out| {
                translator::via(out, if tls { "TLS" } else { "TCP" }, authority, &branch);
                if o.method == Method::Register {
                    if self.registration == Registration::Path {
                        self.identity.path(out, &state.token, tls);
                        if !registration::supports_path(o.message) {
                            out.extend_from_slice(b"Supported: path\r\n");
                        }
                    }
                } else if translator::forms_dialog(o.method, o.in_dialog) {
                    self.identity.record_route(out, &state.token, (tls, Some(target.id())), o.flow.secure(), true);
                }
            });
            translator::max_forwards(o.message, edits, top);
            translator::received(o.message, edits, o.flow.peer());
            o.routes.remove(edits);
            translator::strip_asserted(o.message, edits);
            translator::content_length(o.message, edits);
            if o.method == Method::Register && self.registration == Registration::Rewrite {
                registration::hide_contacts(&self.identity, o.message, edits, state, tls);
            }
            let bytes = o.message.bytes();
            connection.queue(edits.len_of(bytes), arrived, |out| edits.apply(bytes, out))
        })?;
        self.metrics.message(Direction::ToServer, Kind::request(o.method));
        Ok(())
    }

    /// Sends a request that has had no response, and whose attempt number `failed` has failed, to the next target; or
    /// answers it, if there is none.
    pub(super) fn retry(&self, key: u64, failed: u8) {
        let mut failed = failed;
        loop {
            let next = self.pending.with(key, |e| {
                if e.attempt != failed || e.progress != Progress::Waiting {
                    return None;
                }
                if let Some(target) = &e.target {
                    e.tried.push(target.hash);
                }
                let message = e.request.clone()?;
                e.attempt = e.attempt.saturating_add(1);
                Some((message, e.flow.clone(), e.method, e.tried.clone(), e.cancel != Cancel::No, e.attempt))
            });
            let Some((message, flow, method, tried, cancelled, attempt)) = next.flatten() else {
                return;
            };
            if cancelled {
                // The client does not want it any more, wherever it would go.
                return self.end(key, if method == Method::Invite { 487 } else { 200 }, b"");
            }
            let routes = self.identity.own_routes(&message);
            let in_dialog = message.in_dialog();
            // In a dialog, only its own server knows what it is about.
            let target = if in_dialog { None } else { self.target_for(&message, &routes, false, &tried) };
            let Some(target) = target.filter(|_| attempt < u8::MAX) else {
                self.metrics.refused("no_upstream");
                return self.end(key, 503, RETRY_AFTER);
            };
            let connection = target.connection(flow.id());
            let mine = self.pending.with(key, |e| {
                let mine = e.attempt == attempt && e.progress == Progress::Waiting;
                if mine {
                    e.connection = connection.clone();
                    e.target = Some(target.clone());
                    e.deadline = Instant::now() + self.timeouts.request;
                }
                mine
            });
            if mine != Some(true) {
                return;
            }
            self.metrics.failovers.inc();
            let outgoing =
                Outgoing { flow: &flow, message: &message, routes: &routes, method, in_dialog, key, attempt };
            if self.write_to_server(&outgoing, &target, &connection, Instant::now()).is_ok() {
                return;
            }
            failed = attempt;
        }
    }

    /// Passes a server's response on to the flow that our Via names (RFC 3261 §16.7).
    pub(super) fn response_to_client(&self, connection: &Connection, message: &Message, dirty: &mut Vec<Flow>) {
        let arrived = Instant::now();
        let mut vias = message.values(Name::Via);
        let branch = vias
            .next()
            .and_then(|(v, _)| Via::parse(v))
            .filter(|v| self.identity.is_own_via(v.host, v.port))
            .and_then(|v| Branch::parse(v.branch?));
        let (Some(branch), Some(status @ 100..=699)) = (branch, message.status()) else {
            return self.metrics.refused("stray_response");
        };
        if vias.next().is_none() {
            // To a CANCEL or an ACK that we made ourselves.
            return;
        }
        drop(vias);
        let method = message.transaction_method();
        let key = if method == Method::Cancel { cancel_of(branch.key) } else { branch.key };
        match self.progress(key, &branch, method, status) {
            Step::Pass(flow, request) => {
                if status >= 200
                    && let Some(request) = &request
                {
                    self.log_call(request, status, &flow);
                }
                if method == Method::Invite && status >= 200 {
                    self.settled(&flow, key, Way::ToServer);
                }
                if flow.is_open() {
                    self.deliver(&flow, message, method, status, arrived);
                    if let Some(register) = request.filter(|r| r.method() == Some(Method::Register)) {
                        self.tell_registration(&flow, &register, message);
                    }
                    return dirty.push(flow);
                }
                self.metrics.refused("flow_gone");
                match &request {
                    // Nobody else will acknowledge it.
                    Some(invite) if status >= 300 => self.ack_hop(&flow, connection, invite, message, &branch),
                    _ if status < 200 => self.cancel_if_wanted(key),
                    _ => {}
                }
            }
            // A 200 that comes when its INVITE is over for us still makes a call (RFC 3261 §16.7 step 5).
            Step::Unknown if method == Method::Invite && (200..300).contains(&status) => {
                match self.edge.get().and_then(std::sync::Weak::upgrade).and_then(|e| e.registry.get(branch.flow)) {
                    Some(flow) => {
                        self.deliver(&flow, message, method, status, arrived);
                        dirty.push(flow);
                    }
                    None => self.metrics.refused("flow_gone"),
                }
            }
            Step::Unknown if status < 200 => self.metrics.refused("late_provisional"),
            Step::Unknown => self.metrics.refused("stray_response"),
            Step::Hold => self.cancel_if_wanted(key),
            Step::Elsewhere(flow, request) => {
                if method == Method::Invite {
                    self.ack_hop(&flow, connection, &request, message, &branch);
                }
                self.retry(key, branch.attempt);
            }
        }
    }

    /// Acknowledges a failure that is not passed on, to the server that it came from (RFC 3261 §17.1.1.3).
    fn ack_hop(&self, flow: &Flow, connection: &Connection, invite: &Message, failure: &Message, branch: &Branch) {
        let mut ack = Vec::with_capacity(512);
        let hop = (Way::ToServer, flow, branch.key, branch.attempt);
        self.hop_request(Method::Ack, invite, failure.header(Name::To), hop, connection.tls, &mut ack);
        self.metrics.message(Direction::ToServer, Kind::request(Method::Ack));
        let _ = connection.queue(ack.len(), Instant::now(), |out| out.extend_from_slice(&ack));
    }

    /// Sends the CANCEL that waited for a provisional response.
    fn cancel_if_wanted(&self, key: u64) {
        if self.pending.with(key, |e| e.cancel) == Some(Cancel::Wanted) {
            self.cancel_hop(key);
        }
    }

    /// What a response means for the request in flight.
    fn progress(&self, key: u64, branch: &Branch, method: Method, status: u16) -> Step {
        let several = self.targets.load().len() > 1;
        let step = self.pending.with(key, |e| {
            if e.way != Way::ToServer || e.flow.id() != branch.flow || e.attempt != branch.attempt {
                return (Step::Unknown, false);
            }
            if e.progress == Progress::Ended {
                return (Step::Unknown, false);
            }
            if status < 200 {
                e.progress = Progress::Proceeding;
                if method == Method::Invite {
                    e.deadline = Instant::now() + self.timeouts.invite;
                }
                let step = if status == 100 { Step::Hold } else { Step::Pass(e.flow.clone(), None) };
                return (step, false);
            }
            if status == 503
                && e.progress == Progress::Waiting
                && several
                && e.cancel == Cancel::No
                && let Some(request) = e.request.clone().filter(|r| !r.in_dialog())
            {
                return (Step::Elsewhere(e.flow.clone(), request), false);
            }
            e.progress = Progress::Ended;
            // A failed INVITE is kept for its ACK; everything else is over.
            let keep = method == Method::Invite && status >= 300;
            e.deadline = Instant::now() + REMEMBERED;
            let wanted = match method {
                Method::Invite => true,
                Method::Register => status < 300 && self.is_observed(),
                _ => false,
            };
            let request = if wanted { e.request.take() } else { None };
            (Step::Pass(e.flow.clone(), request), !keep)
        });
        match step {
            Some((step, over)) => {
                if over {
                    self.pending.take(key);
                }
                step
            }
            None => Step::Unknown,
        }
    }

    fn deliver(&self, flow: &Flow, message: &Message, method: Method, status: u16, arrived: Instant) {
        with_edits(|edits| {
            translator::pop_via(message, edits);
            if method == Method::Register && (200..300).contains(&status) {
                match self.registration {
                    Registration::Path => self.check_path(flow, message),
                    Registration::Rewrite => {
                        let edge = self.edge.get().and_then(std::sync::Weak::upgrade);
                        registration::show_contacts(&self.identity, edge.as_deref(), message, edits);
                    }
                }
            }
            let bytes = message.bytes();
            flow.queue(edits.len_of(bytes), arrived, |out| edits.apply(bytes, out));
        });
        self.metrics.message(Direction::ToClient, Kind::response(method, status));
    }

    /// Tells the host what a 2xx means for a client's registration.
    fn tell_registration(&self, flow: &Flow, register: &Message, answer: &Message) {
        let lasts = |state| registration::lasts(&self.identity, state, register, answer);
        let (Some(expires), Some(to)) = (flow.attached().and_then(lasts), answer.header(Name::To)) else {
            return;
        };
        let Some(address) = Address::parse(to) else {
            return;
        };
        let aor = String::from_utf8_lossy(&to[address.uri]);
        flow.tell(&match expires {
            0 => Event::Unregistered { flow, aor: &aor },
            expires => Event::Registered { flow, aor: &aor, expires },
        });
    }

    /// A registrar that took the registration but not the Path will send calls to a name that nobody can resolve.
    fn check_path(&self, flow: &Flow, message: &Message) {
        let Some(state) = flow.attached::<FlowState>() else {
            return;
        };
        // No contact, nothing registered: an unregistration, or a query.
        if message.field(Name::Contact).is_none() {
            return;
        }
        let ours = message.values(Name::Path).any(|(p, _)| memchr::memmem::find(p, state.token.as_bytes()).is_some());
        if !ours && self.metrics.path_ignored.inc() == 0 {
            tracing::warn!(
                "the registrar answered a REGISTER without our Path: it does not support RFC 3327, and calls won't reach \
                 this client; set sip.registration = \"rewrite\", or enable Path there"
            );
        }
    }
}

/// What is to be done with a response.
enum Step {
    /// Passed on; with the INVITE that it ends, or the REGISTER that it answers where somebody wants to know of it.
    Pass(Flow, Option<Message>),
    /// It ends here, as a 100 does.
    Hold,
    /// The next target is tried.
    Elsewhere(Flow, Message),
    /// There is no such request in flight.
    Unknown,
}
