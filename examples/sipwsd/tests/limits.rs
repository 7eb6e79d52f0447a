//! The daemon at the limit of the open files that the system allows it.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "daemon/process.rs"]
mod process;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use process::{DEADLINE, Daemon, FREE_PORTS, folder, wait_for};

/// Starts it from a shell that has run `ulimit`.
fn start(folder: &Path, ulimit: &str) -> Daemon {
    let mut command = Command::new("/bin/sh");
    command.env_clear().stdin(Stdio::null());
    command.args(["-c", &format!("{ulimit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_sipwsd"), "--config"]);
    command.arg(folder.join("sipwsd.toml"));
    Daemon::start_command(command)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A WebSocket connection, if it is given one.
fn open(address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = connect(address);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    Ok(stream)
}

/// The keep-alive of RFC 7118, there and back.
fn is_served(client: &mut TcpStream) {
    client.write_all(b"\x81\x84\0\0\0\0\r\n\r\n").unwrap();
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x81\x02\r\n");
}

#[test]
fn it_goes_on_when_it_has_run_out_of_open_files() {
    let folder = folder("files", &format!("{FREE_PORTS}timeouts.handshake = \"10m\"\n"));
    let daemon = start(&folder, "ulimit -n 64");
    let address = daemon.address("websocket");
    let mut early = open(address).unwrap();
    // The kernel takes what the daemon cannot.
    let silent: Vec<_> = (0..100).map(|_| connect(address)).collect();
    daemon.wait_for_log(0, "cannot accept, trying again");
    is_served(&mut early);
    drop(silent);
    let mut late = open(address).unwrap();
    is_served(&mut late);
    is_served(&mut early);
    assert_eq!(daemon.get("/healthz").status, 200);
    let metrics = daemon.get("/metrics").body;
    let sample = metrics.lines().find(|line| line.starts_with("sipws_handshakes_total{outcome=\"accept_error\"}"));
    assert!(sample.is_some_and(|line| !line.ends_with(" 0")), "{metrics}");
    wait_for("the end of the silent ones' handshakes", || {
        let metrics = daemon.get("/metrics").body;
        if metrics.contains("sipws_handshaking 0\n") { Ok(()) } else { Err(metrics) }
    });
    // A second time: nothing was lost in the first.
    let again: Vec<_> = (0..100).map(|_| connect(address)).collect();
    let before = daemon.log().len();
    daemon.wait_for_log(before, "cannot accept, trying again");
    drop(again);
    is_served(&mut open(address).unwrap());
}

#[test]
fn it_takes_as_many_open_files_as_it_may_have() {
    let folder = folder("soft-limit", FREE_PORTS);
    let daemon = start(&folder, "ulimit -S -n 64 && ulimit -H -n 512");
    let mut clients: Vec<_> = (0..200).map(|_| open(daemon.address("websocket")).unwrap()).collect();
    for client in &mut clients {
        is_served(client);
    }
}
