//! The opening handshake through real sockets: who gets a WebSocket, who does not, and what either is told.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use common::{
    Answer, DEADLINE, Edge, Handshake, Stream, TEXT, WsClient, config, frame, request, start, unchecked_client_config,
};

const GOOD: &str = "GET / HTTP/1.1\r\nHost: edge.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n";

/// Sends a request as it is; the answer, and the connection.
fn ask(edge: &Edge, text: &str) -> (Answer, Stream) {
    let mut stream = Stream::connect(edge.websocket_address(0)).unwrap();
    stream.write(text.as_bytes()).unwrap();
    (Answer::read(&mut stream).unwrap(), stream)
}

fn status(edge: &Edge, text: &str) -> u16 {
    ask(edge, text).0.status
}

/// Whether the edge ends the connection, by a FIN or a reset.
fn is_closed(stream: &mut Stream) -> bool {
    loop {
        match stream.fill(Instant::now() + DEADLINE) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != ErrorKind::TimedOut,
        }
    }
}

/// Whether nothing comes. For what must not happen and leaves no other trace.
fn is_left_waiting(stream: &mut Stream) -> bool {
    stream.fill(Instant::now() + Duration::from_millis(300)).is_err_and(|e| e.kind() == ErrorKind::TimedOut)
}

fn outcome(edge: &Edge, outcome: &str) -> i64 {
    edge.metric(&sample(outcome))
}

fn sample(outcome: &str) -> String {
    format!("sipws_handshakes_total{{outcome=\"{outcome}\"}}")
}

/// Sends an OPTIONS to the edge itself and waits for its answer.
fn is_served(edge: &Edge, client: &mut WsClient) {
    client.send(&request("OPTIONS", &format!("sip:{}", edge.sip_authority())));
    client.expect_status(200);
}

#[test]
fn a_good_request_is_answered_as_rfc_6455_says() {
    let edge = start("");
    let (answer, _stream) = ask(&edge, GOOD);
    assert_eq!(answer.status, 101);
    assert_eq!(answer.headers["upgrade"], "websocket");
    assert_eq!(answer.headers["connection"], "Upgrade");
    assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert!(!answer.headers.contains_key("sec-websocket-extensions"));
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 1);
    assert_eq!((edge.connections(), outcome(&edge, "ok")), (1, 1));
}

#[test]
fn a_request_without_upgrade_or_of_another_version_is_told_to_upgrade_to_13() {
    let edge = start("");
    for (from, to) in [
        ("Upgrade: websocket\r\n", ""),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade", "Connection: keep-alive"),
        ("Version: 13", "Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", ""),
    ] {
        let (answer, mut stream) = ask(&edge, &GOOD.replace(from, to));
        assert_eq!(answer.status, 426, "{from} -> {to}");
        assert_eq!(answer.headers["sec-websocket-version"], "13");
        assert_eq!(answer.headers["upgrade"], "websocket");
        assert!(is_closed(&mut stream));
    }
    assert_eq!((outcome(&edge, "no_upgrade"), outcome(&edge, "version")), (3, 2));
    assert_eq!(edge.connections(), 0);
}

#[test]
fn the_subprotocol_is_exactly_sip_and_is_echoed() {
    let edge = start("");
    let url = edge.websocket_urls()[0].clone();
    for wrong in [None, Some("SIP"), Some("sips"), Some("xmpp, msrp"), Some("")] {
        let (answer, _) = Handshake::default().protocol(wrong).send(&url).unwrap();
        assert_eq!(answer.status, 400, "{wrong:?}");
    }
    for right in ["sip", "msrp, sip", "sip,xmpp"] {
        let (answer, _) = Handshake::default().protocol(Some(right)).send(&url).unwrap();
        assert_eq!((answer.status, answer.headers["sec-websocket-protocol"].as_str()), (101, "sip"), "{right}");
    }
    let two_fields = Handshake::default().protocol(Some("msrp")).header("Sec-WebSocket-Protocol", "sip");
    assert_eq!(two_fields.send(&url).unwrap().0.status, 101);
    assert_eq!(outcome(&edge, "subprotocol"), 5);
    edge.wait_metric(&sample("ok"), 4);
}

#[test]
fn what_is_no_websocket_request_gets_its_http_status_and_an_end() {
    let edge = start("");
    for (from, to, wanted) in [
        ("GET", "POST", 405),
        ("HTTP/1.1", "HTTP/1.0", 505),
        ("Host: edge.example.com\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "too-short", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("Host: edge", "Host edge", 400),
        ("GET / ", "GET /other ", 404),
        ("GET / ", "GET /index.html?x=/ ", 404),
    ] {
        let (answer, mut stream) = ask(&edge, &GOOD.replace(from, to));
        assert_eq!((answer.status, answer.headers["connection"].as_str()), (wanted, "close"), "{from} -> {to}");
        assert!(is_closed(&mut stream), "{from} -> {to}");
    }
    assert_eq!(status(&edge, &GOOD.replace("GET / ", "GET /?token=1 ")), 101);
}

#[test]
fn the_path_is_the_configured_one() {
    let edge = start("listen = [{ url = \"ws://127.0.0.1:0/sip/ws\" }]");
    for (path, wanted) in [("/", 404), ("/sip", 404), ("/sip/ws/", 404), ("/sip/ws", 101), ("/sip/ws?a=b", 101)] {
        assert_eq!(status(&edge, &GOOD.replace("GET / ", &format!("GET {path} "))), wanted, "{path}");
    }
    assert_eq!(outcome(&edge, "path"), 3);
}

#[test]
fn only_pages_on_the_list_may_connect_and_by_default_those_of_the_same_host() {
    let with =
        |edge: &Edge, origin: &str| status(edge, &GOOD.replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n")));
    let by_default = start("");
    for (origin, wanted) in [
        ("https://edge.example.com", 101),
        ("http://EDGE.example.com:3000", 101),
        ("https://evil.example.com", 403),
        ("https://edge.example.com.evil.org", 403),
        ("null", 403),
    ] {
        assert_eq!(with(&by_default, origin), wanted, "{origin}");
    }
    assert_eq!(outcome(&by_default, "origin"), 3);

    let listed = start(
        "listen = [{ url = \"ws://127.0.0.1:0/\", origins = [\"https://app.example.com\", \"https://*.example.org\"] }]",
    );
    for (origin, wanted) in [
        ("https://app.example.com", 101),
        ("https://APP.example.com:443", 101),
        ("https://a.example.org", 101),
        ("https://a.b.example.org", 101),
        ("http://app.example.com", 403),
        ("https://app.example.com:8443", 403),
        ("https://example.org", 403),
        ("https://evilexample.org", 403),
        // The same host is no way round a list.
        ("https://edge.example.com", 403),
    ] {
        assert_eq!(with(&listed, origin), wanted, "{origin}");
    }
    // A program that is no browser.
    assert_eq!(status(&listed, GOOD), 101);
    let two = GOOD.replace("\r\n\r\n", "\r\nOrigin: https://app.example.com\r\nOrigin: https://evil.org\r\n\r\n");
    assert_eq!(status(&listed, &two), 403);

    let any = start("listen = [{ url = \"ws://127.0.0.1:0/\", origins = [\"*\"] }]");
    assert_eq!(with(&any, "https://any.thing"), 101);
}

#[test]
fn origins_and_path_follow_a_reload_and_open_connections_stay() {
    let edge = start("listen = [{ url = \"ws://127.0.0.1:0/old\", origins = [\"https://old.example.com\"] }]");
    let new = "listen = [{ url = \"ws://127.0.0.1:0/new\", origins = [\"https://new.example.com\"] }]";
    let at = |which: &str| {
        let path = GOOD.replace("GET / ", &format!("GET /{which} "));
        path.replace("\r\n\r\n", &format!("\r\nOrigin: https://{which}.example.com\r\n\r\n"))
    };
    let mut early = WsClient::open_url(&edge.websocket_urls()[0]);
    assert_eq!((status(&edge, &at("old")), status(&edge, &at("new"))), (101, 404));
    assert_eq!(edge.reload(config(new)).unwrap(), Vec::<String>::new());
    assert_eq!((status(&edge, &at("old")), status(&edge, &at("new"))), (404, 101));
    is_served(&edge, &mut early);
}

#[test]
fn a_handshake_that_does_not_end_in_time_is_closed_and_counted() {
    let edge = start(
        "listen = [{ url = \"ws://127.0.0.1:0/\" }, { url = \"wss://127.0.0.1:0/\" }]\ntimeouts.handshake = \"1s\"",
    );
    let mut hello = Vec::new();
    let name = "localhost".try_into().unwrap();
    rustls::ClientConnection::new(unchecked_client_config(), name).unwrap().write_tls(&mut hello).unwrap();
    let half_hello = &hello[..hello.len() / 2];
    let half_request = &GOOD.as_bytes()[..GOOD.len() / 2];
    let mut stalled: Vec<_> = [(0, &b""[..]), (0, half_request), (1, &b""[..]), (1, half_hello)]
        .into_iter()
        .map(|(listener, bytes)| {
            let mut stream = Stream::connect(edge.websocket_address(listener)).unwrap();
            stream.write(bytes).unwrap();
            stream
        })
        .collect();
    // TLS, and then nothing.
    stalled.push(Handshake::default().connect(&edge.websocket_urls()[1]).unwrap());
    // What keeps coming does not move the deadline.
    let mut dripping = Stream::connect(edge.websocket_address(0)).unwrap();
    let begun = Instant::now();
    while dripping.write(b"G").is_ok() && is_left_waiting(&mut dripping) {
        assert!(begun.elapsed() < DEADLINE, "still there");
    }
    for stream in &mut stalled {
        assert!(is_closed(stream));
    }
    edge.wait_metric(&sample("timeout"), 6);
    edge.wait_metric("sipws_handshaking", 0);
    assert_eq!(edge.connections(), 0);
}

#[test]
fn a_client_that_goes_in_mid_handshake_or_says_too_much_is_counted() {
    let edge = start("listen = [{ url = \"ws://127.0.0.1:0/\" }, { url = \"wss://127.0.0.1:0/\" }]");
    let half = |listener| {
        let mut stream = Stream::connect(edge.websocket_address(listener)).unwrap();
        stream.write(&GOOD.as_bytes()[..GOOD.len() / 2]).unwrap();
        stream
    };
    drop(half(0));
    edge.wait_metric(&sample("incomplete"), 1);
    half(0).reset();
    edge.wait_metric(&sample("incomplete"), 2);
    // HTTP where TLS is spoken.
    assert!(is_closed(&mut half(1)));
    edge.wait_metric(&sample("tls"), 1);
    let mut endless = Stream::connect(edge.websocket_address(0)).unwrap();
    let cookie = format!("\r\nCookie: {}", "c".repeat(20 * 1024));
    let _ = endless.write(GOOD.replace("\r\n\r\n", &cookie).as_bytes());
    assert!(is_closed(&mut endless));
    edge.wait_metric(&sample("incomplete"), 3);
    edge.wait_metric("sipws_handshaking", 0);
}

#[test]
fn a_big_but_bounded_request_passes() {
    let edge = start("");
    let cookies = format!("\r\nCookie: {}\r\n\r\n", "c".repeat(12 * 1024));
    assert_eq!(status(&edge, &GOOD.replace("\r\n\r\n", &cookies)), 101);
}

#[test]
fn more_handshakes_at_once_than_allowed_wait_for_their_turn() {
    let edge = start("limits.handshakes = 1\ntimeouts.handshake = \"60s\"");
    let (first_half, second_half) = GOOD.as_bytes().split_at(30);
    let mut slow = Stream::connect(edge.websocket_address(0)).unwrap();
    slow.write(first_half).unwrap();
    edge.wait_metric("sipws_handshaking", 1);
    let mut next = Stream::connect(edge.websocket_address(0)).unwrap();
    next.write(GOOD.as_bytes()).unwrap();
    assert!(is_left_waiting(&mut next));
    assert_eq!(edge.metric("sipws_handshaking"), 1);
    slow.write(second_half).unwrap();
    assert_eq!(Answer::read(&mut slow).unwrap().status, 101);
    assert_eq!(Answer::read(&mut next).unwrap().status, 101);
    edge.wait_metric("sipws_handshaking", 0);
}

#[test]
fn an_address_with_as_many_connections_as_it_may_is_told_to_come_back_later() {
    let edge = start("limits.connections_per_address = 2");
    let url = edge.websocket_urls()[0].clone();
    let first = WsClient::open(&edge);
    let mut second = WsClient::open(&edge);
    let (answer, mut stream) = Handshake::default().send(&url).unwrap();
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"));
    assert!(is_closed(&mut stream));
    assert_eq!(outcome(&edge, "connections"), 1);
    // The others are not its business, nor it theirs.
    let elsewhere = Handshake { from: Some("127.0.0.2:0".parse().unwrap()), ..Handshake::default() };
    let third = WsClient::try_open(&url, &elsewhere).unwrap().unwrap();
    is_served(&edge, &mut second);
    first.reset();
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 2);
    let fourth = loop {
        // The place is free once the connection is wholly gone, a moment after it stops being counted.
        match WsClient::try_open(&url, &Handshake::default()).unwrap() {
            Ok(client) => break client,
            Err(answer) => assert_eq!(answer.status, 503),
        }
    };
    drop((third, fourth));
}

#[test]
fn a_node_with_as_many_connections_as_it_may_is_full_for_everybody() {
    let edge = start("limits.connections = 3");
    let url = edge.websocket_urls()[0].clone();
    let _open = [WsClient::open(&edge), WsClient::open(&edge), WsClient::open(&edge)];
    let elsewhere = Handshake { from: Some("127.0.0.2:0".parse().unwrap()), ..Handshake::default() };
    for handshake in [Handshake::default(), elsewhere] {
        let answer = handshake.send(&url).unwrap().0;
        assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"));
    }
    assert_eq!(outcome(&edge, "connections"), 2);
    edge.wait_metric(&sample("ok"), 3);
}

#[test]
fn the_limit_of_a_node_holds_when_all_come_at_once() {
    let edge = start("limits.connections = 5\nlimits.handshakes = 64");
    let mut streams: Vec<_> = (0..64).map(|_| Stream::connect(edge.websocket_address(0)).unwrap()).collect();
    for stream in &mut streams {
        stream.write(GOOD.as_bytes()).unwrap();
    }
    let statuses: Vec<_> = streams.iter_mut().map(|s| Answer::read(s).unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 101).count(), 5, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|s| **s == 503).count(), 59, "{statuses:?}");
}

#[test]
fn frames_that_come_right_behind_the_request_are_not_lost() {
    let edge = start("listen = [{ url = \"ws://127.0.0.1:0/\" }, { url = \"wss://127.0.0.1:0/\" }]");
    let options = || request("OPTIONS", &format!("sip:{}", edge.sip_authority())).bytes();
    for listener in 0..2 {
        let bytes = [GOOD.as_bytes(), &frame(true, TEXT, &options()), &frame(true, TEXT, &options())].concat();
        // Cut behind the request, in a frame's header, in its payload, and not at all.
        for cut in [GOOD.len(), GOOD.len() + 1, GOOD.len() + 40, bytes.len()] {
            let mut stream = Handshake::default().connect(&edge.websocket_urls()[listener]).unwrap();
            stream.write(&bytes[..cut]).unwrap();
            assert_eq!(Answer::read(&mut stream).unwrap().status, 101);
            stream.write(&bytes[cut..]).unwrap();
            for _ in 0..2 {
                let answer = read_text(&mut stream);
                assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
            }
        }
    }
}

/// The next text frame of a connection that was upgraded by hand.
fn read_text(stream: &mut Stream) -> String {
    loop {
        if let [0x81, 126, high, low, ..] = stream.buffer[..] {
            let end = 4 + usize::from(high) * 256 + usize::from(low);
            if stream.buffer.len() >= end {
                return String::from_utf8(stream.take(end).split_off(4)).unwrap();
            }
        }
        assert_ne!(stream.fill(Instant::now() + DEADLINE).unwrap(), 0, "{:?}", stream.buffer);
    }
}

#[test]
fn a_handshake_under_way_when_the_drain_begins_is_sent_elsewhere() {
    let edge = start("");
    let (first_half, second_half) = GOOD.as_bytes().split_at(30);
    let mut slow = Stream::connect(edge.websocket_address(0)).unwrap();
    slow.write(first_half).unwrap();
    edge.wait_metric("sipws_handshaking", 1);
    edge.drain(Duration::from_millis(100));
    slow.write(second_half).unwrap();
    let answer = Answer::read(&mut slow).unwrap();
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "5"));
    assert_eq!(outcome(&edge, "draining"), 1);
}
