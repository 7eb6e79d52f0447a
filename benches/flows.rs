//! What a flow costs when there are many: memory of an idle one and of one that has talked, and CPU of a message, with
//! 50,000, 100,000 and 200,000 flows in one process. The cost of one should not depend on how many there are.
//!
//! The flows run over in-memory streams, without TLS and without sockets, on one thread; a handler answers each request
//! with a 200. Each client has an address of its own. What the streams themselves cost is measured in a process of its
//! own (`flows streams`) and taken off. Prints a table; Linux only, for its /proc.

#![allow(missing_docs, clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sipws::config::{Limits, Timeouts};
use sipws::edge::{CloseReason, Edge, Flow, Host, SipHandler, listener};
use sipws::guard::{Guard, LocalTag};
use sipws::sip::Message;
use sipws::sip::response::{self, Reply};
use sipws::telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const LEVELS: [usize; 3] = [50_000, 100_000, 200_000];
/// Messages for each figure of CPU: the same number at each level.
const MESSAGES: usize = 200_000;
/// What a stream holds at most in one direction.
const STREAM: usize = 4096;

const REQUEST: &[u8] = b"OPTIONS sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/WSS 7l8k3gbq0f5e.invalid;branch=z9hG4bK9107283\r\nMax-Forwards: 69\r\n\
    To: <sip:bob@example.com>\r\nFrom: \"Alice\" <sip:alice@example.com>;tag=8vdh2n6jqk\r\n\
    Call-ID: 4s7c1e0mtkq3b5hr8lup\r\nCSeq: 2 OPTIONS\r\nSupported: outbound\r\nUser-Agent: JsSIP 3.10.1\r\n\
    Content-Length: 0\r\n\r\n";

/// Answers everything.
struct Answering;

impl SipHandler for Answering {
    fn opened(&self, _: &Flow) {}

    fn message(&self, flow: &Flow, message: Message) {
        let mut answer = Vec::with_capacity(512);
        response::write(&message, Reply::new(200, b"tag"), &mut answer);
        flow.queue(answer.len(), Instant::now(), |out| out.extend_from_slice(&answer));
    }

    fn closed(&self, _: &Flow, why: CloseReason) {
        assert_eq!(why, CloseReason::Server, "a flow ended too early");
    }
}

fn main() {
    if !std::path::Path::new("/proc/self/schedstat").exists() {
        println!("flows: left out, this system has no /proc/self/statm and /proc/self/schedstat");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().any(|a| a == "streams") {
        return runtime.block_on(streams());
    }
    let alone = std::process::Command::new(std::env::current_exe().unwrap()).arg("streams").output().unwrap();
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    let alone: Vec<f64> =
        String::from_utf8(alone.stdout).unwrap().split_whitespace().map(|n| n.parse().unwrap()).collect();
    runtime.block_on(flows(alone[0], alone[1]));
}

/// What a pair of streams costs in bytes, new and used.
async fn streams() {
    let n = LEVELS[2];
    let mut pairs = Vec::with_capacity(n);
    let before = resident();
    pairs.resize_with(n, || tokio::io::duplex(STREAM));
    let new = resident() - before;
    let frame = masked(REQUEST);
    let mut scratch = [0; STREAM];
    for (a, b) in &mut pairs {
        a.write_all(&frame).await.unwrap();
        b.read_exact(&mut scratch[..frame.len()]).await.unwrap();
        b.write_all(&frame).await.unwrap();
        a.read_exact(&mut scratch[..frame.len()]).await.unwrap();
    }
    let used = resident() - before;
    println!("{} {}", new / n as f64, used / n as f64);
}

async fn flows(stream_new: f64, stream_used: f64) {
    let metrics = Arc::new(Metrics::new());
    let guard = Guard::new(100, LocalTag::default(), metrics.clone());
    // Nobody here answers a ping.
    let timeouts = Timeouts { ping: Duration::from_secs(3600), ..Timeouts::default() };
    let limits = Limits { connections: LEVELS[2], ..Limits::default() };
    let edge = Edge::new(&limits, &timeouts, guard, metrics, Host::new(Arc::new(Answering)));
    let frame = masked(REQUEST);
    let mut clients: Vec<DuplexStream> = Vec::with_capacity(LEVELS[2]);
    // What the process and the first flow of all need once is not the flows'.
    open(&edge, &mut clients, 100).await;
    talk(&mut clients, &frame, (0..100).cycle().take(1000)).await;
    let (base, base_flows) = (resident(), clients.len());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    println!("| flows | resident, MiB | a new flow, bytes | a used flow, bytes | CPU a message, µs |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    let mut used_before = 0.0;
    let mut flows_before = base_flows;
    for level in LEVELS {
        let before = resident();
        open(&edge, &mut clients, level).await;
        let new = (resident() - before) / (level - flows_before) as f64 - stream_new;
        // Each has said something once: then the memory is that of flows in use.
        talk(&mut clients, &frame, flows_before..level).await;
        used_before += resident() - before;
        let used = used_before / (level - base_flows) as f64 - stream_used;
        let began = cpu();
        talk(&mut clients, &frame, (0..MESSAGES).map(|_| random.below(level))).await;
        let each = (cpu() - began) as f64 / MESSAGES as f64 / 1000.0;
        let all = (resident() - base) / f64::from(1 << 20);
        println!("| {level} | {all:.0} | {new:.0} | {used:.0} | {each:.2} |");
        flows_before = level;
        assert_eq!(edge.registry.len(), level);
    }
    println!(
        "\nA message is a request of {} bytes and its 200. Without the in-memory streams, {stream_new:.0} bytes new and \
         {stream_used:.0} used, except in the second column; with the clients' CPU.",
        REQUEST.len()
    );
    std::process::exit(0);
}

/// Opens flows until there are `level`.
async fn open(edge: &Arc<Edge>, clients: &mut Vec<DuplexStream>, level: usize) {
    for n in clients.len()..level {
        let (ours, theirs) = tokio::io::duplex(STREAM);
        let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n as u32)), 40_000);
        tokio::spawn(listener::adopt(edge, theirs, peer, true).unwrap());
        clients.push(ours);
        if n % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    while edge.registry.len() < level {
        tokio::task::yield_now().await;
    }
}

/// Has these clients say something and read the answer, fifty at a time.
async fn talk(clients: &mut [DuplexStream], frame: &[u8], who: impl Iterator<Item = usize>) {
    let who: Vec<usize> = who.collect();
    let mut scratch = [0; STREAM];
    for some in who.chunks(50) {
        for &i in some {
            clients[i].write_all(frame).await.unwrap();
        }
        for &i in some {
            // FIN, text, and a length of two bytes: an answer is shorter than 64 KiB.
            clients[i].read_exact(&mut scratch[..4]).await.unwrap();
            assert_eq!(scratch[..2], [0x81, 126]);
            let length = usize::from(u16::from_be_bytes([scratch[2], scratch[3]]));
            clients[i].read_exact(&mut scratch[..length]).await.unwrap();
            assert!(scratch.starts_with(b"SIP/2.0 200 "));
        }
    }
}

/// A client's text frame.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut out = vec![0x81, 0x80 | 126];
    out.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend_from_slice(&mask);
    out.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
    out
}

/// Resident memory of this process, bytes.
fn resident() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    // To ask for the page size would need unsafe code: 4096, as on x86-64 and most of the rest.
    pages.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// Nanoseconds of CPU that this thread, the only one that works, has had.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Marsaglia's xorshift: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }
}
