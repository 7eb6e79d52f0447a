//! A server inside a host: what it was made of, whether it runs, and an end after which nothing of it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tracing::Dispatch;

use super::adaptors::{Asker, Callbacks, Handler, Link, Watcher};
use super::boundary::{Failure, Outcome};
use super::callback;
use super::config::Draft;
use super::handle::{self, Handle};
use super::log;
use super::queue::Queue;
use super::types::*;
use crate::config::Config;
use crate::edge::tls::{ClientTls, Identity};
use crate::sip::Message;
use crate::telemetry::metrics::{Direction, Kind};
use crate::{Server, Setup};

/// How long a stop waits for callbacks to return, beyond its grace.
const LAST_CALLBACKS: Duration = Duration::from_secs(5);

/// What `sipws_server` points to.
pub(crate) struct Embedded {
    pub(crate) link: Arc<Link>,
    config: Config,
    client_tls: ClientTls,
    identity: Option<Identity>,
    has_handler: bool,
    has_policy: bool,
    /// Held through start and stop, which exclude each other.
    stage: Mutex<Stage>,
    running: ArcSwapOption<Running>,
    dispatch: ArcSwapOption<Dispatch>,
    /// The process that it was started in; 0 before.
    process: AtomicU32,
    /// A `sipws_pjsip` starts and stops it.
    lent: bool,
    freeing: AtomicBool,
}

/// Ends a server, so that its addresses are free and its threads gone; other calls may still be in it for a moment.
fn finish(mut running: Arc<Running>, deadline: Instant) {
    loop {
        match Arc::try_unwrap(running) {
            Ok(Running { server, .. }) => {
                if let Some(server) = Arc::into_inner(server) {
                    server.finish(deadline.saturating_duration_since(Instant::now()));
                }
                return;
            }
            // Whoever is the last ends it, without waiting.
            Err(_) if Instant::now() >= deadline => return,
            Err(used) => running = used,
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A handle on its way to its end, which may be on another thread.
struct Freed(*mut sipws_server);

// SAFETY: whoever has it is the only one who frees it.
unsafe impl Send for Freed {}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    Running,
    /// Everything is closed, but a callback has not returned.
    Stopping,
    Stopped,
}

/// What there is while it runs.
pub(crate) struct Running {
    server: Arc<Server>,
    since: Instant,
}

impl std::ops::Deref for Running {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Handle for Arc<Embedded> {
    type Opaque = sipws_server;
    const TAG: u32 = 0x7372_7600;
    const NAME: &'static str = "sipws_server";

    fn check_process(&self) -> Outcome {
        let process = self.process.load(Ordering::Relaxed);
        if process != 0 && process != std::process::id() {
            return Err(Failure::new(
                SIPWS_E_FORKED,
                "the server was started before the fork, and its threads are in the parent; fork first, then start",
            ));
        }
        Ok(())
    }
}

impl Embedded {
    pub(crate) fn new(draft: &Draft) -> Outcome<Arc<Embedded>> {
        Ok(Arc::new(Embedded::made(draft, false)?))
    }

    fn made(draft: &Draft, lent: bool) -> Outcome<Embedded> {
        let callbacks: Callbacks = draft.callbacks.clone();
        let queue = (callbacks.events.is_none() && draft.queue > 0).then(|| Queue::new(draft.queue as usize));
        let config = if lent { draft.edge()? } else { draft.typed()? };
        Ok(Embedded {
            client_tls: ClientTls::new(&config.client),
            config,
            identity: draft.identity.clone(),
            has_handler: callbacks.handler.is_some(),
            has_policy: callbacks.policy.is_some(),
            link: Arc::new(Link::new(callbacks, queue)),
            stage: Mutex::new(Stage::New),
            running: ArcSwapOption::empty(),
            dispatch: ArcSwapOption::empty(),
            process: AtomicU32::new(0),
            lent,
            freeing: AtomicBool::new(false),
        })
    }

    /// What the edge is made of, but for the handler of a sipws_pjsip.
    fn setup(&self) -> Setup {
        let mut setup = Setup::new(self.config.clone()).observer(Arc::new(Watcher(self.link.clone())));
        if self.has_handler && !self.lent {
            setup = setup.handler(Arc::new(Handler(self.link.clone())));
        }
        if self.has_policy {
            setup = setup.policy(Arc::new(Asker(self.link.clone())));
        }
        if let Some(identity) = &self.identity {
            setup = setup.identity(identity.clone());
        }
        if let Some(sink) = log::current() {
            let dispatch = log::dispatch(&sink, self.link.clone());
            self.link.set_log(Some(sink));
            self.dispatch.store(Some(Arc::new(dispatch.clone())));
            setup = setup.log(dispatch);
        }
        setup
    }

    pub(crate) fn start(&self) -> Outcome {
        callback::outside("sipws_server_start")?;
        self.own("started")?;
        let mut stage = self.stage.lock();
        match *stage {
            Stage::New => {}
            Stage::Running => return Err(Failure::state("the server runs already")),
            Stage::Stopping | Stage::Stopped => {
                return Err(Failure::state("the server has been stopped; make a new one to start again"));
            }
        }
        self.process.store(std::process::id(), Ordering::Relaxed);
        match self.setup().start() {
            Ok(server) => {
                self.runs(Arc::new(server));
                *stage = Stage::Running;
                Ok(())
            }
            Err(error) => {
                self.process.store(0, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    fn runs(&self, server: Arc<Server>) {
        self.running.store(Some(Arc::new(Running { server, since: Instant::now() })));
    }

    fn own(&self, what: &str) -> Outcome {
        if self.lent {
            return Err(Failure::state(format!("this server belongs to a sipws_pjsip, and is {what} with it")));
        }
        Ok(())
    }

    pub(crate) fn stop(&self, grace: Duration) -> Outcome {
        callback::outside("sipws_server_stop")?;
        self.own("stopped")?;
        self.end(grace)
    }

    /// As [`Embedded::stop`], for whoever is known to be allowed to.
    fn end(&self, grace: Duration) -> Outcome {
        let mut stage = self.stage.lock();
        if matches!(*stage, Stage::New | Stage::Stopped) {
            return Ok(());
        }
        let mut deadline = Instant::now() + LAST_CALLBACKS;
        if let Some(running) = self.running.load_full() {
            self.logging(|| running.drain(grace));
            // Who comes in now is not told of any more, so that the number of those who are only falls.
            self.link.gate.fill();
            self.running.store(None);
            deadline = Instant::now() + LAST_CALLBACKS;
            finish(running, deadline);
        }
        *stage = Stage::Stopping;
        self.silence(deadline)?;
        *stage = Stage::Stopped;
        Ok(())
    }

    /// Waits until no callback runs, and lets none in any more.
    fn silence(&self, deadline: Instant) -> Outcome {
        let closed = self.link.gate.close(deadline);
        if let Some(queue) = &self.link.queue {
            queue.end();
        }
        if closed {
            return Ok(());
        }
        Err(Failure::new(
            SIPWS_E_TIMEOUT,
            "a callback has not returned within five seconds; call sipws_server_stop again to wait on",
        ))
    }

    /// Ends the server and frees the handle. Callbacks that come until its end may use it.
    ///
    /// # Safety
    ///
    /// `server` is a handle; nothing else runs on it but in callbacks.
    pub(crate) unsafe fn free(server: *mut sipws_server) -> Outcome {
        // SAFETY: as promised by the caller.
        let embedded = unsafe { handle::look::<Arc<Embedded>>(server)? }.value()?.clone();
        embedded.own("freed")?;
        if embedded.freeing.swap(true, Ordering::AcqRel) {
            return Err(Failure::new(SIPWS_E_HANDLE, "the sipws_server is freed twice"));
        }
        if embedded.check_process().is_err() {
            // Its locks may be held by threads that are not here.
            std::mem::forget(embedded);
            return Ok(());
        }
        let pointer = Freed(server);
        if callback::outside("").is_ok() {
            return embedded.finish(pointer);
        }
        // Without a thread there would be nobody to wait for the callback that we are in.
        let later = std::thread::Builder::new().name("sipws-free".to_owned());
        match later.spawn(move || drop(embedded.finish(pointer))) {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::new(SIPWS_E_SYSTEM, format!("no thread to free the server on: {error}"))),
        }
    }

    fn finish(self: Arc<Self>, pointer: Freed) -> Outcome {
        if let Err(failure) = self.end(Duration::ZERO) {
            // A callback is still in there: what it uses stays, for good.
            std::mem::forget(self);
            return Err(failure);
        }
        if let Some(queue) = &self.link.queue {
            queue.end();
        }
        self.link.release();
        // SAFETY: a handle, as the flag says freed by nobody else, and no callback uses it any more.
        unsafe { handle::take::<Arc<Embedded>>(pointer.0) }.map(drop)
    }

    /// The server, while it runs.
    pub(crate) fn running(&self) -> Outcome<Arc<Running>> {
        self.running.load_full().ok_or_else(|| Failure::state("the server is not running"))
    }

    /// The server, if connections can be made from it.
    pub(crate) fn running_with_handler(&self) -> Outcome<Arc<Running>> {
        if !self.has_handler || self.lent {
            return Err(Failure::state(
                "connections are made by servers with a message handler (sipws_config_set_message_handler)",
            ));
        }
        self.running()
    }

    pub(crate) fn queue(&self) -> Outcome<&Queue> {
        self.link.queue.as_ref().ok_or_else(|| {
            Failure::state(
                "events are not queued: they go to sipws_config_set_events, or sipws_config_set_event_queue said 0",
            )
        })
    }

    /// The configuration of a reload.
    pub(crate) fn typed(&self, draft: &Draft) -> Outcome<Config> {
        if self.has_handler || self.lent { draft.edge() } else { draft.typed() }
    }

    pub(crate) fn reload(&self, mut new: Config) -> Outcome<Vec<String>> {
        let running = self.running()?;
        if self.has_handler || self.lent {
            // As when it was started: these are for a bridge.
            new.sip.listen.clear();
            new.upstream.clear();
        }
        Ok(self.logging(|| running.reload(new))?)
    }

    /// Logs what is done on a host's thread to where the server logs.
    pub(crate) fn logging<T>(&self, body: impl FnOnce() -> T) -> T {
        match &*self.dispatch.load() {
            Some(dispatch) => tracing::dispatcher::with_default(dispatch, body),
            None => body(),
        }
    }

    /// Whether a message of that length can ever be sent.
    pub(crate) fn fits_outbox(&self, len: usize) -> Outcome {
        // A frame's header is at most 14 bytes (RFC 6455 §5.2).
        let most = self.config.limits.outbox_bytes.saturating_sub(14);
        if len > most {
            return Err(Failure::invalid(format!(
                "{len} bytes are more than limits.outbox_bytes has room for: {most}"
            )));
        }
        Ok(())
    }

    /// Counts a message that was sent.
    pub(crate) fn sent(&self, bytes: &[u8]) {
        if let (Some(running), Ok(message)) = (&*self.running.load(), Message::parse(bytes.to_vec().into())) {
            running.figures().message(Direction::ToClient, Kind::of(&message));
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// TLS of connections that we make, as the configuration has it.
    pub(crate) fn client_tls(&self) -> &ClientTls {
        &self.client_tls
    }

    pub(crate) fn stats(&self) -> Outcome<sipws_stats> {
        let running = self.running()?;
        let figures = running.figures();
        let [handshakes, refusals, closed] = figures.sums();
        let gauge = |gauge: &prometheus_client::metrics::gauge::Gauge| u64::try_from(gauge.get()).unwrap_or(0);
        Ok(sipws_stats {
            size: 0,
            ready: running.ready().is_ok().into(),
            uptime_ms: running.since.elapsed().as_millis() as u64,
            connections_ws: gauge(&figures.connections_ws),
            connections_wss: gauge(&figures.connections_wss),
            connections_outgoing: self.link.flows.outgoing() as u64,
            handshaking: gauge(&figures.handshaking),
            handshakes,
            closed,
            messages_from_flows: figures.messages(Direction::FromClient),
            messages_to_flows: figures.messages(Direction::ToClient),
            messages_from_servers: figures.messages(Direction::FromServer),
            messages_to_servers: figures.messages(Direction::ToServer),
            refusals,
            outbox_bytes: gauge(&figures.outbox_bytes),
            requests_in_flight: gauge(&figures.in_flight),
            events_lost: self.link.queue.as_ref().map_or(0, Queue::lost),
        })
    }
}

/// The host's part of a server that is started and stopped by somebody else, a `sipws_pjsip`.
#[cfg(feature = "pjsip")]
pub(crate) struct Embedding {
    embedded: Arc<Embedded>,
}

/// Such a server once it runs, as the host sees it.
#[cfg(feature = "pjsip")]
pub(crate) struct Lent {
    embedded: Arc<Embedded>,
    loan: Box<handle::Loan<Arc<Embedded>>>,
}

#[cfg(feature = "pjsip")]
impl Embedding {
    /// What a configuration has to say of it; NULL: no listeners, all else by default.
    ///
    /// # Safety
    ///
    /// `config` is NULL or a handle.
    pub(crate) unsafe fn new(config: *const sipws_config) -> Outcome<Embedding> {
        let made = |draft: &Draft| {
            if draft.callbacks.handler.is_some() {
                return Err(Failure::state(
                    "the messages are PJSIP's: the configuration must not have a message handler",
                ));
            }
            Embedded::made(draft, true)
        };
        let embedded = match config.is_null() {
            true => made(&Draft::without_listeners()?)?,
            // SAFETY: as promised by the caller.
            false => unsafe {
                super::boundary::on(config, |config: &super::config::ConfigHandle| config.with(|draft| made(draft)))?
            },
        };
        Ok(Embedding { embedded: Arc::new(embedded) })
    }

    /// What the server is to be made of, but for its handler. Called once, before it is started.
    pub(crate) fn setup(&self) -> Setup {
        self.embedded.process.store(std::process::id(), Ordering::Relaxed);
        self.embedded.setup()
    }

    /// The server that was made of it.
    pub(crate) fn lend(self, server: Arc<Server>) -> Lent {
        self.embedded.runs(server);
        *self.embedded.stage.lock() = Stage::Running;
        let loan = Box::new(handle::Loan::new(self.embedded.clone()));
        self.embedded.link.set_handle(loan.as_ptr());
        Lent { embedded: self.embedded, loan }
    }
}

#[cfg(feature = "pjsip")]
impl Lent {
    /// What the host gets. Valid until this is dropped.
    pub(crate) fn as_ptr(&self) -> *mut sipws_server {
        self.loan.as_ptr()
    }

    /// Whether this is the process that it was started in.
    pub(crate) fn check_process(&self) -> Outcome {
        self.embedded.check_process()
    }

    /// Lets go of the server, so that its flows end, and waits until no callback runs, nor will. The caller has drained
    /// it.
    pub(crate) fn stop(&self) -> Outcome {
        let mut stage = self.embedded.stage.lock();
        if *stage == Stage::Stopped {
            return Ok(());
        }
        self.embedded.link.gate.fill();
        self.embedded.running.store(None);
        *stage = Stage::Stopping;
        self.embedded.silence(Instant::now() + LAST_CALLBACKS)?;
        *stage = Stage::Stopped;
        self.embedded.link.release();
        Ok(())
    }
}
