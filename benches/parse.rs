//! Reading a message: the index that every message needs, and the checks that every client's message passes.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sipws::sip::Message;
use sipws::sip::stream::{Framed, Framer};
use sipws::sip::validate::{self, Transport};

/// What browsers and servers send: see `benches/messages/`.
const MESSAGES: [(&str, &[u8]); 3] = [
    ("INVITE", include_bytes!("messages/invite.sip")),
    ("REGISTER", include_bytes!("messages/register.sip")),
    ("200", include_bytes!("messages/ok.sip")),
];

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse");
    for (name, text) in MESSAGES {
        let bytes = Bytes::from_static(text);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| Message::parse(black_box(bytes.clone())).unwrap()));
    }
    group.finish();
    let mut group = c.benchmark_group("check");
    for (name, text) in MESSAGES {
        let message = Message::parse(Bytes::from_static(text)).unwrap();
        group.bench_function(name, |b| b.iter(|| validate::check(black_box(&message), Transport::WebSocket).unwrap()));
    }
    group.finish();
    // As they come from a server: several in one read.
    let read = MESSAGES[2].1.repeat(20);
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(20));
    group.bench_function("20 × 200", |b| {
        b.iter_batched_ref(
            || (Framer::new(65_536), BytesMut::from(&read[..])),
            |(framer, buffer)| {
                while let Some(framed) = framer.next(buffer).unwrap() {
                    assert!(matches!(framed, Framed::Message(_)));
                }
            },
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
