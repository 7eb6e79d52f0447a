//! A whole edge proxy: listeners, flows, guard, bridge, on threads of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use parking_lot::{Mutex, RwLock};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::bridge::{self, Bridge, Resolve, SipListener, SystemResolver, TokenKeys};
use crate::config::{Config, Listen};
use crate::edge::listener::bind_address;
use crate::edge::tls::{Identity, ServerTls, client_config};
use crate::edge::{
    Connect, ConnectError, Edge, Event, Flow, FlowId, Host, Observer, Policy, SipHandler, WebSocketListener, client,
};
use crate::error::{Error, Kind, Side};
use crate::guard::{Guard, LocalTag, rate};
use crate::runtime::Runtime;
use crate::telemetry::Metrics;

/// How often certificate files are looked at, and accounts of idle addresses dropped.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a server is made of: a configuration, and whatever of the rest a host brings along.
pub struct Setup {
    config: Config,
    handler: Option<Arc<dyn SipHandler>>,
    policy: Option<Arc<dyn Policy>>,
    observer: Option<Arc<dyn Observer>>,
    resolver: Arc<dyn Resolve>,
    identity: Option<Identity>,
    log: Option<tracing::Dispatch>,
}

impl Setup {
    /// The edge proxy of that configuration.
    pub fn new(config: Config) -> Setup {
        Setup {
            config,
            handler: None,
            policy: None,
            observer: None,
            resolver: Arc::new(SystemResolver),
            identity: None,
            log: None,
        }
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Has all messages go to `handler`, not through the bridge: no SIP listener, no upstreams.
    pub fn handler(self, handler: Arc<dyn SipHandler>) -> Setup {
        Setup { handler: Some(handler), ..self }
    }

    /// Asks `policy` who may connect and what may pass.
    pub fn policy(self, policy: Arc<dyn Policy>) -> Setup {
        Setup { policy: Some(policy), ..self }
    }

    /// Tells `observer` what happens.
    pub fn observer(self, observer: Arc<dyn Observer>) -> Setup {
        Setup { observer: Some(observer), ..self }
    }

    /// Resolves the names of upstreams.
    pub fn resolver(self, resolver: Arc<dyn Resolve>) -> Setup {
        Setup { resolver, ..self }
    }

    /// The certificate of wss listeners, instead of the configuration's files.
    pub fn identity(self, identity: Identity) -> Setup {
        Setup { identity: Some(identity), ..self }
    }

    /// Where the server's own threads log. Without it they log to whatever the process has set as its default.
    pub fn log(self, log: tracing::Dispatch) -> Setup {
        Setup { log: Some(log), ..self }
    }

    /// Binds every listener and starts; see [`Server::start`].
    pub fn start(self) -> Result<Server, Error> {
        match self.log.clone() {
            Some(log) => tracing::dispatcher::with_default(&log, || Server::new(self)),
            None => Server::new(self),
        }
    }
}

/// A running edge: listeners, flows, and the bridge or a host's handler. Dropping it stops it at once, without a word to
/// its clients; [`Server::drain`] says goodbye.
///
/// All methods may be called from any thread.
pub struct Server {
    edge: Arc<Edge>,
    /// None where a host handles the messages.
    bridge: Option<Arc<Bridge>>,
    metrics: Arc<Metrics>,
    /// The running configuration: what a reload is compared with.
    config: Mutex<Config>,
    settings: Vec<Arc<RwLock<Listen>>>,
    websocket_urls: Vec<String>,
    sip_urls: Vec<String>,
    accepting: Mutex<Vec<JoinHandle<()>>>,
    certificates: Vec<Arc<ServerTls>>,
    // Last: what runs on it is told to stop before it is.
    runtime: Runtime,
}

impl Server {
    /// Binds every listener and starts. Threads named `sipws-N` are started here and not before.
    ///
    /// Fails with [`Kind::Config`] for a configuration that contradicts itself, [`Kind::Bind`] for an address that
    /// can't be listened on, [`Kind::Tls`] for certificates and keys, [`Kind::System`] for want of threads.
    pub fn start(config: Config) -> Result<Server, Error> {
        Setup::new(config).start()
    }

    fn new(setup: Setup) -> Result<Server, Error> {
        let Setup { mut config, handler, policy, observer, resolver, identity, log } = setup;
        if handler.is_some() {
            config.sip.listen.clear();
            config.upstream.clear();
            config.check_edge()
        } else {
            config.check()
        }
        .map_err(|e| Error::new(Kind::Config, e.to_string()))?;
        rate::calibrate();
        let runtime = Runtime::new(config.runtime.threads, log)?;
        let inside = runtime.enter();
        let bound = runtime.block_on(Sockets::bind(&config))?;
        let metrics = Arc::new(Metrics::new());
        let tags = LocalTag::default();
        let tls = Certificates::load(&config, identity)?;
        let ws_addresses = addresses(bound.websocket.iter().map(|(_, s)| s))?;
        let sip_addresses = addresses(bound.sip.iter().map(|(_, s)| s))?;
        let guard = Guard::new(config.limits.strikes, tags.clone(), metrics.clone());
        let (handler, bridge): (Arc<dyn SipHandler>, _) = match handler {
            Some(handler) => (handler, None),
            None => {
                let sip_names: Vec<_> =
                    bound.sip.iter().map(|(tls, _)| *tls).zip(sip_addresses.iter().copied()).collect();
                let names = bridge::Identity::new(&config, &sip_names, &ws_addresses, token_keys(&config)?);
                let bridge = Bridge::new(&config, names, tags, tls.client, resolver, metrics.clone());
                (bridge.clone(), Some(bridge))
            }
        };
        let nodelay = config.runtime.nodelay.unwrap_or(!handler.reads());
        let host = Host { handler, policy, observer, nodelay };
        let edge = Edge::new(&config.limits, &config.timeouts, guard, metrics.clone(), host);
        if let Some(bridge) = &bridge {
            bridge.serve(&edge);
            bridge.set_targets(&config.upstream);
        }

        let mut accepting = Vec::new();
        let handshakes = Arc::new(Semaphore::new(config.limits.handshakes));
        let (mut settings, mut websocket_urls) = (Vec::new(), Vec::new());
        for (listen, socket) in bound.websocket {
            let listener =
                WebSocketListener::new(socket, listen, tls.websocket.clone(), edge.clone(), handshakes.clone())?;
            settings.push(listener.settings());
            websocket_urls.push(listener.url());
            accepting.push(tokio::spawn(listener.run()));
        }
        let mut sip_urls = Vec::new();
        if let Some(bridge) = &bridge {
            for ((is_tls, socket), address) in bound.sip.into_iter().zip(sip_addresses) {
                sip_urls.push(format!("{}://{address}", if is_tls { "tls" } else { "tcp" }));
                let listener = SipListener {
                    socket,
                    tls: if is_tls { tls.sip.clone() } else { None },
                    trusted: config.sip.trusted.clone().into(),
                    bridge: bridge.clone(),
                };
                accepting.push(tokio::spawn(listener.run()));
            }
            let bridge = bridge.clone();
            tokio::spawn(async move { bridge.keep_time().await });
        }
        let certificates: Vec<_> = tls.websocket.into_iter().chain(tls.sip).collect();
        tokio::spawn(upkeep(edge.clone(), certificates.clone()));
        drop(inside);
        Ok(Server {
            edge,
            bridge,
            metrics,
            config: Mutex::new(config),
            settings,
            websocket_urls,
            sip_urls,
            accepting: Mutex::new(accepting),
            certificates,
            runtime,
        })
    }

    /// The open flow with that id.
    pub fn flow(&self, id: FlowId) -> Option<Flow> {
        self.edge.registry.get(id)
    }

    /// Counts something that a handler refused.
    #[cfg(feature = "pjsip")]
    pub(crate) fn refused(&self, reason: &'static str) {
        self.metrics.refused(reason);
    }

    /// Makes a connection of our own, in the background; `attachment` is attached to its flow before the handler hears of
    /// it. Returns the id that the flow will have. Exactly one of two things follows, unless the server goes before: the
    /// handler's `opened` with a flow of that id, or `failed` (and [`Event::ConnectFailed`](crate::edge::Event)), on a
    /// thread of the server's.
    pub fn connect(
        &self,
        to: Connect,
        attachment: Option<client::Attachment>,
        failed: impl FnOnce(ConnectError) + Send + 'static,
    ) -> FlowId {
        let id = self.edge.registry.next_id();
        let edge = self.edge.clone();
        self.runtime.spawn(async move {
            let host = edge.host.clone();
            if let Err(error) = client::run(edge, id, to, attachment).await {
                host.tell(&Event::ConnectFailed { flow: id, error: &error });
                failed(error);
            }
        });
        id
    }

    /// Where WebSocket clients connect, with the real ports: `ws://127.0.0.1:8080/`.
    pub fn websocket_urls(&self) -> Vec<String> {
        self.websocket_urls.clone()
    }

    /// Where SIP servers connect, with the real ports: `tcp://127.0.0.1:5062`.
    pub fn sip_urls(&self) -> Vec<String> {
        self.sip_urls.clone()
    }

    /// All figures in Prometheus' text form.
    pub fn metrics(&self) -> String {
        if let Some(bridge) = &self.bridge {
            bridge.observe();
        }
        self.metrics.render()
    }

    /// The figures themselves.
    pub fn figures(&self) -> &Metrics {
        &self.metrics
    }

    /// How many WebSocket connections are open.
    pub fn connections(&self) -> usize {
        self.edge.registry.len()
    }

    /// Whether new clients should be sent here; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if self.edge.is_draining() {
            return Err("draining: no new connections are taken".to_owned());
        }
        self.bridge.as_ref().map_or(Ok(()), |bridge| bridge.ready())
    }

    /// Takes over what can be taken over while running: upstreams, and origins and paths of listeners; re-reads the
    /// certificates' files. Returns the keys that differ and need a restart.
    ///
    /// Fails with nothing changed where the new configuration is no good.
    pub fn reload(&self, mut new: Config) -> Result<Vec<String>, Error> {
        match self.bridge {
            Some(_) => new.check(),
            None => {
                // As at the start: these are the bridge's.
                new.sip.listen.clear();
                new.upstream.clear();
                new.check_edge()
            }
        }
        .map_err(|e| Error::new(Kind::Config, e.to_string()))?;
        let mut current = self.config.lock();
        let same_listeners = current.listen.len() == new.listen.len()
            && current
                .listen
                .iter()
                .zip(&new.listen)
                .all(|(a, b)| (a.url.secure, &a.url.host, a.url.port) == (b.url.secure, &b.url.host, b.url.port));
        let tls_upstream_without_tls =
            new.upstream.iter().any(|u| u.uri.tls) && !current.upstream.iter().any(|u| u.uri.tls);
        for certificate in &self.certificates {
            certificate.refresh()?;
        }
        let mut restart = Vec::new();
        for key in current.changes(&new) {
            match key.split('.').next().unwrap_or("") {
                // The daemon's own.
                "admin" | "log" => {}
                _ if key == "runtime.drain" => {}
                "listen" if same_listeners => {
                    for (running, listen) in self.settings.iter().zip(&new.listen) {
                        *running.write() = listen.clone();
                    }
                    current.listen.clone_from(&new.listen);
                }
                "upstream" if !tls_upstream_without_tls => {
                    let _inside = self.runtime.enter();
                    if let Some(bridge) = &self.bridge {
                        bridge.set_targets(&new.upstream);
                    }
                    current.upstream.clone_from(&new.upstream);
                }
                _ => restart.push(key),
            }
        }
        Ok(restart)
    }

    /// Ends it as dropping it does, but waits, for up to `most`, until its sockets are closed and its threads gone. Not to be
    /// called on one of them.
    #[cfg(feature = "ffi")]
    pub(crate) fn finish(self, most: Duration) {
        self.runtime.finish(most);
    }

    /// Stops: no new connections, the open ones closed with 1001 one after the other, and after `grace` at most, an
    /// end. Blocks; not to be called from inside an async runtime's thread.
    pub fn drain(&self, grace: Duration) {
        for task in self.accepting.lock().drain(..) {
            task.abort();
        }
        self.runtime.block_on(self.edge.drain(grace));
    }
}

/// The sockets, bound before anything else is made: an address in use is the commonest reason not to start.
struct Sockets {
    websocket: Vec<(Listen, TcpListener)>,
    sip: Vec<(bool, TcpListener)>,
}

impl Sockets {
    async fn bind(config: &Config) -> Result<Sockets, Error> {
        let mut websocket = Vec::new();
        for listen in &config.listen {
            websocket.push((listen.clone(), WebSocketListener::bind(listen).await?));
        }
        let mut sip = Vec::new();
        for listen in &config.sip.listen {
            let socket = bind_address(listen.addr).map_err(|e| {
                Error::new(Kind::Bind, format!("cannot listen on {listen}: {e}")).on(Side::Upstream).because(e)
            })?;
            sip.push((listen.tls, socket));
        }
        Ok(Sockets { websocket, sip })
    }
}

fn addresses<'a>(sockets: impl Iterator<Item = &'a TcpListener>) -> Result<Vec<SocketAddr>, Error> {
    sockets.map(|s| s.local_addr().map_err(|e| Error::new(Kind::Bind, e.to_string()).because(e))).collect()
}

/// TLS of each kind, where the configuration asks for it.
struct Certificates {
    websocket: Option<Arc<ServerTls>>,
    sip: Option<Arc<ServerTls>>,
    client: Option<Arc<rustls::ClientConfig>>,
}

impl Certificates {
    fn load(config: &Config, own: Option<Identity>) -> Result<Certificates, Error> {
        let sip = Identity::of(config.sip.certificate.as_ref(), config.sip.key.as_ref());
        let server = |wanted: bool, identity: Option<Identity>| {
            wanted.then(|| ServerTls::new(identity, config.tls.min_version).map(Arc::new)).transpose()
        };
        let own = own.or_else(|| Identity::of(config.tls.certificate.as_ref(), config.tls.key.as_ref()));
        let client = config
            .upstream
            .iter()
            .any(|u| u.uri.tls)
            .then(|| client_config(config.sip.ca.as_deref(), sip.as_ref()).map(Arc::new))
            .transpose()
            .map_err(|e| e.on(Side::Upstream))?;
        Ok(Certificates {
            websocket: server(config.listen.iter().any(|l| l.url.secure), own).map_err(|e| e.on(Side::Downstream))?,
            sip: server(config.sip.listen.iter().any(|l| l.tls), sip).map_err(|e| e.on(Side::Upstream))?,
            client,
        })
    }
}

fn token_keys(config: &Config) -> Result<TokenKeys, Error> {
    let cluster = &config.cluster;
    let previous: Vec<&[u8]> = cluster.previous_secrets.iter().map(|s| s.expose().as_bytes()).collect();
    Ok(match &cluster.secret {
        Some(secret) => TokenKeys::new(&cluster.node, secret.expose().as_bytes(), &previous),
        None => {
            let mut random = [0; 32];
            SystemRandom::new()
                .fill(&mut random)
                .map_err(|e| Error::new(Kind::System, format!("no random numbers: {e}")))?;
            TokenKeys::new(&cluster.node, &random, &previous)
        }
    })
}

async fn upkeep(edge: Arc<Edge>, certificates: Vec<Arc<ServerTls>>) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        edge.addresses.forget();
        for certificate in &certificates {
            match certificate.refresh() {
                Ok(true) => tracing::info!("new certificate in use for new connections"),
                Ok(false) => {}
                // Half-written files: the next look finds them whole.
                Err(error) => tracing::warn!(%error, "the changed certificate cannot be used; the old one stays"),
            }
        }
    }
}
