//! The bridge in front of real registrars and proxies: Debian's Kamailio, with digest authentication.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod digest;
mod phone;
mod process;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use common::{Edge, Sip, start, wait_until};
use phone::{Phone, contacts};
use process::{Kamailio, Registrar};

/// An edge in front of `servers`; what a user's clients register, and what is for this user, goes to the same one.
fn edge(registrar: Registrar, servers: &[&Kamailio]) -> Edge {
    let mode = if registrar == Registrar::Path { "path" } else { "rewrite" };
    let upstreams: String = servers.iter().map(|s| format!("[[upstream]]\nuri = \"{}\"\n", s.uri())).collect();
    let edge = start(&format!("sip.registration = \"{mode}\"\nrouting.hash = \"to\"\n{upstreams}"));
    for server in servers {
        wait_until("the upstream is up", || is_up(&edge, server));
    }
    edge
}

fn is_up(edge: &Edge, server: &Kamailio) -> bool {
    edge.metric(&format!("sipws_upstream_up{{target=\"{}\"}}", server.uri())) == 1
}

#[track_caller]
fn status(response: Option<Sip>) -> u16 {
    response.expect("a final response").status()
}

const BOTH: [Registrar; 2] = [Registrar::Path, Registrar::Contact];

#[test]
fn a_client_registers_refreshes_and_unregisters_in_both_modes() {
    for registrar in BOTH {
        let kamailio = Kamailio::start(registrar);
        let edge = edge(registrar, &[&kamailio]);
        let alice = Phone::connect(&edge.websocket_urls()[0], "alice");
        for _ in 0..2 {
            let registered = alice.register(60).expect("a final response");
            assert_eq!(registered.status(), 200, "{registered:?}");
            // In its own words, whatever the registrar was told; and once, however often it is refreshed.
            assert_eq!(contacts(&registered), std::slice::from_ref(&alice.contact), "{registrar:?}");
        }
        let bob = Phone::connect(&edge.websocket_urls()[0], "bob");
        assert_eq!(status(bob.message(&alice, "before")), 200);
        alice.asked("MESSAGE");
        let unregistered = alice.register(0).expect("a final response");
        assert_eq!((unregistered.status(), contacts(&unregistered)), (200, vec![]), "{registrar:?}");
        assert_eq!(status(bob.message(&alice, "after")), 480);
        assert_eq!(edge.metric("sipws_path_ignored_total"), 0);
    }
}

#[test]
fn a_wrong_password_is_the_registrars_to_refuse() {
    let kamailio = Kamailio::start(Registrar::Path);
    let edge = edge(Registrar::Path, &[&kamailio]);
    let eve = Phone::connect(&edge.websocket_urls()[0], "eve");
    assert_eq!(status(eve.register(60)), 403);
    let alice = Phone::connect(&edge.websocket_urls()[0], "alice").with_password("guessed");
    assert_eq!(status(alice.register(60)), 401);
}

#[test]
fn a_registrar_without_path_is_noticed_in_path_mode() {
    let kamailio = Kamailio::start(Registrar::Contact);
    let edge = edge(Registrar::Path, &[&kamailio]);
    let alice = Phone::connect(&edge.websocket_urls()[0], "alice");
    assert_eq!(status(alice.register(60)), 200);
    assert_eq!(edge.metric("sipws_path_ignored_total"), 1);
}

#[test]
fn two_clients_call_each_other_through_it_in_both_modes() {
    for registrar in BOTH {
        let kamailio = Kamailio::start(registrar);
        let edge = edge(registrar, &[&kamailio]);
        let [alice, bob] = ["alice", "bob"].map(|user| Phone::connect(&edge.websocket_urls()[0], user));
        assert_eq!(status(alice.register(60)), 200);
        assert_eq!(status(bob.register(60)), 200);

        let (answer, call) = alice.call(&bob);
        assert_eq!(status(answer), 200);
        let mut call = call.expect("a call");
        let invite = bob.asked("INVITE");
        assert_eq!(invite.uri(), bob.contact, "{registrar:?}");
        bob.asked("ACK");
        let mut called = bob.call_of(&invite);

        assert_eq!(status(alice.in_call(&mut call, "INVITE")), 200);
        bob.asked("INVITE");
        bob.asked("ACK");
        assert_eq!(status(bob.in_call(&mut called, "INVITE")), 200);
        alice.asked("INVITE");
        alice.asked("ACK");
        assert_eq!(status(bob.in_call(&mut called, "BYE")), 200);
        alice.asked("BYE");

        let (answer, call) = bob.call(&alice);
        assert_eq!(status(answer), 200);
        alice.asked("INVITE");
        alice.asked("ACK");
        assert_eq!(status(bob.in_call(&mut call.expect("a call"), "BYE")), 200);
        alice.asked("BYE");

        assert_eq!((alice.strays(), bob.strays()), (0, 0));
    }
}

#[test]
fn messages_go_both_ways_in_both_modes() {
    for registrar in BOTH {
        let kamailio = Kamailio::start(registrar);
        let edge = edge(registrar, &[&kamailio]);
        let [alice, bob] = ["alice", "bob"].map(|user| Phone::connect(&edge.websocket_urls()[0], user));
        assert_eq!(status(alice.register(60)), 200);
        assert_eq!(status(bob.register(60)), 200);
        for (from, to, text) in [(&alice, &bob, "Grüß dich"), (&bob, &alice, "ça va ?")] {
            assert_eq!(status(from.message(to, text)), 200);
            let message = to.asked("MESSAGE");
            assert_eq!((message.uri(), message.body.as_slice()), (to.contact.as_str(), text.as_bytes()));
        }
    }
}

const CLIENTS: usize = 200;
const PAIRS: usize = CLIENTS / 2;
/// Calls that each pair makes, one after the other, while a server is killed.
const CALLS: usize = 6;

/// Runs `f` for each phone at once; the statuses that it gave.
fn all(phones: &[Phone], f: impl Fn(usize, &Phone) -> u16 + Sync) -> Vec<u16> {
    thread::scope(|scope| {
        let f = &f;
        let running: Vec<_> = phones.iter().enumerate().map(|(i, phone)| scope.spawn(move || f(i, phone))).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    })
}

fn register_all(phones: &[Phone]) {
    let statuses = all(phones, |_, phone| status(phone.register(600)));
    assert!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
}

/// A call from each phone of the first half to its counterpart in the other, and back.
fn call_all(phones: &[Phone]) {
    let statuses = all(phones, |i, phone| {
        let (answer, call) = phone.call(&phones[(i + PAIRS) % CLIENTS]);
        let answer = status(answer);
        call.map_or(answer, |mut call| status(phone.in_call(&mut call, "BYE")))
    });
    assert!(statuses.iter().all(|s| *s == 200), "{statuses:?}");
}

#[test]
fn no_request_stays_without_a_final_answer_when_a_server_is_killed_among_200_clients() {
    let mut first = Kamailio::start(Registrar::Path);
    let second = Kamailio::start(Registrar::Path);
    let edge = edge(Registrar::Path, &[&first, &second]);
    let url = edge.websocket_urls()[0].clone();
    let names = ["alice", "bob", "carol", "dave"];
    let phones: Vec<_> = (0..CLIENTS).map(|i| Phone::connect(&url, &format!("{}-{i}", names[i % 4]))).collect();

    register_all(&phones);
    // Each is asked twice, without credentials and with them. Half, give or take seven standard deviations.
    let shares = || [&first, &second].map(|s| s.requests("REGISTER"));
    wait_until("the servers' logs show every REGISTER", || shares().iter().sum::<usize>() >= 2 * CLIENTS);
    let shares = shares();
    assert_eq!(shares[0] + shares[1], 2 * CLIENTS, "{shares:?}");
    assert!(shares[0].min(shares[1]) > CLIENTS / 2, "{shares:?}");
    call_all(&phones);

    // One falls in the middle of the calls.
    let calls = AtomicUsize::new(0);
    let fall = AtomicUsize::new(usize::MAX);
    let statuses: Vec<_> = thread::scope(|scope| {
        let (calls, fall, phones) = (&calls, &fall, &phones);
        let running: Vec<_> = (0..PAIRS)
            .map(|i| {
                scope.spawn(move || {
                    let mut statuses = Vec::new();
                    for _ in 0..CALLS {
                        let (answer, call) = phones[i].call(&phones[i + PAIRS]);
                        statuses.push(answer.map_or(0, |r| r.status()));
                        if let Some(mut call) = call {
                            statuses.push(phones[i].in_call(&mut call, "INVITE").map_or(0, |r| r.status()));
                            statuses.push(phones[i].in_call(&mut call, "BYE").map_or(0, |r| r.status()));
                        }
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                    statuses
                })
            })
            .collect();
        wait_until("a third of the calls", || calls.load(Ordering::Relaxed) >= PAIRS * CALLS / 3);
        first.kill();
        fall.store(calls.load(Ordering::Relaxed), Ordering::Relaxed);
        running.into_iter().flat_map(|r| r.join().unwrap()).collect()
    });
    let fell_at = fall.load(Ordering::Relaxed);
    assert!(fell_at < PAIRS * CALLS, "the calls were over before the server was");
    // 503: it was the dead one's to answer. 480: the other one has not heard of that callee yet.
    assert!(statuses.iter().all(|s| [200, 480, 503].contains(s)), "{statuses:?}");
    for unwanted in [480, 503] {
        assert!(statuses.contains(&unwanted), "nothing shows that a server fell: {statuses:?}");
    }
    assert_all_answered(&edge, &phones);

    // The other one takes everybody.
    assert!(!is_up(&edge, &first) && is_up(&edge, &second) && edge.ready().is_ok());
    register_all(&phones);
    call_all(&phones);

    // The dead one comes back, knows nobody, and gets its share.
    first.start_again();
    wait_until("it is up again", || is_up(&edge, &first));
    register_all(&phones);
    wait_until("its log shows every REGISTER", || first.requests("REGISTER") >= shares[0]);
    call_all(&phones);
    assert_eq!(first.requests("REGISTER"), shares[0]);
    assert_all_answered(&edge, &phones);
}

/// By the clients' count, and by the edge's.
fn assert_all_answered(edge: &Edge, phones: &[Phone]) {
    let (sent, answered) =
        phones.iter().map(Phone::account).fold((0, 0), |(sent, answered), (s, a)| (sent + s, answered + a));
    assert_eq!(sent, answered);
    assert_eq!(phones.iter().map(Phone::strays).sum::<usize>(), 0);
    let counted = |wanted: &dyn Fn(&str) -> bool| -> usize {
        let text = edge.metrics();
        let samples = text.lines().filter(|l| l.starts_with("sipws_messages_total") && wanted(l));
        samples.map(|l| l.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    };
    let requests =
        counted(&|l| l.contains("\"from_client\"") && l.contains("class=\"request\"") && !l.contains("\"ACK\""));
    let finals = counted(&|l| {
        let is_final = ["2xx", "3xx", "4xx", "5xx", "6xx"].iter().any(|c| l.contains(&format!("class=\"{c}\"")));
        l.contains("\"to_client\"") && is_final
    });
    assert_eq!((requests, finals), (sent, sent));
}
