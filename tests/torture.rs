//! The torture messages of RFC 4475: what the parser makes of each, and what becomes of it when a WebSocket client sends
//! it. `tests/torture/manifest.toml` says what has to.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::path::Path;

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use sipws::sip::stream::{Framed, Framer};
use sipws::sip::uri::Uri;
use sipws::sip::validate::{self, Transport};
use sipws::sip::via::Via;
use sipws::sip::{Message, Method, Name};

use common::{BINARY, Bridged, Edge, Sip, TEXT, WsClient, bridged, request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    message: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    section: String,
    kind: String,
    #[serde(default)]
    frame: Option<String>,
    parse: String,
    proxy: Vec<String>,
    #[serde(default)]
    status: Vec<u16>,
    #[serde(default)]
    policy: Vec<u16>,
    start_line: Option<String>,
    #[serde(default)]
    keeps: Vec<String>,
    #[serde(default)]
    adds: Vec<String>,
    #[serde(default)]
    never: Vec<String>,
    #[serde(default)]
    answer_has: Vec<String>,
    #[serde(default)]
    answer_lacks: Vec<String>,
    why: String,
    parsed: Option<Parsed>,
    stream: Option<Stream>,
}

/// What a parser makes of a message. As the manifest has it, and as read by the library: they have to be equal.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
struct Parsed {
    method: Option<String>,
    request_uri: Option<String>,
    request_host: Option<String>,
    status: Option<u16>,
    reason: Option<String>,
    to_tag: Option<String>,
    from_tag: Option<String>,
    call_id: Option<String>,
    cseq: Option<u32>,
    cseq_method: Option<String>,
    max_forwards: Option<u32>,
    via: usize,
    top_via: Option<TopVia>,
    contacts: Vec<String>,
    content_length: Option<usize>,
    body: usize,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct TopVia {
    transport: String,
    sent_by: String,
    branch: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stream {
    messages: Vec<Streamed>,
    #[serde(default)]
    left: String,
    then: String,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Streamed {
    start: String,
    body: usize,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        std::fs::read(folder().join(format!("{}.sip", self.name))).unwrap()
    }

    fn may(&self, outcome: &str) -> bool {
        self.proxy.iter().any(|p| p == outcome)
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture"))
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("manifest.toml")).unwrap();
    toml::from_str::<Manifest>(&text).unwrap().message
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What the library reads in `message`. `request_host` is filled in where the case asks for it.
fn read(message: &Message, with_host: bool) -> Parsed {
    let (vias, contacts): (Vec<_>, Vec<_>) =
        (message.values(Name::Via).collect(), message.values(Name::Contact).collect());
    let tag = |name| message.tag(name).map(text);
    let uri = message.request_uri().map(|(uri, _)| uri);
    let first_line = text(message.slice(0..message.headers_start() - 2));
    Parsed {
        method: message.method().map(|_| text(message.method_token())),
        request_uri: uri.map(text),
        request_host: uri.filter(|_| with_host).map(|uri| text(Uri::parse(uri).unwrap().host)),
        status: message.status(),
        reason: message.status().map(|_| first_line.splitn(3, ' ').nth(2).unwrap().to_owned()),
        to_tag: tag(Name::To),
        from_tag: tag(Name::From),
        call_id: message.call_id().map(text),
        cseq: message.cseq().map(|(n, _)| n),
        cseq_method: message.cseq().map(|(_, m)| text(m)),
        max_forwards: message.header(Name::MaxForwards).map(|v| text(v).parse().unwrap()),
        via: vias.len(),
        top_via: vias.first().map(|(value, _)| {
            let via = Via::parse(value).unwrap();
            let port = via.port.map_or(String::new(), |p| format!(":{p}"));
            TopVia { transport: text(via.transport), sent_by: text(via.host) + &port, branch: via.branch.map(text) }
        }),
        contacts: contacts
            .iter()
            .map(|(value, _)| text(&value[sipws::sip::address::Address::parse(value).unwrap().uri]))
            .collect(),
        content_length: message.header(Name::ContentLength).map(|v| text(v).parse().unwrap()),
        body: message.body().len(),
    }
}

#[test]
fn the_manifest_lists_every_message_once_and_says_what_may_become_of_it() {
    let mut listed: Vec<String> = cases().iter().map(|c| format!("{}.sip", c.name)).collect();
    let files = std::fs::read_dir(folder()).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.filter(|f| f.ends_with(".sip")).collect();
    listed.sort();
    files.sort();
    assert_eq!(listed, files);
    assert_eq!(listed.len(), 49);
    for case in cases() {
        let known = |all: &[&str], word: &str| assert!(all.contains(&word), "{}: {word}?", case.name);
        known(&["valid", "invalid", "odd"], &case.kind);
        known(&["ok", "error", "either"], &case.parse);
        case.proxy.iter().for_each(|p| known(&["pass", "reject", "drop"], p));
        assert_eq!(case.may("reject"), !case.status.is_empty(), "{}", case.name);
        assert_eq!(case.parse != "error", case.parsed.is_some(), "{}", case.name);
        assert!(case.section.starts_with("3.") && !case.why.is_empty());
    }
}

#[test]
fn each_message_is_read_as_what_it_is_or_refused() {
    for case in cases() {
        let message = Message::parse(Bytes::from(case.bytes()));
        // An honest answer other than 400 means that the message was understood.
        let verdict = message.as_ref().map_err(|e| e.to_string()).and_then(|m| {
            validate::check(m, Transport::WebSocket)
                .or_else(|fault| if matches!(fault.status, 400 | 505) { Err(fault.reason.to_owned()) } else { Ok(()) })
        });
        match case.parse.as_str() {
            "ok" => assert_eq!(verdict, Ok(()), "{}", case.name),
            "error" => assert!(verdict.is_err(), "{} was taken", case.name),
            _ => {}
        }
        if let (Ok(message), Ok(()), Some(parsed)) = (message, verdict, &case.parsed) {
            assert_eq!(read(&message, parsed.request_host.is_some()), *parsed, "{}", case.name);
        }
    }
}

#[test]
fn a_stream_reader_finds_the_messages_that_are_there() {
    for case in cases() {
        let bytes = case.bytes();
        for step in [1, 7, bytes.len()] {
            let (mut framer, mut buffer) = (Framer::new(65_536), BytesMut::new());
            let (mut found, mut ended) = (Vec::new(), "wait");
            'stream: for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                loop {
                    match framer.next(&mut buffer) {
                        Ok(None) => break,
                        Ok(Some(Framed::Message(m))) => found.push(m),
                        // Empty lines between messages (RFC 3261 §7.5).
                        Ok(Some(Framed::Pong)) => {}
                        Ok(Some(other)) => panic!("{}: {other:?}", case.name),
                        Err(_) => {
                            ended = "close";
                            break 'stream;
                        }
                    }
                }
            }
            let Some(stream) = &case.stream else {
                assert_eq!((found.len(), buffer.len(), ended), (1, 0, "wait"), "{}, {step} at a time", case.name);
                assert_eq!(found[0].bytes(), &bytes, "{}", case.name);
                continue;
            };
            let seen: Vec<_> =
                found.iter().map(|m| Streamed { start: text(m.method_token()), body: m.body().len() }).collect();
            assert_eq!(seen, stream.messages, "{}, {step} at a time", case.name);
            assert_eq!(ended, stream.then, "{}, {step} at a time", case.name);
            if !stream.left.is_empty() {
                assert_eq!(text(&buffer), stream.left, "{}, {step} at a time", case.name);
            }
        }
    }
}

#[test]
fn each_message_passes_is_answered_or_is_dropped_as_the_manifest_says() {
    let mut bridged = bridged("");
    for case in cases() {
        let mut client = WsClient::open(&bridged.edge);
        let frame = if case.frame.as_deref() == Some("binary") { BINARY } else { TEXT };
        client.send_frame(true, frame, &case.bytes());
        let (forwarded, mut answers) = outcome(&mut bridged, &mut client);
        answers.retain(|a| a.status() != 100);
        match (&forwarded[..], &answers[..]) {
            ([forwarded], []) => {
                assert!(case.may("pass"), "{} was passed on", case.name);
                check_passed(&case, &case.bytes(), forwarded, &bridged, &client);
                check_answer_comes_back(&case, forwarded, &mut bridged, &mut client);
            }
            ([], [answer]) => check_answer(&case, answer),
            ([], []) => assert!(case.may("drop"), "{} was dropped", case.name),
            other => panic!("{}: {other:?}", case.name),
        }
    }
    assert_eq!(bridged.edge.metric("sipws_closed_total{reason=\"policy\"}"), 0, "one bad message costs no connection");
}

/// Its To tag has the edge refuse it for a dialog that is not the client's, and so hides what would become of its odd
/// folds and spaces.
#[test]
fn the_short_tortuous_invite_passes_when_it_belongs_to_no_dialog() {
    let mut case = cases().into_iter().find(|c| c.name == "wsinv").unwrap();
    let tag = b";   tag    = 1918181833n";
    let mut bytes = case.bytes();
    let at = find(&bytes, tag).unwrap();
    bytes.drain(at..at + tag.len());
    case.parsed.as_mut().unwrap().to_tag = None;
    let mut bridged = bridged("");
    bridged.client.send_frame(true, TEXT, &bytes);
    let mut client = std::mem::replace(&mut bridged.client, WsClient::open(&bridged.edge));
    let (forwarded, answers) = outcome(&mut bridged, &mut client);
    assert_eq!((forwarded.len(), answers.len()), (1, 1), "{answers:?}");
    assert_eq!(answers[0].status(), 100);
    check_passed(&case, &bytes, &forwarded[0], &bridged, &client);
}

/// What came of all that was sent so far: messages at the server, and answers to the client. A request that is known to
/// pass, and its answer, close both lists.
fn outcome(bridged: &mut Bridged, client: &mut WsClient) -> (Vec<Sip>, Vec<Sip>) {
    let fence = request("MESSAGE", "sip:fence@example.com");
    client.send(&fence);
    let (mut forwarded, mut answers) = (Vec::new(), Vec::new());
    loop {
        let message = bridged.pbx.receive();
        if message.header("Call-ID") == Some(fence.get("Call-ID")) {
            bridged.pbx.send(&message.respond(200, "OK"));
            break;
        }
        forwarded.push(message);
    }
    loop {
        let message = client.receive();
        if message.header("Call-ID") == Some(fence.get("Call-ID")) {
            return (forwarded, answers);
        }
        answers.push(message);
    }
}

fn check_answer(case: &Case, answer: &Sip) {
    let name = &case.name;
    let rejected = case.may("reject") && case.status.contains(&answer.status());
    assert!(rejected || case.policy.contains(&answer.status()), "{name} was answered {answer:?}");
    for word in &case.answer_has {
        assert!(answer.text().contains(word), "{name}: no {word} in {answer:?}");
    }
    for word in &case.answer_lacks {
        assert!(!answer.text().contains(word), "{name}: {word} in {answer:?}");
    }
    let request = Message::parse(Bytes::from(case.bytes()));
    if let Some(call_id) = request.as_ref().ok().and_then(Message::call_id) {
        assert_eq!(answer.get("Call-ID"), text(call_id), "{name}");
    }
}

/// Checks a message that was passed on: nothing but the named edits was made, and it means what it meant.
fn check_passed(case: &Case, came: &[u8], forwarded: &Sip, bridged: &Bridged, client: &WsClient) {
    let name = &case.name;
    let forwarded_text = forwarded.text();
    for kept in &case.keeps {
        assert!(forwarded_text.contains(kept), "{name}: lost {kept:?} in\n{forwarded_text}");
    }
    for added in &case.adds {
        assert!(forwarded_text.contains(&format!("\r\n{added}\r\n")), "{name}: no {added} in\n{forwarded_text}");
    }
    for word in &case.never {
        assert!(!forwarded_text.contains(word), "{name}: {word:?} in\n{forwarded_text}");
    }
    if let Some(line) = &case.start_line {
        assert_eq!(&forwarded.start, line, "{name}");
        // Its repair is an edit of its own.
        return;
    }
    let message = Message::parse(Bytes::from(forwarded.raw.clone())).unwrap();
    validate::check(&message, Transport::Stream).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
    assert_eq!(
        undone(&forwarded.raw, came, &bridged.edge, client).escape_ascii().to_string(),
        came.escape_ascii().to_string(),
        "{name}"
    );
    let mut parsed = case.parsed.clone().unwrap();
    parsed.via += 1;
    parsed.max_forwards = Some(parsed.max_forwards.map_or(70, |n| n - 1));
    parsed.content_length = Some(parsed.body);
    let mut seen = read(&message, parsed.request_host.is_some());
    let top = std::mem::replace(&mut seen.top_via, parsed.top_via.clone()).unwrap();
    assert_eq!((top.transport.as_str(), top.sent_by), ("TCP", bridged.edge.sip_authority()), "{name}");
    assert_eq!(seen, parsed, "{name}");
}

/// `forwarded` with everything undone that a proxy has to do to a request (RFC 3261 §16.6), each part of which has to
/// be there.
fn undone(forwarded: &[u8], came: &[u8], edge: &Edge, client: &WsClient) -> Vec<u8> {
    let (own, ws) = (edge.sip_authority(), edge.websocket_address(0));
    let original = Message::parse(Bytes::copy_from_slice(came)).unwrap();
    let mut bytes = forwarded.to_vec();
    let has = |name| original.field(name).is_some();
    // Our fields stand on top.
    let mut added = vec![format!("Via: SIP/2.0/TCP {own};branch=z9hG4bK")];
    match original.method() {
        Some(Method::Register) => {
            added.push("Path: <sip:".to_owned());
            if !original.values(Name::Supported).any(|(v, _)| v == b"path") {
                added.push("Supported: path".to_owned());
            }
        }
        Some(Method::Message | Method::Options) => {}
        _ => added.extend(["Record-Route: <sip:".to_owned(), format!("Record-Route: <sip:{ws};transport=ws;lr>")]),
    }
    if !has(Name::MaxForwards) {
        added.push("Max-Forwards: 70".to_owned());
    }
    let top = original.headers_start();
    assert_eq!(bytes[..top], came[..top], "the start line");
    for prefix in added {
        let end = top + find(&bytes[top..], b"\r\n").unwrap() + 2;
        let line = String::from_utf8(bytes.drain(top..end).collect()).unwrap();
        assert!(line.starts_with(&prefix), "wanted {prefix}…, got {line}");
    }
    if !has(Name::ContentLength) {
        let line = format!("Content-Length: {}\r\n", original.body().len()).into_bytes();
        let at = find(&bytes, b"\r\n\r\n").unwrap() + 2 - line.len();
        assert_eq!(bytes.drain(at..at + line.len()).collect::<Vec<u8>>(), line);
    }
    let received = b";received=127.0.0.1";
    let at = find(&bytes, received).expect("the top Via says where the request came from");
    bytes.drain(at..at + received.len());
    if find(came, b";rport").is_some() {
        let port = format!("={}", client.local().port());
        let at = find(&bytes, b";rport").unwrap() + 6;
        assert_eq!(text(&bytes[at..at + port.len()]), port);
        bytes.drain(at..at + port.len());
    }
    if let Some(hops) = original.header(Name::MaxForwards) {
        let place = Message::parse(Bytes::from(bytes.clone())).unwrap().field(Name::MaxForwards).unwrap().value();
        bytes.splice(place, hops.iter().copied());
    }
    bytes
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|w| w == word)
}

/// The way back: the client gets the server's answer, with its own Vias and nothing of ours.
fn check_answer_comes_back(case: &Case, forwarded: &Sip, bridged: &mut Bridged, client: &mut WsClient) {
    bridged.pbx.send(&forwarded.respond(404, "Not Found"));
    let answer = client.receive();
    assert_eq!(answer.status(), 404, "{}", case.name);
    assert_eq!(answer.all("Via"), forwarded.all("Via")[1..], "{}", case.name);
    assert_eq!(answer.get("Call-ID"), forwarded.get("Call-ID"), "{}", case.name);
}
