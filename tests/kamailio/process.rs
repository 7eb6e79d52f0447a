//! A Kamailio under test: its processes, and what it says that it was asked. Ends with the test.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

const DEADLINE: Duration = Duration::from_secs(20);
/// The domain whose registrar it is.
pub(crate) const DOMAIN: &str = "sipws.test";

/// How it learns the way back to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registrar {
    /// It knows RFC 3327.
    Path,
    /// It ignores Path: the edge rewrites the Contact.
    Contact,
}

pub(crate) struct Kamailio {
    child: Child,
    pub(crate) port: u16,
    registrar: Registrar,
    log: Arc<Mutex<Vec<String>>>,
    folder: PathBuf,
}

/// A port for TCP and UDP below those that the system gives to outgoing connections: it stays free while its owner is
/// dead, and nobody who calls it then gets through to himself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = std::process::id() as u16 % 10_000;
    for _ in 0..10_000 {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

impl Kamailio {
    /// Starts one on a free port and waits until it listens.
    pub(crate) fn start(registrar: Registrar) -> Kamailio {
        Kamailio::start_on(free_port(), registrar)
    }

    fn start_on(port: u16, registrar: Registrar) -> Kamailio {
        static STARTED: AtomicU16 = AtomicU16::new(0);
        let name = format!("kamailio-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut command = Command::new("kamailio");
        command.arg("-f").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/kamailio.cfg"));
        command.args(["-DD", "-E", "-m", "64", "-M", "8"]).arg("-Y").arg(&folder).arg("-w").arg(&folder);
        for define in [format!("SIP_PORT={port}"), format!("SIP_DOMAIN=\"{DOMAIN}\"")] {
            command.arg("-A").arg(define);
        }
        if registrar == Registrar::Path {
            command.args(["-A", "WITH_PATH"]);
        }
        // A group of its own, so that all of its processes can be killed at once.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Debian's kamailio is installed and starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("the log").push(line);
            }
        });
        let mut kamailio = Kamailio { child, port, registrar, log, folder };
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let ended = kamailio.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < end, "Kamailio does not listen: {ended:?}\n{}", kamailio.log());
            thread::sleep(Duration::from_millis(10));
        }
        kamailio
    }

    /// What an edge calls it.
    pub(crate) fn uri(&self) -> String {
        format!("sip:127.0.0.1:{};transport=tcp", self.port)
    }

    /// Its processes end without a word: SIGKILL to each.
    pub(crate) fn kill(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        self.child.wait().expect("it ends");
    }

    /// Another one in its place, with nothing remembered.
    pub(crate) fn start_again(&mut self) {
        *self = Kamailio::start_on(self.port, self.registrar);
    }

    fn log(&self) -> String {
        self.log.lock().expect("the log").join("\n")
    }

    /// How many requests of `method` have come to it.
    pub(crate) fn requests(&self, method: &str) -> usize {
        let said = format!("request {method} ");
        self.log.lock().expect("the log").iter().filter(|line| line.contains(&said)).count()
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // A group that is gone already is no harm: the process is waited for only here and in `kill`, so its number
        // cannot be another's yet.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.kill();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
        if thread::panicking() {
            let log = self.log.lock().expect("the log");
            eprintln!("Kamailio {} at the end:\n{}", self.port, log[log.len().saturating_sub(40)..].join("\n"));
        }
    }
}
