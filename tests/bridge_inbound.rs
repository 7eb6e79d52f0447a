//! Requests of SIP servers: over the connection that we opened and over our own SIP listeners, down to a client and
//! its responses back up.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::Shutdown;

use common::*;

/// A client that is registered, and what leads to it.
fn registered(toml: &str) -> (Bridged, Registered) {
    let mut b = bridged(toml);
    let r = register(&mut b.client, &mut b.pbx);
    (b, r)
}

/// A request of `server`'s to the client.
fn to_client(server: &SipConnection, method: &str, r: &Registered) -> Builder {
    server.request(method, &r.contact).on_top("Route", &r.path)
}

#[test]
fn a_request_reaches_the_client_over_the_connection_that_we_opened() {
    let (mut b, r) = registered("");
    let sent = to_client(&b.pbx, "INVITE", &r).body("application/sdp", b"v=0\r\n");
    b.pbx.send(&sent);
    let trying = b.pbx.expect_status(100);
    assert_eq!((trying.get("CSeq"), trying.tag("To")), ("1 INVITE", None));
    let got = match b.client.frame() {
        Frame::Text(text) => Sip::parse(text.as_bytes()),
        other => panic!("{other:?}"),
    };
    let own = b.edge.sip_authority();
    assert_eq!(got.start, format!("INVITE {} SIP/2.0", r.contact));
    assert_eq!(got.all("Via")[0], format!("SIP/2.0/WS {own};branch={}", got.branch()));
    assert_eq!(got.all("Via")[1..], [sent.get("Via")], "it came from where its Via says");
    assert_eq!(got.header("Route"), None);
    assert_eq!(got.fields("Max-Forwards"), ["69"]);
    assert_eq!(got.get("Contact"), sent.get("Contact"));
    assert_eq!(got.body, b"v=0\r\n");

    let mut ringing = got.respond(180, "Ringing");
    b.client.send(&ringing);
    let up = b.pbx.expect_status(180);
    assert_eq!(up.all("Via"), [sent.get("Via")]);
    assert_eq!(up.fields("Content-Length"), ["0"], "which a stream needs");
    assert_eq!(up.tag("To"), ringing.sip().tag("To"));
    ringing = got.respond(200, "OK").with("Contact", &format!("<{}>", r.contact));
    b.client.send(&ringing);
    b.pbx.expect_status(200);
}

#[test]
fn the_record_routes_are_double_with_the_clients_side_on_top() {
    let (mut b, r) = registered("");
    let sent = to_client(&b.pbx, "INVITE", &r).with("Record-Route", "<sip:core.example.com;lr>");
    b.pbx.send(&sent);
    let routes = b.client.expect("INVITE").all("Record-Route");
    let own = b.edge.sip_authority();
    assert_eq!(routes.len(), 3);
    assert_eq!(routes[0], format!("<sip:{};transport=ws;lr>", b.edge.websocket_address(0)));
    let with_token = format!("<sip:{}@{own};transport=tcp;lr;target=", r.token);
    assert!(routes[1].starts_with(&with_token) && routes[1].len() == with_token.len() + 9, "{routes:?}");
    assert_eq!(routes[2], "<sip:core.example.com;lr>");
    b.pbx.send(&to_client(&b.pbx, "MESSAGE", &r));
    assert_eq!(b.client.expect("MESSAGE").header("Record-Route"), None);
}

#[test]
fn a_token_in_the_request_uri_leads_to_the_client_too() {
    let (mut b, r) = registered("");
    let uri = format!("sip:{}@{};transport=tcp", r.token, b.edge.sip_authority());
    let sent = b.pbx.request("MESSAGE", &uri);
    b.pbx.send(&sent);
    assert_eq!(b.client.expect("MESSAGE").uri(), uri);
}

#[test]
fn a_request_reaches_the_client_over_our_own_listener_and_is_answered_there() {
    let (mut b, r) = registered("");
    let mut server = SipConnection::connect(b.edge.sip_address(0));
    let sent = to_client(&server, "MESSAGE", &r);
    server.send(&sent);
    let got = b.client.expect("MESSAGE");
    b.client.send(&got.respond(202, "Accepted"));
    assert_eq!(server.expect_status(202).all("Via"), [sent.get("Via")]);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn a_servers_via_that_names_another_place_gets_received() {
    let (mut b, r) = registered("");
    let port = b.pbx.local().port();
    for (sent, arrives) in [
        ("pbx.example.com;branch=z9hG4bKv1", "pbx.example.com;received=127.0.0.1;branch=z9hG4bKv1".to_owned()),
        (
            "192.0.2.1:5060;branch=z9hG4bKv2;rport",
            format!("192.0.2.1:5060;received=127.0.0.1;branch=z9hG4bKv2;rport={port}"),
        ),
        ("127.0.0.1:5060;branch=z9hG4bKv3", "127.0.0.1:5060;branch=z9hG4bKv3".to_owned()),
    ] {
        let request = to_client(&b.pbx, "MESSAGE", &r).set("Via", &format!("SIP/2.0/TCP {sent}"));
        b.pbx.send(&request);
        assert_eq!(b.client.expect("MESSAGE").all("Via")[1], format!("SIP/2.0/TCP {arrives}"));
    }
}

#[test]
fn a_tls_listener_takes_requests_and_a_wss_flow_says_so_in_its_via() {
    let authority = Authority::new();
    let files = Scratch::new();
    let issued = authority.issue("127.0.0.1");
    let toml = format!(
        "listen = [{{ url = \"wss://127.0.0.1:0/\" }}]\n[sip]\nlisten = [\"tcp://127.0.0.1:0\", \"tls://127.0.0.1:0\"]\n\
         certificate = \"{}\"\nkey = \"{}\"\n",
        files.file("sip.pem", &issued.pem),
        files.file("sip.key", &issued.key_pem)
    );
    let (mut b, r) = registered(&toml);
    let tls = b.edge.sip_address(1);
    let mut server = SipConnection::connect_tls(tls, client_config(&authority.root()), "127.0.0.1");
    let via = format!("SIP/2.0/TLS {};branch=z9hG4bK{}", server.local(), unique("tls"));
    let invite = to_client(&server, "INVITE", &r).set("Via", &via);
    server.send(&invite);
    server.expect_status(100);
    let got = b.client.expect("INVITE");
    assert_eq!(got.all("Via")[0], format!("SIP/2.0/WSS {tls};branch={}", got.branch()));
    let routes = got.all("Record-Route");
    let wss = b.edge.websocket_address(0);
    assert_eq!(routes[0], format!("<sip:{wss};transport=ws;lr>"), "transport=ws, for wss too");
    assert!(routes[1].starts_with(&format!("<sip:{}@{tls};transport=tls;lr", r.token)), "{routes:?}");
    let answer = got.respond(200, "OK").with("Contact", &format!("<{}>", r.contact));
    b.client.send(&answer);
    let mut dialog = Dialog::of_caller(&invite, &server.expect_status(200));
    server.send(&dialog.request("ACK"));
    b.client.expect("ACK");
    server.send(&dialog.request("BYE"));
    let bye = b.client.expect("BYE");
    b.client.send(&bye.respond(200, "OK"));
    server.expect_status(200);
}

#[test]
fn hops_and_extensions_are_looked_at_on_the_way_down_too() {
    let (mut b, r) = registered("");
    let message = |b: &Bridged| to_client(&b.pbx, "MESSAGE", &r);
    let none = message(&b).set("Max-Forwards", "0");
    b.pbx.send(&none);
    b.pbx.expect_status(483);
    let required = message(&b).with("Proxy-Require", "foo");
    b.pbx.send(&required);
    assert_eq!(b.pbx.expect_status(420).get("Unsupported"), "foo");
    let absent = message(&b).without("Max-Forwards");
    b.pbx.send(&absent);
    let got = b.client.expect("MESSAGE");
    assert_eq!(got.fields("Max-Forwards"), ["70"]);
    // As if the client had sent it on to the server, and the server to us.
    let mut again = message(&b).set("Via", &format!("SIP/2.0/TCP pbx.example.com;branch=z9hG4bK{}", unique("loop")));
    for name in ["From", "Call-ID", "CSeq"] {
        again = again.set(name, got.get(name));
    }
    for via in got.all("Via") {
        again = again.with("Via", &via);
    }
    b.pbx.send(&again);
    b.pbx.expect_status(482);
    b.client.expect_nothing(&b.edge);
}

#[test]
fn options_to_the_edge_is_answered_here() {
    let b = bridged("");
    let mut server = SipConnection::connect(b.edge.sip_address(0));
    for _ in 0..2 {
        let options = server.request("OPTIONS", &format!("sip:{};transport=tcp", b.edge.sip_authority()));
        server.send(&options);
        let answer = server.expect_status(200);
        assert_eq!(answer.all("Via"), [options.get("Via")]);
        assert!(answer.tag("To").is_some());
    }
}

#[test]
fn every_kind_of_request_passes_down_and_its_answer_up() {
    let (mut b, r) = registered("");
    for method in ["INVITE", "SUBSCRIBE", "NOTIFY", "REFER", "MESSAGE", "PUBLISH", "OPTIONS", "INFO", "BREW"] {
        let sent = to_client(&b.pbx, method, &r);
        b.pbx.send(&sent);
        if method == "INVITE" {
            b.pbx.expect_status(100);
        }
        let got = b.client.expect(method);
        b.client.send(&got.respond(480, "Temporarily Unavailable"));
        assert_eq!(b.pbx.expect_status(480).get("CSeq"), format!("1 {method}"));
    }
}

#[test]
fn a_cancel_and_the_ack_of_a_failure_have_their_invites_branch() {
    let (mut b, r) = registered("");
    let sent = to_client(&b.pbx, "INVITE", &r);
    b.pbx.send(&sent);
    b.pbx.expect_status(100);
    let invite = b.client.expect("INVITE");
    b.client.send(&invite.respond(180, "Ringing"));
    b.pbx.expect_status(180);
    b.pbx.send(&sent.cancel());
    let cancel = b.client.expect("CANCEL");
    assert_eq!(cancel.all("Via")[0], invite.all("Via")[0]);
    assert_eq!(cancel.uri(), invite.uri());
    assert_eq!(cancel.header("Route"), None);
    b.client.send(&cancel.respond(200, "OK"));
    assert_eq!(b.pbx.expect_status(200).get("CSeq"), "1 CANCEL");
    b.client.send(&invite.respond(487, "Request Terminated"));
    let terminated = b.pbx.expect_status(487);
    b.pbx.send(&sent.ack_of(&terminated));
    let ack = b.client.expect("ACK");
    assert_eq!(ack.all("Via")[0], invite.all("Via")[0]);
    b.edge.wait_metric("sipws_requests_in_flight", 0);
}

#[test]
fn a_cancel_of_nothing_is_answered_481_and_one_that_comes_too_late_here() {
    let (mut b, r) = registered("");
    let sent = to_client(&b.pbx, "INVITE", &r);
    b.pbx.send(&sent.cancel());
    b.pbx.expect_status(481);
    b.pbx.send(&sent);
    b.pbx.expect_status(100);
    let invite = b.client.expect("INVITE");
    b.client.send(&invite.respond(486, "Busy Here"));
    b.pbx.expect_status(486);
    b.pbx.send(&sent.cancel());
    b.pbx.expect_status(200);
    b.client.expect_nothing(&b.edge);
}

#[test]
fn a_body_that_is_no_utf8_comes_as_a_binary_frame() {
    let (mut b, r) = registered("");
    let blob = [0u8, 0xff, 0x80];
    let sent = to_client(&b.pbx, "MESSAGE", &r).body("application/octet-stream", &blob);
    b.pbx.send(&sent);
    match b.client.frame() {
        Frame::Binary(bytes) => {
            let got = Sip::parse(&bytes);
            assert_eq!(got.body, blob);
            b.client.send_binary(&got.respond(200, "OK").body("application/octet-stream", &blob).bytes());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(b.pbx.expect_status(200).body, blob);
}

#[test]
fn a_servers_bytes_arrive_as_they_were() {
    let (mut b, r) = registered("");
    let head = format!("MESSAGE {} SIP/2.0\r\n", r.contact);
    let rest = "f:\"Bob\" <sip:bob@example.com>;tag=1\r\nt : <sip:alice@example.com>\r\ni: odd\r\nCSeq: 9  MESSAGE\r\n\
                max-forwards: 5\r\nX-Odd:  a,\r\n\tb\r\nl : 2\r\n\r\nhi";
    let via = "v:  SIP/2.0/TCP 127.0.0.1 ; branch=z9hG4bKodd,SIP/2.0/UDP other ;branch=z9hG4bKx\r\n";
    b.pbx.send_raw(format!("{head}{via}Route: {}\r\n{rest}", r.path).as_bytes());
    let got = b.client.expect("MESSAGE");
    let ours = format!("Via: SIP/2.0/WS {};branch={}\r\n", b.edge.sip_authority(), got.branch());
    assert_eq!(got.text(), format!("{head}{ours}{via}{}", rest.replace("max-forwards: 5", "max-forwards: 4")));
    let answer = format!("SIP/2.0 200  fine\r\n{ours}{via}F:x\r\nt:y\r\nI: odd\r\nCSeq: 9  MESSAGE\r\nl:0\r\n\r\n");
    b.client.send_text(&answer.replace("F:x", "F:<sip:bob@example.com>;tag=1").replace("t:y", "t:<sip:a@b>;tag=2"));
    let up = b.pbx.expect_status(200);
    assert!(up.text().starts_with(&format!("SIP/2.0 200  fine\r\n{via}F:<sip:")), "{up:?}");
}

#[test]
fn messages_may_come_in_pieces_or_together_and_keepalives_are_answered() {
    let (mut b, r) = registered("");
    let all: Vec<_> = (0..3).map(|_| to_client(&b.pbx, "MESSAGE", &r)).collect();
    let bytes: Vec<u8> = all.iter().flat_map(Builder::bytes).collect();
    b.pbx.send_raw(&bytes[..100]);
    b.pbx.send_raw(&bytes[100..]);
    for sent in &all {
        assert_eq!(b.client.expect("MESSAGE").get("Call-ID"), sent.get("Call-ID"));
    }
    let mut server = SipConnection::connect(b.edge.sip_address(0));
    server.send_raw(b"\r\n\r\n");
    assert_eq!(server.stream.fill(std::time::Instant::now() + DEADLINE).unwrap(), 2);
    assert_eq!(server.stream.take(2), b"\r\n");
}

#[test]
fn a_broken_request_of_a_server_is_answered_400_and_garbage_is_skipped() {
    let (mut b, r) = registered("");
    let broken = to_client(&b.pbx, "MESSAGE", &r).set("CSeq", "1 INVITE");
    b.pbx.send(&broken);
    assert_eq!(b.pbx.expect_status(400).reason(), "CSeq Method Does Not Match");
    b.pbx.send_raw(b"no start line\r\nContent-Length: 4\r\n\r\nbody");
    b.edge.wait_refused("garbage", 1);
    let good = to_client(&b.pbx, "MESSAGE", &r);
    b.pbx.send(&good);
    b.client.expect("MESSAGE");
    // What cannot be framed ends the connection: nobody knows where the next message begins.
    let mut server = SipConnection::connect(b.edge.sip_address(0));
    server.send_raw(b"OPTIONS sip:x SIP/2.0\r\nTo: x\r\n\r\n");
    assert!(server.is_closed());
}

#[test]
fn the_token_of_a_flow_that_is_gone_is_answered_430() {
    let (b, r) = registered("");
    let Bridged { edge, mut pbx, client, server: _server } = b;
    drop(client);
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 0);
    for method in ["INVITE", "MESSAGE"] {
        pbx.send(&to_client(&pbx, method, &r));
        assert_eq!(pbx.expect_status(430).reason(), "Flow Failed");
    }
    assert_eq!(edge.refused("flow_failed"), 2);
}

#[test]
fn requests_that_a_client_leaves_unanswered_are_answered_430_when_it_goes() {
    let (mut b, r) = registered("");
    let invite = to_client(&b.pbx, "INVITE", &r);
    let message = to_client(&b.pbx, "MESSAGE", &r);
    b.pbx.send(&invite);
    b.pbx.expect_status(100);
    let got = b.client.expect("INVITE");
    b.client.send(&got.respond(180, "Ringing"));
    b.pbx.expect_status(180);
    b.pbx.send(&message);
    b.client.expect("MESSAGE");
    let Bridged { edge, mut pbx, mut client, server: _server } = b;
    client.send_close(1000, "");
    let mut answered: Vec<_> = (0..2).map(|_| pbx.expect_status(430).get("CSeq").to_owned()).collect();
    answered.sort();
    assert_eq!(answered, ["1 INVITE", "1 MESSAGE"]);
    pbx.expect_nothing(&edge);
}

#[test]
fn a_request_that_the_client_never_answers_is_answered_408() {
    let (mut b, r) = registered("timeouts.request = \"1s\"");
    let message = to_client(&b.pbx, "MESSAGE", &r);
    b.pbx.send(&message);
    let got = b.client.expect("MESSAGE");
    assert_eq!(b.pbx.expect_status(408).get("Call-ID"), message.get("Call-ID"));
    b.client.send(&got.respond(200, "OK"));
    b.edge.wait_refused("stray_response", 1);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn a_clients_100_stops_here_and_its_2xx_may_be_repeated() {
    let (mut b, r) = registered("");
    let sent = to_client(&b.pbx, "INVITE", &r);
    b.pbx.send(&sent);
    b.pbx.expect_status(100);
    let got = b.client.expect("INVITE");
    b.client.send(&got.respond(100, "Trying"));
    b.client.send(&got.respond(180, "Ringing"));
    b.pbx.expect_status(180);
    let ok = got.respond(200, "OK").with("Contact", &format!("<{}>", r.contact));
    b.client.send(&ok);
    b.client.send(&ok);
    b.pbx.expect_status(200);
    b.pbx.expect_status(200);
    // A provisional or a failure behind it answers nothing any more.
    b.client.send(&got.respond(180, "Ringing"));
    b.client.send(&got.respond(486, "Busy Here"));
    b.edge.wait_refused("stray_response", 2);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn an_answer_finds_another_way_when_the_connection_of_its_request_is_gone() {
    let (mut b, r) = registered("");
    let mut server = SipConnection::connect(b.edge.sip_address(0));
    let sent = to_client(&server, "MESSAGE", &r);
    server.send(&sent);
    let got = b.client.expect("MESSAGE");
    server.stream.socket().shutdown(Shutdown::Write).unwrap();
    assert!(server.is_closed());
    b.client.send(&got.respond(200, "OK"));
    assert_eq!(b.pbx.expect_status(200).get("Call-ID"), sent.get("Call-ID"));
}

#[test]
fn a_user_of_ours_who_is_no_token_is_nobody() {
    let mut b = bridged("");
    let request = b.pbx.request("OPTIONS", &format!("sip:bob@{}", b.edge.sip_authority()));
    b.pbx.send(&request);
    assert_eq!(b.pbx.expect_status(404).reason(), "No Flow Token");
}
