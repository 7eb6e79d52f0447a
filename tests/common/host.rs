//! An edge whose messages a host handles: the test. What the host is told waits in a queue until the test asks for it.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustls::ClientConfig;
use sipws::Setup;
use sipws::edge::{CloseReason, Connect, ConnectError, Flow, FlowId, Policy, SipHandler};
use sipws::sip::Message;

use super::message::Sip;
use super::{DEADLINE, Edge, authority, start_with};

/// What a host was told.
#[derive(Debug)]
pub enum Told {
    Opened(Flow),
    Message(Flow, Sip),
    Closed(Flow, CloseReason),
    Failed(FlowId, ConnectError),
}

/// An edge and its host.
pub struct Host {
    pub edge: Edge,
    told: Receiver<Told>,
    tell: Sender<Told>,
}

struct Telling(Sender<Told>);

impl Telling {
    fn tell(&self, told: Told) {
        // A test that has seen enough is gone.
        let _ = self.0.send(told);
    }
}

impl SipHandler for Telling {
    fn opened(&self, flow: &Flow) {
        self.tell(Told::Opened(flow.clone()));
    }

    fn message(&self, flow: &Flow, message: Message) {
        self.tell(Told::Message(flow.clone(), Sip::parse(message.bytes())));
    }

    fn closed(&self, flow: &Flow, why: CloseReason) {
        self.tell(Told::Closed(flow.clone(), why));
    }
}

impl Host {
    /// Starts an edge with [`config`] of `toml`.
    pub fn start(toml: &str) -> Host {
        Host::start_with(toml, |setup| setup)
    }

    /// An edge that asks `policy`.
    pub fn with_policy(toml: &str, policy: impl Policy) -> Host {
        Host::start_with(toml, |setup| setup.policy(Arc::new(policy)))
    }

    pub fn start_with(toml: &str, further: impl FnOnce(Setup) -> Setup) -> Host {
        let (tell, told) = channel();
        let edge = start_with(toml, |setup| further(setup.handler(Arc::new(Telling(tell.clone())))));
        Host { edge, told, tell }
    }

    /// Connects; what comes of it, [`Host::opened`] or [`Host::failed`] says.
    pub fn connect(&self, to: Connect) -> FlowId {
        let tell = self.tell.clone();
        // The id is known only behind the call, and the failure only to the closure.
        let (name, named) = channel();
        let id = self.edge.connect(to, None, move |error| {
            let _ = tell.send(Told::Failed(named.recv().unwrap(), error));
        });
        let _ = name.send(id);
        id
    }

    /// The next thing that it was told.
    #[track_caller]
    pub fn next(&self) -> Told {
        self.told.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("the host was told nothing"))
    }

    /// Whether it was told anything more by now.
    pub fn told_more(&self) -> Option<Told> {
        self.told.try_recv().ok()
    }

    #[track_caller]
    pub fn opened(&self) -> Flow {
        match self.next() {
            Told::Opened(flow) => flow,
            other => panic!("wanted a flow, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn message(&self) -> (Flow, Sip) {
        match self.next() {
            Told::Message(flow, message) => (flow, message),
            other => panic!("wanted a message, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn closed(&self) -> CloseReason {
        match self.next() {
            Told::Closed(_, why) => why,
            other => panic!("wanted the end of a flow, got {other:?}"),
        }
    }

    #[track_caller]
    pub fn failed(&self) -> ConnectError {
        match self.next() {
            Told::Failed(_, error) => error,
            other => panic!("wanted a failure, got {other:?}"),
        }
    }
}

impl Deref for Host {
    type Target = Edge;
    fn deref(&self) -> &Edge {
        &self.edge
    }
}

/// How to connect to `url`, without a word about certificates.
pub fn to(url: &str) -> Connect {
    let (host, port) = authority(url).rsplit_once(':').expect("a port");
    let target = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, target)| target);
    Connect {
        secure: url.starts_with("wss://"),
        host: host.trim_matches(['[', ']']).to_owned(),
        port: port.parse().expect("a port"),
        target: format!("/{target}"),
        address: None,
        origin: None,
        headers: Vec::new(),
        tls: None,
        deadline: DEADLINE,
    }
}

/// The same over TLS, believing what `config` says.
pub fn to_secure(url: &str, config: Arc<ClientConfig>) -> Connect {
    Connect { tls: Some(config), ..to(url) }
}

/// The same with a deadline of its own.
pub fn within(deadline: Duration, to: Connect) -> Connect {
    Connect { deadline, ..to }
}
