//! Servers that refuse, reset, answer 503, or say nothing: who gets the request next, and what the client is told.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::*;

/// An edge in front of two servers, both up.
struct Two {
    edge: Edge,
    servers: [SipServer; 2],
    pbx: [SipConnection; 2],
    client: WsClient,
}

fn two(toml: &str) -> Two {
    let servers = [SipServer::start(), SipServer::start()];
    let edge = start(&format!("{toml}\n{}", upstreams(&[&servers[0], &servers[1]])));
    let pbx = [servers[0].accept(), servers[1].accept()];
    for server in &servers {
        edge.wait_metric(&up(server), 1);
    }
    let client = WsClient::open(&edge);
    Two { edge, servers, pbx, client }
}

fn up(server: &SipServer) -> String {
    format!("sipws_upstream_up{{target=\"{}\"}}", server.uri())
}

impl Two {
    /// The next message of either server's connection, and whose it is.
    #[track_caller]
    fn receive(&mut self) -> (usize, Sip) {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            for (i, pbx) in self.pbx.iter_mut().enumerate() {
                if let Ok(Some(message)) = pbx.try_receive(Duration::from_millis(5)) {
                    return (i, message);
                }
            }
        }
        panic!("neither server gets a message");
    }

    /// Replaces a server's connection by a reset, and waits for the one that the edge makes instead.
    fn reset(&mut self, i: usize) {
        self.pbx[i].reset();
        self.pbx[i] = self.servers[i].accept();
    }
}

#[test]
fn a_request_whose_server_resets_before_the_first_response_goes_to_the_next() {
    let mut t = two("");
    for method in ["INVITE", "MESSAGE"] {
        let sent = request(method, "sip:bob@example.com").body("text/plain", b"once more");
        t.client.send(&sent);
        if method == "INVITE" {
            t.client.expect_status(100);
        }
        let (first, got) = t.receive();
        let before = t.edge.metric("sipws_failovers_total");
        t.reset(first);
        let again = t.pbx[1 - first].expect(method);
        assert_eq!(again.body, b"once more");
        assert_eq!(again.get("Call-ID"), sent.get("Call-ID"));
        assert_ne!(again.branch(), got.branch(), "another attempt is another transaction");
        assert_eq!(t.edge.metric("sipws_failovers_total"), before + 1);
        t.pbx[1 - first].send(&again.respond(486, "Busy Here"));
        let failure = t.client.expect_status(486);
        if method == "INVITE" {
            t.client.send(&sent.ack_of(&failure));
            assert_eq!(t.pbx[1 - first].expect("ACK").branch(), again.branch());
        }
    }
}

#[test]
fn an_invite_that_is_answered_503_goes_to_the_next_server_and_the_first_one_gets_its_ack() {
    let mut t = two("");
    let sent = request("INVITE", "sip:bob@example.com").with("Route", "<sip:core.example.com;lr>");
    t.client.send(&sent);
    t.client.expect_status(100);
    let (first, got) = t.receive();
    t.pbx[first].send(&got.respond(503, "Service Unavailable").with("Retry-After", "60"));
    let ack = t.pbx[first].expect("ACK");
    assert_eq!(ack.all("Via"), [got.all("Via")[0].clone()], "made here, for this hop");
    assert_eq!(ack.uri(), got.uri());
    assert_eq!(ack.all("Route"), ["<sip:core.example.com;lr>"]);
    assert_eq!(ack.get("CSeq"), "1 ACK");
    assert!(ack.tag("To").unwrap().starts_with("uas-"), "the failure's To");
    let again = t.pbx[1 - first].expect("INVITE");
    assert_ne!(again.branch(), got.branch());
    t.pbx[1 - first].send(&again.respond(180, "Ringing"));
    t.pbx[1 - first].send(&again.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    t.client.expect_status(180);
    let mut dialog = Dialog::of_caller(&sent, &t.client.expect_status(200));
    t.client.send(&dialog.request("ACK"));
    t.pbx[1 - first].expect("ACK");
    // A second answer of the first server's belongs to nothing.
    t.pbx[first].send(&got.respond(486, "Busy Here"));
    t.edge.wait_refused("stray_response", 1);
    t.client.expect_nothing(&t.edge);
}

#[test]
fn a_request_other_than_invite_that_is_answered_503_goes_to_the_next_server_without_an_ack() {
    let mut t = two("");
    t.client.send(&request("REGISTER", "sip:example.com"));
    let (first, got) = t.receive();
    t.pbx[first].send(&got.respond(503, "Service Unavailable"));
    let again = t.pbx[1 - first].expect("REGISTER");
    t.pbx[1 - first].send(&again.respond(200, "OK"));
    t.client.expect_status(200);
    t.pbx[first].expect_nothing(&t.edge);
}

#[test]
fn after_a_provisional_response_a_request_stays_where_it_is() {
    let mut t = two("");
    t.client.send(&request("INVITE", "sip:bob@example.com"));
    t.client.expect_status(100);
    let (first, got) = t.receive();
    t.pbx[first].send(&got.respond(180, "Ringing"));
    t.client.expect_status(180);
    t.pbx[first].send(&got.respond(503, "Service Unavailable").with("X-From", "server"));
    assert_eq!(t.client.expect_status(503).get("X-From"), "server");
    t.pbx[1 - first].expect_nothing(&t.edge);

    // A 100 is a provisional response, too; and a reset changes nothing for a server that is back at once.
    t.client.send(&request("INVITE", "sip:bob@example.com"));
    t.client.expect_status(100);
    let (first, got) = t.receive();
    t.pbx[first].send(&got.respond(100, "Trying"));
    t.pbx[first].expect_nothing(&t.edge);
    t.reset(first);
    t.pbx[first].send(&got.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    t.client.expect_status(200);
    t.pbx[1 - first].expect_nothing(&t.edge);
    assert_eq!(t.edge.metric("sipws_failovers_total"), 0);
}

#[test]
fn a_request_that_a_server_began_to_answer_ends_with_503_when_the_server_is_gone() {
    let mut b = bridged("");
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    b.pbx.send(&got.respond(180, "Ringing"));
    b.client.expect_status(180);
    let Bridged { edge: _edge, server, mut pbx, mut client } = b;
    drop(server);
    pbx.reset();
    assert!(client.expect_status(503).header("Retry-After").is_some());
}

#[test]
fn when_no_server_is_left_the_client_is_told_503_and_when_to_come_back() {
    let mut t = two("");
    t.client.send(&request("MESSAGE", "sip:bob@example.com"));
    for _ in 0..2 {
        let (i, got) = t.receive();
        t.pbx[i].send(&got.respond(503, "Out of Order"));
    }
    let answer = t.client.expect_status(503);
    assert_eq!(answer.reason(), "Service Unavailable", "our own");
    assert!(answer.get("Retry-After").parse::<u32>().unwrap() > 0);
    t.edge.wait_metric("sipws_requests_in_flight", 0);
}

#[test]
fn the_only_servers_own_503_is_passed() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    b.pbx.send(&got.respond(503, "Out of Order"));
    assert_eq!(b.client.expect_status(503).reason(), "Out of Order");
}

#[test]
fn without_an_upstream_every_request_is_answered_503() {
    let edge = start("");
    assert!(edge.ready().is_err());
    let mut client = WsClient::open(&edge);
    let sent = request("INVITE", "sip:bob@example.com");
    client.send(&sent);
    let answer = client.expect_status(503);
    assert!(answer.header("Retry-After").is_some());
    client.send(&sent.ack_of(&answer));
    client.expect_nothing(&edge);
    assert_eq!(edge.refused("no_upstream"), 1);
}

#[test]
fn a_server_that_refuses_connections_is_passed_over() {
    let (dead, alive) = (SipServer::start(), SipServer::start());
    let names = upstreams(&[&dead, &alive]);
    let gone = up(&dead);
    drop(dead);
    let edge = start(&names);
    let mut pbx = alive.accept();
    edge.wait_metric(&up(&alive), 1);
    let mut client = WsClient::open(&edge);
    for _ in 0..20 {
        let sent = request("MESSAGE", "sip:bob@example.com");
        client.send(&sent);
        let got = pbx.expect("MESSAGE");
        assert_eq!(got.get("Call-ID"), sent.get("Call-ID"));
    }
    assert_eq!(edge.metric(&gone), 0);
    assert!(edge.ready().is_ok());
}

#[test]
fn a_server_that_goes_down_is_missed_and_used_again_when_it_is_back() {
    let b = bridged("");
    let (address, sample) = (b.server.address(), up(&b.server));
    let Bridged { edge, server, mut pbx, mut client } = b;
    drop(server);
    pbx.reset();
    wait_until("the upstream is missed", || edge.ready().is_err());
    edge.wait_metric(&sample, 0);
    // Between two attempts to connect a request may be kept for the next one; it is answered all the same.
    client.send(&request("MESSAGE", "sip:bob@example.com"));
    assert!(client.expect_status(503).header("Retry-After").is_some());

    let server = SipServer::on(address);
    let mut pbx = server.accept();
    edge.wait_metric(&sample, 1);
    assert!(edge.ready().is_ok());
    client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = pbx.expect("MESSAGE");
    pbx.send(&got.respond(200, "OK"));
    client.expect_status(200);
}

#[test]
fn requests_queued_for_a_connection_that_fails_go_to_the_next_server() {
    // Two TLS servers that have accepted and say nothing: requests wait for either's handshake.
    let authority = Authority::new();
    let files = Scratch::new();
    let tls = authority.issue("127.0.0.1").server_config();
    let (fails, works) = (SipServer::start(), SipServer::start());
    let toml = format!(
        "timeouts.connect = \"1m\"\nsip.ca = \"{}\"\n[[upstream]]\nuri = \"sips:{}\"\n[[upstream]]\nuri = \"sips:{}\"\n",
        files.file("ca.pem", &authority.pem()),
        fails.address(),
        works.address()
    );
    let edge = start(&toml);
    let (mut silent, other) = (fails.accept(), works.accept());
    let mut client = WsClient::open(&edge);
    let mut ids = Vec::new();
    for _ in 0..16 {
        let sent = request("MESSAGE", "sip:bob@example.com");
        client.send(&sent);
        ids.push(sent.get("Call-ID").to_owned());
    }
    edge.wait_metric("sipws_requests_in_flight", 16);
    drop(fails);
    silent.reset();
    wait_until("some of them move", || edge.metric("sipws_failovers_total") > 0);
    let mut pbx = SipConnection { stream: other.stream.tls_server(tls).unwrap() };
    let mut arrived: Vec<_> = (0..16).map(|_| pbx.expect("MESSAGE").get("Call-ID").to_owned()).collect();
    ids.sort();
    arrived.sort();
    assert_eq!(arrived, ids);
}

#[test]
fn an_invite_that_is_cancelled_while_its_server_fails_is_answered_487() {
    let mut t = two("");
    let sent = request("INVITE", "sip:bob@example.com");
    t.client.send(&sent);
    t.client.expect_status(100);
    let (first, _) = t.receive();
    t.client.send(&sent.cancel());
    t.pbx[first].expect("CANCEL");
    t.reset(first);
    let mut answers = [t.client.receive(), t.client.receive()].map(|a| (a.status(), a.get("CSeq").to_owned()));
    answers.sort();
    assert_eq!(answers, [(200, "1 CANCEL".to_owned()), (487, "1 INVITE".to_owned())]);
    t.pbx[1 - first].expect_nothing(&t.edge);
}

#[test]
fn a_cancelled_invite_that_is_answered_503_goes_nowhere_else() {
    let mut t = two("");
    let sent = request("INVITE", "sip:bob@example.com");
    t.client.send(&sent);
    t.client.expect_status(100);
    let (first, got) = t.receive();
    t.client.send(&sent.cancel());
    let cancel = t.pbx[first].expect("CANCEL");
    t.pbx[first].send(&cancel.respond(200, "OK"));
    t.client.expect_status(200);
    t.pbx[first].send(&got.respond(503, "Service Unavailable"));
    t.client.expect_status(503);
    t.pbx[1 - first].expect_nothing(&t.edge);
}

#[test]
fn a_request_that_nobody_answers_ends_with_408() {
    let mut b = bridged("timeouts.request = \"1s\"");
    let sent = request("MESSAGE", "sip:bob@example.com");
    b.client.send(&sent);
    let got = b.pbx.expect("MESSAGE");
    assert_eq!(b.client.expect_status(408).get("Call-ID"), sent.get("Call-ID"));
    assert_eq!(b.edge.refused("timeout"), 1);
    // Too late.
    b.pbx.send(&got.respond(200, "OK"));
    b.edge.wait_refused("stray_response", 1);

    let invite = request("INVITE", "sip:bob@example.com");
    b.client.send(&invite);
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    let timeout = b.client.expect_status(408);
    b.client.send(&invite.ack_of(&timeout));
    // A late 200 makes a call all the same (RFC 3261 §16.7 step 5).
    b.pbx.send(&got.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    b.client.expect_status(200);
}

#[test]
fn timer_c_waits_longer_than_a_request_that_nobody_answers() {
    let mut b = bridged("timeouts.request = \"1s\"");
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    b.client.expect_status(100);
    let ringing = b.pbx.expect("INVITE");
    b.pbx.send(&ringing.respond(180, "Ringing"));
    b.client.expect_status(180);
    // When this later one has run out, the INVITE that rings would have, too.
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    b.pbx.expect("MESSAGE");
    assert_eq!(b.client.expect_status(408).get("CSeq"), "1 MESSAGE");
    b.pbx.expect_nothing(&b.edge);
    b.pbx.send(&ringing.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    assert_eq!(b.client.expect_status(200).get("CSeq"), "1 INVITE");
}

#[test]
fn a_request_in_a_dialog_goes_to_no_other_server() {
    let mut t = two("");
    let sent = request("INVITE", "sip:bob@example.com");
    t.client.send(&sent);
    t.client.expect_status(100);
    let (first, got) = t.receive();
    t.pbx[first].send(&got.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    let mut dialog = Dialog::of_caller(&sent, &t.client.expect_status(200));
    t.client.send(&dialog.request("ACK"));
    t.pbx[first].expect("ACK");
    // 503: the dialog's own server has spoken.
    t.client.send(&dialog.request("INFO"));
    let info = t.pbx[first].expect("INFO");
    t.pbx[first].send(&info.respond(503, "Out of Order"));
    assert_eq!(t.client.expect_status(503).reason(), "Out of Order");
    // Reset: nobody else knows what it is about.
    t.client.send(&dialog.request("INFO"));
    t.pbx[first].expect("INFO");
    t.reset(first);
    assert!(t.client.expect_status(503).header("Retry-After").is_some());
    t.pbx[1 - first].expect_nothing(&t.edge);
}
