//! Flow tokens: one is made for each flow, one is checked for each request of a server and each request in a dialog.

#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sipws::bridge::TokenKeys;
use sipws::edge::FlowId;

fn token(c: &mut Criterion) {
    let keys = TokenKeys::new("edge1", b"a secret of thirty-two bytes, or so", &[]);
    let rolled =
        TokenKeys::new("edge1", b"the secret that came after that one", &[b"a secret of thirty-two bytes, or so"]);
    let token = keys.token(FlowId(0x0199_6d00_0001_0000), 0);
    let mut forged = token.clone().into_bytes();
    forged[35] = if forged[35] == b'A' { b'B' } else { b'A' };
    let mut group = c.benchmark_group("token");
    group.bench_function("make", |b| b.iter(|| keys.token(black_box(FlowId(77)), 3)));
    group.bench_function("verify", |b| b.iter(|| keys.verify(black_box(token.as_bytes())).unwrap()));
    group.bench_function("verify, previous secret", |b| b.iter(|| rolled.verify(black_box(token.as_bytes())).unwrap()));
    group.bench_function("refuse", |b| b.iter(|| assert!(keys.verify(black_box(&forged)).is_none())));
    group.finish();
}

criterion_group!(benches, token);
criterion_main!(benches);
