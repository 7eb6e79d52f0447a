//! sipwsd as its users meet it: the process, its exit codes, its signals, its admin server. Everything on loopback, on
//! ports that the system chooses.

mod process;

use process::{DEADLINE, Daemon, FREE_PORTS, command, folder, request, run, wait_for};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

#[test]
fn it_prints_the_addresses_that_it_really_has() {
    let daemon = Daemon::start(&folder("addresses", FREE_PORTS));
    let kinds: Vec<&str> = daemon.addresses.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["websocket", "websocket", "sip", "admin"]);
    for (_, url) in &daemon.addresses {
        assert!(!url.contains(":0/") && !url.ends_with(":0"), "{url}");
    }
    for kind in ["websocket", "sip", "admin"] {
        TcpStream::connect_timeout(&daemon.address(kind), DEADLINE).expect(kind);
    }
}

#[test]
fn the_environment_alone_is_a_configuration() {
    let mut command = command();
    command.env("SIPWS_LISTEN__0__URL", "ws://127.0.0.1:0/").env("SIPWS_SIP__LISTEN", "[\"tcp://127.0.0.1:0\"]");
    command.env("SIPWS_ADMIN__LISTEN", "127.0.0.1:0").env("SIPWS_LOG__FORMAT", "json");
    let daemon = Daemon::start_command(command);
    assert_eq!(daemon.get("/healthz").status, 200);
    let log = daemon.wait_for_log(0, "open files");
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{log}");
}

#[test]
fn health_metrics_and_readiness_are_told() {
    let daemon = Daemon::start(&folder("health", FREE_PORTS));
    let health = daemon.get("/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));

    let metrics = daemon.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").expect("a type").starts_with("application/openmetrics-text"));
    assert!(metrics.body.ends_with("# EOF\n"), "{}", metrics.body);

    let ready = daemon.get("/readyz");
    assert!(ready.status == 503 && !ready.body.trim().is_empty(), "no upstream: {} {}", ready.status, ready.body);

    assert_eq!(request(daemon.address("admin"), "POST", "/metrics").expect("an answer").status, 405);
}

#[test]
fn it_is_ready_while_an_upstream_answers() {
    let upstream = sip_server();
    let config = format!("{FREE_PORTS}upstream = [{{ uri = \"sip:{upstream};transport=tcp\" }}]\n");
    let daemon = Daemon::start(&folder("ready", &config));
    wait_for("200 on /readyz", || {
        let ready = daemon.get("/readyz");
        if ready.status == 200 { Ok(()) } else { Err(ready.body) }
    });
}

/// A SIP server that answers each request with 200; ends with the test process.
fn sip_server() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer_requests(stream));
        }
    });
    address
}

fn answer_requests(stream: TcpStream) {
    let Ok(mut to) = stream.try_clone() else { return };
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    loop {
        let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        if head.is_empty() {
            return;
        }
        let copied = head.iter().filter(|line| {
            let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
            ["via", "from", "to", "call-id", "cseq", "v", "f", "t", "i"].contains(&name.as_str())
        });
        let copied: String = copied.map(|line| format!("{line}\r\n")).collect();
        if write!(to, "SIP/2.0 200 OK\r\n{copied}Content-Length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

#[test]
fn without_pages_the_root_shows_addresses_and_links() {
    let daemon = Daemon::start(&folder("status", FREE_PORTS));
    let page = daemon.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for shown in daemon.addresses.iter().filter(|(kind, _)| kind != "admin").map(|(_, url)| url.as_str()) {
        assert!(page.body.contains(shown), "{shown}");
    }
    for link in ["/metrics", "/healthz", "/readyz", "/status.css"] {
        assert!(page.body.contains(&format!("href=\"{link}\"")), "{link}");
        assert_ne!(daemon.get(link).status, 404, "{link}");
    }
    assert_eq!(daemon.get("/nothing").status, 404);
}

#[test]
fn pages_are_served_from_memory_with_their_types_and_nothing_else_is() {
    let config = format!("{FREE_PORTS}admin.pages = \"pages\"\n");
    let folder = folder("pages", &config);
    std::fs::create_dir_all(folder.join("pages/phone")).expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.join("pages").join(name), text).expect("a page");
    write("index.html", "<p>home");
    write("phone/index.html", "<p>phone");
    write("phone/sip js.mjs", "let x;");
    write(".hidden", "hush");
    std::os::unix::fs::symlink("index.html", folder.join("pages/linked.html")).expect("a link");
    let daemon = Daemon::start(&folder);

    let expect = |path: &str, content_type: &str, body: &str| {
        let page = daemon.get(path);
        assert_eq!((page.status, page.header("content-type"), page.body.as_str()), (200, Some(content_type), body));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'self'") && policy.contains("connect-src 'self' ws: wss:"), "{policy}");
    };
    expect("/", "text/html; charset=utf-8", "<p>home");
    expect("/?a=b", "text/html; charset=utf-8", "<p>home");
    expect("/linked.html", "text/html; charset=utf-8", "<p>home");
    expect("/phone/", "text/html; charset=utf-8", "<p>phone");
    expect("/phone/sip%20js.mjs", "text/javascript; charset=utf-8", "let x;");
    let bare = daemon.get("/phone");
    assert_eq!((bare.status, bare.header("location")), (308, Some("/phone/")));

    for outside in [
        "/../sipwsd.toml",
        "/phone/../../sipwsd.toml",
        "/%2e%2e/sipwsd.toml",
        "/..%2fsipwsd.toml",
        "/.hidden",
        "//etc/passwd",
        "/%00",
        "/%ff",
        "/phone/..",
        "/index.html/",
    ] {
        let page = daemon.get(outside);
        assert_eq!(page.status, 404, "{outside}");
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    }

    // In memory: a changed file shows after a reload, not before.
    write("index.html", "<p>new home");
    expect("/", "text/html; charset=utf-8", "<p>home");
    daemon.reload("reloaded");
    expect("/", "text/html; charset=utf-8", "<p>new home");
}

#[test]
fn a_link_out_of_the_pages_is_refused() {
    let folder = folder("link", &format!("{FREE_PORTS}admin.pages = \"pages\"\n"));
    std::fs::create_dir_all(folder.join("pages")).expect("a folder");
    std::os::unix::fs::symlink("../sipwsd.toml", folder.join("pages/config.txt")).expect("a link");
    let (code, _, stderr) = run(|command| {
        command.arg("--config").arg(folder.join("sipwsd.toml"));
    });
    assert!(
        code == 1 && stderr.contains("admin.pages: ") && stderr.contains("a link out of the directory"),
        "{stderr}"
    );
}

#[test]
fn a_reload_tells_what_took_effect_and_what_waits_for_a_restart() {
    let folder = folder("reload", &format!("{FREE_PORTS}limits.strikes = 5\n"));
    let file = folder.join("sipwsd.toml");
    let daemon = Daemon::start(&folder);

    let log = daemon.reload("reloaded: ");
    assert!(log.contains("no key took effect"), "{log}");

    std::fs::write(&file, format!("{FREE_PORTS}log.level = \"debug\"\nlog.format = \"json\"\n")).expect("written");
    let log = daemon.reload("only a restart");
    let line = |what: &str| log.lines().find(|line| line.contains(what)).unwrap_or_default().to_owned();
    assert!(line("reloaded: ").contains("log.level"), "{log}");
    assert!(line("only a restart").contains("log.format"), "{log}");
    assert!(!line("reloaded: ").contains("log.format"), "{log}");

    let log = daemon.reload("only a restart");
    assert!(log.contains("log.format"), "what waits for a restart is said again: {log}");
}

#[test]
fn a_wrong_configuration_at_reload_changes_nothing() {
    let folder = folder("bad-reload", FREE_PORTS);
    let daemon = Daemon::start(&folder);
    let file = folder.join("sipwsd.toml");
    std::fs::write(&file, "[limits]\nrequests_per_secnd = 1\n[timeouts]\nping = \"never\"\n").expect("written");
    let log = daemon.reload("timeouts.ping");
    assert!(log.contains("sipwsd.toml:2: limits.requests_per_secnd: unknown key; did you mean requests_per_second?"));
    assert!(!log.contains("reloaded: ") && log.contains("not reloaded, going on as before"), "{log}");
    assert_eq!(daemon.get("/healthz").status, 200);
}

#[test]
fn sigterm_drains_and_ends_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = folder("stop", &format!("{FREE_PORTS}runtime.drain = \"100ms\"\n"));
        let mut daemon = Daemon::start(&folder);
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0));
        daemon.wait_for_log(0, "stopped");
        assert!(daemon.log().contains("draining"));
    }
}

#[test]
fn a_second_signal_ends_the_wait_for_clients_at_once() {
    let mut daemon = Daemon::start(&folder("twice", &format!("{FREE_PORTS}runtime.drain = \"10m\"\n")));
    // Clients are sent away one after the other, over the whole of the grace: the second one is still there.
    let _clients = [connected_client(&daemon), connected_client(&daemon)];
    daemon.signal(Signal::TERM);
    daemon.wait_for_log(0, "draining");
    wait_for("503 on /readyz", || {
        let ready = daemon.get("/readyz");
        if ready.status == 503 && ready.body.contains("drain") { Ok(()) } else { Err(ready.body) }
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().code(), Some(143));
}

/// A WebSocket connection that never says anything.
fn connected_client(daemon: &Daemon) -> TcpStream {
    let address = daemon.address("websocket");
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).expect("a connection");
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n"
    )
    .expect("sent");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 101");
    stream
}

#[test]
fn exit_code_1_is_a_wrong_configuration() {
    let folder = folder("wrong", "[limits]\nburts = 3\n[log]\nlevel = \"inof\"\n");
    let (code, stdout, stderr) = run(|command| {
        command.current_dir(&folder).args(["--config", "sipwsd.toml"]).env("SIPWS_LIMITS__STRIKES", "none");
    });
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!((code, stdout.as_str(), lines.len()), (1, "", 3), "{stderr}");
    assert_eq!(lines[0], "sipwsd.toml:2: limits.burts: unknown key; did you mean burst?");
    assert!(lines[1].starts_with("sipwsd.toml:4: log.level: \"inof\""), "{stderr}");
    assert!(lines[2].starts_with("environment: SIPWS_LIMITS__STRIKES: "), "{stderr}");

    let (code, _, stderr) = run(|command| {
        command.args(["-c", "no-such-file.toml"]);
    });
    assert!(code == 1 && stderr.starts_with("no-such-file.toml: cannot be read"), "{code} {stderr}");
}

#[test]
fn exit_code_2_is_a_wrong_argument() {
    for arguments in [&["--confg", "x"][..], &["serve"], &["check", "a", "b"], &["--config"]] {
        let (code, _, stderr) = run(|command| {
            command.args(arguments);
        });
        assert_eq!(code, 2, "{arguments:?}: {stderr}");
    }
}

#[test]
fn exit_code_3_is_an_address_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    for (key, config) in [
        ("admin", FREE_PORTS.replace("admin.listen = \"127.0.0.1:0", &format!("admin.listen = \"127.0.0.1:{port}"))),
        ("ws", FREE_PORTS.replace("ws://127.0.0.1:0/\"", &format!("ws://127.0.0.1:{port}/\""))),
        ("sip", FREE_PORTS.replace("tcp://127.0.0.1:0", &format!("tcp://127.0.0.1:{port}"))),
    ] {
        let folder = folder(&format!("taken-{key}"), &config);
        let (code, stdout, stderr) = run(|command| {
            command.arg("--config").arg(folder.join("sipwsd.toml"));
        });
        assert_eq!((code, stdout.as_str()), (3, ""), "{key}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("sipwsd: cannot start: ") && last.contains(&port.to_string()), "{key}: {last}");
    }
}

#[test]
fn check_says_what_a_right_file_would_do_and_masks_secrets() {
    let config = "cluster.secret = \"correct horse battery staple\"\n[[upstream]]\nuri = \"sip:pbx.example.com\"\n";
    let folder = folder("check", config);
    let (code, stdout, stderr) = run(|command| {
        command.arg("check").arg(folder.join("sipwsd.toml")).env("SIPWS_LIMITS__BURST", "7");
    });
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    for shown in ["sip:pbx.example.com", "ws://127.0.0.1:8080/", "secret = \"***\"", "burst = 7", "self-signed"] {
        assert!(stdout.contains(shown), "{shown}: {stdout}");
    }
    assert!(!stdout.contains("horse"), "{stdout}");
}

#[test]
fn check_finds_what_is_wrong_with_a_file_and_with_those_that_it_names() {
    let folder = folder("check-bad", "[tls]\ncertificate = \"no.pem\"\nkey = \"no.key\"\n");
    let check = || {
        run(|command| {
            command.arg("check").arg(folder.join("sipwsd.toml"));
        })
    };
    let (code, stdout, stderr) = check();
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.contains("tls.certificate: ") && stderr.contains("tls.key: "), "{stderr}");

    std::fs::write(folder.join("sipwsd.toml"), "log.level = \"sipws[=debug\"\n").expect("written");
    let (code, _, stderr) = check();
    assert!(code == 1 && stderr.contains("log.level: "), "{stderr}");
}

#[test]
fn help_teaches_the_environment_signals_and_exit_codes() {
    let (code, stdout, _) = run(|command| {
        command.arg("--help");
    });
    assert_eq!(code, 0);
    for part in
        ["Examples:", "Environment:", "Signals:", "Exit codes:", "SIGHUP", "SIPWS_LIMITS__REQUESTS_PER_SECOND=50"]
    {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
}
