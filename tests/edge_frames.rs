//! An open WebSocket through real sockets: frames good and bad, pings, slow readers, and every way in which it ends.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    BINARY, Builder, CLOSE, CONTINUATION, DEADLINE, Edge, Frame, PING, PONG, TEXT, WsClient, bridged, frame, request,
    start, wait_until,
};

const LIMIT: usize = 65_536;

/// An OPTIONS to the edge itself, which answers it without any SIP server.
fn options(edge: &Edge) -> Builder {
    request("OPTIONS", &format!("sip:{}", edge.sip_authority()))
}

/// The same, `len` bytes long.
fn options_of(edge: &Edge, len: usize) -> Vec<u8> {
    let padded = |n: usize| options(edge).set("Call-ID", "long").body("text/plain", &vec![b'x'; n]).bytes();
    let mut body = len;
    while padded(body).len() > len {
        body -= 1;
    }
    assert_eq!(padded(body).len(), len);
    padded(body)
}

#[track_caller]
fn is_served(edge: &Edge, client: &mut WsClient) {
    client.send(&options(edge));
    client.expect_status(200);
}

fn closed(edge: &Edge, reason: &str) -> i64 {
    edge.metric(&format!("sipws_closed_total{{reason=\"{reason}\"}}"))
}

/// Waits until one connection has ended for `reason` and none is open.
#[track_caller]
fn wait_closed(edge: &Edge, reason: &str) {
    wait_until(&format!("one connection ended: {reason}\n{}", edge.metrics()), || closed(edge, reason) == 1);
    wait_until("no connection is open", || edge.connections() == 0);
}

#[test]
fn text_and_binary_frames_are_both_sip() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    for opcode in [TEXT, BINARY] {
        client.send_frame(true, opcode, &options(&edge).bytes());
        client.expect_status(200);
    }
}

#[test]
fn what_is_not_utf_8_comes_back_in_a_binary_frame() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    let mut bytes = options(&edge).with("From", "").bytes();
    let at = bytes.windows(6).position(|w| w == b"From: ").unwrap() + 6;
    bytes.splice(at..at, b"\"J\xfcrgen\" ".iter().copied());
    let end = bytes.windows(8).position(|w| w == b"From: \r\n").unwrap();
    bytes.drain(end..end + 8);
    client.send_binary(&bytes);
    let Frame::Binary(answer) = client.frame() else { panic!("text that is not UTF-8") };
    assert!(answer.starts_with(b"SIP/2.0 200 ") && answer.windows(7).any(|w| w == b"J\xfcrgen\""));
}

#[test]
fn fragments_are_put_together_with_control_frames_between_them() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    let bytes = options(&edge).with("Subject", "Gr\u{fc}\u{df}e").bytes();
    // In the middle of a character of two bytes.
    let cut = bytes.iter().position(|b| *b == 0xc3).unwrap() + 1;
    client.send_frame(false, TEXT, &bytes[..10]);
    client.send_frame(true, PING, b"between");
    client.send_frame(false, CONTINUATION, &bytes[10..cut]);
    client.send_frame(false, CONTINUATION, b"");
    client.send_frame(true, CONTINUATION, &bytes[cut..]);
    assert_eq!(client.frame(), Frame::Pong(b"between".to_vec()));
    client.expect_status(200);
    // A frame in pieces of one byte.
    for byte in frame(true, TEXT, &options(&edge).bytes()) {
        client.send_raw(&[byte]);
    }
    client.expect_status(200);
    // Several frames in one piece.
    client.send_raw(&frame(true, TEXT, &options(&edge).bytes()).repeat(3));
    for _ in 0..3 {
        client.expect_status(200);
    }
}

#[test]
fn the_largest_message_passes_and_one_byte_more_ends_with_1009() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    client.send_frame(true, TEXT, &options_of(&edge, LIMIT));
    client.expect_status(200);
    let (a, b) = (&options_of(&edge, LIMIT)[..40_000], &options_of(&edge, LIMIT)[40_000..]);
    client.send_frame(false, BINARY, a);
    client.send_frame(true, CONTINUATION, b);
    client.expect_status(200);
    drop(client);
    wait_until("it is gone", || edge.connections() == 0);

    let too_long = options_of(&edge, LIMIT + 1);
    let in_one = frame(true, TEXT, &too_long);
    let in_two = [frame(false, TEXT, &too_long[..40_000]), frame(true, CONTINUATION, &too_long[40_000..])].concat();
    // Announced, never sent: nothing is waited for.
    let announced = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for (i, bytes) in [in_one, in_two, announced].into_iter().enumerate() {
        let mut client = WsClient::open(&edge);
        client.send_raw(&bytes);
        assert_eq!(client.expect_close().0, Some(1009));
        wait_until("it is counted", || closed(&edge, "too_long") == i as i64 + 1);
    }
}

#[test]
fn text_that_is_not_utf_8_ends_with_1007() {
    let edge = start("");
    let mut bytes = options(&edge).bytes();
    bytes.push(0xff);
    let cut_short = b"OPTIONS \xc3".to_vec();
    for (i, bytes) in [bytes, cut_short].into_iter().enumerate() {
        let mut client = WsClient::open(&edge);
        client.send_frame(true, TEXT, &bytes);
        assert_eq!(client.expect_close().0, Some(1007));
        wait_until("it is counted", || closed(&edge, "not_utf8") == i as i64 + 1);
    }
}

#[test]
fn frames_that_rfc_6455_forbids_end_with_1002() {
    let edge = start("");
    let unmasked = [&[0x81, 5][..], b"hello"].concat();
    let mut reserved_bit = frame(true, TEXT, b"hello");
    reserved_bit[0] |= 0x40;
    let bad = [
        ("unmasked", unmasked),
        ("a reserved bit", reserved_bit),
        ("a reserved data opcode", frame(true, 3, b"")),
        ("a reserved control opcode", frame(true, 11, b"")),
        ("a ping in fragments", frame(false, PING, b"")),
        ("a long ping", frame(true, PING, &[0; 126])),
        ("nothing to go on with", frame(true, CONTINUATION, b"")),
        ("a message in a message", [frame(false, TEXT, b"a"), frame(true, TEXT, b"b")].concat()),
        ("a close code of one byte", frame(true, CLOSE, &[3])),
    ];
    for (i, (what, bytes)) in bad.into_iter().enumerate() {
        let mut client = WsClient::open(&edge);
        client.send_raw(&bytes);
        assert_eq!(client.expect_close().0, Some(1002), "{what}");
        wait_until(&format!("{what} is counted\n{}", edge.metrics()), || closed(&edge, "protocol") == i as i64 + 1);
    }
    wait_until("all are gone", || edge.connections() == 0);
}

#[test]
fn nothing_but_refused_messages_ends_with_1008() {
    let edge = start("limits.strikes = 5");
    let mut client = WsClient::open(&edge);
    for _ in 0..4 {
        client.send_text("this is no SIP");
    }
    is_served(&edge, &mut client);
    for _ in 0..2 {
        client.send_text("nor is this");
    }
    assert_eq!(client.expect_close().0, Some(1008));
    wait_closed(&edge, "policy");
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    for payload in [&b""[..], b"are you there?", &[7; 125]] {
        client.send_frame(true, PING, payload);
        assert_eq!(client.frame(), Frame::Pong(payload.to_vec()));
    }
    // A pong that nobody asked for (RFC 6455 §5.5.3).
    client.send_frame(true, PONG, b"here I am");
    is_served(&edge, &mut client);
}

#[test]
fn a_keep_alive_of_two_crlf_is_answered_by_one_and_one_by_none() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    for opcode in [TEXT, BINARY] {
        client.send_frame(true, opcode, b"\r\n\r\n");
        assert_eq!(client.frame(), Frame::Text("\r\n".to_owned()));
    }
    client.send_text("\r\n");
    client.send_text("");
    client.send(&options(&edge));
    let Frame::Text(next) = client.frame() else { panic!("a text frame") };
    assert!(next.starts_with("SIP/2.0 200 "), "{next}");
    assert_eq!(edge.refused("garbage"), 0);
}

#[test]
fn who_answers_no_ping_is_closed_and_who_says_anything_stays() {
    let edge = start("timeouts.ping = \"1s\"\ntimeouts.pong = \"1s\"");
    let (mut silent, mut pongs, mut talks) = (WsClient::open(&edge), WsClient::open(&edge), WsClient::open(&edge));
    for _ in 0..3 {
        let Frame::Ping(payload) = pongs.frame() else { panic!("a ping") };
        pongs.send_frame(true, PONG, &payload);
        let Frame::Ping(_) = talks.frame() else { panic!("a ping") };
        // Anything shows that it lives.
        talks.send_text("\r\n\r\n");
        assert_eq!(talks.frame(), Frame::Text("\r\n".to_owned()));
    }
    assert_eq!(silent.frame(), Frame::Ping(Vec::new()));
    assert_eq!(silent.expect_close(), (None, String::new()));
    assert_eq!((closed(&edge, "silent"), edge.connections()), (1, 2));
}

/// Sends OPTIONS with long answers and reads none of them, as long as `go_on`.
fn ask_on(edge: &Edge, client: &mut WsClient, go_on: impl Fn(usize) -> bool) {
    let long = format!("<sip:alice@example.com>;tag=1;x={}", "x".repeat(30_000));
    let bytes = frame(true, TEXT, &options(edge).set("From", &long).bytes());
    let mut sent = 0;
    while go_on(sent) && client.try_send_raw(&bytes).is_ok() {
        sent += bytes.len();
    }
}

#[test]
fn a_reader_that_lets_its_outbox_fill_is_closed_while_others_go_on() {
    let edge = start("limits.outbox_bytes = \"64KiB\"");
    let (mut slow, mut other) = (WsClient::open(&edge), WsClient::open(&edge));
    ask_on(&edge, &mut slow, |sent| sent < 64 << 20 && closed(&edge, "slow_reader") == 0);
    wait_until("it is counted", || closed(&edge, "slow_reader") == 1);
    assert_eq!((edge.refused("outbox_full"), edge.refused("write_deadline")), (1, 0));
    is_served(&edge, &mut other);
    assert_eq!(edge.connections(), 1);
    edge.wait_metric("sipws_outbox_bytes", 0);
}

#[test]
fn answers_that_only_together_are_more_than_the_outbox_do_not_make_a_slow_reader() {
    let edge = start("limits.outbox_bytes = \"64KiB\"");
    let mut client = WsClient::open(&edge);
    let long = format!("<sip:alice@example.com>;tag=1;x={}", "x".repeat(30_000));
    client.send_raw(&frame(true, TEXT, &options(&edge).set("From", &long).bytes()).repeat(8));
    for _ in 0..8 {
        client.expect_status(200);
    }
    is_served(&edge, &mut client);
}

#[test]
fn a_reader_that_takes_nothing_for_the_time_of_a_write_is_closed() {
    let edge = start("limits.outbox_bytes = \"64MiB\"\ntimeouts.write = \"1s\"");
    let (mut stalled, mut other) = (WsClient::open(&edge), WsClient::open(&edge));
    ask_on(&edge, &mut stalled, |sent| sent < 24 << 20);
    wait_until("it is counted", || closed(&edge, "slow_reader") == 1);
    assert_eq!((edge.refused("outbox_full"), edge.refused("write_deadline")), (0, 1));
    is_served(&edge, &mut other);
    edge.wait_metric("sipws_outbox_bytes", 0);
}

#[test]
fn a_reader_that_is_slow_but_reads_on_is_not_closed() {
    let edge = start("limits.outbox_bytes = \"64MiB\"\ntimeouts.write = \"1s\"");
    let mut client = WsClient::open(&edge);
    ask_on(&edge, &mut client, |sent| sent < 40 << 20);
    // For longer than one write may take, there is something that waits, and some of it is taken.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2500) {
        assert_ne!(client.stream.fill(Instant::now() + DEADLINE).unwrap(), 0);
        client.stream.buffer.clear();
        thread::sleep(Duration::from_millis(3));
    }
    assert_eq!((edge.connections(), closed(&edge, "slow_reader")), (1, 0));
    assert!(edge.metric("sipws_outbox_bytes") > 0, "nothing waits any more: the test needs more of it");
}

#[test]
fn a_close_is_answered_with_the_same_code_and_an_end() {
    let edge = start("");
    for (payload, answer) in [
        (&[3, 0xe8, b'b', b'y', b'e'][..], Frame::Close(Some(1000), "bye".to_owned())),
        (&[3, 0xe9], Frame::Close(Some(1001), String::new())),
        (&[], Frame::Close(None, String::new())),
    ] {
        let mut client = WsClient::open(&edge);
        client.send_frame(true, CLOSE, payload);
        // Nothing is heeded that comes behind a close.
        client.send(&options(&edge));
        assert_eq!(client.frame(), answer);
        assert!(matches!(client.try_frame(DEADLINE), Ok(None)), "an end");
    }
    wait_until("all three are counted", || closed(&edge, "client") == 3);
    assert_eq!(edge.connections(), 0);
}

#[test]
fn a_client_that_ends_its_half_still_gets_what_was_for_it() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    client.send(&options(&edge));
    client.stream.socket().shutdown(Shutdown::Write).unwrap();
    client.expect_status(200);
    assert!(matches!(client.try_frame(DEADLINE), Ok(None)), "an end");
    wait_closed(&edge, "lost");
}

#[test]
fn a_reset_is_noticed_at_once() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    client.send_raw(&frame(true, TEXT, &options(&edge).bytes())[..20]);
    client.reset();
    wait_closed(&edge, "lost");
}

#[test]
fn a_flow_that_ends_takes_its_unanswered_requests_along() {
    let mut b = bridged("");
    b.client.send(&request("MESSAGE", "sip:bob@example.com"));
    let asked = b.pbx.expect("MESSAGE");
    b.edge.wait_metric("sipws_requests_in_flight", 1);
    b.client.reset();
    wait_closed(&b.edge, "lost");
    b.pbx.send(&asked.respond(200, "OK"));
    b.edge.wait_metric("sipws_requests_in_flight", 0);
}

#[test]
fn a_drain_sends_everybody_away_one_after_the_other() {
    const GRACE: Duration = Duration::from_secs(2);
    let edge = start("");
    let clients: Vec<_> = (0..20).map(|_| WsClient::open(&edge)).collect();
    wait_until("all are counted", || edge.connections() == 20);
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            thread::spawn(move || {
                let close = client.expect_close();
                let at = Instant::now();
                client.send_close(1001, "");
                assert_eq!(close.0, Some(1001));
                at
            })
        })
        .collect();
    thread::scope(|scope| {
        let draining = scope.spawn(|| edge.drain(GRACE));
        wait_until("it says so", || edge.ready().is_err_and(|why| why.contains("draining")));
        let times: Vec<_> = waiting.into_iter().map(|w| w.join().unwrap()).collect();
        let spread = *times.iter().max().unwrap() - *times.iter().min().unwrap();
        assert!(spread > GRACE / 4, "all came back within {spread:?}");
        draining.join().unwrap();
    });
    wait_until("all are counted", || closed(&edge, "server") == 20);
    assert_eq!(edge.connections(), 0);
    assert!(common::Stream::connect(edge.websocket_address(0)).is_err());
}

#[test]
fn a_drain_ends_when_all_are_gone_and_does_not_wait_longer_than_its_grace() {
    let edge = start("");
    let mut client = WsClient::open(&edge);
    let polite = thread::spawn(move || {
        assert_eq!(client.expect_close().0, Some(1001));
        client.send_close(1001, "");
    });
    let begun = Instant::now();
    edge.drain(Duration::from_secs(60));
    assert!(begun.elapsed() < Duration::from_secs(30), "nobody was left to wait for");
    polite.join().unwrap();

    let edge = start("");
    let _deaf = [WsClient::open(&edge), WsClient::open(&edge)];
    let begun = Instant::now();
    edge.drain(Duration::from_millis(200));
    // A client has two seconds to answer a close.
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());
}

#[test]
fn who_gets_in_while_a_drain_begins_is_sent_away_as_well() {
    for _ in 0..10 {
        let edge = start("");
        let url = edge.websocket_urls()[0].clone();
        let begun = Instant::now();
        thread::scope(|scope| {
            let url = &url;
            let coming: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(move || {
                        let mut sent_away = 0;
                        while begun.elapsed() < DEADLINE {
                            // Refused, reset, or 503: it came too late.
                            let Ok(Ok(mut client)) = WsClient::try_open(url, &common::Handshake::default()) else {
                                break;
                            };
                            match client.try_frame(DEADLINE) {
                                Ok(Some(Frame::Close(Some(1001), _))) => sent_away += 1,
                                Err(e) if e.kind() != ErrorKind::TimedOut => {}
                                other => panic!("forgotten: {other:?}"),
                            }
                        }
                        sent_away
                    })
                })
                .collect();
            wait_until("the first is in", || edge.connections() > 0);
            edge.drain(Duration::from_millis(300));
            let sent_away: i32 = coming.into_iter().map(|c| c.join().unwrap()).sum();
            assert!(sent_away > 0);
        });
    }
}
