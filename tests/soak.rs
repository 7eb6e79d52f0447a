//! Thousands of clients that go at the worst moment leave nothing behind: no descriptor, no gauge, no memory.
//!
//! One round is seconds long; `SOAK_SECONDS=600` goes on for so long. Alone in its process, whose memory it measures.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Edge, Handshake, SipConnection, SipServer, Stream, TEXT, WsClient, frame, request, start, unchecked_client_config,
    upstreams, wait_until,
};

const CLIENTS: usize = 20_000;
const WARM_UP: usize = 5_000;
const THREADS: usize = 4;
/// What the allocator may keep for itself: less than 220 bytes a connection would come to.
const MOST_GROWTH: usize = 4 << 20;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgr";

/// Where in its life a client goes.
const MOMENTS: usize = 10;

/// One client, which goes at the `n`-th moment.
fn come_and_go(edge: &Edge, hello: &[u8], n: usize) {
    let urls = edge.websocket_urls();
    let ask =
        || frame(true, TEXT, &request("MESSAGE", "sip:bob@example.com").body("text/plain", &[b'x'; 2000]).bytes());
    let raw = |listener, bytes: &[u8]| {
        let mut stream = Stream::connect(edge.websocket_address(listener)).unwrap();
        stream.write(bytes).unwrap();
        stream.reset();
    };
    match n % MOMENTS {
        // Before a word, during TLS, during HTTP.
        0 => raw(0, b""),
        1 => raw(1, &hello[..hello.len() / 2]),
        2 => raw(1, hello),
        3 => raw(0, REQUEST),
        4 => {
            let mut stream = Handshake::default().connect(&urls[1]).unwrap();
            stream.write(REQUEST).unwrap();
            stream.reset();
        }
        // After the upgrade, in a frame, with a request in flight.
        5 => WsClient::open_url(&urls[0]).reset(),
        6 => {
            let mut client = WsClient::open_url(&urls[0]);
            client.send_raw(&ask()[..1000]);
            client.reset();
        }
        7 | 8 => {
            let mut client = WsClient::open_url(&urls[n % 2]);
            client.send_raw(&ask());
            client.reset();
        }
        // Its answer read, and gone without a word.
        _ => {
            let mut client = WsClient::open_url(&urls[0]);
            client.send_raw(&ask());
            client.expect_status(200);
        }
    }
}

/// A SIP server that lets requests wait for one another before it answers them.
fn answer(mut connection: SipConnection, stop: &AtomicBool) -> usize {
    let (mut waiting, mut answered) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        match connection.try_receive(Duration::from_millis(5)) {
            Ok(Some(message)) => waiting.push(message),
            Err(e) if e.kind() == ErrorKind::TimedOut => {}
            end => panic!("the edge has left: {end:?}"),
        }
        if waiting.len() >= 20 || connection.stream.buffer.is_empty() {
            for message in waiting.drain(..) {
                connection.send(&message.respond(200, "OK"));
                answered += 1;
            }
        }
    }
    answered
}

fn soak(edge: &Edge, hello: &[u8], clients: usize) {
    thread::scope(|scope| {
        for t in 0..THREADS {
            scope.spawn(move || (t..clients).step_by(THREADS).for_each(|n| come_and_go(edge, hello, n / THREADS)));
        }
    });
    for gauge in [
        "sipws_connections{transport=\"ws\"}",
        "sipws_connections{transport=\"wss\"}",
        "sipws_handshaking",
        "sipws_outbox_bytes",
        "sipws_requests_in_flight",
    ] {
        edge.wait_metric(gauge, 0);
    }
    assert_eq!(edge.connections(), 0);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Bytes of memory in use.
fn memory() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn twenty_thousand_clients_that_go_at_the_worst_moment_leave_nothing_behind() {
    let server = SipServer::start();
    let edge = start(&format!(
        "listen = [{{ url = \"ws://127.0.0.1:0/\" }}, {{ url = \"wss://127.0.0.1:0/\" }}]\n{}",
        upstreams(&[&server])
    ));
    let mut hello = Vec::new();
    let name = "localhost".try_into().unwrap();
    rustls::ClientConnection::new(unchecked_client_config(), name).unwrap().write_tls(&mut hello).unwrap();
    let connection = server.accept();
    wait_until("the upstream is up", || edge.ready().is_ok());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let answering = scope.spawn(|| answer(connection, &stop));
        let soaked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            soak(&edge, &hello, WARM_UP);
            let (files, bytes) = (descriptors(), memory());
            let seconds = std::env::var("SOAK_SECONDS").map_or(0, |s| s.parse().expect("SOAK_SECONDS is a number"));
            let begun = Instant::now();
            loop {
                soak(&edge, &hello, CLIENTS);
                // Sockets are closed a moment after their connections stop being counted.
                wait_until("as many descriptors as before", || descriptors() <= files);
                let growth = memory().saturating_sub(bytes);
                println!("{:?}: {} KiB more than before", begun.elapsed(), growth >> 10);
                assert!(growth < MOST_GROWTH, "{growth} bytes more than before");
                if begun.elapsed() >= Duration::from_secs(seconds) {
                    break;
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        assert!(answering.join().unwrap() > 0);
        soaked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
