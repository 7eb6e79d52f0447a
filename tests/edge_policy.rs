//! A host's say in who may connect and what may pass, at once or later, through real sockets.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Builder, CLOSE, DEADLINE, Edge, Frame, Handshake, Host, PING, Sip, TEXT, Told, WsClient, WsServer, frame, request,
    start_with, to,
};
use sipws::edge::{self, CloseReason, Decision, Flow, Policy, Verdict};
use sipws::sip::Message;

/// What a policy was asked.
enum Asked {
    Handshake { target: String, cookie: Option<String>, secure: bool, decision: Decision },
    Request { message: Sip, decision: Decision },
}

/// Decides nothing itself: the test does, in its own time.
struct Deferring(Sender<Asked>);

impl Policy for Deferring {
    fn handshake(&self, handshake: &edge::Handshake<'_>, decision: Decision) {
        let cookie = handshake.headers("cookie").next().map(|v| String::from_utf8(v.to_vec()).unwrap());
        let target = handshake.target().to_owned();
        let _ = self.0.send(Asked::Handshake { target, cookie, secure: handshake.secure, decision });
    }

    fn request(&self, _: &Flow, request: &Message, decision: Decision) {
        let _ = self.0.send(Asked::Request { message: Sip::parse(request.bytes()), decision });
    }
}

/// Decides at once: on handshakes by a function, on requests by another.
struct AtOnce<H, R>(H, R);

impl<H, R> Policy for AtOnce<H, R>
where
    H: Fn(&edge::Handshake<'_>) -> Verdict + Send + Sync + 'static,
    R: Fn(&Message) -> Verdict + Send + Sync + 'static,
{
    fn handshake(&self, handshake: &edge::Handshake<'_>, decision: Decision) {
        assert!(decision.complete((self.0)(handshake)));
    }

    fn request(&self, _: &Flow, request: &Message, decision: Decision) {
        assert!(decision.complete((self.1)(request)));
    }
}

fn refuse(status: u16, reason: &str) -> Verdict {
    Verdict::Refuse { status, reason: reason.to_owned() }
}

/// A host whose policy asks the test.
struct Deferred {
    host: Host,
    asked: Receiver<Asked>,
}

impl Deferred {
    fn start(toml: &str) -> Deferred {
        let (tell, asked) = channel();
        Deferred { host: Host::with_policy(toml, Deferring(tell)), asked }
    }

    fn url(&self) -> String {
        self.host.websocket_urls()[0].clone()
    }

    #[track_caller]
    fn handshake(&self) -> Decision {
        match self.asked.recv_timeout(DEADLINE) {
            Ok(Asked::Handshake { decision, .. }) => decision,
            _ => panic!("not asked about a handshake"),
        }
    }

    #[track_caller]
    fn request(&self) -> (Sip, Decision) {
        match self.asked.recv_timeout(DEADLINE) {
            Ok(Asked::Request { message, decision }) => (message, decision),
            _ => panic!("not asked about a request"),
        }
    }

    /// A client that was let in, and its flow.
    #[track_caller]
    fn open_flow(&self) -> (WsClient, Flow) {
        let url = self.url();
        let client = thread::spawn(move || WsClient::open_url(&url));
        assert!(self.handshake().accept());
        (client.join().unwrap(), self.host.opened())
    }

    #[track_caller]
    fn open(&self) -> WsClient {
        self.open_flow().0
    }

    /// The next message that the handler gets has to be this one.
    #[track_caller]
    fn expect(&self, sent: &Builder) {
        assert_eq!(self.host.message().1.raw, sent.bytes(), "{sent:?}");
    }
}

fn outcome(edge: &Edge, outcome: &str) -> i64 {
    edge.metric(&format!("sipws_handshakes_total{{outcome=\"{outcome}\"}}"))
}

/// Sends a handshake: the answer's status and body.
fn handshake(url: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let mut handshake = Handshake::default();
    for (name, value) in headers {
        handshake = handshake.header(name, value);
    }
    let (answer, mut stream) = handshake.send(url).unwrap();
    let end = Instant::now() + DEADLINE;
    while answer.status != 101 && stream.fill(end).unwrap() > 0 {}
    (answer.status, String::from_utf8(stream.buffer.clone()).unwrap())
}

#[test]
fn a_handshake_is_let_in_or_refused_by_what_it_says() {
    let policy = AtOnce(
        |handshake: &edge::Handshake<'_>| match (handshake.target(), handshake.headers("Authorization").next()) {
            ("/?token=good", _) | (_, Some(b"Bearer good")) => Verdict::Accept,
            ("/?odd", _) => refuse(299, "an odd status"),
            ("/?teapot", _) => refuse(418, "no coffee\r\nhere"),
            ("/?silent", _) => refuse(403, ""),
            _ => refuse(401, "a token is needed"),
        },
        |_: &Message| Verdict::Accept,
    );
    let host = Host::with_policy("", policy);
    let url = host.websocket_urls()[0].clone();
    let at = |target: &str| handshake(&format!("{url}{target}"), &[]);
    assert_eq!(at("?token=good").0, 101);
    assert_eq!(handshake(&url, &[("authorization", "Bearer good")]).0, 101);
    assert_eq!(at(""), (401, "a token is needed\n".to_owned()));
    assert_eq!(at("?teapot"), (418, "no coffee\r\nhere\n".to_owned()));
    assert_eq!(at("?odd"), (403, "an odd status\n".to_owned()));
    assert_eq!(at("?silent"), (403, "Forbidden\n".to_owned()));
    assert_eq!((outcome(&host, "ok"), outcome(&host, "policy")), (2, 4));
    host.wait_metric("sipws_connections{transport=\"ws\"}", 0);
    host.wait_metric("sipws_handshaking", 0);
}

#[test]
fn our_own_checks_come_first() {
    let policy = AtOnce(|_: &edge::Handshake<'_>| panic!("asked"), |_: &Message| Verdict::Accept);
    let host = Host::with_policy("listen = [{ url = \"ws://127.0.0.1:0/sip\" }]", policy);
    let url = host.websocket_urls()[0].clone();
    assert_eq!(handshake(&url.replace("/sip", "/"), &[]).0, 404);
    assert_eq!(handshake(&url, &[("Origin", "https://evil.example.com")]).0, 403);
    assert_eq!((outcome(&host, "path"), outcome(&host, "origin"), outcome(&host, "policy")), (1, 1, 0));
}

#[test]
fn a_handshake_may_be_decided_on_later_and_others_go_on_meanwhile() {
    let deferred = Deferred::start("");
    let url = deferred.url();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handshake(&format!("{url}?first"), &[("Cookie", "id=7")]));
        let Ok(Asked::Handshake { target, cookie, secure, decision }) = deferred.asked.recv_timeout(DEADLINE) else {
            panic!("not asked");
        };
        assert_eq!((target.as_str(), cookie.as_deref(), secure), ("/?first", Some("id=7"), false));
        // Another one comes and is let in while the first one waits.
        drop(deferred.open());
        assert_eq!(outcome(&deferred.host, "ok"), 1);
        assert!(decision.refuse(403, "not you"));
        assert_eq!(waiting.join().unwrap(), (403, "not you\n".to_owned()));
    });
}

#[test]
fn what_nobody_decides_on_in_time_is_refused_with_503_although_the_handshakes_deadline_is_shorter() {
    let deferred = Deferred::start("timeouts.policy = \"1500ms\"\ntimeouts.handshake = \"1s\"");
    let url = deferred.url();
    let begun = Instant::now();
    let waiting = thread::spawn(move || handshake(&url, &[]));
    let decision = deferred.handshake();
    let (status, body) = waiting.join().unwrap();
    assert!(status == 503 && body.contains("in time"), "{status} {body}");
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert!(!decision.accept(), "too late");
    assert_eq!((outcome(&deferred.host, "policy_timeout"), outcome(&deferred.host, "timeout")), (1, 0));
}

#[test]
fn the_time_that_a_host_takes_is_not_the_clients() {
    let deferred = Deferred::start("timeouts.policy = \"60s\"\ntimeouts.handshake = \"1s\"");
    let url = deferred.url();
    let waiting = thread::spawn(move || handshake(&url, &[]));
    let decision = deferred.handshake();
    thread::sleep(Duration::from_millis(1100));
    assert!(decision.accept());
    assert_eq!(waiting.join().unwrap().0, 101);
    assert_eq!(outcome(&deferred.host, "timeout"), 0);
}

#[test]
fn a_decision_that_is_dropped_is_a_refusal_with_503() {
    let deferred = Deferred::start("");
    let url = deferred.url();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| handshake(&url, &[]));
        drop(deferred.handshake());
        assert_eq!(waiting.join().unwrap().0, 503);
    });
    let mut client = deferred.open();
    client.send(&request("INVITE", "sip:bob@example.com"));
    drop(deferred.request());
    let refused = client.expect_status(503);
    assert_eq!(refused.get("Retry-After"), "1");
    assert_eq!((deferred.host.refused("policy_timeout"), outcome(&deferred.host, "policy_timeout")), (1, 1));
}

#[test]
fn a_client_that_goes_while_its_handshake_is_decided_on_is_forgotten() {
    let deferred = Deferred::start("limits.connections = 1");
    let mut stream = Handshake::default().connect(&deferred.url()).unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
        "dGhlIHNhbXBsZSBub25jZQ=="
    );
    stream.write(request.as_bytes()).unwrap();
    let decision = deferred.handshake();
    drop(stream);
    deferred.host.wait_metric("sipws_handshakes_total{outcome=\"incomplete\"}", 1);
    deferred.host.wait_metric("sipws_handshaking", 0);
    assert!(!decision.accept());
    // Its place is free again.
    deferred.open();
}

#[test]
fn what_a_client_sends_before_it_is_let_in_is_heard_afterwards() {
    let deferred = Deferred::start("");
    let mut stream = Handshake::default().connect(&deferred.url()).unwrap();
    let head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Protocol: sip\r\n\r\n";
    let ack = request("ACK", "sip:bob@example.com");
    let bytes = frame(true, TEXT, &ack.bytes());
    stream.write(&[head.as_bytes(), &bytes[..10]].concat()).unwrap();
    let decision = deferred.handshake();
    stream.write(&bytes[10..]).unwrap();
    // Whether it has arrived by now or comes later makes no difference.
    assert!(decision.accept());
    deferred.host.opened();
    deferred.expect(&ack);
}

#[test]
fn requests_outside_dialogs_are_asked_about_and_nothing_else_is() {
    let (tell, asked) = channel();
    let tell = std::sync::Mutex::new(tell);
    let policy = AtOnce(
        |_: &edge::Handshake<'_>| Verdict::Accept,
        move |request: &Message| {
            tell.lock().unwrap().send(Sip::parse(request.bytes()).method().to_owned()).unwrap();
            Verdict::Accept
        },
    );
    let host = Host::with_policy("", policy);
    let mut client = WsClient::open(&host);
    host.opened();
    let invite = request("INVITE", "sip:bob@example.com");
    let bye = request("BYE", "sip:bob@example.com").set("To", "<sip:bob@example.com>;tag=there");
    let ok = request("OPTIONS", "sip:alice@example.com").sip().respond(200, "OK");
    let sent = [
        invite.clone(),
        invite.cancel(),
        request("ACK", "sip:bob@example.com"),
        request("REGISTER", "sip:example.com"),
        bye,
        ok,
        request("FROBNICATE", "sip:bob@example.com"),
    ];
    for message in &sent {
        client.send(message);
        assert_eq!(host.message().1.raw, message.bytes());
    }
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["INVITE", "REGISTER", "FROBNICATE"]);
}

#[test]
fn a_refused_request_gets_its_status_and_reason_and_no_strike() {
    let policy = AtOnce(
        |_: &edge::Handshake<'_>| Verdict::Accept,
        |request: &Message| match Sip::parse(request.bytes()).uri() {
            "sip:busy@example.com" => refuse(600, ""),
            "sip:odd@example.com" => refuse(200, "fine\r\nInjected: yes"),
            "sip:me@example.com" => Verdict::Accept,
            _ => refuse(488, "Not with that"),
        },
    );
    let host = Host::with_policy("limits.strikes = 2", policy);
    let mut client = WsClient::open(&host);
    host.opened();
    for _ in 0..5 {
        let sent = request("MESSAGE", "sip:bob@example.com");
        client.send(&sent);
        let refused = client.expect_status(488);
        assert_eq!(refused.reason(), "Not with that");
        assert_eq!(refused.get("Call-ID"), sent.get("Call-ID"));
        assert!(refused.tag("To").is_some());
    }
    client.send(&request("INVITE", "sip:busy@example.com"));
    assert_eq!(client.expect_status(600).reason(), "Busy Everywhere");
    client.send(&request("INVITE", "sip:odd@example.com"));
    let odd = client.expect_status(403);
    assert_eq!((odd.reason(), odd.header("Injected")), ("fine  Injected: yes", None));
    assert_eq!(host.refused("policy"), 7);
    let passes = request("MESSAGE", "sip:me@example.com");
    client.send(&passes);
    assert_eq!(host.message().1.raw, passes.bytes());
}

#[test]
fn the_ack_of_a_refused_invite_ends_here_and_its_cancel_does_not() {
    let deferred = Deferred::start("");
    let mut client = deferred.open();
    let invite = request("INVITE", "sip:bob@example.com");
    client.send(&invite);
    // It was written before the refusal could be known.
    client.send(&invite.cancel());
    let (asked, decision) = deferred.request();
    assert_eq!(asked.raw, invite.bytes());
    assert!(decision.refuse(403, ""));
    let refused = client.expect_status(403);
    client.send(&invite.ack_of(&refused));
    // The CANCEL comes behind its INVITE, for the handler to say that it knows of none.
    deferred.expect(&invite.cancel());
    let fence = request("ACK", "sip:bob@example.com");
    client.send(&fence);
    deferred.expect(&fence);
}

#[test]
fn while_a_decision_is_owed_later_messages_wait_in_their_order() {
    let deferred = Deferred::start("");
    let (mut client, mut other) = (deferred.open(), deferred.open());
    let invite = request("INVITE", "sip:bob@example.com");
    let message = request("MESSAGE", "sip:bob@example.com");
    let last = request("ACK", "sip:carol@example.com");
    for sent in [&invite, &invite.cancel(), &message, &last] {
        client.send(sent);
    }
    let (_, of_invite) = deferred.request();
    // Another flow does not wait, nor does the WebSocket itself.
    let elsewhere = request("ACK", "sip:dave@example.com");
    other.send(&elsewhere);
    deferred.expect(&elsewhere);
    client.send_frame(true, PING, b"still there");
    assert_eq!(client.frame(), Frame::Pong(b"still there".to_vec()));
    assert!(deferred.host.told_more().is_none());

    assert!(of_invite.accept());
    deferred.expect(&invite);
    deferred.expect(&invite.cancel());
    let (asked, of_message) = deferred.request();
    assert_eq!(asked.raw, message.bytes());
    assert!(deferred.host.told_more().is_none(), "what is behind the second one waits again");
    assert!(of_message.accept());
    deferred.expect(&message);
    deferred.expect(&last);
}

#[test]
fn a_decision_falls_on_any_thread_while_messages_go_on_coming() {
    let deferred = Deferred::start("");
    let mut client = deferred.open();
    let sent: Vec<Builder> =
        (0..200).map(|n| request(if n % 3 == 0 { "MESSAGE" } else { "ACK" }, "sip:bob@example.com")).collect();
    thread::scope(|scope| {
        scope.spawn(|| sent.iter().for_each(|message| client.send(message)));
        for _ in 0..sent.len().div_ceil(3) {
            assert!(deferred.request().1.accept());
        }
    });
    for message in &sent {
        deferred.expect(message);
    }
}

#[test]
fn a_request_that_nobody_decides_on_in_time_gets_503_and_the_next_ones_their_turn() {
    let deferred = Deferred::start("timeouts.policy = \"200ms\"");
    let mut client = deferred.open();
    let begun = Instant::now();
    let invite = request("INVITE", "sip:bob@example.com");
    let last = request("ACK", "sip:carol@example.com");
    client.send(&invite);
    client.send(&last);
    let (_, decision) = deferred.request();
    let refused = client.expect_status(503);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!((refused.get("Retry-After"), deferred.host.refused("policy_timeout")), ("1", 1));
    assert!(!decision.accept(), "too late");
    deferred.expect(&last);
}

#[test]
fn a_client_that_sends_on_and_on_meanwhile_is_not_read_on_and_on() {
    let deferred = Deferred::start(
        "limits.message_bytes = \"1KiB\"\ntimeouts = { ping = \"1s\", pong = \"1s\", policy = \"60s\" }",
    );
    let mut client = deferred.open();
    client.send(&request("INVITE", "sip:bob@example.com"));
    let (_, decision) = deferred.request();
    let filler = request("ACK", "sip:bob@example.com").body("text/plain", &[b'x'; 500]).bytes();
    let bytes = frame(true, TEXT, &filler);
    // More than the sockets hold: whoever reads on takes all of it.
    client.stream.socket().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut written = 0;
    let stopped = loop {
        match client.try_send_raw(&bytes) {
            Ok(()) => written += 1,
            Err(e) => break e,
        }
        assert!(written < 100_000, "{written} messages of {} bytes were taken", bytes.len());
    };
    assert!(matches!(stopped.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{stopped}");
    thread::sleep(Duration::from_millis(2500));
    assert!(deferred.host.told_more().is_none(), "that a pong cannot be seen is not the client's fault");
    assert!(decision.accept());
    assert_eq!(deferred.host.message().1.method(), "INVITE");
    for _ in 0..written {
        assert_eq!(deferred.host.message().1.method(), "ACK");
    }
}

#[test]
fn a_decision_for_a_flow_that_has_ended_comes_too_late() {
    let deferred = Deferred::start("");
    for how in 0..3 {
        let mut client = deferred.open();
        client.send(&request("INVITE", "sip:bob@example.com"));
        let (_, decision) = deferred.request();
        let why = match how {
            0 => {
                client.send_frame(true, CLOSE, &1000_u16.to_be_bytes());
                CloseReason::Client
            }
            1 => {
                drop(client);
                CloseReason::Lost
            }
            _ => {
                client.reset();
                CloseReason::Lost
            }
        };
        assert_eq!(deferred.host.closed(), why);
        assert!(!decision.accept(), "{why}");
    }
    assert_eq!(deferred.host.refused("policy_timeout"), 0);
}

#[test]
fn a_host_that_closes_the_flow_owes_no_decision_any_more() {
    let deferred = Deferred::start("");
    let (mut client, flow) = deferred.open_flow();
    client.send(&request("INVITE", "sip:bob@example.com"));
    let (_, decision) = deferred.request();
    flow.close(1000, "enough", CloseReason::Server);
    assert_eq!(client.expect_close(), (Some(1000), "enough".to_owned()));
    client.send_close(1000, "");
    assert_eq!(deferred.host.closed(), CloseReason::Server);
    assert!(!decision.accept());
    assert!(deferred.host.told_more().is_none(), "the INVITE went nowhere");
}

#[test]
fn an_edge_that_goes_leaves_no_decision_behind() {
    let deferred = Deferred::start("");
    let mut client = deferred.open();
    client.send(&request("INVITE", "sip:bob@example.com"));
    let (_, decision) = deferred.request();
    let Deferred { host, asked } = deferred;
    drop(host);
    assert_eq!(client.expect_close(), (None, String::new()));
    assert!(!decision.accept());
    drop(asked);
}

#[test]
fn what_comes_on_our_own_connections_is_not_asked_about() {
    let policy = AtOnce(|_: &edge::Handshake<'_>| panic!("asked"), |_: &Message| panic!("asked"));
    let (host, server) = (Host::with_policy("listen = []", policy), WsServer::start());
    host.connect(to(&server.url()));
    let mut peer = server.open();
    host.opened();
    let invite = request("INVITE", "sip:bob@example.com");
    peer.send_text(&invite.text());
    match host.next() {
        Told::Message(_, got) => assert_eq!(got.raw, invite.text().into_bytes()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_bridge_gets_what_a_policy_lets_pass() {
    let server = common::SipServer::start();
    let policy = AtOnce(
        |_: &edge::Handshake<'_>| Verdict::Accept,
        |request: &Message| match Sip::parse(request.bytes()).uri() {
            "sip:premium@example.com" => refuse(403, "Not from here"),
            _ => Verdict::Accept,
        },
    );
    let edge = start_with(&common::upstreams(&[&server]), |setup| setup.policy(Arc::new(policy)));
    let mut pbx = server.accept();
    let mut client = WsClient::open(&edge);
    let invite = request("INVITE", "sip:premium@example.com");
    client.send(&invite);
    let refused = client.expect_status(403);
    client.send(&invite.ack_of(&refused));
    client.send(&invite.cancel());
    client.expect_status(481);
    client.send(&request("INVITE", "sip:bob@example.com"));
    assert_eq!(pbx.expect("INVITE").uri(), "sip:bob@example.com", "and nothing of the other");
}
