//! The edge as a trust boundary: who may say what, and to whom.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;

use common::*;
use sipws::bridge::TokenKeys;

const ASSERTED: [&str; 10] = [
    "P-Asserted-Identity",
    "P-Asserted-Service",
    "Remote-Party-ID",
    "P-Charging-Vector",
    "P-Charging-Function-Addresses",
    "P-Visited-Network-ID",
    "P-Profile-Key",
    "P-Served-User",
    "P-User-Database",
    "P-Called-Party-ID",
];

/// With every name that is asserted, one of them twice and in another case.
fn asserting(message: Builder) -> Builder {
    let message = message.on_top("p-ASSERTED-identity", "<sip:king@example.com>");
    ASSERTED.iter().fold(message, |m, name| m.with(name, "<sip:king@example.com>"))
}

fn asserted(message: &Sip) -> Vec<String> {
    let of = |name: &str| ASSERTED.iter().any(|a| a.eq_ignore_ascii_case(name));
    message.headers.iter().filter(|(n, _)| of(n)).map(|(n, _)| n.clone()).collect()
}

#[test]
fn what_a_client_asserts_is_removed_from_its_requests_and_responses() {
    let mut b = bridged("");
    let r = register(&mut b.client, &mut b.pbx);
    let preferred = ("P-Preferred-Identity", "<sip:alice@example.com>");
    let with_preferred = |m: Builder| asserting(m).with(preferred.0, preferred.1).with("Privacy", "id");
    b.client.send(&with_preferred(request("MESSAGE", "sip:bob@example.com")));
    let got = b.pbx.expect("MESSAGE");
    assert_eq!(asserted(&got), [""; 0]);
    assert_eq!(got.get(preferred.0), preferred.1);
    assert_eq!(got.get("Privacy"), "id");
    let message = b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path);
    b.pbx.send(&message);
    let got = b.client.expect("MESSAGE");
    b.client.send(&with_preferred(got.respond(200, "OK")));
    let answer = b.pbx.expect_status(200);
    assert_eq!(asserted(&answer), [""; 0]);
    assert_eq!(answer.get("Privacy"), "id");
}

#[test]
fn what_a_server_asserts_reaches_the_client() {
    let mut b = bridged("");
    let r = register(&mut b.client, &mut b.pbx);
    let message = asserting(b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path));
    b.pbx.send(&message);
    assert_eq!(asserted(&b.client.expect("MESSAGE")).len(), 11);
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    b.pbx.send(&asserting(got.respond(200, "OK")));
    assert_eq!(asserted(&b.client.expect_status(200)).len(), 11);
}

#[test]
fn only_trusted_addresses_and_those_of_the_upstreams_may_connect_to_our_sip_listener() {
    let b = bridged("sip.trusted = [\"127.0.0.7\"]");
    let connect = |from: &str| {
        let from: SocketAddr = format!("{from}:0").parse().unwrap();
        let url = b.edge.sip_urls()[0].clone();
        let stream = Handshake { from: Some(from), ..Handshake::default() }.connect(&url).unwrap();
        SipConnection { stream }
    };
    let mut stranger = connect("127.0.0.2");
    assert!(stranger.is_closed());
    assert_eq!(b.edge.refused("untrusted_source"), 1);
    // One that is listed, and the upstream's own address.
    for from in ["127.0.0.7", "127.0.0.1"] {
        connect(from).expect_nothing(&b.edge);
    }
}

#[test]
fn a_forged_token_leads_nowhere() {
    let mut b = bridged("");
    let r = register(&mut b.client, &mut b.pbx);
    let flip = |c: char| if c == 'A' { 'B' } else { 'A' };
    // At 0 stands the version: what is left is no token at all. Any other is taken for one of a former secret.
    for (at, outside_is, inside_is) in [(0, 404, 481), (10, 430, 430), (20, 430, 430), (35, 430, 430)] {
        let forged: String = r.token.char_indices().map(|(i, c)| if i == at { flip(c) } else { c }).collect();
        let path = r.path.replace(&r.token, &forged);
        let outside = b.pbx.request("INVITE", &r.contact).on_top("Route", &path);
        b.pbx.send(&outside);
        b.pbx.expect_status(outside_is);
        let inside = outside.set("To", "<sip:alice@example.com>;tag=1");
        b.pbx.send(&inside.set("Via", &format!("{};branch=z9hG4bK{}", b.pbx.via(), unique("in"))));
        b.pbx.expect_status(inside_is);
        let as_uri = b.pbx.request("MESSAGE", &format!("sip:{forged}@{}", b.edge.sip_authority()));
        b.pbx.send(&as_uri);
        b.pbx.expect_status(outside_is);
    }
    assert_eq!((b.edge.refused("no_token"), b.edge.refused("no_dialog"), b.edge.refused("stale_token")), (2, 1, 9));
    // A genuine one in a URI that is not ours.
    let elsewhere = b.pbx.request("MESSAGE", &format!("sip:{}@192.0.2.1:5060", r.token));
    b.pbx.send(&elsewhere);
    b.pbx.expect_status(404);
    b.client.expect_nothing(&b.edge);
}

#[test]
fn a_token_is_believed_if_a_current_or_previous_secret_signed_it_for_this_node() {
    let secrets = ["the current secret", "the previous secret", "a secret of others"];
    let toml =
        format!("[cluster]\nnode = \"edge1\"\nsecret = \"{}\"\nprevious_secrets = [\"{}\"]\n", secrets[0], secrets[1]);
    let mut b = bridged(&toml);
    let r = register(&mut b.client, &mut b.pbx);
    let claim = TokenKeys::new("edge1", secrets[0].as_bytes(), &[]).verify(r.token.as_bytes()).unwrap();
    for (node, secret, status) in [
        ("edge1", secrets[0], None),
        ("edge1", secrets[1], None),
        ("edge1", secrets[2], Some(430)),
        // The flow of another node, which can't be reached from here.
        ("edge2", secrets[0], Some(430)),
    ] {
        let token = TokenKeys::new(node, secret.as_bytes(), &[]).token(claim.flow, claim.epoch);
        let message = b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path.replace(&r.token, &token));
        b.pbx.send(&message);
        match status {
            None => assert_eq!(b.client.expect("MESSAGE").get("Call-ID"), message.get("Call-ID")),
            Some(status) => {
                b.pbx.expect_status(status);
            }
        }
    }
}

#[test]
fn a_request_in_another_clients_dialog_is_answered_403_and_one_in_none_481() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    let mut thief = WsClient::open(&b.edge);
    for method in ["BYE", "INVITE", "INFO"] {
        thief.send(&call.client.request(method));
        thief.expect_status(403);
    }
    thief.send(&call.client.request("ACK"));
    b.edge.wait_refused("foreign_dialog", 4);
    for routes in [vec![], vec![call.client.routes[0].clone()], vec!["<sip:pbx.example.com;lr>".to_owned()]] {
        let without = Dialog { routes, ..call.client.clone() }.request("BYE");
        thief.send(&without);
        thief.expect_status(481);
    }
    thief.send(&Dialog { routes: vec![], ..call.client.clone() }.request("ACK"));
    b.edge.wait_refused("no_dialog", 4);
    let forged = Dialog { routes: vec![call.client.routes[1].replacen("sip:", "sip:x", 1)], ..call.client.clone() };
    thief.send(&forged.clone().request("BYE"));
    thief.expect_status(481);
    b.pbx.expect_nothing(&b.edge);
    // The call goes on.
    b.client.send(&call.client.request("BYE"));
    b.pbx.expect("BYE");
}

#[test]
fn nobody_cancels_anothers_invite() {
    let mut b = bridged("");
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    b.client.expect_status(100);
    let invite = b.pbx.expect("INVITE");
    let mut thief = WsClient::open(&b.edge);
    thief.send(&sent.cancel());
    thief.expect_status(481);
    b.pbx.expect_nothing(&b.edge);
    b.pbx.send(&invite.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    b.client.expect_status(200);
}

#[test]
fn a_client_cannot_reach_another_client_past_the_server() {
    let mut b = bridged("");
    let mut other = WsClient::open(&b.edge);
    let r = register(&mut other, &mut b.pbx);
    let by_route = request("MESSAGE", &r.contact).with("Route", &r.path);
    b.client.send(&by_route);
    b.pbx.expect("MESSAGE");
    let by_uri = request("MESSAGE", &format!("sip:{}@{}", r.token, b.edge.sip_authority()));
    b.client.send(&by_uri);
    b.pbx.expect("MESSAGE");
    other.expect_nothing(&b.edge);
}

#[test]
fn a_response_that_answers_nothing_is_dropped_and_counted() {
    let mut b = bridged("");
    let r = register(&mut b.client, &mut b.pbx);
    let message = b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path);
    b.pbx.send(&message);
    let got = b.client.expect("MESSAGE");
    let answer = got.respond(200, "OK");
    // Another branch; a Via of somebody else's; another method; no request at all.
    let branch = got.branch();
    let forged = if &branch[20..21] == "A" { "B" } else { "A" };
    let other_branch = answer.text().replace(&branch, &format!("{}{forged}{}", &branch[..20], &branch[21..]));
    b.client.send_text(&other_branch);
    b.client.send(&request("MESSAGE", "sip:a@b").sip().respond(200, "OK"));
    b.client.send(&answer.clone().set("CSeq", "1 INVITE"));
    b.edge.wait_refused("stray_response", 3);
    b.pbx.expect_nothing(&b.edge);
    b.client.send(&answer);
    b.pbx.expect_status(200);
    b.client.send(&answer);
    b.edge.wait_refused("stray_response", 4);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn a_response_to_another_clients_request_is_dropped() {
    let mut b = bridged("");
    let r = register(&mut b.client, &mut b.pbx);
    let invite = b.pbx.request("INVITE", &r.contact).on_top("Route", &r.path);
    b.pbx.send(&invite);
    b.pbx.expect_status(100);
    let got = b.client.expect("INVITE");
    let mut thief = WsClient::open(&b.edge);
    thief.send(&got.respond(200, "OK").with("Contact", "<sip:thief@example.com>"));
    b.edge.wait_refused("stray_response", 1);
    b.pbx.expect_nothing(&b.edge);
    b.client.send(&got.respond(486, "Busy Here"));
    b.pbx.expect_status(486);
}

#[test]
fn a_response_to_ones_own_request_is_no_answer() {
    // A client that answers the INVITE it sent itself, with the branch that the edge gave it.
    let mut b = bridged("");
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    b.client.send(&got.respond(200, "OK"));
    b.edge.wait_refused("stray_response", 1);
    b.client.expect_nothing(&b.edge);
    b.pbx.expect_nothing(&b.edge);
}
