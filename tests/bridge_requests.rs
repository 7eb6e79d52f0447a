//! What the bridge does to a client's request on its way to a SIP server, and to the responses that come back.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::*;

#[test]
fn a_request_goes_up_and_its_response_comes_down() {
    let mut b = bridged("");
    let sent = request("MESSAGE", "sip:bob@example.com").body("text/plain", b"hello");
    b.client.send(&sent);
    let got = b.pbx.expect("MESSAGE");
    assert_eq!(got.uri(), "sip:bob@example.com");
    assert_eq!(got.body, b"hello");
    b.pbx.send(&got.respond(200, "Fine").with("Server", "pbx"));
    let answer = b.client.expect_status(200);
    assert_eq!(answer.reason(), "Fine");
    assert_eq!(answer.get("Server"), "pbx");
    assert_eq!(answer.get("CSeq"), "1 MESSAGE");
    b.edge.wait_metric("sipws_requests_in_flight", 0);
}

#[test]
fn max_forwards_goes_down_by_one() {
    let mut b = bridged("");
    for (sent, arrives) in [("70", "69"), ("1", "0"), ("255", "254")] {
        b.client.send(&request("MESSAGE", "sip:bob@example.com").set("Max-Forwards", sent));
        assert_eq!(b.pbx.expect("MESSAGE").fields("Max-Forwards"), [arrives]);
    }
}

#[test]
fn an_absent_max_forwards_is_put_in_as_70() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com").without("Max-Forwards"));
    assert_eq!(b.pbx.expect("MESSAGE").fields("Max-Forwards"), ["70"]);
}

#[test]
fn a_request_out_of_hops_is_answered_483() {
    let mut b = bridged("");
    let sent = request("MESSAGE", "sip:bob@example.com").set("Max-Forwards", "0");
    b.client.send(&sent);
    let answer = b.client.expect_status(483);
    assert_eq!(answer.get("Call-ID"), sent.get("Call-ID"));
    assert_eq!(answer.get("Via"), sent.get("Via"));
    assert!(answer.tag("To").is_some());
    assert_eq!(b.edge.refused("too_many_hops"), 1);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn an_unknown_proxy_require_is_answered_420_with_what_is_unsupported() {
    let mut b = bridged("");
    b.client
        .send(&request("INVITE", "sip:bob@example.com").with("Proxy-Require", "foo, bar").with("Proxy-Require", "baz"));
    let answer = b.client.expect_status(420);
    assert_eq!(answer.all("Unsupported"), ["foo", "bar", "baz"]);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn a_request_that_was_here_before_is_answered_482() {
    let mut b = bridged("");
    let sent = request("MESSAGE", "sip:bob@example.com");
    b.client.send(&sent);
    let there = b.pbx.expect("MESSAGE");
    // As if the next hop had sent it back to the client, and the client to us.
    let mut again = sent.clone().set("Via", &format!("SIP/2.0/WS other.invalid;branch=z9hG4bK{}", unique("loop")));
    for via in there.all("Via") {
        again = again.with("Via", &via);
    }
    b.client.send(&again);
    b.client.expect_status(482);
    assert_eq!(b.edge.refused("loop"), 1);
    // A spiral, with another Request-URI, is none (RFC 3261 §16.3 step 4).
    again.start = "MESSAGE sip:carol@example.com SIP/2.0".to_owned();
    b.client.send(&again.set("Via", &format!("SIP/2.0/WS other.invalid;branch=z9hG4bK{}", unique("spiral"))));
    assert_eq!(b.pbx.expect("MESSAGE").uri(), "sip:carol@example.com");
}

#[test]
fn the_clients_via_says_where_it_really_is() {
    let mut b = bridged("");
    let port = b.client.local().port();
    for (sent, arrives) in [
        ("a.invalid;branch=z9hG4bKr1", "a.invalid;received=127.0.0.1;branch=z9hG4bKr1".to_owned()),
        ("a.invalid;branch=z9hG4bKr2;rport", format!("a.invalid;received=127.0.0.1;branch=z9hG4bKr2;rport={port}")),
        (
            "a.invalid;rport=1;received=192.0.2.1;branch=z9hG4bKr3",
            format!("a.invalid;rport={port};received=127.0.0.1;branch=z9hG4bKr3"),
        ),
    ] {
        b.client.send(&request("MESSAGE", "sip:bob@example.com").set("Via", &format!("SIP/2.0/WS {sent}")));
        let got = b.pbx.expect("MESSAGE");
        assert_eq!(got.all("Via")[1], format!("SIP/2.0/WS {arrives}"));
        b.pbx.send(&got.respond(200, "OK"));
        assert_eq!(b.client.expect_status(200).all("Via"), [format!("SIP/2.0/WS {arrives}")]);
    }
}

#[test]
fn our_via_stands_on_top_with_the_listeners_address() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    assert_eq!(got.all("Via").len(), 2);
    let branch = got.branch();
    assert_eq!(got.all("Via")[0], format!("SIP/2.0/TCP {};branch={branch}", b.edge.sip_authority()));
    assert!(branch.starts_with("z9hG4bK"), "{branch}");
    assert_eq!(got.headers[0].0, "Via", "{got:?}");
}

#[test]
fn our_via_says_what_is_advertised() {
    let mut b = bridged("sip.advertise = \"edge.example.com:5070\"");
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    let got = b.pbx.expect("INVITE");
    assert!(got.all("Via")[0].starts_with("SIP/2.0/TCP edge.example.com:5070;branch=z9hG4bK"), "{got:?}");
    assert!(got.all("Record-Route")[0].contains("@edge.example.com:5070;"), "{got:?}");
    b.pbx.send(&got.respond(486, "Busy Here"));
    b.client.expect_status(100);
    b.client.expect_status(486);
}

#[test]
fn requests_have_branches_of_their_own() {
    let mut b = bridged("");
    let mut branches = std::collections::HashSet::new();
    for _ in 0..50 {
        b.client.send(&request("MESSAGE", "sip:bob@example.com"));
        branches.insert(b.pbx.expect("MESSAGE").branch());
    }
    assert_eq!(branches.len(), 50);
    // The same branch from two clients is two transactions.
    let sent = request("MESSAGE", "sip:bob@example.com");
    let mut other = WsClient::open(&b.edge);
    b.client.send(&sent);
    let first = b.pbx.expect("MESSAGE").branch();
    other.send(&sent);
    assert_ne!(b.pbx.expect("MESSAGE").branch(), first);
}

#[test]
fn a_retransmission_is_not_passed_on() {
    let mut b = bridged("");
    let sent = request("MESSAGE", "sip:bob@example.com");
    b.client.send(&sent);
    b.client.send(&sent);
    b.pbx.expect("MESSAGE");
    b.edge.wait_refused("retransmission", 1);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn an_invite_is_answered_100_at_once_and_only_once() {
    let mut b = bridged("");
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    let trying = b.client.expect_status(100);
    assert_eq!(trying.tag("To"), None);
    assert_eq!(trying.get("CSeq"), "1 INVITE");
    let got = b.pbx.expect("INVITE");
    b.pbx.send(&got.respond(100, "Trying"));
    b.pbx.send(&got.respond(183, "Session Progress").with("X-Early", "yes"));
    b.pbx.send(&got.respond(180, "Ringing"));
    b.pbx.send(&got.respond(200, "OK").with("Contact", "<sip:bob@example.com>"));
    // The server's 100 would have come first.
    assert_eq!(b.client.expect_status(183).get("X-Early"), "yes");
    b.client.expect_status(180);
    let ok = b.client.expect_status(200);
    assert_eq!(ok.all("Via"), [sent.get("Via").replace(";branch", ";received=127.0.0.1;branch")]);
}

#[test]
fn a_request_other_than_invite_gets_no_100() {
    let mut b = bridged("");
    b.client.send(&request("SUBSCRIBE", "sip:bob@example.com").with("Event", "presence"));
    let got = b.pbx.expect("SUBSCRIBE");
    b.pbx.send(&got.respond(202, "Accepted"));
    b.client.expect_status(202);
}

#[test]
fn a_cancel_and_the_ack_of_a_failure_have_their_invites_branch() {
    let mut b = bridged("");
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    b.client.expect_status(100);
    let invite = b.pbx.expect("INVITE");
    b.pbx.send(&invite.respond(180, "Ringing"));
    b.client.expect_status(180);

    b.client.send(&sent.cancel());
    let cancel = b.pbx.expect("CANCEL");
    assert_eq!(cancel.branch(), invite.branch());
    assert_eq!(cancel.all("Via")[0], invite.all("Via")[0]);
    assert_eq!(cancel.uri(), invite.uri());
    b.pbx.send(&cancel.respond(200, "Cancelled"));
    b.pbx.send(&invite.respond(487, "Request Terminated"));
    let ok = b.client.expect_status(200);
    assert_eq!((ok.get("CSeq"), ok.reason()), ("1 CANCEL", "Cancelled"));
    let terminated = b.client.expect_status(487);

    b.client.send(&sent.ack_of(&terminated));
    let ack = b.pbx.expect("ACK");
    assert_eq!(ack.branch(), invite.branch());
    assert_eq!(ack.tag("To"), terminated.tag("To"));
    b.edge.wait_metric("sipws_requests_in_flight", 0);
}

#[test]
fn a_cancel_of_nothing_is_answered_481() {
    let mut b = bridged("");
    b.client.send(&request("INVITE", "sip:bob@example.com").cancel());
    assert_eq!(b.client.expect_status(481).get("CSeq"), "1 CANCEL");
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn a_cancel_that_comes_too_late_is_answered_here() {
    let mut b = bridged("");
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    b.client.expect_status(100);
    let invite = b.pbx.expect("INVITE");
    b.pbx.send(&invite.respond(486, "Busy Here"));
    b.client.expect_status(486);
    b.client.send(&sent.cancel());
    b.client.expect_status(200);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn our_own_routes_at_the_top_are_taken_out() {
    let mut b = bridged("");
    let own = b.edge.sip_authority();
    let first = format!("<sip:{};transport=ws;lr>", b.edge.websocket_address(0));
    let second = format!("<sip:{own};transport=tcp;lr>");
    let other = "<sip:proxy.example.com;lr>, <sip:next.example.com;lr>";
    let message = || request("MESSAGE", "sip:bob@example.com");
    for (case, sent, left) in [
        ("one field", message().with("Route", &first), ""),
        ("wss", message().with("Route", &first.replace("=ws", "=wss")), ""),
        ("two fields", message().with("Route", &first).with("Route", &second), ""),
        ("one field for both", message().with("Route", &format!("{first} , {second}")), ""),
        ("others behind, same field", message().with("Route", &format!("{first},{second}, {other}")), other),
        ("others behind, field of their own", message().with("Route", &first).with("Route", other), other),
        ("split across fields", message().with("Route", &first).with("Route", &format!("{second}, {other}")), other),
        ("ours not at the top", message().with("Route", &format!("{other}, {first}")), &format!("{other}, {first}")),
    ] {
        b.client.send(&sent);
        let got = b.pbx.expect("MESSAGE");
        assert_eq!(got.all("Route").join(", "), left, "{case}");
    }
}

#[test]
fn no_route_and_no_uri_leads_a_request_to_a_place_that_is_no_upstream() {
    let mut b = bridged("");
    let elsewhere = SipServer::start();
    let place = elsewhere.address();
    let route = format!("<sip:{place};transport=tcp;lr>");
    b.client.send(&request("MESSAGE", "sip:bob@example.com").with("Route", &route));
    assert_eq!(b.pbx.expect("MESSAGE").all("Route"), [route]);
    let uri = format!("sip:bob@{place};transport=tcp");
    b.client.send(&request("MESSAGE", &uri));
    assert_eq!(b.pbx.expect("MESSAGE").uri(), uri);
    b.client.send(&request("MESSAGE", "sip:bob@nowhere.invalid").with("Route", "<sip:x.invalid;lr>"));
    b.pbx.expect("MESSAGE");
    assert!(elsewhere.is_left_alone(Duration::from_millis(50)));
}

#[test]
fn content_length_is_put_in_where_it_is_missing() {
    let mut b = bridged("");
    let mut bare = request("MESSAGE", "sip:bob@example.com").with("Content-Type", "text/plain");
    bare.body = b"four".to_vec();
    b.client.send(&bare);
    assert_eq!(b.pbx.expect("MESSAGE").fields("Content-Length"), ["4"]);
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    assert_eq!(b.pbx.expect("MESSAGE").fields("Content-Length"), ["0"]);
    b.client.send(&request("MESSAGE", "sip:bob@example.com").body("text/plain", b"seven b"));
    assert_eq!(b.pbx.expect("MESSAGE").fields("Content-Length"), ["7"]);
}

#[test]
fn every_byte_that_need_not_change_leaves_as_it_came() {
    let mut b = bridged("");
    let (head, via, hops, rest) = (
        "MESSAGE sip:bob@example.com;x=%41 SIP/2.0\r\n",
        "v:SIP/2.0/WS  odd.invalid ;branch=z9hG4bKodd\r\n",
        "MAX-forwards:   10\r\n",
        "f: \"A \\\" <l>, ice\" <sip:alice@example.com>;tag=1;x=\"y,z\"\r\n\
         T:\t<sip:bob@example.com>\r\n\
         i :  odd@call\r\n\
         CSeq: 007   MESSAGE\r\n\
         X-Unknown:   a ,, b;c=\"x\r\n  folded\"  \r\n\
         s: folded\r\n\t and\r\n  folded again\r\n\
         x-empty:\r\n\
         X-Unknown: once more, \u{e9}\r\n\
         c: text/plain\r\n\
         l:  5\r\n\
         \r\n\
         h\u{e9}l\n",
    );
    b.client.send_text(&format!("{head}{via}{hops}{rest}"));
    let got = b.pbx.expect("MESSAGE");
    let ours = format!("Via: SIP/2.0/TCP {};branch={}\r\n", b.edge.sip_authority(), got.branch());
    let via = via.replace(" ;branch", ";received=127.0.0.1 ;branch");
    let hops = hops.replace("10", "9");
    assert_eq!(got.text(), format!("{head}{ours}{via}{hops}{rest}"));
}

#[test]
fn a_response_is_passed_byte_for_byte_without_our_via() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    let vias = got.all("Via");
    let rest = format!(
        "f: {}\r\nt :{};tag=x\r\nI: {}\r\nCSEQ:1 MESSAGE\r\nX-Odd:  1 ,\r\n 2\r\nl: 3\r\n\r\nabc",
        got.get("From"),
        got.get("To"),
        got.get("Call-ID")
    );
    b.pbx.send_raw(format!("SIP/2.0 299  Well, yes\r\nv: {},  {}\r\n{rest}", vias[0], vias[1]).as_bytes());
    let answer = b.client.receive();
    assert_eq!(answer.text(), format!("SIP/2.0 299  Well, yes\r\nv: {}\r\n{rest}", vias[1]));
}

#[test]
fn a_body_that_is_no_utf8_comes_as_a_binary_frame_and_text_as_text() {
    let mut b = bridged("");
    let blob = [0xff, 0x00, 0xfe, b'\r', b'\n'];
    let sent = request("MESSAGE", "sip:bob@example.com").body("application/octet-stream", &blob);
    b.client.send_binary(&sent.bytes());
    let got = b.pbx.expect("MESSAGE");
    assert_eq!(got.body, blob);
    b.pbx.send(&got.respond(200, "OK").body("application/octet-stream", &blob));
    match b.client.frame() {
        Frame::Binary(bytes) => assert_eq!(Sip::parse(&bytes).body, blob),
        other => panic!("{other:?}"),
    }
    // A text message sent in a binary frame is a message like any other (RFC 7118 §5).
    b.client.send_binary(&request("MESSAGE", "sip:bob@example.com").bytes());
    let got = b.pbx.expect("MESSAGE");
    b.pbx.send(&got.respond(200, "OK").body("text/plain", "h\u{e9}".as_bytes()));
    match b.client.frame() {
        Frame::Text(text) => assert_eq!(Sip::parse(text.as_bytes()).body, "h\u{e9}".as_bytes()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn methods_pass_outside_a_dialog_and_only_those_that_can_form_one_are_record_routed() {
    let mut b = bridged("");
    for (method, routed) in [
        ("INVITE", true),
        ("SUBSCRIBE", true),
        ("NOTIFY", true),
        ("REFER", true),
        ("BREW", true),
        ("MESSAGE", false),
        ("PUBLISH", false),
        ("OPTIONS", false),
        ("INFO", false),
        ("REGISTER", false),
    ] {
        b.client.send(&request(method, "sip:bob@example.com"));
        let got = b.pbx.expect(method);
        assert_eq!(!got.all("Record-Route").is_empty(), routed, "{got:?}");
        assert_eq!(got.get("CSeq"), format!("1 {method}"));
        b.pbx.send(&got.respond(480, "Temporarily Unavailable"));
        if method == "INVITE" {
            b.client.expect_status(100);
        }
        assert_eq!(b.client.expect_status(480).get("CSeq"), format!("1 {method}"));
    }
}

#[test]
fn the_record_routes_are_double_with_the_servers_side_on_top() {
    let mut b = bridged("");
    let registered = register(&mut b.client, &mut b.pbx);
    b.client.send(&request("INVITE", "sip:bob@example.com").with("Record-Route", "<sip:before.example.com;lr>"));
    let got = b.pbx.expect("INVITE");
    let own = b.edge.sip_authority();
    let routes = got.all("Record-Route");
    let target = routes[0].rsplit_once("target=").unwrap().1.trim_end_matches('>');
    assert!(target.len() == 8 && target.bytes().all(|b| b.is_ascii_hexdigit()), "{routes:?}");
    let token = registered.token;
    assert_eq!(
        routes,
        [
            format!("<sip:{token}@{own};transport=tcp;lr;target={target}>"),
            format!("<sip:{};transport=ws;lr>", b.edge.websocket_address(0)),
            "<sip:before.example.com;lr>".to_owned(),
        ]
    );
}

#[test]
fn options_to_the_edge_is_answered_here() {
    let mut b = bridged("");
    let own = b.edge.sip_authority();
    let ws = b.edge.websocket_address(0);
    for uri in [format!("sip:{own}"), format!("sip:{own};transport=ws"), format!("sip:{ws};transport=ws")] {
        b.client.send(&request("OPTIONS", &uri));
        let answer = b.client.expect_status(200);
        assert!(answer.all("Allow").contains(&"INVITE".to_owned()), "{answer:?}");
        assert!(answer.all("Supported").contains(&"path".to_owned()), "{answer:?}");
    }
    b.pbx.expect_nothing(&b.edge);
    // Somebody there is somebody else.
    b.client.send(&request("OPTIONS", &format!("sip:bob@{own}")));
    b.pbx.expect("OPTIONS");
}

#[test]
fn responses_that_belong_to_nothing_are_dropped_and_counted() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    // With a branch that is none of ours, with a Via that is not ours, and twice.
    let forged = got.respond(200, "OK").text().replace(&got.branch(), "z9hG4bKother");
    b.pbx.send_raw(forged.as_bytes());
    b.edge.wait_refused("stray_response", 1);
    let own = b.edge.sip_authority();
    b.pbx.send_raw(got.respond(200, "OK").text().replace(&own, "192.0.2.1:5060").as_bytes());
    b.edge.wait_refused("stray_response", 2);
    b.pbx.send(&got.respond(200, "OK"));
    b.pbx.send(&got.respond(200, "OK"));
    b.client.expect_status(200);
    b.edge.wait_refused("stray_response", 3);
    b.client.expect_nothing(&b.edge);
}

#[test]
fn a_repeated_2xx_and_one_that_comes_after_the_end_are_passed() {
    let mut b = bridged("");
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    let ok = got.respond(200, "OK").with("Contact", "<sip:bob@example.com>");
    for _ in 0..3 {
        b.pbx.send(&ok);
        b.client.expect_status(200);
    }
    // Another fork's answer to an INVITE that has failed already (RFC 3261 §16.7 step 5).
    b.client.send(&request("INVITE", "sip:bob@example.com"));
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    b.pbx.send(&got.respond(486, "Busy Here"));
    b.client.expect_status(486);
    b.pbx.send(&got.respond(200, "OK").with("Contact", "<sip:carol@example.com>"));
    assert_eq!(b.client.expect_status(200).get("Contact"), "<sip:carol@example.com>");
    // But no failure after the end.
    b.pbx.send(&got.respond(486, "Busy Here"));
    b.edge.wait_refused("stray_response", 1);
    b.client.expect_nothing(&b.edge);
}

#[test]
fn a_response_for_a_client_that_has_left_is_dropped_and_counted() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let got = b.pbx.expect("MESSAGE");
    let Bridged { edge, mut pbx, client, .. } = b;
    drop(client);
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 0);
    pbx.send(&got.respond(200, "OK"));
    pbx.expect_nothing(&edge);
    assert_eq!(edge.refused("flow_gone"), 1);
    edge.wait_metric("sipws_requests_in_flight", 0);
}
