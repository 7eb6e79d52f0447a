//! What a host's observer hears, of flows, registrations and upstreams, through real sockets.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use common::{
    Builder, DEADLINE, Edge, Host, SipConnection, SipServer, WsClient, config, request, start_with, to, upstreams,
    wait_until,
};
use sipws::edge::{CloseReason, Event, FlowId, Observer};

/// What was heard: a flow's id where it is about one, and words.
type Heard = (Option<FlowId>, String);

struct Listening(Mutex<Sender<Heard>>);

impl Observer for Listening {
    fn event(&self, event: &Event<'_>) {
        let heard = match event {
            Event::Opened { flow } => (Some(flow.id()), format!("opened, outgoing: {}", flow.outgoing())),
            Event::Closed { flow, why } => (Some(flow.id()), format!("closed: {why}")),
            Event::ConnectFailed { flow, error } => (Some(*flow), format!("failed: {error}")),
            Event::Registered { flow, aor, expires } => (Some(flow.id()), format!("registered {aor} {expires}")),
            Event::Unregistered { flow, aor } => (Some(flow.id()), format!("unregistered {aor}")),
            Event::UpstreamUp { target } => (None, format!("up {target}")),
            Event::UpstreamDown { target } => (None, format!("down {target}")),
            other => panic!("{other:?}"),
        };
        // A test that has heard enough is gone.
        let _ = self.0.lock().unwrap().send(heard);
    }
}

fn listening() -> (Arc<Listening>, Receiver<Heard>) {
    let (tell, heard) = channel();
    (Arc::new(Listening(Mutex::new(tell))), heard)
}

#[track_caller]
fn next(heard: &Receiver<Heard>) -> Heard {
    heard.recv_timeout(DEADLINE).expect("nothing was heard")
}

#[track_caller]
fn words(heard: &Receiver<Heard>) -> String {
    next(heard).1
}

/// A bridge with an observer, in front of one server; a client whose flow it has heard of.
struct Observed {
    edge: Edge,
    heard: Receiver<Heard>,
    pbx: SipConnection,
    client: WsClient,
    flow: Option<FlowId>,
}

fn observed(toml: &str) -> Observed {
    let server = SipServer::start();
    let (observer, heard) = listening();
    let edge = start_with(&format!("{toml}\n{}", upstreams(&[&server])), |setup| setup.observer(observer));
    let pbx = server.accept();
    assert_eq!(words(&heard), format!("up {}", server.uri()));
    wait_until("the upstream is up", || edge.ready().is_ok());
    let client = WsClient::open(&edge);
    let (flow, opened) = next(&heard);
    assert_eq!(opened, "opened, outgoing: false");
    Observed { edge, heard, pbx, client, flow }
}

impl Observed {
    /// Has the registrar answer a REGISTER with what `answer` makes of the 200.
    fn register(&mut self, register: Builder, answer: impl FnOnce(Builder, &str) -> Builder) {
        self.client.send(&register);
        let got = self.pbx.expect("REGISTER");
        let contact = got.header("Contact").unwrap_or_default().to_owned();
        let mut ok = got.respond(200, "OK");
        if let Some(path) = got.header("Path") {
            ok = ok.with("Path", path);
        }
        self.pbx.send(&answer(ok, &contact));
        self.client.expect_status(200);
    }
}

#[test]
fn a_flow_is_opened_and_closed_whoever_made_it() {
    let ((here, at_client), (there, at_server)) = (listening(), listening());
    let client = Host::start_with("listen = []", |setup| setup.observer(here));
    let server = Host::start_with("", |setup| setup.observer(there));
    let id = client.connect(to(&server.websocket_urls()[0]));
    assert_eq!(next(&at_client), (Some(id), "opened, outgoing: true".to_owned()));
    let (flow, opened) = next(&at_server);
    assert_eq!((flow, opened.as_str()), (Some(server.opened().id()), "opened, outgoing: false"));
    client.opened().close(1000, "", CloseReason::Server);
    assert_eq!(next(&at_client), (Some(id), "closed: server".to_owned()));
    assert_eq!(next(&at_server), (flow, "closed: client".to_owned()));
}

#[test]
fn a_connection_that_does_not_come_about_is_told() {
    let (observer, heard) = listening();
    let client = Host::start_with("listen = []", |setup| setup.observer(observer));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let id = client.connect(to(&format!("ws://{address}/")));
    let (flow, failed) = next(&heard);
    assert!(flow == Some(id) && failed.starts_with("failed: no connection: "), "{failed}");
}

#[test]
fn a_registration_lasts_as_long_as_the_registrar_says() {
    let mut o = observed("");
    let registered = |seconds: u32| (o.flow, format!("registered sip:alice@example.com {seconds}"));
    let [by_contact, by_header, by_default] = [registered(60), registered(120), registered(3600)];
    let register = || request("REGISTER", "sip:example.com").set("To", "\"Alice\" <sip:alice@example.com>");
    o.register(register(), |ok, contact| ok.with("Expires", "999").with("Contact", &format!("{contact};expires=60")));
    assert_eq!(next(&o.heard), by_contact);
    o.register(register(), |ok, contact| ok.with("Expires", "120").with("Contact", contact));
    assert_eq!(next(&o.heard), by_header);
    o.register(register(), |ok, contact| ok.with("Contact", contact));
    assert_eq!(next(&o.heard), by_default);
    // The other devices of the same user are none of this flow's business.
    o.register(register(), |ok, contact| {
        ok.with("Contact", &format!("<sip:alice@192.0.2.7>;expires=5, {contact};expires=60, <sip:x@y>;expires=7200"))
    });
    assert_eq!(next(&o.heard), by_contact);
}

#[test]
fn a_registration_ends_when_the_registrar_lists_it_no_more() {
    let mut o = observed("");
    let unregistered = (o.flow, "unregistered sip:example.com".to_owned());
    o.register(request("REGISTER", "sip:example.com"), |ok, _| ok);
    assert_eq!(next(&o.heard), unregistered);
    o.register(request("REGISTER", "sip:example.com"), |ok, _| ok.with("Contact", "<sip:alice@192.0.2.7>;expires=5"));
    assert_eq!(next(&o.heard), unregistered);
    o.register(request("REGISTER", "sip:example.com"), |ok, contact| {
        ok.with("Contact", &format!("{contact};expires=0"))
    });
    assert_eq!(next(&o.heard), unregistered);
    o.register(request("REGISTER", "sip:example.com").set("Contact", "*").with("Expires", "0"), |ok, _| ok);
    assert_eq!(next(&o.heard), unregistered);
}

#[test]
fn a_refused_registration_a_query_and_other_requests_are_no_news() {
    let mut o = observed("");
    o.client.send(&request("REGISTER", "sip:example.com"));
    let got = o.pbx.expect("REGISTER");
    o.pbx.send(&got.respond(401, "Unauthorized").with("Contact", got.get("Contact")));
    o.client.expect_status(401);
    o.register(request("REGISTER", "sip:example.com").without("Contact"), |ok, _| {
        ok.with("Contact", "<sip:alice@192.0.2.7>;expires=5")
    });
    o.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = o.pbx.expect("MESSAGE");
    o.pbx.send(&got.respond(200, "OK").with("Contact", got.get("Contact")));
    o.client.expect_status(200);
    drop(o.client);
    assert_eq!(next(&o.heard), (o.flow, "closed: lost".to_owned()), "and nothing before it");
    assert_eq!(o.edge.connections(), 0);
}

#[test]
fn a_contact_that_was_rewritten_is_known_again() {
    let mut o = observed("sip.registration = \"rewrite\"");
    let flow = o.flow;
    o.register(request("REGISTER", "sip:example.com"), |ok, contact| {
        assert!(!contact.contains(".invalid"), "{contact}");
        ok.with("Contact", &format!("<sip:alice@192.0.2.7>;expires=5, {contact};expires=60"))
    });
    assert_eq!(next(&o.heard), (flow, "registered sip:example.com 60".to_owned()));
    o.register(request("REGISTER", "sip:example.com"), |ok, _| ok.with("Contact", "<sip:alice@192.0.2.7>"));
    assert_eq!(next(&o.heard), (flow, "unregistered sip:example.com".to_owned()));
}

#[test]
fn a_device_is_known_by_its_instance_when_its_contact_has_changed() {
    let mut o = observed("");
    let flow = o.flow;
    let instance = ";+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-000A95A0E128>\";reg-id=1";
    let contact = format!("<sip:alice@new.invalid;transport=ws>{instance}");
    o.register(request("REGISTER", "sip:example.com").set("Contact", &contact), |ok, _| {
        ok.with("Contact", &format!("<sip:alice@old.invalid;transport=ws>{instance};expires=90"))
    });
    assert_eq!(next(&o.heard), (flow, "registered sip:example.com 90".to_owned()));
}

#[test]
fn an_upstream_goes_down_and_comes_up_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (observer, heard) = listening();
    let uri = format!("sip:{address};transport=tcp");
    let edge = start_with(&format!("[[upstream]]\nuri = \"{uri}\""), |setup| setup.observer(observer));
    let (connection, _) = listener.accept().unwrap();
    assert_eq!(words(&heard), format!("up {uri}"));
    drop(listener);
    drop(connection);
    assert_eq!(words(&heard), format!("down {uri}"));
    assert!(edge.ready().is_err());
    let listener = TcpListener::bind(address).unwrap();
    assert_eq!(words(&heard), format!("up {uri}"));
    drop(listener);
}

#[test]
fn a_connection_that_is_made_again_at_once_is_no_news() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (observer, heard) = listening();
    let uri = format!("sip:{};transport=tcp", listener.local_addr().unwrap());
    let edge = start_with(&format!("[[upstream]]\nuri = \"{uri}\""), |setup| setup.observer(observer));
    for _ in 0..3 {
        // The edge connects again whenever its connection is lost.
        drop(listener.accept().unwrap());
    }
    let _kept = listener.accept().unwrap();
    edge.wait_metric(&format!("sipws_upstream_up{{target=\"{uri}\"}}"), 1);
    assert_eq!(words(&heard), format!("up {uri}"));
    assert!(heard.try_recv().is_err());
}

#[test]
fn who_watches_a_reload_hears_of_new_upstreams_only() {
    let (first, second) = (SipServer::start(), SipServer::start());
    let (observer, heard) = listening();
    let edge = start_with(&upstreams(&[&first]), |setup| setup.observer(observer));
    let _first = first.accept();
    assert_eq!(words(&heard), format!("up {}", first.uri()));
    assert_eq!(edge.reload(config(&upstreams(&[&first, &second]))).unwrap(), [""; 0]);
    let _second = second.accept();
    assert_eq!(words(&heard), format!("up {}", second.uri()));
    assert!(heard.try_recv().is_err());
}
