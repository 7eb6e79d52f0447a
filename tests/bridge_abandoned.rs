//! A caller that vanishes while it calls: nobody is left ringing for it.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;

/// A client has called and is gone; what the server got.
fn vanished(b: Bridged, status: Option<u16>) -> (Edge, SipServer, SipConnection, Sip) {
    let Bridged { edge, server, mut pbx, mut client } = b;
    client.send(&request("INVITE", "sip:bob@example.com"));
    client.expect_status(100);
    let invite = pbx.expect("INVITE");
    if let Some(status) = status {
        pbx.send(&invite.respond(status, "Ringing"));
        client.expect_status(status);
    }
    client.reset();
    edge.wait_metric("sipws_connections{transport=\"ws\"}", 0);
    (edge, server, pbx, invite)
}

/// The server gets the INVITE's CANCEL, and the ACK of the 487.
fn expect_cancelled(edge: &Edge, pbx: &mut SipConnection, invite: &Sip) {
    let cancel = pbx.expect("CANCEL");
    assert_eq!(cancel.uri(), invite.uri());
    assert_eq!(cancel.branch(), invite.branch(), "it matches its INVITE");
    assert_eq!(cancel.get("Call-ID"), invite.get("Call-ID"));
    assert_eq!(cancel.get("To"), invite.get("To"));
    pbx.send(&cancel.respond(200, "OK"));
    let terminated = invite.respond(487, "Request Terminated");
    pbx.send(&terminated);
    let ack = pbx.expect("ACK");
    assert_eq!(ack.branch(), invite.branch());
    assert_eq!(ack.get("To"), terminated.get("To"), "the ACK has the tag of what it acknowledges");
    pbx.expect_nothing(edge);
}

#[test]
fn whoever_rings_for_a_caller_that_is_gone_is_told_to_stop() {
    let (edge, _server, mut pbx, invite) = vanished(bridged(""), Some(180));
    expect_cancelled(&edge, &mut pbx, &invite);
}

#[test]
fn the_cancel_waits_for_the_first_provisional_response() {
    let (edge, _server, mut pbx, invite) = vanished(bridged(""), None);
    pbx.expect_nothing(&edge);
    pbx.send(&invite.respond(100, "Trying"));
    expect_cancelled(&edge, &mut pbx, &invite);
}

#[test]
fn an_answered_call_is_not_cancelled_when_its_caller_is_gone() {
    let mut b = bridged("");
    call_up(&mut b.client, &mut b.pbx);
    b.client.reset();
    b.edge.wait_metric("sipws_connections{transport=\"ws\"}", 0);
    b.pbx.expect_nothing(&b.edge);
}
