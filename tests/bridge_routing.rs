//! Which server a request goes to: rendezvous hashing outside dialogs, the dialog's own server inside; and servers that
//! come and go by a reload.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use common::*;
use sipws::bridge::rendezvous;

/// An edge in front of several servers, all up.
struct Several {
    edge: Edge,
    servers: Vec<SipServer>,
    pbx: Vec<SipConnection>,
    client: WsClient,
}

fn several(count: usize, toml: &str) -> Several {
    let servers: Vec<_> = (0..count).map(|_| SipServer::start()).collect();
    let edge = start(&format!("{toml}\n{}", upstreams(&servers.iter().collect::<Vec<_>>())));
    let pbx = servers.iter().map(SipServer::accept).collect();
    wait_up(&edge, &servers);
    let client = WsClient::open(&edge);
    Several { edge, servers, pbx, client }
}

fn wait_up(edge: &Edge, servers: &[SipServer]) {
    for server in servers {
        edge.wait_metric(&format!("sipws_upstream_up{{target=\"{}\"}}", server.uri()), 1);
    }
}

/// The server that should get what has `key`, by the public function and these weights.
fn expected(key: &str, servers: &[SipServer], weights: &[u32]) -> usize {
    let key = rendezvous::hash(key.as_bytes(), 0);
    let score = |i: usize| rendezvous::score(key, rendezvous::hash(servers[i].uri().as_bytes(), 0), weights[i]);
    (0..servers.len()).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap()
}

impl Several {
    /// The next message of any server's connection, and whose it is.
    #[track_caller]
    fn receive(&mut self) -> (usize, Sip) {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            for (i, pbx) in self.pbx.iter_mut().enumerate() {
                if let Ok(Some(message)) = pbx.try_receive(Duration::from_millis(2)) {
                    return (i, message);
                }
            }
        }
        panic!("no server gets a message");
    }

    /// Where a request goes; it is answered.
    #[track_caller]
    fn place(&mut self, message: &Builder) -> usize {
        self.client.send(message);
        let (i, got) = self.receive();
        self.pbx[i].send(&got.respond(200, "OK"));
        self.client.expect_status(200);
        i
    }
}

#[test]
fn calls_are_spread_by_their_call_id() {
    let mut s = several(3, "");
    let mut used = HashSet::new();
    for _ in 0..40 {
        let message = request("MESSAGE", "sip:bob@example.com");
        let place = s.place(&message);
        assert_eq!(place, expected(message.get("Call-ID"), &s.servers, &[1, 1, 1]));
        used.insert(place);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn the_same_call_id_goes_to_the_same_server_whoever_sends_it() {
    let mut s = several(3, "");
    for _ in 0..10 {
        let id = unique("same");
        let message = || request("MESSAGE", "sip:bob@example.com").set("Call-ID", &id);
        let place = s.place(&message());
        assert_eq!(s.place(&message()), place);
        s.client = WsClient::open(&s.edge);
        assert_eq!(s.place(&message()), place);
    }
}

#[test]
fn a_servers_share_is_as_large_as_its_weight() {
    let servers = [SipServer::start(), SipServer::start()];
    let weights = [1, 1000];
    let tables = servers.iter().zip(weights);
    let toml: String = tables.map(|(s, w)| format!("[[upstream]]\nuri = \"{}\"\nweight = {w}\n", s.uri())).collect();
    let edge = start(&toml);
    let pbx = servers.iter().map(SipServer::accept).collect();
    wait_up(&edge, &servers);
    let client = WsClient::open(&edge);
    let mut s = Several { edge, servers: servers.into(), pbx, client };
    let mut heavy = 0;
    for _ in 0..60 {
        let message = request("MESSAGE", "sip:bob@example.com");
        let place = s.place(&message);
        assert_eq!(place, expected(message.get("Call-ID"), &s.servers, &weights));
        heavy += place;
    }
    assert!(heavy > 50, "{heavy} of 60");
}

#[test]
fn with_hash_from_a_clients_requests_all_go_to_one_server() {
    let mut s = several(3, "routing.hash = \"from\"");
    for user in ["alice", "bob", "carol", "dave"] {
        let uri = format!("sip:{user}@example.com");
        for callee in ["sip:x@example.com", "sip:y@example.com", "sip:z@example.com"] {
            let message = request("MESSAGE", callee).set("From", &format!("\"{callee}\" <{uri}>;tag={}", unique("t")));
            assert_eq!(s.place(&message), expected(&uri, &s.servers, &[1, 1, 1]));
        }
    }
}

#[test]
fn with_hash_to_all_requests_for_one_callee_go_to_one_server() {
    let mut s = several(3, "routing.hash = \"to\"");
    for callee in ["sip:w@example.com", "sip:x@example.com", "sip:y@example.com", "sip:z@example.com"] {
        for user in ["alice", "bob", "carol"] {
            let message = request("MESSAGE", callee).set("From", &format!("<sip:{user}@example.com>;tag=1"));
            assert_eq!(s.place(&message), expected(callee, &s.servers, &[1, 1, 1]));
        }
    }
}

#[test]
fn only_the_share_of_a_server_that_is_down_moves_and_it_comes_back() {
    let mut s = several(3, "");
    let ids: Vec<_> = (0..30).map(|_| unique("id")).collect();
    let message = |id: &str| request("MESSAGE", "sip:bob@example.com").set("Call-ID", id);
    let before: Vec<_> = ids.iter().map(|id| s.place(&message(id))).collect();
    let gone = before[0];
    let address = s.servers[gone].address();
    let sample = format!("sipws_upstream_up{{target=\"{}\"}}", s.servers[gone].uri());
    // Another socket in its place, for the time being.
    s.servers[gone] = SipServer::start();
    s.pbx[gone].reset();
    s.edge.wait_metric(&sample, 0);
    for (id, before) in ids.iter().zip(&before) {
        let now = s.place(&message(id));
        assert!(if *before == gone { now != gone } else { now == *before }, "{before} {now}");
    }
    s.servers[gone] = SipServer::on(address);
    s.pbx[gone] = s.servers[gone].accept();
    s.edge.wait_metric(&sample, 1);
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(s.place(&message(id)), before);
    }
}

#[test]
fn requests_in_a_clients_call_stay_with_its_server_when_another_would_be_chosen() {
    // A server that comes back, and would win the Call-ID, does not win its running call.
    let mut s = several(2, "");
    let id = (0..).map(|_| unique("id")).find(|id| expected(id, &s.servers, &[1, 1]) == 0).unwrap();
    let address = s.servers[0].address();
    let sample = format!("sipws_upstream_up{{target=\"{}\"}}", s.servers[0].uri());
    s.servers[0] = SipServer::start();
    s.pbx[0].reset();
    s.edge.wait_metric(&sample, 0);
    let sent = request("INVITE", "sip:bob@example.com").set("Call-ID", &id);
    s.client.send(&sent);
    s.client.expect_status(100);
    let got = s.pbx[1].expect("INVITE");
    s.pbx[1].send(&got.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    let mut dialog = Dialog::of_caller(&sent, &s.client.expect_status(200));
    s.servers[0] = SipServer::on(address);
    s.pbx[0] = s.servers[0].accept();
    s.edge.wait_metric(&sample, 1);
    for method in ["ACK", "INFO", "BYE"] {
        s.client.send(&dialog.request(method));
        s.pbx[1].expect(method);
    }
    let outside = request("MESSAGE", "sip:bob@example.com").set("Call-ID", &id);
    assert_eq!(s.place(&outside), 0, "the hash says otherwise");
}

#[test]
fn requests_in_a_servers_call_go_to_the_server_that_called() {
    let mut s = several(2, "");
    s.client.send(&request("REGISTER", "sip:example.com"));
    let (i, got) = s.receive();
    let answer = got.respond(200, "OK").with("Contact", got.get("Contact")).with("Path", got.get("Path"));
    s.pbx[i].send(&answer);
    s.client.expect_status(200);
    let (path, contact) = (got.get("Path").to_owned(), uri_of(got.get("Contact")).to_owned());
    let mut against = 0;
    for n in 0..20 {
        let (who, on_listener, recorded) = (n % 2, n % 4 > 1, n % 8 > 3);
        let mut own;
        let address = s.servers[who].address();
        let pbx = if on_listener {
            own = SipConnection::connect(s.edge.sip_address(0));
            &mut own
        } else {
            &mut s.pbx[who]
        };
        let mut invite = pbx.request("INVITE", &contact).on_top("Route", &path);
        invite = match (on_listener, recorded) {
            (true, true) => invite.with("Record-Route", &format!("<sip:{address};transport=tcp;lr>")),
            (true, false) => invite.set("Contact", &format!("<sip:pbx@{address};transport=tcp>")),
            // The connection itself says whose call it is.
            (false, _) => invite.set("Contact", "<sip:pbx@nowhere.invalid>"),
        };
        pbx.send(&invite);
        pbx.expect_status(100);
        let got = s.client.expect("INVITE");
        let answer = got.respond(200, "OK").with("Contact", &format!("<{contact}>"));
        s.client.send(&answer);
        pbx.expect_status(200);
        let mut dialog = Dialog::of_callee(&got, &answer, "SIP/2.0/WS callee.invalid");
        s.client.send(&dialog.request("BYE"));
        let (place, bye) = s.receive();
        assert_eq!(place, who, "on our listener: {on_listener}, record-routed: {recorded}");
        s.pbx[place].send(&bye.respond(200, "OK"));
        s.client.expect_status(200);
        against += usize::from(expected(invite.get("Call-ID"), &s.servers, &[1, 1]) != who);
    }
    assert!(against > 0, "the hash agreed with all of them");
}

#[test]
fn several_connections_to_one_server_share_the_flows_and_keep_each_in_order() {
    let server = SipServer::start();
    let edge = start(&format!("{}connections = 3\n", upstreams(&[&server])));
    let pbx = (0..3).map(|_| server.accept()).collect();
    edge.wait_metric(&format!("sipws_upstream_connections{{target=\"{}\"}}", server.uri()), 3);
    let client = WsClient::open(&edge);
    let mut s = Several { edge, servers: vec![server], pbx, client };
    let mut used = HashSet::new();
    for _ in 0..6 {
        s.client = WsClient::open(&s.edge);
        let messages: Vec<_> = (0..5).map(|_| request("MESSAGE", "sip:bob@example.com")).collect();
        for message in &messages {
            s.client.send(message);
        }
        let (first, got) = s.receive();
        assert_eq!(got.get("Call-ID"), messages[0].get("Call-ID"));
        for message in &messages[1..] {
            assert_eq!(s.pbx[first].expect("MESSAGE").get("Call-ID"), message.get("Call-ID"));
        }
        used.insert(first);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn a_reload_adds_a_server_and_keeps_the_connections_of_the_others() {
    let mut s = several(1, "");
    let new = SipServer::start();
    let toml = upstreams(&[&s.servers[0], &new]);
    assert_eq!(s.edge.reload(config(&toml)).unwrap(), [""; 0]);
    s.pbx.push(new.accept());
    s.servers.push(new);
    wait_up(&s.edge, &s.servers);
    let mut used = HashSet::new();
    for _ in 0..20 {
        let message = request("MESSAGE", "sip:bob@example.com");
        let place = s.place(&message);
        assert_eq!(place, expected(message.get("Call-ID"), &s.servers, &[1, 1]));
        used.insert(place);
    }
    assert_eq!(used.len(), 2);
    assert!(s.servers[0].is_left_alone(Duration::from_millis(20)), "it has its connection already");
}

#[test]
fn a_reload_takes_a_server_away_that_may_still_answer_what_it_was_asked() {
    let mut s = several(2, "");
    let first = (0..).map(|_| unique("id")).find(|id| expected(id, &s.servers, &[1, 1]) == 0).unwrap();
    s.client.send(&request("MESSAGE", "sip:bob@example.com").set("Call-ID", &first));
    let asked = s.pbx[0].expect("MESSAGE");
    s.edge.reload(config(&upstreams(&[&s.servers[1]]))).unwrap();
    for _ in 0..10 {
        assert_eq!(s.place(&request("MESSAGE", "sip:bob@example.com")), 1);
    }
    assert_eq!(s.place(&request("MESSAGE", "sip:bob@example.com").set("Call-ID", &first)), 1);
    s.pbx[0].send(&asked.respond(200, "OK"));
    assert_eq!(s.client.expect_status(200).get("Call-ID"), first);
}

#[test]
fn a_call_stays_with_its_server_when_a_reload_takes_that_away() {
    let mut s = several(2, "");
    let first = (0..).map(|_| unique("id")).find(|id| expected(id, &s.servers, &[1, 1]) == 0).unwrap();
    let invite = request("INVITE", "sip:bob@example.com").set("Call-ID", &first);
    s.client.send(&invite);
    s.client.expect_status(100);
    let arrived = s.pbx[0].expect("INVITE");
    // A contact that says nothing of the server: only the route does.
    s.pbx[0].send(&arrived.respond(200, "OK").with("Contact", "<sip:bob@192.0.2.1>"));
    let mut dialog = Dialog::of_caller(&invite, &s.client.expect_status(200));
    s.edge.reload(config(&upstreams(&[&s.servers[1]]))).unwrap();
    s.client.send(&dialog.request("ACK"));
    s.pbx[0].expect("ACK");
    s.client.send(&dialog.request("BYE"));
    let bye = s.pbx[0].expect("BYE");
    s.pbx[0].send(&bye.respond(200, "OK"));
    s.client.expect_status(200);
}

#[test]
fn a_server_that_is_wanted_again_is_taken_back_with_its_connection() {
    let s = several(2, "");
    let both = upstreams(&s.servers.iter().collect::<Vec<_>>());
    let sample = format!("sipws_upstream_connections{{target=\"{}\"}}", s.servers[0].uri());
    s.edge.reload(config(&upstreams(&[&s.servers[1]]))).unwrap();
    assert_eq!(s.edge.metric(&sample), 1, "it keeps its dialogs");
    s.edge.reload(config(&both)).unwrap();
    assert_eq!(s.edge.metric(&sample), 1);
    assert!(s.servers[0].is_left_alone(Duration::from_millis(20)), "it has its connection already");
    // The same server with another weight is another target, beside the one that leaves.
    s.edge.reload(config(&both.replacen("]]\n", "]]\nweight = 3\n", 1))).unwrap();
    s.servers[0].accept();
    s.edge.wait_metric(&sample, 2);
}

#[test]
fn a_reload_says_what_needs_a_restart_and_refuses_what_is_wrong() {
    let mut s = several(1, "");
    let same = upstreams(&[&s.servers[0]]);
    let changed = config(&format!("limits.strikes = 7\nrouting.hash = \"to\"\n{same}"));
    assert_eq!(s.edge.reload(changed).unwrap(), ["limits.strikes", "routing.hash"]);
    let tls = config(&format!("{same}[[upstream]]\nuri = \"sips:127.0.0.1:1\"\n"));
    assert_eq!(s.edge.reload(tls).unwrap(), ["upstream"], "TLS towards servers is set up at start");
    let mut wrong = config(&upstreams(&[]));
    wrong.limits.in_flight = 0;
    let error = s.edge.reload(wrong).unwrap_err().to_string();
    assert!(error.contains("limits.in_flight"), "{error}");
    assert_eq!(s.place(&request("MESSAGE", "sip:bob@example.com")), 0, "nothing has changed");
}
