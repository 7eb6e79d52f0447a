//! What bad input gets (DESIGN's table), and what happens when there is too much of anything.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;

/// `count` requests to the edge itself in one write, so that they are handled in one turn.
fn options_at_once(edge: &Edge, client: &mut WsClient, count: usize) {
    let uri = format!("sip:{}", edge.sip_authority());
    let frames: Vec<u8> = (0..count).flat_map(|_| frame(true, TEXT, &request("OPTIONS", &uri).bytes())).collect();
    client.send_raw(&frames);
}

fn statuses(client: &mut WsClient, count: usize) -> Vec<u16> {
    (0..count).map(|_| client.receive().status()).collect()
}

#[test]
fn requests_over_the_rate_are_answered_503_with_retry_after() {
    let edge = start("limits.requests_per_second = 1\nlimits.burst = 3");
    let mut client = WsClient::open(&edge);
    options_at_once(&edge, &mut client, 6);
    assert_eq!(statuses(&mut client, 3), [200, 200, 200]);
    for _ in 0..3 {
        let refused = client.expect_status(503);
        assert!(refused.get("Retry-After").parse::<u32>().unwrap() > 0);
        assert!(refused.tag("To").is_some());
    }
    assert_eq!(edge.refused("rate"), 3);
}

#[test]
fn the_rate_is_an_addresss_not_a_connections() {
    let edge = start("limits.requests_per_second = 1\nlimits.burst = 3");
    let (mut first, mut second) = (WsClient::open(&edge), WsClient::open(&edge));
    options_at_once(&edge, &mut first, 3);
    assert_eq!(statuses(&mut first, 3), [200, 200, 200]);
    options_at_once(&edge, &mut second, 3);
    assert_eq!(statuses(&mut second, 3)[2], 503);
    let elsewhere = Handshake { from: Some("127.0.0.9:0".parse().unwrap()), ..Handshake::default() };
    let mut other = WsClient::try_open(&edge.websocket_urls()[0], &elsewhere).unwrap().unwrap();
    options_at_once(&edge, &mut other, 3);
    assert_eq!(statuses(&mut other, 3), [200, 200, 200]);
}

#[test]
fn an_ack_over_the_rate_is_dropped_and_responses_are_not_counted() {
    let mut b = bridged("limits.requests_per_second = 1\nlimits.burst = 2");
    let r = register(&mut b.client, &mut b.pbx);
    options_at_once(&b.edge, &mut b.client, 1);
    b.client.expect_status(200);
    // The burst is used up: of a second's worth of time one request may pass again.
    let ack = Builder { start: "ACK sip:bob@example.com SIP/2.0".to_owned(), ..request("ACK", "sip:bob@example.com") };
    let uri = format!("sip:{}", b.edge.sip_authority());
    let mut frames = Vec::new();
    for message in [request("OPTIONS", &uri), ack, request("OPTIONS", &uri)] {
        frames.extend(frame(true, TEXT, &message.bytes()));
    }
    b.client.send_raw(&frames);
    assert_eq!(statuses(&mut b.client, 2)[1], 503, "nothing stands between the answers to the two OPTIONS");
    assert!(b.edge.refused("rate") >= 2);
    for _ in 0..5 {
        let message = b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path);
        b.pbx.send(&message);
        let got = b.client.expect("MESSAGE");
        b.client.send(&got.respond(200, "OK"));
        b.pbx.expect_status(200);
    }
}

#[test]
fn whoever_goes_on_over_the_rate_is_closed_with_1008() {
    let edge = start("limits.requests_per_second = 1\nlimits.burst = 1\nlimits.strikes = 5");
    let mut client = WsClient::open(&edge);
    options_at_once(&edge, &mut client, 20);
    assert_eq!(statuses(&mut client, 6), [200, 503, 503, 503, 503, 503]);
    assert_eq!(client.expect_close().0, Some(1008));
    edge.wait_metric("sipws_closed_total{reason=\"policy\"}", 1);
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 0);
}

#[test]
fn a_broken_request_is_answered_400_with_the_reason_in_the_phrase() {
    let mut b = bridged("");
    let message = || request("MESSAGE", "sip:bob@example.com");
    let uri = |uri: &str| Builder { start: format!("MESSAGE {uri} SIP/2.0"), ..message() };
    let cases = [
        (message().without("From"), 400, "Missing From"),
        (message().without("To"), 400, "Missing To"),
        (message().without("Call-ID"), 400, "Missing Call-ID"),
        (message().without("CSeq"), 400, "Missing CSeq"),
        (message().with("Call-ID", "another"), 400, "More Than One Call-ID"),
        (message().with("f", "<sip:b@x>;tag=2"), 400, "More Than One From"),
        (message().with("Max-Forwards", "1"), 400, "More Than One Max-Forwards"),
        (message().set("Max-Forwards", "many"), 400, "Bad Max-Forwards"),
        (message().set("CSeq", "4294967296 MESSAGE"), 400, "Bad CSeq"),
        (message().set("CSeq", "1 INVITE"), 400, "CSeq Method Does Not Match"),
        (message().set("From", "<sip:alice@example.com"), 400, "Bad From"),
        (message().set("To", "<sip:@:x>"), 400, "Bad URI in To"),
        (message().with("Content-Length", "9"), 400, "Content-Length Greater Than Body"),
        (message().with("Content-Length", "x"), 400, "Bad Content-Length"),
        (message().with("Content-Length", "0").with("l", "0"), 400, "More Than One Content-Length"),
        (message().with("Route", "<sip:a"), 400, "Bad Route"),
        (uri("<sip:bob@example.com>"), 400, "Bad Request-URI"),
        (uri("sip:bob@example.com?Subject=x"), 400, "Header Part in Request-URI"),
        (uri("news:comp.lang"), 416, "Unsupported URI Scheme"),
    ];
    for (sent, status, reason) in cases {
        b.client.send(&sent);
        let answer = b.client.receive();
        assert_eq!((answer.status(), answer.reason()), (status, reason), "{sent:?}");
        assert_eq!(answer.all("Via"), [sent.get("Via")]);
    }
    let old = Builder { start: "MESSAGE sip:bob@example.com SIP/7.0".to_owned(), ..message() };
    b.client.send(&old);
    b.client.expect_status(505);
    assert_eq!(b.edge.refused("invalid"), 20);
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn two_messages_in_one_are_answered_400_and_neither_is_passed() {
    let mut b = bridged("");
    let one = request("MESSAGE", "sip:bob@example.com").body("text/plain", b"1").text();
    let other = request("MESSAGE", "sip:bob@example.com").body("text/plain", b"2").text();
    b.client.send_text(&format!("{one}{other}"));
    assert_eq!(b.client.expect_status(400).reason(), "Bytes Behind the Body");
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn the_ack_of_our_own_refusal_is_absorbed() {
    let mut b = bridged("");
    let sent = request("INVITE", "sip:bob@example.com").set("Max-Forwards", "none");
    b.client.send(&sent);
    let refusal = b.client.expect_status(400);
    b.client.send(&sent.ack_of(&refusal));
    b.client.expect_nothing(&b.edge);
    b.pbx.expect_nothing(&b.edge);
    assert_eq!(b.edge.refused("no_dialog"), 0);
}

#[test]
fn garbage_is_dropped_and_counted_and_costs_no_connection() {
    let mut b = bridged("");
    for garbage in ["hello", "GET / HTTP/1.1\r\n\r\n", "\0\u{1}", "SIP/2.0 OK\r\n\r\n", "MESSAGE\r\n\r\n"] {
        b.client.send_text(garbage);
    }
    // No Via, nobody to answer; and a response that is broken has nobody either.
    b.client.send_text("MESSAGE sip:bob@example.com SIP/2.0\r\nTo: <sip:bob@example.com>\r\n\r\n");
    b.client.send_text("SIP/2.0 200 OK\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bKx\r\n\r\n");
    b.client.expect_nothing(&b.edge);
    // "GET / HTTP/1.1" has the form of a SIP start line.
    assert_eq!((b.edge.refused("garbage"), b.edge.refused("invalid")), (4, 3));
    b.pbx.expect_nothing(&b.edge);
}

#[test]
fn repeated_garbage_is_closed_with_1008() {
    let edge = start("limits.strikes = 10");
    let mut client = WsClient::open(&edge);
    let frames: Vec<u8> = (0..10).flat_map(|_| frame(true, TEXT, b"garbage")).collect();
    client.send_raw(&frames);
    let (code, reason) = client.expect_close();
    assert_eq!((code, reason.is_empty()), (Some(1008), false));
    edge.wait_metric("sipws_closed_total{reason=\"policy\"}", 1);
}

#[test]
fn good_messages_between_bad_ones_are_forgiven_for() {
    let edge = start("limits.strikes = 3");
    let mut client = WsClient::open(&edge);
    for _ in 0..20 {
        client.send_text("garbage");
        client.expect_nothing(&edge);
    }
    for _ in 0..2 {
        client.send_text("garbage");
    }
    client.expect_nothing(&edge);
    for _ in 0..2 {
        client.send_text("garbage");
    }
    assert_eq!(client.expect_close().0, Some(1008));
}

#[test]
fn over_the_requests_in_flight_the_next_is_answered_503_until_one_is_answered() {
    let mut b = bridged("limits.in_flight = 2");
    let r = register(&mut b.client, &mut b.pbx);
    b.edge.wait_metric("sipws_requests_in_flight", 0);
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let first = b.pbx.expect("MESSAGE");
    let down = b.pbx.request("MESSAGE", &r.contact).on_top("Route", &r.path);
    b.pbx.send(&down);
    b.client.expect("MESSAGE");
    b.edge.wait_metric("sipws_requests_in_flight", 2);
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    assert!(b.client.expect_status(503).header("Retry-After").is_some());
    b.pbx.send(&down.clone().set("Via", &format!("{};branch=z9hG4bK{}", b.pbx.via(), unique("next"))));
    assert!(b.pbx.expect_status(503).header("Retry-After").is_some());
    assert_eq!(b.edge.refused("in_flight"), 2);
    b.pbx.send(&first.respond(200, "OK"));
    b.client.expect_status(200);
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    b.pbx.expect("MESSAGE");
}

#[test]
fn over_the_queue_of_an_upstream_a_request_is_answered_503() {
    // A TLS server that accepts and says nothing: what is sent to it waits.
    let authority = Authority::new();
    let files = Scratch::new();
    let server = SipServer::start();
    let toml = format!(
        "timeouts.connect = \"1m\"\nsip.ca = \"{}\"\nlimits.message_bytes = \"4KiB\"\nlimits.upstream_bytes = \"4KiB\"\n\
         [[upstream]]\nuri = \"sips:{}\"\n",
        files.file("ca.pem", &authority.pem()),
        server.address()
    );
    let edge = start(&toml);
    let silent = server.accept();
    let mut client = WsClient::open(&edge);
    let message = || request("MESSAGE", "sip:bob@example.com").body("text/plain", &[b'x'; 3000]);
    let fits = message();
    client.send(&fits);
    client.send(&message());
    assert!(client.expect_status(503).header("Retry-After").is_some());
    // A small one still fits.
    let small = request("MESSAGE", "sip:bob@example.com");
    client.send(&small);
    client.expect_nothing(&edge);
    let tls = silent.stream.tls_server(authority.issue("127.0.0.1").server_config()).unwrap();
    let mut pbx = SipConnection { stream: tls };
    for sent in [fits, small] {
        assert_eq!(pbx.expect("MESSAGE").get("Call-ID"), sent.get("Call-ID"));
    }
}

#[test]
fn a_server_that_stops_reading_is_given_up_and_its_requests_are_answered() {
    let mut b = bridged("timeouts.write = \"1s\"");
    let body = vec![b'x'; 60_000];
    // More than the system's buffers and the queue hold together.
    const COUNT: usize = 400;
    for _ in 0..COUNT {
        b.client.send(&request("MESSAGE", "sip:bob@example.com").body("text/plain", &body));
    }
    let failures = format!("sipws_upstream_failures_total{{target=\"{}\"}}", b.server.uri());
    b.edge.wait_metric(&failures, 1);
    for _ in 0..COUNT {
        assert!(b.client.expect_status(503).header("Retry-After").is_some());
    }
    b.edge.wait_metric("sipws_requests_in_flight", 0);
    b.pbx = b.server.accept();
    wait_until("the upstream is up again", || b.edge.ready().is_ok());
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    b.pbx.expect("MESSAGE");
}
