//! The transport on a real `pjsip_endpoint`, linked statically: through its API, against real sockets.

#![allow(unsafe_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod endpoint;

use common::{Builder, DEADLINE, WsClient, WsServer, request, wait_until};
use endpoint::{Endpoint, Told};
use sipws::pjsip::sys as pj;

const CONNECTED: pj::pjsip_transport_state = pj::pjsip_transport_state_PJSIP_TP_STATE_CONNECTED;

#[test]
fn a_browsers_request_reaches_pjsip_and_its_answer_the_browser() {
    let endpoint = Endpoint::start("", 1);
    let mut client = WsClient::open_url(&endpoint.url(0));
    client.send(&request("OPTIONS", "sip:edge"));
    client.expect_status(200);
    let got = endpoint.next_request();
    assert_eq!((got.method(), got.get("Content-Length")), ("OPTIONS", "0"));
    assert!(got.get("Via").contains("WS"));
}

#[test]
fn pjsip_dials_out_and_its_transaction_ends_with_the_answer() {
    let endpoint = Endpoint::start("", 1);
    let target = format!("sip:bob@{};transport=ws", endpoint.address(0));
    assert_eq!(endpoint.send("OPTIONS", &target), 0);
    let got = endpoint.next_request();
    assert!(got.get("Via").contains(".invalid"), "{}", got.get("Via"));
    assert_eq!(endpoint.next_final(), 200);
    // One that PJSIP made, one that it accepted; the next request takes the one that is there.
    assert_eq!(endpoint.transports(), 2);
    assert_eq!(endpoint.send("OPTIONS", &target), 0);
    assert_eq!(endpoint.next_final(), 200);
    assert_eq!(endpoint.transports(), 2);
}

#[test]
fn what_is_sent_while_connecting_waits_and_arrives_in_order() {
    let endpoint = Endpoint::start("listen = []", 1);
    let server = WsServer::start();
    let target = format!("sip:bob@{};transport=ws", server.address());
    for _ in 0..5 {
        endpoint.send_stateless("MESSAGE", &target, 100);
    }
    let mut peer = server.accept();
    assert!(!endpoint.told().iter().any(|t| matches!(t, Told::Sent(_))), "sent before the upgrade");
    peer.upgrade();
    let numbers: Vec<u32> =
        (0..5).map(|_| peer.receive().get("CSeq").split(' ').next().unwrap().parse().unwrap()).collect();
    for _ in 0..5 {
        assert!(endpoint.next_sent() > 0);
    }
    assert_eq!(numbers.len(), 5);
}

#[test]
fn a_connection_that_fails_ends_every_pending_send_and_the_transport() {
    let endpoint = Endpoint::start("listen = []\n[timeouts]\nconnect = \"300ms\"", 2);
    let server = WsServer::start();
    let target = format!("sip:bob@{};transport=ws", server.address());
    let refused = pj::PJSIP_ERRNO_START as i32 + 403;
    type Fault = fn(&WsServer);
    let faults: [(&str, Fault, i32); 5] = [
        ("hangs up", |s| drop(s.accept()), 171_020),
        ("refuses", |s| s.accept().write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), refused),
        (
            "speaks no sip",
            |s| {
                let mut peer = s.accept();
                let answer = peer.right_answer().replace("Sec-WebSocket-Protocol: sip\r\n", "");
                peer.write(answer.as_bytes());
            },
            70_012,
        ),
        ("answers nonsense", |s| s.accept().write(b"SIP/2.0 200 OK\r\n\r\n"), 171_020),
        (
            "is silent",
            |s| {
                let kept = s.accept();
                std::thread::spawn(move || {
                    std::thread::sleep(DEADLINE);
                    drop(kept);
                });
            },
            70_009,
        ),
    ];
    for (what, fault, wanted) in faults {
        for _ in 0..3 {
            endpoint.send_stateless("OPTIONS", &target, 0);
        }
        fault(&server);
        let mut ends = Vec::new();
        let mut status = None;
        while ends.len() < 3 || status.is_none() {
            endpoint.next(what, |told| {
                match told {
                    Told::Sent(sent) => ends.push(sent),
                    Told::State(pj::pjsip_transport_state_PJSIP_TP_STATE_DISCONNECTED, s, _) => status = Some(s),
                    _ => {}
                }
                Some(())
            });
        }
        assert_eq!((ends, status), (vec![-i64::from(wanted); 3], Some(wanted)), "{what}");
        endpoint.wait_transports(0);
    }
}

#[test]
fn nobody_listening_is_a_refused_connection() {
    let endpoint = Endpoint::start("listen = []", 1);
    let gone = WsServer::start().address();
    endpoint.send_stateless("OPTIONS", &format!("sip:bob@{gone};transport=ws"), 0);
    assert_eq!(endpoint.next_sent(), -(111 + 120_000));
    endpoint.wait_transports(0);
    // A transaction may learn of it at once, or by its end.
    match endpoint.send("OPTIONS", &format!("sip:bob@{gone};transport=ws")) {
        0 => assert_eq!(endpoint.next_final(), 503),
        status => assert_eq!(status, 111 + 120_000),
    }
}

#[test]
fn a_peer_that_goes_is_told_to_pjsip_and_its_transport_destroyed() {
    let endpoint = Endpoint::start("", 1);
    let client = WsClient::open_url(&endpoint.url(0));
    endpoint.next("connected", |t| matches!(t, Told::State(CONNECTED, 0, _)).then_some(()));
    client.reset();
    assert_eq!(endpoint.next_disconnected(), 104 + 120_000);
    endpoint.wait_transports(0);
    let mut client = WsClient::open_url(&endpoint.url(0));
    client.send_close(1000, "");
    assert_eq!(endpoint.next_disconnected(), 70_016);
    endpoint.wait_transports(0);
}

#[test]
fn a_message_longer_than_pjsip_takes_closes_with_1009() {
    let endpoint = Endpoint::start("", 1);
    let mut client = WsClient::open_url(&endpoint.url(0));
    let most = pj::PJSIP_MAX_PKT_LEN as usize - 1;
    let of = |len: usize| {
        let empty: Builder = request("MESSAGE", "sip:edge").body("text/plain", b"");
        let head = empty.bytes().len() + 10;
        request("MESSAGE", "sip:edge").body("text/plain", &vec![b'x'; len - head])
    };
    client.send(&of(most - 20));
    client.expect_status(200);
    client.send_binary(&[b"OPTIONS sip:a SIP/2.0\r\n".as_slice(), &vec![b'x'; most]].concat());
    let (code, _) = client.expect_close();
    assert_eq!(code, Some(1009));
}

#[test]
fn stop_says_goodbye_and_leaves_nothing() {
    let mut endpoint = Endpoint::start("", 1);
    let url = endpoint.url(0);
    let mut clients: Vec<_> = (0..20).map(|_| WsClient::open_url(&url)).collect();
    endpoint.wait_transports(20);
    endpoint.stop();
    for client in &mut clients {
        assert_eq!(client.expect_close().0, Some(1001));
    }
    assert_eq!(endpoint.transports(), 0);
}

#[test]
fn an_endpoint_destroyed_first_stops_the_transport() {
    let mut endpoint = Endpoint::start("", 1);
    let mut client = WsClient::open_url(&endpoint.url(0));
    endpoint.wait_transports(1);
    let link = endpoint.link.take().unwrap();
    drop(endpoint);
    client.expect_close();
    // Harmless afterwards.
    unsafe { link.stop(DEADLINE) };
}

#[test]
fn a_second_link_and_a_second_endpoint_work() {
    let first = Endpoint::start("", 1);
    let second = first.try_link("").unwrap_or_else(|e| panic!("{}", e.text));
    for url in [first.url(0), second.server().unwrap().websocket_urls()[0].clone()] {
        let mut client = WsClient::open_url(&url);
        client.send(&request("OPTIONS", "sip:edge"));
        client.expect_status(200);
    }
    unsafe { second.stop(DEADLINE) };
    drop(first);
    let again = Endpoint::start("", 1);
    let mut client = WsClient::open_url(&again.url(0));
    client.send(&request("OPTIONS", "sip:edge"));
    client.expect_status(200);
}

#[test]
fn messages_arrive_whole_and_in_order_whoever_reads() {
    for workers in [1, 3] {
        for endpoint in [Endpoint::start as fn(&str, usize) -> Endpoint, Endpoint::start_with_policy] {
            let endpoint = endpoint("[limits]\nrequests_per_second = 0", workers);
            let mut clients: Vec<_> = (0..3).map(|_| WsClient::open_url(&endpoint.url(0))).collect();
            let rounds = 300;
            for round in 0..rounds {
                for client in &mut clients {
                    // Sizes from one read to many, and more than one frame in one read.
                    let body = vec![b'x'; round * 137 % 9000];
                    client.send(
                        &request("MESSAGE", "sip:edge")
                            .set("CSeq", &format!("{round} MESSAGE"))
                            .body("text/plain", &body),
                    );
                }
            }
            for client in &mut clients {
                for round in 0..rounds {
                    assert_eq!(client.expect_status(200).get("CSeq"), format!("{round} MESSAGE"));
                }
            }
        }
    }
}

#[test]
fn over_tls_uris_say_wss_inside_and_ws_on_the_wire() {
    let authority = common::Authority::new();
    let issued = authority.issue("localhost");
    let scratch = common::Scratch::new();
    let (certificate, key) = (scratch.file("cert.pem", &issued.pem), scratch.file("key.pem", &issued.key_pem));
    let ca = scratch.file("ca.pem", &authority.pem());
    let endpoint = Endpoint::start(
        &format!(
            "listen = [{{ url = \"wss://127.0.0.1:0/\" }}]\n[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n\
             [client]\nca = \"{ca}\""
        ),
        1,
    );
    let port = endpoint.address(0).port();
    // To itself: what it sent as wss, and read again as wss, was ws in between.
    assert_eq!(endpoint.send("OPTIONS", &format!("sip:bob@localhost:{port};transport=wss")), 0);
    let got = endpoint.next_request();
    assert!(got.uri().ends_with(";transport=wss"), "{}", got.uri());
    assert!(got.get("Via").starts_with("SIP/2.0/WSS "), "{}", got.get("Via"));
    assert_eq!(endpoint.next_final(), 200);
    assert_eq!(endpoint.server().metrics().lines().filter(|l| l.starts_with("sipws_handshakes_total")).count(), 1);
    // The same address under a name that the certificate is not for is another peer, and refused.
    endpoint.send_stateless("OPTIONS", &format!("sip:bob@127.0.0.1:{port};transport=wss"), 0);
    assert_eq!(endpoint.next_sent(), -i64::from(pj::PJSIP_TLS_ECERTVERIF));
}

#[test]
fn ipv6_works_like_ipv4() {
    let endpoint = Endpoint::start("listen = [{ url = \"ws://[::1]:0/\" }]", 1);
    let port = endpoint.address(0).port();
    assert_eq!(endpoint.send("OPTIONS", &format!("sip:bob@[::1]:{port};transport=ws")), 0);
    assert!(endpoint.next_request().uri().starts_with("sip:bob@[::1]:"));
    assert_eq!(endpoint.next_final(), 200);
}

#[test]
fn a_request_to_a_browsers_contact_goes_down_its_connection() {
    let endpoint = Endpoint::start("", 1);
    let mut client = WsClient::open_url(&endpoint.url(0));
    client.send(&request("REGISTER", "sip:edge").set("Contact", "<sip:me@abc.invalid;transport=ws>"));
    let register = endpoint.next_request();
    client.expect_status(200);
    let contact = common::uri_of(register.get("Contact")).to_owned();
    assert_eq!(contact, format!("sip:me@{};transport=ws", client.local()));
    assert_eq!(endpoint.send("MESSAGE", &contact), 0);
    let got = client.expect("MESSAGE");
    client.send(&got.respond(200, "OK"));
    assert_eq!(endpoint.next_final(), 200);
    assert_eq!(endpoint.transports(), 1);
}

#[test]
fn a_path_headers_and_an_origin_are_said_as_configured() {
    let server = WsServer::start();
    let endpoint = Endpoint::start(
        &format!(
            "listen = []\n[client]\norigin = \"https://app.example.com\"\n[[client.host]]\nhost = \"{}\"\n\
             target = \"/sip?room=7\"\nheaders = {{ Authorization = \"Bearer abc\", Cookie = \"a=b\" }}",
            server.address()
        ),
        1,
    );
    endpoint.send_stateless("OPTIONS", &format!("sip:bob@{};transport=ws", server.address()), 0);
    let mut peer = server.accept();
    assert!(peer.request.starts_with("GET /sip?room=7 HTTP/1.1\r\n"), "{}", peer.request);
    assert_eq!(peer.header("Authorization"), Some("Bearer abc"));
    assert_eq!(peer.header("Cookie"), Some("a=b"));
    assert_eq!(peer.header("Origin"), Some("https://app.example.com"));
    peer.upgrade();
    assert_eq!(peer.receive().method(), "OPTIONS");
    assert!(endpoint.next_sent() > 0);
}

#[test]
fn a_server_that_resets_in_the_middle_of_a_message_is_a_lost_connection() {
    let endpoint = Endpoint::start("listen = []", 1);
    let server = WsServer::start();
    assert_eq!(endpoint.send("OPTIONS", &format!("sip:bob@{};transport=ws", server.address())), 0);
    let mut peer = server.open();
    peer.receive();
    peer.write(b"\x81\x7e\x01\x00SIP/2.0 200 OK");
    peer.stream.reset();
    let status = endpoint.next_disconnected();
    assert!([104, 32].contains(&(status - 120_000)), "{status}");
    assert_eq!(endpoint.next_final(), 503);
    endpoint.wait_transports(0);
}

#[test]
fn more_flows_than_the_ioqueue_has_places_are_served() {
    // PJ_IOQUEUE_MAX_HANDLES of vendor/config_site.h is 4096; a few of them are PJSIP's own.
    let flows = 4_200;
    let endpoint = Endpoint::start("limits.connections_per_address = 10000", 2);
    let mut clients = Vec::new();
    for _ in 0..flows {
        let mut client = WsClient::open_url(&endpoint.url(0));
        client.send(&request("OPTIONS", "sip:edge"));
        client.expect_status(200);
        clients.push(client);
    }
    assert_eq!(endpoint.transports(), flows);
    for client in &mut clients {
        client.send(&request("OPTIONS", "sip:edge"));
    }
    for client in &mut clients {
        client.expect_status(200);
    }
}

#[test]
fn thousands_of_connects_and_drops_under_traffic_leave_nothing() {
    let rounds: usize = std::env::var("CONNECTS").map_or(2_000, |n| n.parse().unwrap());
    let endpoint = Endpoint::start("limits.connections_per_address = 10000", 2);
    let url = endpoint.url(0);
    let mut steady = WsClient::open_url(&url);
    steady.send(&request("OPTIONS", "sip:edge"));
    steady.expect_status(200);
    let before = endpoint.memory();
    let threads: Vec<_> = (0..4)
        .map(|t| {
            let url = url.clone();
            std::thread::spawn(move || {
                for round in 0..rounds / 4 {
                    let mut client = WsClient::open_url(&url);
                    client.send(&request("OPTIONS", "sip:edge"));
                    match (round + t) % 3 {
                        0 => client.reset(),
                        1 => drop(client.expect_status(200)),
                        _ => drop(client),
                    }
                }
            })
        })
        .collect();
    while threads.iter().any(|t| !t.is_finished()) {
        steady.send(&request("OPTIONS", "sip:edge"));
        steady.expect_status(200);
    }
    for thread in threads {
        thread.join().unwrap();
    }
    endpoint.wait_transports(1);
    wait_until("PJSIP's memory is free again", || {
        let now = endpoint.memory();
        // What worked at once keeps room to receive in.
        now.1 <= before.1 + 2 && now.0 <= before.0 + 16_384
    });
}
