//! What holds for any message, not only for those that somebody thought of (proptest).

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use sipws::bridge::TokenKeys;
use sipws::edge::FlowId;
use sipws::sip::address::{self, Address};
use sipws::sip::stream::{Framed, Framer};
use sipws::sip::uri::Uri;
use sipws::sip::validate::{self, Transport};
use sipws::sip::via::Via;
use sipws::sip::{Edits, Message, Name};

use common::{Bridged, DEADLINE, TEXT, WsClient, bridged, request, unique};

/// A request as its writer means it. How it is written is for [`Style`] to say.
#[derive(Clone, Debug)]
struct Meant {
    method: String,
    uri: String,
    vias: Vec<MeantVia>,
    from: MeantAddress,
    to: MeantAddress,
    call_id: String,
    cseq: u32,
    max_forwards: Option<u8>,
    contacts: Vec<MeantAddress>,
    routes: Vec<MeantAddress>,
    others: Vec<(String, String)>,
    says_length: bool,
    body: Vec<u8>,
}

#[derive(Clone, Debug)]
struct MeantVia {
    transport: String,
    host: String,
    port: Option<u16>,
    branch: Option<String>,
    parameters: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
struct MeantAddress {
    display: Option<String>,
    uri: String,
    tag: Option<String>,
    parameters: Vec<(String, String)>,
}

/// One of the many ways to write the same message (RFC 3261 §7.3.1): decided by a row of random numbers.
struct Style<'a> {
    choices: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Style<'_> {
    fn pick(&mut self, of: usize) -> usize {
        usize::from(*self.choices.next().unwrap()) % of
    }

    /// White space where there may be some: often none.
    fn space(&mut self) -> &'static str {
        ["", "", " ", "\t", "\r\n ", "  \r\n\t "][self.pick(6)]
    }

    /// White space where there has to be some.
    fn gap(&mut self) -> &'static str {
        [" ", " ", "   ", "\t", "\r\n ", " \r\n\t"][self.pick(6)]
    }

    fn name(&mut self, long: &str, compact: Option<&str>) -> String {
        let name = compact.filter(|_| self.pick(2) == 0).unwrap_or(long);
        match self.pick(3) {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            _ => name.to_lowercase(),
        }
    }

    fn field(&mut self, long: &str, compact: Option<&str>, value: &str) -> String {
        let before = [" ", "", "", "\t "][self.pick(4)];
        format!("{}{before}:{}{value}{}\r\n", self.name(long, compact), self.space(), self.space())
    }

    /// Many values: each in a field of its own, or some joined by commas.
    fn fields(&mut self, long: &str, compact: Option<&str>, values: &[String]) -> Vec<String> {
        let mut out = Vec::new();
        let mut joined = String::new();
        for (i, value) in values.iter().enumerate() {
            joined += value;
            if i + 1 < values.len() && self.pick(2) == 0 {
                joined += &format!("{},{}", self.space(), self.space());
            } else {
                out.push(self.field(long, compact, &std::mem::take(&mut joined)));
            }
        }
        out
    }

    fn parameters(&mut self, parameters: &[(String, String)]) -> String {
        let mut out = String::new();
        for (name, value) in parameters {
            out += &format!("{};{}{name}", self.space(), self.space());
            if !value.is_empty() {
                out += &format!("{}={}{value}", self.space(), self.space());
            }
        }
        out
    }

    fn via(&mut self, via: &MeantVia) -> String {
        let (a, b, c, d) = (self.space(), self.space(), self.space(), self.space());
        let mut out = format!("SIP{a}/{b}2.0{c}/{d}{}{}{}", via.transport, self.gap(), via.host);
        if let Some(port) = via.port {
            out += &format!("{}:{}{port}", self.space(), self.space());
        }
        let mut parameters = via.parameters.clone();
        if let Some(branch) = &via.branch {
            let at = self.pick(parameters.len() + 1);
            parameters.insert(at, (self.name("branch", None), branch.clone()));
        }
        out + &self.parameters(&parameters)
    }

    fn address(&mut self, address: &MeantAddress) -> String {
        let mut parameters = address.parameters.clone();
        if let Some(tag) = &address.tag {
            let at = self.pick(parameters.len() + 1);
            parameters.insert(at, (self.name("tag", None), tag.clone()));
        }
        let parameters = self.parameters(&parameters);
        // Where a URI's own parameters would be taken for the address's, brackets are needed.
        match &address.display {
            None if !address.uri.contains([';', '?', ',']) && self.pick(2) == 0 => address.uri.clone() + &parameters,
            None => format!("<{}>{parameters}", address.uri),
            Some(display) => {
                let escaped = display.replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{escaped}\"{}<{}>{parameters}", self.space(), address.uri)
            }
        }
    }

    fn message(&mut self, meant: &Meant) -> Vec<u8> {
        let vias: Vec<_> = meant.vias.iter().map(|v| self.via(v)).collect();
        let contacts: Vec<_> = meant.contacts.iter().map(|a| self.address(a)).collect();
        let routes: Vec<_> = meant.routes.iter().map(|a| self.address(a)).collect();
        let (from, to) = (self.address(&meant.from), self.address(&meant.to));
        let cseq = format!("{}{}{}", meant.cseq, self.gap(), meant.method);
        let mut groups = vec![
            self.fields("Via", Some("v"), &vias),
            self.fields("Contact", Some("m"), &contacts),
            self.fields("Route", None, &routes),
            vec![self.field("From", Some("f"), &from)],
            vec![self.field("To", Some("t"), &to)],
            vec![self.field("Call-ID", Some("i"), &meant.call_id)],
            vec![self.field("CSeq", None, &cseq)],
        ];
        if let Some(hops) = meant.max_forwards {
            groups.push(vec![self.field("Max-Forwards", None, &hops.to_string())]);
        }
        if meant.says_length {
            groups.push(vec![self.field("Content-Length", Some("l"), &meant.body.len().to_string())]);
        }
        groups.push(meant.others.iter().map(|(name, value)| self.field(name, None, value)).collect());
        let mut out = format!("{} {} SIP/2.0\r\n", meant.method, meant.uri);
        // Fields of different names may stand in any order.
        for group in &mut groups {
            group.reverse();
        }
        while !groups.is_empty() {
            let at = self.pick(groups.len());
            match groups[at].pop() {
                Some(line) => out += &line,
                None => drop(groups.swap_remove(at)),
            }
        }
        [out.as_bytes(), b"\r\n", &meant.body].concat()
    }
}

const TOKEN: &str = "[A-Za-z0-9.!%*_+`'~-]{1,12}";

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,8}(\\.[a-z]{1,5}){0,2}",
        Just("192.0.2.7".to_owned()),
        Just("[2001:db8::9]".to_owned())
    ]
}

fn uri() -> impl Strategy<Value = String> {
    let user = prop::option::of("[a-zA-Z0-9;,?/&=+$_.!~*'()-]{1,10}(:[a-z0-9&=+$,]{0,5})?");
    let parameters = vec("[a-z-]{1,8}(=[a-zA-Z0-9%]{0}[a-zA-Z0-9.:/]{1,6})?", 0..3);
    (select(&["sip", "sips", "SIP"][..]), user, host(), prop::option::of(1u16..), parameters).prop_map(
        |(scheme, user, host, port, parameters)| {
            let user = user.map_or(String::new(), |u| u + "@");
            let port = port.map_or(String::new(), |p| format!(":{p}"));
            let parameters: String = parameters.iter().map(|p| format!(";{p}")).collect();
            format!("{scheme}:{user}{host}{port}{parameters}")
        },
    )
}

/// Parameters that no reader takes for one that it looks for: their names begin with `x`.
fn parameters() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = prop_oneof![Just(String::new()), TOKEN, "\"[a-z;,=<> ]{0,8}\""];
    vec((TOKEN.prop_map(|t| format!("x{t}")), value), 0..3)
}

fn via() -> impl Strategy<Value = MeantVia> {
    let branch = prop::option::of(TOKEN.prop_map(|t| format!("z9hG4bK{t}")));
    let transport = select(&["WS", "WSS", "TCP", "UDP", "TLS-SCTP"][..]);
    (transport, host(), prop::option::of(any::<u16>()), branch, parameters()).prop_map(
        |(transport, host, port, branch, parameters)| MeantVia {
            transport: transport.to_owned(),
            host,
            port,
            branch,
            parameters,
        },
    )
}

fn address(tag: impl Strategy<Value = Option<String>>) -> impl Strategy<Value = MeantAddress> {
    let display = prop::option::of("[A-Za-z ,;<>@\"\\\\\u{e4}\u{416}-]{0,10}");
    (display, uri(), tag, parameters()).prop_map(|(display, uri, tag, parameters)| MeantAddress {
        display,
        uri,
        tag,
        parameters,
    })
}

/// A request outside any dialog that may be passed on.
fn meant() -> impl Strategy<Value = Meant> {
    let method = prop_oneof![
        select(&["INVITE", "REGISTER", "MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "REFER"][..])
            .prop_map(str::to_owned),
        TOKEN.prop_filter("an ACK or CANCEL goes another way", |m| m != "ACK" && m != "CANCEL"),
    ];
    let others = vec((TOKEN.prop_map(|t| format!("X-{t}")), "([!-~\u{e4}]([ !-~]{0,20}[!-~])?)?"), 0..4);
    let parties = (address(prop::option::of(TOKEN)), address(Just(None)));
    (
        (method, uri(), vec(via(), 1..4), parties, "[a-zA-Z0-9<>:\\\\/\"?{}.@-]{1,20}", 0u32..1 << 31),
        (prop::option::of(1u8..), vec(address(Just(None)), 0..3), vec(address(Just(None)), 0..3), others),
        (any::<bool>(), vec(any::<u8>(), 0..60)),
    )
        .prop_map(
            |(
                (method, uri, vias, (from, to), call_id, cseq),
                (max_forwards, contacts, routes, others),
                (says_length, body),
            )| Meant {
                method,
                uri,
                vias,
                from,
                to,
                call_id,
                cseq,
                max_forwards,
                contacts,
                routes,
                others,
                says_length,
                body,
            },
        )
}

fn style() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..80)
}

fn write(meant: &Meant, style: &[u8]) -> Vec<u8> {
    Style { choices: style.iter().cycle() }.message(meant)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn check_address(value: &[u8], meant: &MeantAddress) {
    let address = Address::parse(value).unwrap_or_else(|| panic!("no address: {}", text(value)));
    assert_eq!(text(&value[address.uri]), meant.uri);
    assert_eq!(address::parameter(value, b"tag").map(text), meant.tag.as_deref());
    let mut read: Vec<_> = address::parameters(&value[address.params])
        .filter(|(n, _)| !n.eq_ignore_ascii_case(b"tag"))
        .map(|(n, v)| (text(n).to_owned(), text(v).to_owned()))
        .collect();
    read.truncate(meant.parameters.len());
    assert_eq!(read, meant.parameters);
}

/// Checks that `message` says what was meant; `skip` Vias on top of it are somebody else's.
fn check_meaning(message: &Message, meant: &Meant, skip: usize) {
    assert_eq!(text(message.method_token()), meant.method);
    assert_eq!(message.request_uri().map(|(uri, _)| text(uri)), Some(&meant.uri[..]));
    let vias: Vec<_> = message.values(Name::Via).skip(skip).map(|(v, _)| Via::parse(v).unwrap()).collect();
    assert_eq!(vias.len(), meant.vias.len());
    for (via, meant) in vias.iter().zip(&meant.vias) {
        assert_eq!(
            (text(via.transport), text(via.host), via.port),
            (&meant.transport[..], &meant.host[..], meant.port)
        );
        assert_eq!(via.branch.map(text), meant.branch.as_deref());
    }
    for (name, meant) in [(Name::Contact, &meant.contacts), (Name::Route, &meant.routes)] {
        assert_eq!(message.values(name).count(), meant.len());
        for ((value, _), meant) in message.values(name).zip(meant) {
            check_address(value, meant);
        }
    }
    check_address(message.header(Name::From).unwrap(), &meant.from);
    check_address(message.header(Name::To).unwrap(), &meant.to);
    assert_eq!(message.call_id().map(text), Some(&meant.call_id[..]));
    assert_eq!(message.cseq(), Some((meant.cseq, meant.method.as_bytes())));
    for (name, value) in &meant.others {
        // The first of that name.
        let first = meant.others.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v);
        if first == Some(value) {
            assert_eq!(message.header_named(name.as_bytes()).map(text), Some(&value[..]));
        }
    }
    assert_eq!(message.body(), meant.body);
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn a_message_reads_as_it_was_meant_however_it_is_written(meant in meant(), style in style()) {
        let bytes = write(&meant, &style);
        let message = Message::parse(Bytes::from(bytes)).unwrap();
        prop_assert_eq!(validate::check(&message, Transport::WebSocket), Ok(()));
        check_meaning(&message, &meant, 0);
        let hops = meant.max_forwards.map(|n| n.to_string());
        prop_assert_eq!(message.header(Name::MaxForwards).map(text), hops.as_deref());
    }

    #[test]
    fn a_stream_holds_the_same_messages_however_it_is_cut(
        written in vec((meant(), style(), 0usize..5), 1..5),
        cuts in vec(1usize..200, 1..20),
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (mut meant, style, empty_lines) in written {
            meant.says_length = true;
            let message = write(&meant, &style);
            stream.extend(b"\r\n".repeat(empty_lines));
            stream.extend_from_slice(&message);
            expected.push(message);
        }
        let (mut framer, mut buffer, mut found) = (Framer::new(65_536), BytesMut::new(), Vec::new());
        let mut rest = &stream[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at(rest.len().min(*cut));
            buffer.extend_from_slice(piece);
            while let Some(framed) = framer.next(&mut buffer).unwrap() {
                match framed {
                    Framed::Message(m) => found.push(m.bytes().to_vec()),
                    Framed::Ping | Framed::Pong => {}
                    Framed::Skipped(why) => panic!("{why}"),
                }
            }
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(buffer.is_empty());
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn an_edit_changes_no_byte_that_it_does_not_name(
        pieces in vec((vec(any::<u8>(), 0..20), select(&[0u8, 0, 1, 2, 3, 4][..]), vec(any::<u8>(), 0..9)), 0..12),
        backwards: bool,
    ) {
        let (mut source, mut expected, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for (bytes, what, new) in pieces {
            let place = source.len()..source.len() + bytes.len();
            source.extend_from_slice(&bytes);
            match what {
                0 => expected.extend(bytes),
                // Two edits of one empty place would be two insertions, whose order counts.
                _ if place.is_empty() => {}
                1 => made.push((place, Vec::new())),
                2 => {
                    expected.extend_from_slice(&new);
                    made.push((place, new));
                }
                3 => {
                    expected.extend_from_slice(&new);
                    expected.extend(bytes);
                    made.push((place.start..place.start, new));
                }
                _ => {
                    expected.extend_from_slice(&new);
                    made.push((place.start..place.start, new));
                    made.push((place, Vec::new()));
                }
            }
        }
        if backwards {
            made.reverse();
        }
        let mut edits = Edits::new();
        for (place, new) in made {
            edits.replace(place, |out| out.extend(new));
        }
        prop_assert_eq!(edits.len_of(&source), expected.len());
        let mut out = b"before".to_vec();
        edits.apply(&source, &mut out);
        prop_assert_eq!(&out[6..], &expected[..]);
    }

    #[test]
    fn a_uri_is_its_parts_put_together(text in uri()) {
        let uri = Uri::parse(text.as_bytes()).unwrap();
        let mut again = if uri.secure { b"sips:".to_vec() } else { b"sip:".to_vec() };
        if let Some(user) = uri.user {
            again.extend([user, b"@"].concat());
        }
        again.extend_from_slice(uri.host);
        if let Some(port) = uri.port {
            again.extend(format!(":{port}").bytes());
        }
        if !uri.params.is_empty() {
            again.extend([b";", uri.params].concat());
        }
        let scheme = text.find(':').unwrap();
        prop_assert_eq!(std::str::from_utf8(&again).unwrap(), text[..scheme].to_lowercase() + &text[scheme..]);
        for parameter in uri.params.split(|&b| b == b';').filter(|p| !p.is_empty()) {
            let name = parameter.split(|&b| b == b'=').next().unwrap();
            prop_assert!(uri.param(&name.to_ascii_uppercase()).is_some());
        }
    }

    #[test]
    fn a_token_is_believed_and_none_that_differs_by_a_bit(flow: u64, epoch: u32, secret in vec(any::<u8>(), 1..40)) {
        let keys = TokenKeys::new("edge1", &secret, &[]);
        let token = keys.token(FlowId(flow), epoch).into_bytes();
        let claim = keys.verify(&token).unwrap();
        prop_assert_eq!((claim.node, claim.flow, claim.epoch), (keys.node(), FlowId(flow), epoch));
        for bit in 0..token.len() * 8 {
            let mut forged = token.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(keys.verify(&forged), None, "bit {}", bit);
        }
        prop_assert_eq!(TokenKeys::new("edge1", b"another secret, longer than any above: 40", &[]).verify(&token), None);
    }
}

/// Bytes as they might come: anything, or pieces of SIP in an order that makes no sense.
fn odd_bytes() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 24] = [
        "sip:",
        "sips:",
        "SIP/2.0/WS",
        "SIP / 2.0 / TCP",
        " ",
        "\r\n ",
        "\t",
        ";",
        "=",
        ",",
        "\"",
        "\\",
        "<",
        ">",
        "@",
        ":",
        "[",
        "]",
        "::1",
        "?",
        "%41",
        "%",
        "branch=z9hG4bK1",
        "a",
    ];
    prop_oneof![vec(any::<u8>(), 0..60), vec(select(&PIECES[..]), 0..16).prop_map(|p| p.concat().into_bytes())]
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn nothing_that_comes_makes_a_parser_panic(bytes in odd_bytes()) {
        if let Some(uri) = Uri::parse(&bytes) {
            prop_assert!(!uri.host.is_empty());
            uri.param(b"lr");
        }
        if let Some(address) = Address::parse(&bytes) {
            prop_assert!(!bytes[address.uri].is_empty());
            prop_assert!(address.params.end == bytes.len());
        }
        if let Some(via) = Via::parse(&bytes) {
            prop_assert!(!via.host.is_empty() && !via.transport.is_empty());
        }
        address::parameter(&bytes, b"tag");
        let whole = [b"OPTIONS sip:a SIP/2.0\r\nVia: ", &bytes[..], b"\r\n\r\n"].concat();
        if let Ok(message) = Message::parse(Bytes::from(whole)) {
            let _ = validate::check(&message, Transport::WebSocket);
            message.values(Name::Via).for_each(|(value, _)| assert!(!value.is_empty()));
        }
    }
}

/// One edge for all cases.
static BRIDGED: LazyLock<Mutex<Bridged>> = LazyLock::new(|| Mutex::new(bridged("")));

proptest! {
    #![proptest_config(config(128))]

    #[test]
    fn what_goes_to_the_server_is_valid_and_means_what_the_client_meant(meant in meant(), style in style()) {
        // A failed case must not fail those that shrink it.
        let mut bridged = BRIDGED.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = Meant { call_id: unique("p"), ..meant };
        let mut client = WsClient::open(&bridged.edge);
        // The body may be anything, and the header fields are UTF-8: which frame it is makes no difference.
        let bytes = write(&meant, &style);
        let opcode = if std::str::from_utf8(&bytes).is_ok() { TEXT } else { common::BINARY };
        client.send_frame(true, opcode, &bytes);
        let fence = request("MESSAGE", "sip:fence@example.com");
        client.send(&fence);
        let message = forwarded(&mut bridged, meant.call_id.as_bytes(), fence.get("Call-ID").as_bytes());
        let Some(message) = message else {
            panic!("not passed on; the client got {:?}", client.receive());
        };
        prop_assert_eq!(validate::check(&message, Transport::Stream), Ok(()));
        check_meaning(&message, &meant, 1);
        prop_assert_eq!(text(message.header(Name::ContentLength).unwrap()), meant.body.len().to_string());
        let hops = meant.max_forwards.map_or(70, |n| n - 1);
        prop_assert_eq!(text(message.header(Name::MaxForwards).unwrap()), hops.to_string());
        let received: Vec<_> = message.values(Name::Via).filter_map(|(v, _)| {
            Via::parse(v).unwrap().received.map(|r| v[r].to_vec())
        }).collect();
        prop_assert_eq!(received, [b"127.0.0.1"]);
    }
}

/// The message with that Call-ID, if it comes before the one that has to come.
fn forwarded(bridged: &mut Bridged, call_id: &[u8], fence: &[u8]) -> Option<Message> {
    let mut framer = Framer::new(65_536);
    let mut buffer = BytesMut::new();
    let mut found = None;
    let end = Instant::now() + DEADLINE;
    let stream = &mut bridged.pbx.stream;
    loop {
        let n = stream.buffer.len();
        buffer.extend_from_slice(&stream.take(n));
        while let Some(framed) = framer.next(&mut buffer).unwrap() {
            match framed {
                Framed::Message(m) if m.call_id() == Some(fence) => return found,
                Framed::Message(m) if m.call_id() == Some(call_id) => found = Some(m),
                _ => {}
            }
        }
        assert!(stream.fill(end).unwrap() > 0, "the edge closed the connection");
    }
}
