//! What has to hold for any bytes: one function for each fuzz target. They end in a panic where it does not hold.
//!
//! The targets in `fuzz_targets/` and `tests/corpus.rs`, which replays what the fuzzer found, both take these in.

#![allow(dead_code, clippy::unwrap_used)]

use bytes::{Bytes, BytesMut};
use sipws::bridge::TokenKeys;
use sipws::config::Listen;
use sipws::edge::{FlowId, handshake};
use sipws::sip::address::{self, Address};
use sipws::sip::response::{self, Reply};
use sipws::sip::stream::{Framed, Framer, StreamError};
use sipws::sip::uri::{self, Uri};
use sipws::sip::validate::{self, Transport};
use sipws::sip::via::Via;
use sipws::sip::{Edits, Message, Method, Name};

/// Parses one message and reads everything that can be read of it. A valid one has to have what a proxy relies on,
/// and an answer to it has to be a message as well.
pub(crate) fn message(data: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert_eq!(&message.bytes()[..], data);
    let mut before = message.headers_start();
    for field in message.fields() {
        assert_eq!(field.span().start, before, "fields follow one another without a gap");
        before = field.span().end;
        assert!(field.span().start <= field.value().start && field.value().end <= field.span().end - 2);
        let value = message.slice(field.value());
        address::parameter(value, b"tag");
        Address::parse(value).map(|a| Uri::parse(&value[a.uri]).map(|u| u.param(b"lr")));
        for (value, place) in message.values(field.name) {
            assert_eq!(message.slice(place), value);
            via(value);
        }
    }
    assert_eq!(before, message.headers_end(), "the fields end where the empty line begins");
    assert_eq!(message.slice(message.headers_end()..message.body_at()), b"\r\n");
    message.header_named(b"subject");
    message.transaction_method();
    let _ = format!("{message:?}");
    for name in [Name::From, Name::To] {
        message.tag(name);
    }
    let valid = validate::check(&message, Transport::WebSocket).is_ok();
    if valid {
        // What a framer passes on is as long as it says: then the other transport agrees.
        assert_eq!(validate::check(&message, Transport::Stream), Ok(()));
        assert!(message.call_id().is_some() && message.cseq().is_some());
        assert!(message.values(Name::Via).next().is_some_and(|(v, _)| Via::parse(v).is_some()));
        if let Some((text, _)) = message.request_uri() {
            assert_eq!(message.method_token(), message.cseq().unwrap().1);
            assert_eq!(uri::scheme(text) == uri::Scheme::Sip, Uri::parse(text).is_some());
        }
    }
    if response::can_answer(&message) {
        answer(&message, valid);
    }
}

fn via(value: &[u8]) {
    let Some(via) = Via::parse(value) else {
        return;
    };
    assert!(via.params_at <= value.len());
    // What is put in as `received` and `rport` goes to these places.
    if let Some(received) = &via.received {
        assert!(received.start >= via.params_at && received.end <= value.len());
    }
    if let Some(rport) = &via.rport {
        assert!(rport.value.start > via.params_at && rport.value.end <= value.len());
    }
    let mut edited = value[..via.params_at].to_vec();
    edited.extend_from_slice(b";received=192.0.2.1");
    edited.extend_from_slice(&value[via.params_at..]);
    let again = Via::parse(&edited).expect("a Via that has gained a parameter is a Via");
    assert_eq!((again.transport, again.host, again.port), (via.transport, via.host, via.port));
}

fn answer(request: &Message, valid: bool) {
    let mut out = Vec::new();
    response::write(request, Reply::new(503, b"localtag"), &mut out);
    let answer = Message::parse(Bytes::from(out)).expect("an answer is a message");
    assert_eq!(answer.status(), Some(503));
    assert!(answer.body().is_empty());
    if valid {
        assert_eq!(validate::check(&answer, Transport::Stream), Ok(()));
        assert!(answer.tag(Name::To).is_some());
        for name in [Name::From, Name::CallId, Name::CSeq] {
            assert_eq!(answer.header(name), request.header(name));
        }
        assert!(answer.values(Name::Via).map(|(v, _)| v).eq(request.values(Name::Via).map(|(v, _)| v)));
    }
    let mut out = Vec::new();
    response::write_hop(Method::Cancel, request, b"Via: SIP/2.0/TCP x;branch=z9hG4bK1\r\n", b"<sip:b@x>", 0, &mut out);
    if valid {
        let cancel = Message::parse(Bytes::from(out)).expect("a CANCEL is a message");
        assert_eq!(validate::check(&cancel, Transport::Stream), Ok(()));
    }
}

/// Reads a stream whole and in pieces: what comes out has to be the same. The first bytes of `data` say how it is cut.
pub(crate) fn stream(data: &[u8]) {
    const LIMIT: usize = 600;
    let Some((&cuts, data)) = data.split_first() else {
        return;
    };
    let Some((cuts, data)) = data.split_at_checked(usize::from(cuts % 16)) else {
        return;
    };
    let whole = read([data].into_iter(), LIMIT);
    let mut rest = data;
    let pieces = cuts.iter().cycle().map_while(|&n| {
        let (piece, behind) = rest.split_at(usize::from(n).max(1).min(rest.len()));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    });
    if cuts.is_empty() {
        assert_eq!(whole, read(data.chunks(1), LIMIT));
    } else {
        assert_eq!(whole, read(pieces, LIMIT));
    }
}

/// What a framer makes of a stream that comes in these pieces, and how it ended.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> (Vec<String>, Option<StreamError>) {
    let (mut framer, mut buffer, mut seen) = (Framer::new(limit), BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match framer.next(&mut buffer) {
                Ok(None) => break,
                Ok(Some(Framed::Message(m))) => {
                    assert!(m.bytes().len() <= limit);
                    seen.push(m.bytes().escape_ascii().to_string());
                }
                Ok(Some(other)) => seen.push(format!("{other:?}")),
                Err(error) => return (seen, Some(error)),
            }
        }
    }
    (seen, None)
}

/// Makes edits of a message's fields, and compares with the same done one piece after the other. Each byte of the
/// first line of `data` is an edit of the field of that number; the message follows.
pub(crate) fn edits(data: &[u8]) {
    let Some(line) = data.iter().position(|&b| b == b'\n') else {
        return;
    };
    let (script, text) = (&data[..line], &data[line + 1..]);
    let Ok(message) = Message::parse(Bytes::copy_from_slice(text)) else {
        return;
    };
    let mut edits = Edits::new();
    let mut doing = vec![0; message.fields().len()];
    for (n, &what) in script.iter().enumerate() {
        let i = usize::from(what >> 2);
        // Edits must not overlap: one a field.
        if i >= doing.len() || doing[i] != 0 {
            continue;
        }
        let field = message.fields()[i];
        doing[i] = 1 + (what & 3);
        match what & 3 {
            0 => edits.remove(field.span()),
            1 => edits.insert(field.span().start, |t| t.extend_from_slice(b"X-New: 1\r\n")),
            2 => edits.replace(field.value(), |t| t.extend_from_slice(b"other")),
            _ => edits.insert(field.span().end, |t| t.extend_from_slice(&[b'A' + (n % 26) as u8])),
        }
    }
    // Where the insertion behind one field and that before the next meet, the order is that in which they were made:
    // such scripts are left out.
    if doing.windows(2).any(|w| w[0] == 4 && w[1] == 2) {
        return;
    }
    let mut expected = text[..message.headers_start()].to_vec();
    for (field, what) in message.fields().iter().zip(&doing) {
        let all = &text[field.span()];
        match what {
            0 => expected.extend_from_slice(all),
            1 => {}
            2 => expected.extend([b"X-New: 1\r\n", all].concat()),
            3 => {
                expected.extend_from_slice(&text[field.span().start..field.value().start]);
                expected.extend_from_slice(b"other");
                expected.extend_from_slice(&text[field.value().end..field.span().end]);
            }
            _ => expected.extend_from_slice(all),
        }
        if *what == 4 {
            let n = script.iter().position(|w| usize::from(w >> 2) == index(&message, field)).unwrap();
            expected.push(b'A' + (n % 26) as u8);
        }
    }
    expected.extend_from_slice(&text[message.headers_end()..]);
    let length = edits.len_of(text);
    let mut out = Vec::new();
    edits.apply(text, &mut out);
    assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(out.len(), length);
}

fn index(message: &Message, field: &sipws::sip::message::Field) -> usize {
    message.fields().iter().position(|f| f == field).unwrap()
}

/// Judges a request for an upgrade. Who is let in has asked for what RFC 6455 and RFC 7118 demand.
pub(crate) fn handshake(data: &[u8]) {
    let listen = |origins: &[&str]| Listen {
        url: "ws://127.0.0.1:0/ws".parse().unwrap(),
        origins: origins.iter().map(|o| o.parse().unwrap()).collect(),
    };
    let strict = handshake::judge(data, &listen(&["https://app.example.com", "https://*.example.org"]));
    let open = handshake::judge(data, &listen(&["*"]));
    handshake::judge(data, &listen(&[])).ok();
    let lower = data.to_ascii_lowercase();
    let says = |word: &[u8]| lower.windows(word.len()).any(|w| w == word);
    if let Ok(key) = &open {
        assert_eq!(key.len(), 28);
        assert!(data.trim_ascii_start().starts_with(b"GET "));
        assert!(says(b"websocket") && says(b"upgrade") && says(b"sip") && says(b"host"));
    }
    match (&strict, &open) {
        (Ok(key), _) => assert_eq!(open.as_ref(), Ok(key), "a list of origins admits nobody that no list refuses"),
        (Err(refusal), Ok(_)) => assert_eq!(refusal.status, 403),
        (Err(refusal), Err(_)) => assert!((400..=505).contains(&refusal.status)),
    }
}

/// Verifies a token. What passes is one that we made, or could have made, to the letter.
pub(crate) fn token(data: &[u8]) {
    let keys = TokenKeys::new("edge1", b"secret", &[b"older"]);
    if let Some(claim) = keys.verify(data) {
        let genuine = [&b"secret"[..], b"older"].into_iter().any(|secret| {
            claim.node == keys.node()
                && TokenKeys::new("edge1", secret, &[]).token(claim.flow, claim.epoch).as_bytes() == data
        });
        assert!(genuine || claim.node != keys.node());
    }
    // And a real one, with something changed by `data`, does not pass.
    let token = keys.token(FlowId(77), 3).into_bytes();
    let mut forged = token.clone();
    for (i, change) in data.iter().enumerate() {
        forged[i % token.len()] ^= change;
    }
    assert_eq!(keys.verify(&forged).is_some(), forged == token);
}
