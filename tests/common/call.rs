//! The usual beginnings: a registration, a call up, a call down.

use super::message::{Builder, Dialog, Sip, request, uri_of};
use super::sip_server::SipConnection;
use super::websocket::WsClient;

/// A registered client.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its contact URI as the registrar got it.
    pub contact: String,
    /// The Path that leads to it, in angle brackets; empty where registrations are rewritten.
    pub path: String,
    /// The token in the Path, or in the rewritten contact.
    pub token: String,
}

/// A confirmed dialog as its two ends see it.
pub struct Call {
    pub client: Dialog,
    pub server: Dialog,
    /// The INVITE as it was sent and as it arrived.
    pub sent: Builder,
    pub arrived: Sip,
}

/// Registers `client` with the registrar `pbx`, which echoes Path and Contact.
#[track_caller]
pub fn register(client: &mut WsClient, pbx: &mut SipConnection) -> Registered {
    client.send(&request("REGISTER", "sip:example.com"));
    let got = pbx.expect("REGISTER");
    let mut answer = got.respond(200, "OK").with("Contact", got.get("Contact"));
    let path = got.header("Path").map(str::to_owned);
    if let Some(path) = &path {
        answer = answer.with("Path", path);
    }
    pbx.send(&answer);
    client.expect_status(200);
    // Where registrations are rewritten, the contact leads to the client.
    let leads = path.as_deref().unwrap_or(got.get("Contact"));
    let token = leads.split(['@', ':']).nth(1).unwrap().to_owned();
    Registered { contact: uri_of(got.get("Contact")).to_owned(), path: path.unwrap_or_default(), token }
}

/// The client calls, the server answers, the ACK arrives.
#[track_caller]
pub fn call_up(client: &mut WsClient, pbx: &mut SipConnection) -> Call {
    let sent = request("INVITE", "sip:bob@example.com");
    client.send(&sent);
    client.expect_status(100);
    let arrived = pbx.expect("INVITE");
    let answer = arrived.respond(200, "OK").with("Contact", &format!("<sip:bob@{}>", pbx.local()));
    pbx.send(&answer);
    let mut dialog = Dialog::of_caller(&sent, &client.expect_status(200));
    client.send(&dialog.request("ACK"));
    pbx.expect("ACK");
    let server = Dialog::of_callee(&arrived, &answer, &pbx.via());
    Call { client: dialog, server, sent, arrived }
}

/// The server calls a registered client, the client answers, the ACK arrives.
#[track_caller]
pub fn call_down(client: &mut WsClient, pbx: &mut SipConnection, registered: &Registered) -> Call {
    let sent = pbx.request("INVITE", &registered.contact).on_top("Route", &registered.path);
    pbx.send(&sent);
    pbx.expect_status(100);
    let arrived = client.expect("INVITE");
    let answer = arrived.respond(200, "OK").with("Contact", &format!("<{}>", registered.contact));
    client.send(&answer);
    let mut dialog = Dialog::of_caller(&sent, &pbx.expect_status(200));
    pbx.send(&dialog.request("ACK"));
    client.expect("ACK");
    let client = Dialog::of_callee(&arrived, &answer, "SIP/2.0/WS callee.invalid");
    Call { client, server: dialog, sent, arrived }
}
