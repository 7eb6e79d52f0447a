//! A sipwsd under test: its process, what it prints, and requests to its admin server. Ends with the test.

use rustix::process::{Pid, Signal, kill_process};
use std::fmt::Debug;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before the test fails; nothing waits this long when all is well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A folder of this test's own, with `config` in `sipwsd.toml`.
pub(crate) fn folder(test: &str, config: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("daemon-{test}"));
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("sipwsd.toml"), config).expect("a configuration");
    folder
}

/// Every address on a port of the system's choice.
pub(crate) const FREE_PORTS: &str = "\
    listen = [{ url = \"ws://127.0.0.1:0/\" }, { url = \"wss://127.0.0.1:0/sip\" }]\n\
    sip.listen = [\"tcp://127.0.0.1:0\"]\n\
    admin.listen = \"127.0.0.1:0\"\n";

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sipwsd"));
    // No SIPWS_ variables of whoever runs the tests.
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end, which must come by itself.
pub(crate) fn run(change: impl FnOnce(&mut Command)) -> (i32, String, String) {
    let mut command = command();
    change(&mut command);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sipwsd starts");
    let pid = Pid::from_child(&child);
    let (done, ended) = mpsc::channel::<()>();
    let watch = thread::spawn(move || {
        if ended.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its output");
    drop(done);
    watch.join().expect("the watch ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it ends by itself"), text(stdout), text(stderr))
}

pub(crate) struct Daemon {
    child: Child,
    /// `websocket`, `sip`, `admin` and their URLs, in the order in which they were printed.
    pub(crate) addresses: Vec<(String, String)>,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts with the configuration in `folder` and waits until everything is open.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut command = command();
        command.arg("--config").arg(folder.join("sipwsd.toml"));
        Self::start_command(command)
    }

    pub(crate) fn start_command(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sipwsd starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, lines) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().expect("the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let (printed, stdout) = mpsc::channel();
        let out = child.stdout.take().expect("piped");
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if printed.send(line).is_err() {
                    break;
                }
            }
        });
        let mut daemon = Self { child, addresses: Vec::new(), log };
        while !daemon.addresses.iter().any(|(kind, _)| kind == "admin") {
            let Ok(line) = stdout.recv_timeout(DEADLINE) else { panic!("no addresses; the log:\n{}", daemon.log()) };
            let (kind, url) = line.split_once(' ').expect("kind and URL");
            daemon.addresses.push((kind.to_owned(), url.to_owned()));
        }
        daemon
    }

    /// The address and port of the first URL of a kind.
    pub(crate) fn address(&self, kind: &str) -> SocketAddr {
        let (_, url) = self.addresses.iter().find(|(of, _)| of == kind).expect("an address of this kind");
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
        authority.parse().expect("an address")
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// Waits until `what` is in the log after its first `after` bytes.
    pub(crate) fn wait_for_log(&self, after: usize, what: &str) -> String {
        wait_for(&format!("\"{what}\" in the log"), || {
            let log = self.log();
            log.get(after..).filter(|new| new.contains(what)).map(str::to_owned).ok_or(log)
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// SIGHUP, and what the log then says until `what` has come.
    pub(crate) fn reload(&self, what: &str) -> String {
        let before = self.log().len();
        self.signal(Signal::HUP);
        self.wait_for_log(before, what)
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the end of the process", || child.try_wait().expect("a child").ok_or("it runs"))
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address("admin"), "GET", path).expect("the admin server answers")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
    }
}

/// An HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (of, value) = line.split_once(": ")?;
            of.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A request whose path is sent as it is, dots and all: no client library would send some of them.
pub(crate) fn request(to: SocketAddr, method: &str, path: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(std::io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}

/// Polls until there is a result; the error of the last try is shown if none comes in time.
pub(crate) fn wait_for<T, E: Debug>(what: &str, mut poll: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        match poll() {
            Ok(found) => return found,
            Err(why) if Instant::now() > end => panic!("{what} did not come: {why:?}"),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}
