//! Connections that the edge makes, through real sockets: to another edge, and to servers that do it wrong.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use common::{
    Authority, CLOSE, ClientFrame, DEADLINE, Host, Issued, PING, PONG, Scratch, TEXT, Told, WsPeer, WsServer,
    client_config, config, request, to, to_secure, wait_until, within,
};
use sipws::Setup;
use sipws::edge::tls::ClientTls;
use sipws::edge::{CloseReason, Connect, ConnectError, Flow, FlowId, SendError, SipHandler};
use sipws::sip::Message;

/// A host that listens nowhere.
const NO_LISTENER: &str = "listen = []";

/// Two edges, the second of which is the server that the first connects to.
fn two() -> (Host, Host) {
    (Host::start(NO_LISTENER), Host::start(""))
}

/// A host whose connection to a server made by hand is open.
fn opened(toml: &str) -> (Host, Flow, WsPeer) {
    let (client, server) = (Host::start(&format!("{NO_LISTENER}\n{toml}")), WsServer::start());
    client.connect(to(&server.url()));
    let peer = server.open();
    let flow = client.opened();
    (client, flow, peer)
}

fn outcome(host: &Host, outcome: &str) -> i64 {
    host.metric(&format!("sipws_connects_total{{outcome=\"{outcome}\"}}"))
}

fn outgoing(transport: &str) -> String {
    format!("sipws_outgoing_connections{{transport=\"{transport}\"}}")
}

#[test]
fn messages_pass_in_both_directions_between_two_edges() {
    let (client, server) = two();
    let id = client.connect(to(&server.websocket_urls()[0]));
    let (here, there) = (client.opened(), server.opened());
    assert_eq!((here.id(), here.outgoing(), there.outgoing()), (id, true, false));
    assert_eq!(here.peer(), server.websocket_address(0));
    assert_eq!(client.flow(id), Some(here.clone()));
    client.wait_metric(&outgoing("ws"), 1);
    assert_eq!(client.metric("sipws_connections{transport=\"ws\"}"), 0, "no client of ours");
    assert_eq!((outcome(&client, "ok"), client.connections()), (1, 1));

    let asked = request("OPTIONS", "sip:example.com");
    assert!(here.send(&asked.bytes()));
    let (flow, got) = server.message();
    assert_eq!((&flow, got.raw), (&there, asked.bytes()));
    assert!(there.send(&asked.sip().respond(200, "OK").bytes()));
    assert_eq!(client.message().1.status(), 200);

    here.close(1000, "done", CloseReason::Server);
    assert_eq!((client.closed(), server.closed()), (CloseReason::Server, CloseReason::Client));
    client.wait_metric(&outgoing("ws"), 0);
    assert_eq!((client.flow(id), client.connections()), (None, 0));
}

#[test]
fn a_server_that_closes_ends_the_flow_on_both_sides() {
    let (client, server) = two();
    client.connect(to(&server.websocket_urls()[0]));
    client.opened();
    server.opened().close(1001, "going away", CloseReason::Server);
    assert_eq!((client.closed(), server.closed()), (CloseReason::Client, CloseReason::Server));
}

#[test]
fn the_request_says_host_target_origin_and_further_headers() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    let mut connect = to("ws://pbx.example.com:80/ws?token=a%20b&x=1");
    connect.address = Some(server.address());
    connect.origin = Some("https://app.example.com".to_owned());
    connect.headers =
        vec![("Authorization".to_owned(), "Bearer a.b.c".to_owned()), ("Cookie".to_owned(), "a=1; b=2".to_owned())];
    client.connect(connect);
    let mut peer = server.accept();
    assert!(peer.request.starts_with("GET /ws?token=a%20b&x=1 HTTP/1.1\r\n"), "{}", peer.request);
    for (name, value) in [
        ("Host", "pbx.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "sip"),
        ("Origin", "https://app.example.com"),
        ("Authorization", "Bearer a.b.c"),
        ("Cookie", "a=1; b=2"),
    ] {
        assert_eq!(peer.header(name), Some(value), "{name}");
    }
    peer.upgrade();
    assert_eq!(client.opened().peer(), server.address());

    // Each handshake has a key of its own; a port that is not the scheme's is said; no Origin is none.
    client.connect(to(&server.url()));
    let other = server.accept();
    assert_ne!(other.header("Sec-WebSocket-Key"), peer.header("Sec-WebSocket-Key"));
    assert_eq!(other.header("Host"), Some(server.address().to_string().as_str()));
    assert_eq!(other.header("Origin"), None);
}

#[test]
fn the_configuration_says_what_each_host_wants() {
    let toml = r#"
        listen = []
        client.origin = "https://everywhere.example.com"
        timeouts.connect = "7s"
        [[client.host]]
        host = "pbx.example.com"
        target = "/sip"
        headers = { Authorization = "Basic x" }
        [[client.host]]
        host = "pbx.example.com:8443"
        origin = "https://one.example.com"
    "#;
    let config = config(toml);
    let connect = |port| Connect::new(&config, false, "PBX.example.com", port, None, None);
    let plain = connect(80);
    assert_eq!((plain.target.as_str(), plain.origin.as_deref()), ("/sip", Some("https://everywhere.example.com")));
    assert_eq!(plain.headers, [("Authorization".to_owned(), "Basic x".to_owned())]);
    assert_eq!(plain.deadline, Duration::from_secs(7));
    let other = connect(8443);
    assert_eq!((other.target.as_str(), other.origin.as_deref()), ("/", Some("https://one.example.com")));
    assert!(other.headers.is_empty());

    let (client, server) = (Host::start(toml), WsServer::start());
    let address = Some(server.address());
    client.connect(Connect::new(&config, false, "pbx.example.com", 8000, address, None));
    let peer = server.accept();
    assert!(peer.request.starts_with("GET /sip HTTP/1.1\r\n"));
    assert_eq!(peer.header("Authorization"), Some("Basic x"));
    assert_eq!(peer.header("Host"), Some("pbx.example.com:8000"));
}

#[test]
fn an_ipv6_address_is_connected_to_and_named_in_brackets() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start_at("[::1]:0"));
    client.connect(to(&server.url()));
    let mut peer = server.accept();
    assert_eq!(peer.header("Host"), Some(format!("[::1]:{}", server.address().port()).as_str()));
    peer.upgrade();
    assert_eq!(client.opened().peer(), server.address());
}

#[test]
fn a_name_is_looked_up_and_its_addresses_tried_in_turn() {
    // On one of localhost's addresses only, where there are two.
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    client.connect(to(&format!("ws://localhost:{}/", server.address().port())));
    let _peer = server.open();
    assert_eq!(client.opened().peer(), server.address());
    client.connect(to(&format!("ws://{}:80/", "a".repeat(100))));
    assert!(matches!(client.failed(), ConnectError::Resolve(_)));
    assert_eq!(outcome(&client, "resolve"), 1);
}

#[test]
fn what_would_break_out_of_the_request_is_refused_before_anything_is_sent() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    let header =
        |name: &str, value: &str| Connect { headers: vec![(name.to_owned(), value.to_owned())], ..to(&server.url()) };
    let wrong = [
        header("X-A", "b\r\nX-C: d"),
        header("X-A", "b\nc"),
        header("X-A", "b\0"),
        header("X A", "b"),
        header("X-A:", "b"),
        header("", "b"),
        header("Host", "elsewhere"),
        header("sec-websocket-extensions", "permessage-deflate"),
        Connect { target: "ws".to_owned(), ..to(&server.url()) },
        Connect { target: "/a b".to_owned(), ..to(&server.url()) },
        Connect { target: "/a HTTP/1.1\r\nX: y".to_owned(), ..to(&server.url()) },
        Connect { target: "/a#b".to_owned(), ..to(&server.url()) },
        Connect { origin: Some("https://a\r\nX: y".to_owned()), ..to(&server.url()) },
        Connect { host: "a\r\nX: y".to_owned(), address: Some(server.address()), ..to(&server.url()) },
        Connect { host: String::new(), address: Some(server.address()), ..to(&server.url()) },
    ];
    let count = wrong.len() as i64;
    for connect in wrong {
        client.connect(connect);
        let failed = client.failed();
        assert!(matches!(failed, ConnectError::Protocol(_)), "{failed:?}");
    }
    assert_eq!(outcome(&client, "protocol"), count);
    // The first connection that the server sees is this one.
    client.connect(Connect { target: "/right".to_owned(), ..to(&server.url()) });
    assert!(server.accept().request.starts_with("GET /right "));
}

/// Has a server answer with what `answer` makes of its request: what becomes of the connection.
fn answered(client: &Host, server: &WsServer, answer: impl FnOnce(&WsPeer) -> String) -> Result<(), ConnectError> {
    client.connect(to(&server.url()));
    let mut peer = server.accept();
    let answer = answer(&peer);
    peer.write(answer.as_bytes());
    match client.next() {
        Told::Opened(_) => {
            drop(peer);
            client.closed();
            Ok(())
        }
        Told::Failed(_, error) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_has_to_be_the_one_that_the_rfcs_want() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    let edited = |from: &str, to: &str| {
        answered(&client, &server, |peer| {
            let right = peer.right_answer();
            let wrong = right.replace(from, to);
            assert_ne!(wrong, right, "{from}");
            wrong
        })
    };
    let protocol = |from: &str, to: &str| {
        let result = edited(from, to);
        assert!(matches!(result, Err(ConnectError::Protocol(_))), "{from:?} -> {to:?}: {result:?}");
    };
    protocol("Upgrade: websocket\r\n", "");
    protocol("Upgrade: websocket", "Upgrade: h2c");
    protocol("Upgrade: websocket\r\n", "Upgrade: websocket\r\nUpgrade: h2c\r\n");
    protocol("Connection: Upgrade\r\n", "");
    protocol("Connection: Upgrade", "Connection: close");
    protocol("Sec-WebSocket-Accept: ", "Sec-WebSocket-Accept: A");
    protocol("Sec-WebSocket-Accept", "X-Accept");
    protocol("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    protocol("HTTP/1.1", "HTTP/1.0");
    protocol("HTTP/1.1 101", "SIP/2.0 101");
    for other in ["msrp", "SIP", "sip, msrp", "sip\r\nSec-WebSocket-Protocol: msrp"] {
        let result = edited("Protocol: sip", &format!("Protocol: {other}"));
        assert_eq!(result, Err(ConnectError::Subprotocol), "{other}");
    }
    assert_eq!(edited("Sec-WebSocket-Protocol: sip\r\n", ""), Err(ConnectError::Subprotocol));
    assert_eq!(outcome(&client, "subprotocol"), 5);

    // What differs without meaning anything passes, and so do provisional answers before it.
    assert_eq!(
        edited("Upgrade: websocket\r\nConnection: Upgrade", "upgrade: WebSocket\r\nconnection: x, upgrade"),
        Ok(())
    );
    assert_eq!(edited("HTTP/1.1 101", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101"), Ok(()));
}

#[test]
fn a_refusal_is_told_by_its_status_and_a_redirection_is_not_followed() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    for (status, header) in [
        (403, "Content-Length: 0".to_owned()),
        (401, "WWW-Authenticate: Bearer".to_owned()),
        (302, format!("Location: {}elsewhere", server.url().replace("ws:", "http:"))),
        (200, "Content-Length: 0".to_owned()),
        (503, "Retry-After: 5".to_owned()),
    ] {
        let result = answered(&client, &server, |_| format!("HTTP/1.1 {status} No\r\n{header}\r\n\r\n"));
        assert_eq!(result, Err(ConnectError::Refused(status)));
    }
    assert_eq!(outcome(&client, "refused"), 5);
    // The next connection is one that we asked for.
    client.connect(Connect { target: "/asked".to_owned(), ..to(&server.url()) });
    assert!(server.accept().request.starts_with("GET /asked "));
    assert!(matches!(client.failed(), ConnectError::Protocol(_)));

    // Another edge's own refusals.
    let other = Host::start("listen = [{ url = \"ws://127.0.0.1:0/sip\" }]");
    client.connect(to(&other.websocket_urls()[0].replace("/sip", "/other")));
    assert_eq!(client.failed(), ConnectError::Refused(404));
}

#[test]
fn an_answer_without_end_is_given_up() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    client.connect(to(&server.url()));
    let mut peer = server.accept();
    peer.write(b"HTTP/1.1 101 Switching Protocols\r\n");
    let line = format!("X-Padding: {}\r\n", "x".repeat(1000));
    // It may be gone before the last one.
    for _ in 0..20 {
        let _ = peer.stream.write(line.as_bytes());
    }
    assert_eq!(client.failed(), ConnectError::Protocol("the answer has no end"));
}

#[test]
fn a_port_where_nobody_listens_refuses_the_connection() {
    let client = Host::start(NO_LISTENER);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    client.connect(to(&format!("ws://{address}/")));
    match client.failed() {
        ConnectError::Connect(ErrorKind::ConnectionRefused, text) => assert!(text.contains(&address.to_string())),
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome(&client, "connect"), 1);
}

#[test]
fn a_server_that_ends_or_resets_the_connection_instead_of_answering_is_told_apart() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    client.connect(to(&server.url()));
    drop(server.accept());
    assert_eq!(client.failed(), ConnectError::Protocol("the server ended the connection instead of answering"));
    client.connect(to(&server.url()));
    server.accept().stream.reset();
    let failed = client.failed();
    assert!(matches!(failed, ConnectError::Connect(ErrorKind::ConnectionReset, _)), "{failed:?}");
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_deadline_wherever_it_stops() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    let deadline = Duration::from_millis(300);
    let tls = client_config(&Authority::new().root());
    let secure = server.url().replace("ws:", "wss:");
    for connect in [to(&server.url()), to_secure(&secure, tls)] {
        let begun = Instant::now();
        client.connect(within(deadline, connect));
        let mut silent = server.accept_raw();
        assert_eq!(client.failed(), ConnectError::Timeout);
        assert!(begun.elapsed() >= deadline);
        wait_until("we have gone", || matches!(silent.fill(Instant::now() + DEADLINE), Ok(0) | Err(_)));
    }
    // Half an answer is none.
    client.connect(within(Duration::from_secs(2), to(&server.url())));
    let mut peer = server.accept();
    peer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n");
    assert_eq!(client.failed(), ConnectError::Timeout);
    assert_eq!(outcome(&client, "timeout"), 3);
}

/// A server's TLS with a certificate, and how to connect to it as `host`.
struct Secured {
    server: WsServer,
    issued: Issued,
}

impl Secured {
    fn new(issued: Issued) -> Secured {
        Secured { server: WsServer::start(), issued }
    }

    /// Connects, while the server does its handshake; what comes of it, and the server's end if the handshake passed.
    fn try_open(&self, client: &Host, host: &str, root: &Authority) -> (Told, Option<WsPeer>) {
        let mut connect = to_secure(&self.server.url(), client_config(&root.root()));
        connect.secure = true;
        connect.address = Some(self.server.address());
        host.clone_into(&mut connect.host);
        client.connect(connect);
        let peer = self.server.accept_tls(self.issued.server_config()).ok().map(|mut peer| {
            peer.upgrade();
            peer
        });
        (client.next(), peer)
    }
}

#[test]
fn a_certificate_of_a_trusted_authority_for_the_right_name_or_address_is_believed() {
    let (client, authority) = (Host::start(NO_LISTENER), Authority::new());
    for name in ["pbx.example.com", "127.0.0.1"] {
        let (told, peer) = Secured::new(authority.issue(name)).try_open(&client, name, &authority);
        let Told::Opened(flow) = told else { panic!("{told:?}") };
        assert!(flow.secure());
        let asked = request("OPTIONS", "sip:example.com");
        assert!(flow.send(&asked.bytes()));
        let mut peer = peer.unwrap();
        assert_eq!(peer.receive().raw, asked.bytes());
        peer.send_text(&asked.sip().respond(200, "OK").text());
        assert_eq!(client.message().1.status(), 200);
        client.wait_metric(&outgoing("wss"), 1);
        drop(peer);
        assert_eq!(client.closed(), CloseReason::Lost);
    }
}

#[test]
fn a_certificate_that_is_unknown_expired_or_for_another_is_refused() {
    let (client, authority) = (Host::start(NO_LISTENER), Authority::new());
    for (issued, host, what) in [
        (Authority::new().issue("pbx.example.com"), "pbx.example.com", "of an authority that nobody knows"),
        (authority.issue_expired("pbx.example.com"), "pbx.example.com", "expired"),
        (authority.issue("other.example.com"), "pbx.example.com", "for another name"),
        (authority.issue("127.0.0.2"), "127.0.0.1", "for another address"),
    ] {
        let (told, peer) = Secured::new(issued).try_open(&client, host, &authority);
        assert!(matches!(told, Told::Failed(_, ConnectError::Certificate(_))), "{what}: {told:?}");
        assert!(peer.is_none(), "{what}: a request was sent");
    }
    assert_eq!(outcome(&client, "certificate"), 4);
}

#[test]
fn a_server_that_speaks_no_tls_is_no_matter_of_certificates() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    let secure = server.url().replace("ws:", "wss:");
    let config = client_config(&Authority::new().root());
    client.connect(to_secure(&secure, config.clone()));
    server.accept_raw().write(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    let failed = client.failed();
    assert!(matches!(failed, ConnectError::Tls(_)), "{failed:?}");
    client.connect(to_secure(&secure, config));
    drop(server.accept_raw());
    let failed = client.failed();
    assert!(
        matches!(failed, ConnectError::Tls(_) | ConnectError::Connect(ErrorKind::ConnectionReset, _)),
        "{failed:?}"
    );
    // Somebody forgot to say whom to believe.
    client.connect(to(&secure));
    assert!(matches!(client.failed(), ConnectError::Tls(_)));
}

#[test]
fn the_configuration_says_which_certificates_are_believed() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let issued = authority.issue("127.0.0.1");
    let server = Host::start(&format!(
        "listen = [{{ url = \"wss://127.0.0.1:0/\" }}]\ntls.certificate = {:?}\ntls.key = {:?}",
        scratch.file("cert.pem", &issued.pem),
        scratch.file("key.pem", &issued.key_pem)
    ));
    let connect = |toml: &str| {
        let config = config(&format!("listen = []\n{toml}"));
        let client = Host::start(&format!("listen = []\n{toml}"));
        let tls = ClientTls::new(&config.client).get().unwrap();
        let address = server.websocket_address(0);
        client.connect(Connect::new(&config, true, "127.0.0.1", address.port(), None, Some(tls)));
        let told = client.next();
        (client, told)
    };
    let own_ca = format!("client.ca = {:?}", scratch.file("ca.pem", &authority.pem()));
    assert!(matches!(connect(&own_ca).1, Told::Opened(_)));
    assert!(matches!(connect(&format!("{own_ca}\nclient.min_version = \"1.3\"")).1, Told::Opened(_)));
    assert!(matches!(connect("client.verify = false").1, Told::Opened(_)));
    let told = connect(&format!("client.ca = {:?}", scratch.file("other.pem", &Authority::new().pem()))).1;
    assert!(matches!(told, Told::Failed(_, ConnectError::Certificate(_))), "{told:?}");
}

#[test]
fn client_tls_is_made_once_and_says_what_is_wrong_with_its_file() {
    let scratch = Scratch::new();
    let path = scratch.file("ca.pem", "no certificate");
    let tls = ClientTls::new(&config(&format!("client.ca = {path:?}")).client);
    let error = tls.get().unwrap_err().to_string();
    assert!(error.contains("ca.pem: no certificate in it"), "{error}");
    scratch.file("ca.pem", &Authority::new().pem());
    let (first, second) = (tls.get().unwrap(), tls.get().unwrap());
    assert!(Arc::ptr_eq(&first, &second), "made once the file is mended, and kept");
}

#[test]
fn what_comes_with_the_answer_is_heard_after_the_flow_is_opened() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    client.connect(to(&server.url()));
    let mut peer = server.accept();
    let messages = [request("OPTIONS", "sip:example.com"), request("MESSAGE", "sip:example.com")];
    let mut bytes = peer.right_answer().into_bytes();
    for message in &messages {
        bytes.extend_from_slice(&common::server_frame(TEXT, &message.bytes()));
    }
    peer.write(&bytes);
    let flow = client.opened();
    for message in &messages {
        let (from, got) = client.message();
        assert_eq!((&from, got.raw), (&flow, message.bytes()));
    }
}

#[test]
fn every_frame_that_we_send_is_masked_with_a_mask_of_its_own() {
    let (_client, flow, mut peer) = opened("");
    let mut masks = std::collections::HashSet::new();
    // Lengths of one, two and eight bytes (RFC 6455 §5.2).
    for length in [0, 1000, 70_000] {
        let message = request("MESSAGE", "sip:a@b").body("text/plain", &vec![b'x'; length]).bytes();
        assert!(flow.send(&message));
        let frame = peer.frame().unwrap();
        assert_eq!((frame.opcode, frame.payload), (TEXT, message));
        masks.insert(frame.mask);
    }
    assert!(flow.send(b"\xff\xfe"));
    let frame = peer.frame().unwrap();
    assert_eq!((frame.opcode, &frame.payload[..]), (common::BINARY, &b"\xff\xfe"[..]));
    masks.insert(frame.mask);
    peer.send_frame(PING, b"are you there");
    let pong = peer.frame().unwrap();
    assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &b"are you there"[..]));
    masks.insert(pong.mask);
    flow.close(1000, "done", CloseReason::Server);
    let close = peer.frame().unwrap();
    assert_eq!((close.opcode, &close.payload[..]), (CLOSE, &b"\x03\xe8done"[..]));
    masks.insert(close.mask);
    assert_eq!(masks.len(), 6, "{masks:?}");
}

#[test]
fn a_server_that_masks_is_refused_with_1002() {
    let (client, _flow, mut peer) = opened("");
    peer.write(&common::frame(true, TEXT, &request("OPTIONS", "sip:example.com").bytes()));
    assert_eq!(peer.expect_end(), Some(1002));
    assert_eq!(client.closed(), CloseReason::Protocol);
}

#[test]
fn a_server_that_resets_in_the_middle_of_a_message_has_lost_the_flow() {
    let (client, flow, mut peer) = opened("");
    let message = request("MESSAGE", "sip:a@b").body("text/plain", &[b'x'; 1000]).bytes();
    let whole = common::server_frame(TEXT, &message);
    peer.write(&whole);
    peer.write(&whole[..500]);
    client.message();
    peer.stream.reset();
    assert_eq!(client.closed(), CloseReason::Lost);
    assert!(!flow.is_open());
    assert_eq!(flow.try_send(b"x"), Err(SendError::Gone));
    client.wait_metric(&outgoing("ws"), 0);
}

#[test]
fn a_server_that_closes_without_ending_the_connection_does_not_keep_the_flow() {
    let (client, flow, mut peer) = opened("");
    peer.send_close(1001);
    assert_eq!(client.closed(), CloseReason::Client);
    assert!(!flow.is_open());
    // Our half of the closing handshake comes, and then the end, though it is the server's to make (RFC 6455 §7.1.1).
    assert_eq!(peer.expect_end(), Some(1001));
}

#[test]
fn a_server_is_pinged_and_one_that_does_not_answer_is_left() {
    let (client, _flow, mut peer) = opened("timeouts.ping = \"100ms\"\ntimeouts.pong = \"2s\"");
    for _ in 0..3 {
        let ping = peer.frame().unwrap();
        assert_eq!(ping.opcode, PING);
        peer.send_frame(PONG, &ping.payload);
    }
    assert_eq!(client.closed(), CloseReason::Silent);
}

#[test]
fn the_limits_on_clients_are_none_on_our_own_connections() {
    let toml = "limits.requests_per_second = 1\nlimits.connections_per_address = 1";
    let (client, server) = (Host::start(&format!("{NO_LISTENER}\n{toml}")), WsServer::start());
    let mut peers = Vec::new();
    for _ in 0..3 {
        client.connect(to(&server.url()));
        peers.push(server.open());
        client.opened();
    }
    for _ in 0..20 {
        let message = request("OPTIONS", "sip:example.com");
        peers[0].send_text(&message.text());
        assert_eq!(client.message().1.get("Call-ID"), message.get("Call-ID"));
    }
    assert_eq!(client.refused("rate"), 0);
}

#[test]
fn what_a_server_sends_is_screened_and_one_that_sends_nothing_else_is_left() {
    let (client, _flow, mut peer) = opened("limits.strikes = 3");
    peer.send_text("garbage");
    let wrong = request("OPTIONS", "sip:example.com").without("CSeq");
    peer.send_text(&wrong.text());
    assert_eq!(peer.receive().status(), 400);
    let right = request("OPTIONS", "sip:example.com");
    peer.send_text(&right.text());
    assert_eq!(client.message().1.raw, right.text().into_bytes());
    peer.send_text("garbage");
    peer.send_text("garbage");
    assert_eq!(peer.expect_close(), Some(1008));
    assert_eq!(client.closed(), CloseReason::Policy);
}

#[test]
fn all_connections_together_are_limited_and_a_place_is_given_back() {
    let (client, server) = (Host::start(&format!("{NO_LISTENER}\nlimits.connections = 2")), WsServer::start());
    client.connect(to(&server.url()));
    let first = server.open();
    client.opened();
    // One that is still being made has a place as well.
    client.connect(to(&server.url()));
    let second = server.accept();
    client.connect(to(&server.url()));
    assert_eq!(client.failed(), ConnectError::Full);
    assert_eq!(outcome(&client, "full"), 1);
    drop(second);
    assert!(matches!(client.failed(), ConnectError::Protocol(_)));
    client.connect(to(&server.url()));
    let third = server.open();
    client.opened();
    drop((first, third));
    assert_eq!((client.closed(), client.closed()), (CloseReason::Lost, CloseReason::Lost));
}

#[test]
fn an_edge_that_drains_closes_what_it_made_and_makes_no_more() {
    let (client, flow, peer) = opened("");
    let edge = &client.edge;
    std::thread::scope(|scope| {
        scope.spawn(|| edge.drain(DEADLINE));
        assert_eq!(peer.expect_close(), Some(1001));
    });
    assert!(!flow.is_open());
    assert_eq!(client.closed(), CloseReason::Server);
    client.connect(to("ws://127.0.0.1:9/"));
    assert_eq!(client.failed(), ConnectError::Full);
}

#[test]
fn many_connections_are_made_at_once() {
    const MANY: usize = 200;
    let (client, server) = two();
    let url = server.websocket_urls()[0].clone();
    let mut ids: Vec<FlowId> = (0..MANY).map(|_| client.connect(to(&url))).collect();
    let mut flows: Vec<Flow> = (0..MANY).map(|_| client.opened()).collect();
    client.wait_metric(&outgoing("ws"), MANY as i64);
    ids.sort();
    let mut opened: Vec<FlowId> = flows.iter().map(Flow::id).collect();
    opened.sort();
    assert_eq!(ids, opened);
    let there: Vec<Flow> = (0..MANY).map(|_| server.opened()).collect();
    assert!(there.iter().all(Flow::is_open));
    for flow in flows.drain(..) {
        flow.close(1000, "", CloseReason::Server);
    }
    for _ in 0..MANY {
        assert_eq!((client.closed(), server.closed()), (CloseReason::Server, CloseReason::Client));
    }
    client.wait_metric(&outgoing("ws"), 0);
}

#[test]
fn an_edge_that_goes_while_it_connects_gives_the_connection_up() {
    let (client, server) = (Host::start(NO_LISTENER), WsServer::start());
    client.connect(to(&server.url()));
    let mut asked = server.accept();
    client.connect(to_secure(&server.url().replace("ws:", "wss:"), client_config(&Authority::new().root())));
    let mut silent = server.accept_raw();
    drop(client);
    assert_eq!(asked.frame(), None, "the connection ends");
    wait_until("the other ends as well", || matches!(silent.fill(Instant::now() + DEADLINE), Ok(0) | Err(_)));
}

#[test]
fn what_is_attached_is_there_when_the_flow_is_opened() {
    struct Looking(std::sync::Mutex<std::sync::mpsc::Sender<Option<u32>>>);
    impl SipHandler for Looking {
        fn opened(&self, flow: &Flow) {
            self.0.lock().unwrap().send(flow.attached::<u32>().copied()).unwrap();
        }
        fn message(&self, _: &Flow, _: Message) {}
        fn closed(&self, _: &Flow, _: CloseReason) {}
    }
    let (tell, told) = channel();
    let handler = Arc::new(Looking(std::sync::Mutex::new(tell)));
    let client = Setup::new(config(NO_LISTENER)).handler(handler).start().unwrap();
    let server = Host::start("");
    client.connect(to(&server.websocket_urls()[0]), Some(Box::new(7_u32)), |error| panic!("{error}"));
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Some(7)));
}

#[test]
fn a_full_outbox_refuses_a_message_and_the_flow_stays() {
    let (client, flow, mut peer) = opened("limits.outbox_bytes = \"64KiB\"");
    let message = request("MESSAGE", "sip:a@b").body("text/plain", &vec![b'x'; 30_000]).bytes();
    assert_eq!(flow.waiting(), 0);
    let mut sent = 0;
    let refused = loop {
        match flow.try_send(&message) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 10_000, "the kernel takes everything");
    };
    assert_eq!(refused, SendError::Full);
    assert!(flow.is_open() && flow.waiting() > 0 && flow.waiting() <= 64 << 10, "{}", flow.waiting());
    assert_eq!(flow.try_send(&vec![b'x'; 1 << 20]), Err(SendError::Full), "larger than it can ever be");
    // Everything that was taken arrives, and nothing of what was refused.
    for n in 0..sent {
        assert_eq!(peer.receive().raw.len(), message.len(), "{n}");
    }
    wait_until("nothing waits any more", || flow.waiting() == 0);
    assert_eq!(flow.try_send(b"\r\n\r\n"), Ok(()));
    assert_eq!(peer.frame().unwrap().payload, b"\r\n\r\n");
    assert_eq!(client.refused("outbox_full"), 0);
    flow.close(1000, "", CloseReason::Server);
    assert_eq!(flow.try_send(b"x"), Err(SendError::Gone));
    assert_eq!(client.told_more().map(|_| ()), None);
}

#[test]
fn a_reason_that_is_too_long_is_cut_and_a_code_that_may_not_be_sent_is_1000() {
    let (_client, flow, mut peer) = opened("");
    let reason = format!("{}ä", "x".repeat(122));
    flow.close(1006, &reason, CloseReason::Server);
    let Some(ClientFrame { opcode: CLOSE, payload, .. }) = peer.frame() else { panic!("no close frame") };
    assert_eq!(payload, [&1000_u16.to_be_bytes(), "x".repeat(122).as_bytes()].concat());
}

#[test]
fn a_message_whose_length_was_promised_wrongly_is_sent_as_it_is() {
    let (_client, flow, mut peer) = opened("");
    for promised in [0, 5, 1000] {
        assert!(flow.queue(promised, Instant::now(), |out| out.extend_from_slice(b"hello")));
        flow.flush();
        assert_eq!(peer.frame().unwrap().payload, b"hello");
    }
}
