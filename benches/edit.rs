//! Changing a message: the edits that an edge proxy makes to a request on its way up and to a response on its way
//! down, and the writing of the result into a buffer that is used again.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::io::Write;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sipws::sip::response::{self, Reply};
use sipws::sip::via::Via;
use sipws::sip::{Edits, Message, Name};

const TOP_VIA: &[u8] = b"Via: SIP/2.0/TCP 192.0.2.10:5062;branch=z9hG4bKAAABmW0AAAEAAAAAAAAAKgAAAE0D\r\n";
const RECORD_ROUTES: &[u8] =
    b"Record-Route: <sip:AQAAAAEAAAGZbQAAAQAAAAAAAAAAAAAAAAAA@192.0.2.10:5062;transport=tcp;lr;target=0123abcd>\r\n\
    Record-Route: <sip:192.0.2.10:5062;transport=ws;lr>\r\n";
const PATH: &[u8] = b"Path: <sip:AQAAAAEAAAGZbQAAAQAAAAAAAAAAAAAAAAAA@192.0.2.10:5062;transport=tcp;lr;ob>\r\n";

/// Our Via and `more` on top, one hop less, and where the client really is (RFC 3261 §16.6).
fn up(message: &Message, more: &[u8], edits: &mut Edits) {
    edits.insert(message.headers_start(), |out| {
        out.extend_from_slice(TOP_VIA);
        out.extend_from_slice(more);
    });
    let hops = message.field(Name::MaxForwards).unwrap().value();
    let n: u8 = std::str::from_utf8(message.slice(hops.clone())).unwrap().parse().unwrap();
    edits.replace(hops, |out| write!(out, "{}", n - 1).unwrap());
    let (value, at) = message.values(Name::Via).next().unwrap();
    let via = Via::parse(value).unwrap();
    edits.insert(at.start + via.params_at, |out| out.extend_from_slice(b";received=198.51.100.23"));
}

/// Our Via off (RFC 3261 §16.7).
fn down(message: &Message, edits: &mut Edits) {
    edits.remove(message.field(Name::Via).unwrap().span());
}

fn edit(c: &mut Criterion) {
    let parse = |text: &'static [u8]| Message::parse(Bytes::from_static(text)).unwrap();
    let (invite, register, ok) = (
        parse(include_bytes!("messages/invite.sip")),
        parse(include_bytes!("messages/register.sip")),
        parse(include_bytes!("messages/ok.sip")),
    );
    let mut group = c.benchmark_group("edit");
    let mut bench = |name: &str, message: &Message, make: &dyn Fn(&Message, &mut Edits)| {
        group.throughput(Throughput::Bytes(message.bytes().len() as u64));
        let (mut edits, mut out) = (Edits::new(), Vec::with_capacity(8192));
        group.bench_function(name, |b| {
            b.iter(|| {
                edits.clear();
                out.clear();
                make(black_box(message), &mut edits);
                edits.apply(message.bytes(), &mut out);
                out.len()
            })
        });
    };
    bench("INVITE up", &invite, &|m, e| up(m, RECORD_ROUTES, e));
    bench("REGISTER up", &register, &|m, e| up(m, PATH, e));
    bench("200 down", &ok, &down);
    group.finish();
    let mut out = Vec::with_capacity(8192);
    c.bench_function("answer INVITE", |b| {
        b.iter(|| {
            out.clear();
            response::write(black_box(&invite), Reply::new(503, b"0123456789abcdef"), &mut out);
            out.len()
        })
    });
}

criterion_group!(benches, edit);
criterion_main!(benches);
