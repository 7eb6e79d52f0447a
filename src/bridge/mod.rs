//! The bridge: WebSocket flows on one side, SIP servers over TCP and TLS on the other.
//!
//! An RFC 3261 §16 proxy, an RFC 5626 edge proxy and an RFC 3327 Path proxy that keeps a little state for each request
//! in flight. `outbound` is what clients ask of servers, `inbound` what servers ask of clients; `translator` has
//! the edits that both make, `pending` the requests in flight.

mod branch;
mod connection;
pub mod flow_token;
mod identity;
mod inbound;
mod listener;
mod outbound;
mod pending;
mod registration;
pub mod rendezvous;
pub mod resolve;
mod translator;
mod upstream;

use std::cell::RefCell;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use crate::config::{Config, HashKey, Limits, Registration, Timeouts, Upstream};
use crate::edge::{CloseReason, Edge, Event, Flow, SipHandler};
use crate::guard::LocalTag;
use crate::sip::response::{self, Reply};
use crate::sip::{Edits, Message, Method, ParseError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Direction, Kind};

use branch::{Brancher, Way};
use connection::{Connection, Receiver};
use pending::{Cancel, Pending, Progress};
use upstream::{Dialer, Health, Loss, Target};

pub use flow_token::TokenKeys;
pub(crate) use identity::Identity;
pub(crate) use listener::SipListener;
pub use resolve::{Resolve, SystemResolver};

/// How long an ended INVITE is remembered for its ACK and for late responses: 64*T1 (RFC 3261 §17.2.1, RFC 6026 §7.1).
const REMEMBERED: Duration = Duration::from_secs(32);
/// How long a target that a reload took away keeps its running dialogs and the requests that it is answering.
const LEAVING: Duration = Duration::from_secs(3600);
/// What every refusal for want of a server says.
const RETRY_AFTER: &[u8] = b"Retry-After: 5\r\n";

/// What the bridge keeps with each flow.
struct FlowState {
    /// The flow's token, made once.
    token: String,
    /// The contact URIs that stand behind ours, where registrations are rewritten.
    contacts: Mutex<Vec<Vec<u8>>>,
    /// Requests of servers that the client has not answered yet.
    inbound: Mutex<Vec<u64>>,
    /// INVITEs of the client that have no final response yet.
    invites: Mutex<Vec<u64>>,
}

/// A target with the tasks that keep it connected.
struct Kept {
    target: Arc<Target>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What `targets` and `leaving` are published from.
#[derive(Default)]
struct Servers {
    current: Vec<Kept>,
    /// With the moment at which each is let go.
    leaving: Vec<(Kept, Instant)>,
}

/// Carries SIP between flows and servers.
pub struct Bridge {
    identity: Identity,
    brancher: Brancher,
    tags: LocalTag,
    hash: HashKey,
    registration: Registration,
    timeouts: Timeouts,
    limits: Limits,
    pending: Pending,
    targets: ArcSwap<Vec<Arc<Target>>>,
    /// Targets that a reload took away: they keep their running dialogs for a while, and get no new ones.
    leaving: ArcSwap<Vec<Arc<Target>>>,
    kept: Mutex<Servers>,
    dialer: Arc<Dialer>,
    metrics: Arc<Metrics>,
    edge: OnceLock<Weak<Edge>>,
    me: Weak<Bridge>,
}

thread_local! {
    /// One list of edits for each thread, used again for every message.
    static EDITS: RefCell<Edits> = const { RefCell::new(Edits::new()) };
}

/// Runs `f` with an empty list of edits. Not to be nested.
fn with_edits<R>(f: impl FnOnce(&mut Edits) -> R) -> R {
    EDITS.with_borrow_mut(|edits| {
        edits.clear();
        f(edits)
    })
}

impl Bridge {
    pub(crate) fn new(
        config: &Config,
        identity: Identity,
        tags: LocalTag,
        tls: Option<Arc<rustls::ClientConfig>>,
        resolver: Arc<dyn Resolve>,
        metrics: Arc<Metrics>,
    ) -> Arc<Bridge> {
        Arc::new_cyclic(|me| Bridge {
            identity,
            brancher: Brancher::default(),
            tags,
            hash: config.routing.hash,
            registration: config.sip.registration,
            timeouts: config.timeouts.clone(),
            limits: config.limits.clone(),
            pending: Pending::new(config.limits.in_flight, metrics.clone()),
            targets: ArcSwap::default(),
            leaving: ArcSwap::default(),
            kept: Mutex::default(),
            dialer: Arc::new(Dialer {
                resolver,
                tls,
                limits: config.limits.clone(),
                timeouts: config.timeouts.clone(),
                metrics: metrics.clone(),
            }),
            metrics,
            edge: OnceLock::new(),
            me: me.clone(),
        })
    }

    /// The edge whose flows requests of servers are for.
    pub(crate) fn serve(&self, edge: &Arc<Edge>) {
        let _ = self.edge.set(Arc::downgrade(edge));
    }

    /// Whether the host wants to know what happens.
    fn is_observed(&self) -> bool {
        self.edge.get().and_then(Weak::upgrade).is_some_and(|edge| edge.host.observer.is_some())
    }

    /// Makes these the targets: new ones are connected to, the others keep their connections, those that are not among
    /// them are left to their dialogs, and taken back if they are wanted again. To be called inside the runtime.
    pub(crate) fn set_targets(&self, upstreams: &[Upstream]) {
        let mut servers = self.kept.lock();
        let mut before = std::mem::take(&mut servers.current);
        for upstream in upstreams {
            let kept = if let Some(i) = before.iter().position(|k| k.target.upstream == *upstream) {
                before.swap_remove(i)
            } else if let Some(i) = servers.leaving.iter().position(|(k, _)| k.target.upstream == *upstream) {
                servers.leaving.swap_remove(i).0
            } else {
                self.keep(upstream)
            };
            servers.current.push(kept);
        }
        let until = Instant::now() + LEAVING;
        servers.leaving.extend(before.into_iter().map(|kept| (kept, until)));
        self.publish(&servers);
    }

    fn keep(&self, upstream: &Upstream) -> Kept {
        let target = Target::new(upstream, &self.limits);
        let tasks = (0..upstream.connections.max(1) as usize)
            .filter_map(|slot| {
                let (dialer, target, me) = (self.dialer.clone(), target.clone(), self.me.upgrade()?);
                Some(tokio::spawn(async move { dialer.keep(&target, slot, &*me).await }))
            })
            .collect();
        Kept { target, tasks }
    }

    fn publish(&self, servers: &Servers) {
        self.targets.store(Arc::new(servers.current.iter().map(|k| k.target.clone()).collect()));
        self.leaving.store(Arc::new(servers.leaving.iter().map(|(k, _)| k.target.clone()).collect()));
    }

    /// Lets those go whose time has come, with what they have not answered.
    fn let_go(&self, now: Instant) {
        if self.leaving.load().is_empty() {
            return;
        }
        let mut servers = self.kept.lock();
        let gone: Vec<Kept> =
            servers.leaving.extract_if(.., |(_, until)| *until <= now).map(|(kept, _)| kept).collect();
        self.publish(&servers);
        drop(servers);
        for kept in gone {
            let target = kept.target.clone();
            drop(kept);
            for connection in target.retire() {
                self.lost(&connection);
            }
            self.unreachable(&target);
        }
    }

    /// Brings the gauges of the targets up to date: several may go by one name, while an old one leaves.
    pub(crate) fn observe(&self) {
        let (targets, leaving) = (self.targets.load(), self.leaving.load());
        let gauges =
            [&self.metrics.upstream_up, &self.metrics.upstream_connections, &self.metrics.upstream_queue_bytes];
        for gauge in gauges {
            gauge.clear();
        }
        let mut names: Vec<_> = targets.iter().chain(leaving.iter()).map(|t| &t.name).collect();
        names.sort();
        names.dedup();
        for name in names {
            let of_name = || targets.iter().chain(leaving.iter()).filter(|t| t.name == *name);
            let values = [
                i64::from(of_name().any(|t| t.health() == Health::Up)),
                of_name().map(|t| t.open() as i64).sum(),
                of_name().map(|t| t.waiting() as i64).sum(),
            ];
            for (gauge, value) in gauges.iter().zip(values) {
                gauge.get_or_create(&[("target", name.clone())]).set(value);
            }
        }
    }

    /// Whether requests can be passed on; if not, why.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let targets = self.targets.load();
        if targets.is_empty() {
            return Err("no upstream is configured".to_owned());
        }
        if targets.iter().any(|t| t.health() == Health::Up) {
            Ok(())
        } else {
            Err("no upstream can be reached".to_owned())
        }
    }

    /// Whether a SIP server may connect from `ip` because it is one of our targets.
    fn is_target(&self, ip: std::net::IpAddr) -> bool {
        let is_at = |targets: &ArcSwap<Vec<Arc<Target>>>| targets.load().iter().any(|t| t.is_at(ip));
        is_at(&self.targets) || is_at(&self.leaving)
    }

    /// Looks after deadlines, once a second, for ever.
    pub(crate) async fn keep_time(&self) {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let now = tick.tick().await.into_std();
            for key in self.pending.overdue(now) {
                self.time_out(key);
            }
            self.let_go(now);
        }
    }

    fn time_out(&self, key: u64) {
        let now = Instant::now();
        let ringing = self.pending.with(key, |e| {
            // It may have moved on since it was picked.
            (e.deadline <= now && e.progress != Progress::Ended)
                .then_some(e.method == Method::Invite && e.progress == Progress::Proceeding)
        });
        let Some(ringing) = ringing.flatten() else {
            return;
        };
        self.metrics.refused("timeout");
        if ringing {
            // RFC 3261 §16.8: whoever still rings is told to stop.
            self.cancel_hop(key);
        }
        self.end(key, 408, b"");
    }

    /// Ends a request in flight with an answer of our own.
    fn end(&self, key: u64, status: u16, headers: &[u8]) {
        let ended = self.pending.with(key, |e| {
            if e.progress == Progress::Ended {
                return None;
            }
            e.progress = Progress::Ended;
            e.deadline = Instant::now() + REMEMBERED;
            Some((e.way, e.method, e.flow.clone(), e.connection.clone(), e.request.take()?))
        });
        let Some((way, method, flow, connection, request)) = ended.flatten() else {
            return;
        };
        if method != Method::Invite {
            self.pending.take(key);
        }
        self.settled(&flow, key, way);
        match way {
            Way::ToServer => {
                self.log_call(&request, status, &flow);
                self.answer_client(&flow, &request, Reply { headers, ..Reply::new(status, b"") });
                flow.flush();
            }
            Way::ToClient => {
                self.answer_server(&connection, &request, Reply { headers, ..Reply::new(status, b"") });
            }
        }
    }

    /// Sends the CANCEL of an INVITE in flight to where the INVITE went.
    fn cancel_hop(&self, key: u64) {
        let invite = self.pending.with(key, |e| {
            e.cancel = Cancel::Sent;
            Some((e.way, e.flow.clone(), e.connection.clone(), e.attempt, e.request.clone()?))
        });
        let Some((way, flow, connection, attempt, invite)) = invite.flatten() else {
            return;
        };
        let mut cancel = Vec::with_capacity(512);
        self.hop_request(Method::Cancel, &invite, None, (way, &flow, key, attempt), connection.tls, &mut cancel);
        let now = Instant::now();
        let kind = Kind::request(Method::Cancel);
        match way {
            Way::ToServer => {
                self.metrics.message(Direction::ToServer, kind);
                let _ = connection.queue(cancel.len(), now, |out| out.extend_from_slice(&cancel));
            }
            Way::ToClient => {
                self.metrics.message(Direction::ToClient, kind);
                flow.queue(cancel.len(), now, |out| out.extend_from_slice(&cancel));
                flow.flush();
            }
        }
    }

    /// Writes the CANCEL of `invite`, or the ACK of its failure, as it goes on our hop.
    fn hop_request(
        &self,
        method: Method,
        invite: &Message,
        to: Option<&[u8]>,
        (way, flow, key, attempt): (Way, &Flow, u64, u8),
        tls: bool,
        out: &mut Vec<u8>,
    ) {
        let branch =
            branch::Branch { flow: flow.id(), key, loops: self.brancher.loops(invite, flow.id(), way), attempt };
        let mut via = Vec::with_capacity(96);
        let (authority, _) = self.identity.authority(tls);
        let transport = match (way, tls) {
            (Way::ToServer, true) => "TLS",
            (Way::ToServer, false) => "TCP",
            (Way::ToClient, _) if flow.secure() => "WSS",
            (Way::ToClient, _) => "WS",
        };
        translator::via(&mut via, transport, authority, &branch);
        let rest = self.identity.own_routes(invite).rest.unwrap_or(usize::MAX);
        let to = to.or_else(|| invite.header(crate::sip::Name::To)).unwrap_or(b"");
        response::write_hop(method, invite, &via, to, rest, out);
    }

    /// Queues an answer of our own to a client's request. The caller flushes.
    fn answer_client(&self, flow: &Flow, request: &Message, reply: Reply<'_>) {
        if !response::can_answer(request) {
            return;
        }
        let tag = self.tags.of(request);
        let mut out = Vec::with_capacity(512);
        response::write(request, Reply { to_tag: &tag, ..reply }, &mut out);
        self.metrics.message(Direction::ToClient, Kind::response(request.transaction_method(), reply.status));
        flow.queue(out.len(), Instant::now(), |o| o.extend_from_slice(&out));
    }

    /// Queues an answer of our own to a server's request.
    fn answer_server(&self, connection: &Connection, request: &Message, reply: Reply<'_>) {
        if !response::can_answer(request) {
            return;
        }
        let tag = self.tags.of(request);
        self.metrics.message(Direction::ToServer, Kind::response(request.transaction_method(), reply.status));
        let _ = connection.queue(1024, Instant::now(), |out| {
            response::write(request, Reply { to_tag: &tag, ..reply }, out);
        });
    }

    /// Takes note that a request is over for its flow.
    fn settled(&self, flow: &Flow, key: u64, way: Way) {
        if let Some(state) = flow.attached::<FlowState>() {
            let mut open = if way == Way::ToClient { state.inbound.lock() } else { state.invites.lock() };
            if let Some(i) = open.iter().position(|k| *k == key) {
                open.swap_remove(i);
            }
        }
    }

    /// One line a call.
    fn log_call(&self, invite: &Message, status: u16, flow: &Flow) {
        if invite.method() != Some(Method::Invite) || invite.in_dialog() || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let text = |name| String::from_utf8_lossy(invite.header(name).unwrap_or(b"")).into_owned();
        tracing::info!(
            flow = %flow.id(), from = text(crate::sip::Name::From), to = text(crate::sip::Name::To),
            call_id = text(crate::sip::Name::CallId), status, "call"
        );
    }
}

impl SipHandler for Bridge {
    fn opened(&self, flow: &Flow) {
        flow.attach(FlowState {
            token: self.identity.keys.token(flow.id(), 0),
            contacts: Mutex::default(),
            inbound: Mutex::default(),
            invites: Mutex::default(),
        });
    }

    fn message(&self, flow: &Flow, message: Message) {
        if message.method().is_some() {
            self.request_to_server(flow, message)
        } else {
            self.response_to_server(flow, &message)
        }
    }

    fn closed(&self, flow: &Flow, _why: CloseReason) {
        let Some(state) = flow.attached::<FlowState>() else {
            return;
        };
        let unanswered = std::mem::take(&mut *state.inbound.lock());
        for key in unanswered {
            // RFC 5626 §5.3.1: whoever asked learns that this flow has failed.
            self.metrics.refused("flow_failed");
            self.end(key, 430, b"");
        }
        let calling = std::mem::take(&mut *state.invites.lock());
        for key in calling {
            // Nobody is left to answer to: whoever rings is told to stop.
            let ringing = self.pending.with(key, |e| {
                if e.cancel == Cancel::No && e.progress != Progress::Ended {
                    e.cancel = Cancel::Wanted;
                }
                e.cancel == Cancel::Wanted && e.progress == Progress::Proceeding
            });
            if ringing == Some(true) {
                self.cancel_hop(key);
            }
        }
    }
}

impl Receiver for Bridge {
    fn received(&self, connection: &Arc<Connection>, message: Message, dirty: &mut Vec<Flow>) {
        self.metrics.message(Direction::FromServer, Kind::of(&message));
        tracing::trace!(message = %crate::telemetry::Masked(&message), "from server");
        if message.method().is_some() {
            self.request_to_client(connection, message, dirty);
        } else {
            self.response_to_client(connection, &message, dirty);
        }
    }

    fn skipped(&self, connection: &Connection, why: ParseError) {
        self.metrics.refused("garbage");
        tracing::warn!(server = ?connection.peer(), %why, "skipped what a SIP server sent");
    }
}

impl Loss for Bridge {
    fn changed(&self, target: &Target) {
        let Some(edge) = self.edge.get().and_then(Weak::upgrade) else {
            return;
        };
        target.tell(|up| {
            let target = &*target.name;
            edge.host.tell(&if up { Event::UpstreamUp { target } } else { Event::UpstreamDown { target } });
        });
    }

    fn lost(&self, connection: &Arc<Connection>) {
        let keys = self
            .pending
            .keys(|e| e.way == Way::ToServer && e.connection.id == connection.id && e.progress == Progress::Waiting);
        for key in keys {
            if let Some(attempt) = self.pending.with(key, |e| e.attempt) {
                self.retry(key, attempt);
            }
        }
    }

    fn unreachable(&self, target: &Arc<Target>) {
        // What it had begun to answer it will not finish: a server that lives on would have been reached.
        let keys = self.pending.keys(|e| {
            e.way == Way::ToServer
                && e.progress == Progress::Proceeding
                && e.target.as_ref().is_some_and(|t| Arc::ptr_eq(t, target))
        });
        for key in keys {
            self.end(key, 503, RETRY_AFTER);
        }
    }
}
