//! Requests in a dialog follow the recorded route, in both directions, whoever called.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;

const IN_DIALOG: [&str; 10] =
    ["INVITE", "UPDATE", "PRACK", "INFO", "REFER", "SUBSCRIBE", "NOTIFY", "MESSAGE", "OPTIONS", "BREW"];

/// Passes every kind of request from the client to the server and back, then ends the call from `the_client_ends`.
#[track_caller]
fn talk(b: &mut Bridged, call: &mut Call, the_client_ends: bool) {
    for method in IN_DIALOG {
        let up = call.client.request(method);
        b.client.send(&up);
        if method == "INVITE" {
            b.client.expect_status(100);
        }
        let got = b.pbx.expect(method);
        assert_eq!(got.uri(), call.client.target, "the remote target");
        assert_eq!(got.all("Route"), [""; 0], "our Routes are taken out");
        assert_eq!(got.all("Record-Route"), [""; 0], "a dialog's route is set already");
        assert_eq!(got.get("CSeq"), up.get("CSeq"));
        let answer = got.respond(200, "OK").with("Contact", &format!("<{}>", call.client.target));
        b.pbx.send(&answer);
        assert_eq!(b.client.expect_status(200).get("CSeq"), up.get("CSeq"));
        if method == "INVITE" {
            b.client.send(&call.client.request("ACK"));
            assert_eq!(b.pbx.expect("ACK").uri(), call.client.target);
        }

        let down = call.server.request(method);
        b.pbx.send(&down);
        if method == "INVITE" {
            b.pbx.expect_status(100);
        }
        let got = b.client.expect(method);
        assert_eq!(got.uri(), call.server.target, "the remote target");
        assert_eq!(got.all("Route"), [""; 0], "our Routes are taken out");
        assert_eq!(got.all("Record-Route"), [""; 0], "a dialog's route is set already");
        let answer = got.respond(200, "OK").with("Contact", &format!("<{}>", call.server.target));
        b.client.send(&answer);
        let ok = b.pbx.expect_status(200);
        assert_eq!(ok.get("CSeq"), down.get("CSeq"));
        assert_eq!(ok.all("Via"), [down.get("Via")], "the server sees its own Via as it was");
        if method == "INVITE" {
            b.pbx.send(&call.server.request("ACK"));
            assert_eq!(b.client.expect("ACK").uri(), call.server.target);
        }
    }
    if the_client_ends {
        b.client.send(&call.client.request("BYE"));
        let bye = b.pbx.expect("BYE");
        b.pbx.send(&bye.respond(200, "OK"));
        b.client.expect_status(200);
    } else {
        b.pbx.send(&call.server.request("BYE"));
        let bye = b.client.expect("BYE");
        b.client.send(&bye.respond(200, "OK"));
        b.pbx.expect_status(200);
    }
}

#[test]
fn a_clients_call_runs_both_ways_until_the_client_hangs_up() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    talk(&mut b, &mut call, true);
}

#[test]
fn a_clients_call_runs_both_ways_until_the_server_hangs_up() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    talk(&mut b, &mut call, false);
}

#[test]
fn a_servers_call_runs_both_ways_until_the_client_hangs_up() {
    let mut b = bridged("");
    let registered = register(&mut b.client, &mut b.pbx);
    let mut call = call_down(&mut b.client, &mut b.pbx, &registered);
    talk(&mut b, &mut call, true);
}

#[test]
fn a_servers_call_runs_both_ways_until_the_server_hangs_up() {
    let mut b = bridged("");
    let registered = register(&mut b.client, &mut b.pbx);
    let mut call = call_down(&mut b.client, &mut b.pbx, &registered);
    talk(&mut b, &mut call, false);
}

#[test]
fn the_route_set_may_come_in_one_field() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    for dialog in [&mut call.client, &mut call.server] {
        assert_eq!(dialog.routes.len(), 2);
        dialog.routes = vec![dialog.routes.join(",")];
    }
    talk(&mut b, &mut call, true);
}

#[test]
fn routes_behind_ours_stay() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    let further = "<sip:core.example.com;lr>";
    call.client.routes.push(further.to_owned());
    b.client.send(&call.client.request("BYE"));
    let bye = b.pbx.expect("BYE");
    assert_eq!(bye.all("Route"), [further]);
    b.pbx.send(&bye.respond(200, "OK"));
    b.client.expect_status(200);
}

#[test]
fn a_request_in_a_dialog_gets_no_path_and_keeps_its_body() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    b.client.send(&call.client.request("INFO").body("application/dtmf-relay", b"Signal=5\r\n"));
    let got = b.pbx.expect("INFO");
    assert_eq!(got.body, b"Signal=5\r\n");
    assert_eq!(got.header("Path"), None);
    assert_eq!(got.all("Via").len(), 2);
}

#[test]
fn a_failed_reinvite_is_acknowledged_to_the_server() {
    let mut b = bridged("");
    let mut call = call_up(&mut b.client, &mut b.pbx);
    let again = call.client.request("INVITE");
    b.client.send(&again);
    b.client.expect_status(100);
    let got = b.pbx.expect("INVITE");
    b.pbx.send(&got.respond(491, "Request Pending"));
    let failure = b.client.expect_status(491);
    b.client.send(&again.ack_of(&failure));
    let ack = b.pbx.expect("ACK");
    assert_eq!(ack.branch(), got.branch());
    assert_eq!(ack.all("Route"), [""; 0]);
    b.edge.wait_metric("sipws_requests_in_flight", 0);
}

/// What a proxy makes of a request: its own Via, another Route, and its Record-Route if it has one.
fn forward(message: &Sip, via: &str, routes: &[String], record: Option<&str>) -> Builder {
    let mut out = Builder::new(message.start.clone()).with("Via", via);
    for route in routes {
        out = out.with("Route", route);
    }
    if let Some(record) = record {
        out = out.with("Record-Route", record);
    }
    let kept = message.headers.iter().filter(|(n, _)| n != "Route");
    kept.fold(out, |out, (n, v)| out.with(n, v))
}

/// A call from one client to another, through a server that passes it on to the callee's Path: both legs meet us.
#[track_caller]
fn spiral(record: Option<&str>) {
    let mut b = bridged("");
    let mut callee = WsClient::open(&b.edge);
    let registered = register(&mut callee, &mut b.pbx);
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    b.client.expect_status(100);
    let up = b.pbx.expect("INVITE");
    let via = || format!("SIP/2.0/TCP proxy.example.com;branch=z9hG4bK{}", unique("proxy"));
    let ours = via();
    let mut down = forward(&up, &ours, std::slice::from_ref(&registered.path), record);
    down.start = format!("INVITE {} SIP/2.0", registered.contact);
    b.pbx.send(&down);
    b.pbx.expect_status(100);
    let arrived = callee.expect("INVITE");
    assert_eq!(arrived.all("Via").len(), 4);
    let answer = arrived.respond(200, "OK").with("Contact", &format!("<{}>", registered.contact));
    callee.send(&answer);
    let back = |message: Sip| {
        let text = message.text();
        let at = text.find("Via: ").unwrap();
        let end = at + text[at..].find("\r\n").unwrap() + 2;
        format!("{}{}", &text[..at], &text[end..])
    };
    let ok = b.pbx.expect_status(200);
    b.pbx.send_raw(back(ok).as_bytes());
    let ok = b.client.expect_status(200);
    assert_eq!(ok.all("Via").len(), 1);

    let recorded = usize::from(record.is_some());
    let mut caller = Dialog::of_caller(&sent, &ok);
    assert_eq!(caller.routes.len(), 4 + recorded);
    let next = |message: &Sip| forward(message, &via(), &message.all("Route")[recorded..], None);
    b.client.send(&caller.request("ACK"));
    let ack = b.pbx.expect("ACK");
    assert_eq!(ack.all("Route").len(), 2 + recorded, "our two of the other leg stay");
    b.pbx.send(&next(&ack));
    callee.expect("ACK");

    let mut called = Dialog::of_callee(&arrived, &answer, "SIP/2.0/WS callee.invalid");
    callee.send(&called.request("INFO"));
    let info = b.pbx.expect("INFO");
    b.pbx.send(&next(&info));
    let info = b.client.expect("INFO");
    assert_eq!(info.all("Route"), [""; 0]);
    b.client.send(&info.respond(200, "OK"));
    let ok = b.pbx.expect_status(200);
    b.pbx.send_raw(back(ok).as_bytes());
    callee.expect_status(200);

    b.client.send(&caller.request("BYE"));
    let bye = b.pbx.expect("BYE");
    b.pbx.send(&next(&bye));
    let bye = callee.expect("BYE");
    assert_eq!(bye.all("Route"), [""; 0]);
    callee.send(&bye.respond(200, "OK"));
    let ok = b.pbx.expect_status(200);
    b.pbx.send_raw(back(ok).as_bytes());
    b.client.expect_status(200);
}

#[test]
fn two_clients_of_one_edge_talk_through_a_server_that_records_its_route() {
    spiral(Some("<sip:proxy.example.com;transport=tcp;lr>"));
}

#[test]
fn two_clients_of_one_edge_talk_through_a_server_that_records_no_route() {
    spiral(None);
}
