//! REGISTER: Path for registrars that know it (RFC 3327), another contact for those that don't.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::*;

const REWRITE: &str = "sip.registration = \"rewrite\"";

#[test]
fn a_registration_gets_our_path_and_says_that_path_is_supported() {
    let mut b = bridged("");
    let sent = request("REGISTER", "sip:example.com").with("Supported", "outbound");
    b.client.send(&sent);
    let got = b.pbx.expect("REGISTER");
    let path = got.get("Path").to_owned();
    let own = b.edge.sip_authority();
    let token = path.split(['@', ':']).nth(1).unwrap().to_owned();
    assert_eq!(path, format!("<sip:{token}@{own};transport=tcp;lr;ob>"));
    assert!(token.len() >= 36 && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{token}");
    assert_eq!(got.all("Supported").iter().filter(|s| *s == "path").count(), 1);
    assert!(got.all("Supported").contains(&"outbound".to_owned()));
    assert_eq!(got.get("Contact"), sent.get("Contact"), "the contact is the client's own");
    assert_eq!(got.all("Record-Route"), [""; 0]);
}

#[test]
fn supported_path_is_not_said_twice() {
    let mut b = bridged("");
    b.client.send(&request("REGISTER", "sip:example.com").with("k", "gruu, Path"));
    assert_eq!(b.pbx.expect("REGISTER").all("Supported"), ["gruu", "Path"]);
}

#[test]
fn a_flow_has_one_token_and_another_flow_another() {
    let mut b = bridged("");
    let first = register(&mut b.client, &mut b.pbx).token;
    assert_eq!(register(&mut b.client, &mut b.pbx).token, first);
    let mut other = WsClient::open(&b.edge);
    assert_ne!(register(&mut other, &mut b.pbx).token, first);
}

#[test]
fn a_path_of_others_stays_behind_ours() {
    let mut b = bridged("");
    b.client.send(&request("REGISTER", "sip:example.com").with("Path", "<sip:before.example.com;lr>"));
    let paths = b.pbx.expect("REGISTER").all("Path");
    assert_eq!(paths.len(), 2);
    assert!(paths[0].contains(&b.edge.sip_authority()));
    assert_eq!(paths[1], "<sip:before.example.com;lr>");
}

#[test]
fn a_registrar_that_ignores_the_path_is_counted_and_one_that_takes_it_is_not() {
    let mut b = bridged("");
    register(&mut b.client, &mut b.pbx);
    assert_eq!(b.edge.metric("sipws_path_ignored_total"), 0);
    for n in 1..=2 {
        b.client.send(&request("REGISTER", "sip:example.com"));
        let got = b.pbx.expect("REGISTER");
        b.pbx.send(&got.respond(200, "OK").with("Contact", got.get("Contact")));
        b.client.expect_status(200);
        assert_eq!(b.edge.metric("sipws_path_ignored_total"), n);
    }
    // Nothing is registered by an unregistration, or by a failure.
    for (status, reason) in [(200, "OK"), (403, "Forbidden")] {
        b.client.send(&request("REGISTER", "sip:example.com").set("Contact", "*").with("Expires", "0"));
        let got = b.pbx.expect("REGISTER");
        b.pbx.send(&got.respond(status, reason));
        b.client.expect_status(status);
    }
    assert_eq!(b.edge.metric("sipws_path_ignored_total"), 2);
}

#[test]
fn a_rewritten_contact_leads_to_us_and_is_put_back_in_the_2xx() {
    let mut b = bridged(REWRITE);
    let params = ";expires=600;+sip.instance=\"<urn:uuid:1>\";reg-id=1";
    let contact = format!("\"Alice\" <sip:alice@df7jal23ls0d.invalid;transport=ws>{params}");
    b.client.send(&request("REGISTER", "sip:example.com").set("Contact", &contact));
    let got = b.pbx.expect("REGISTER");
    let own = b.edge.sip_authority();
    let uri = uri_of(got.get("Contact")).to_owned();
    let token = uri.split(['@', ':']).nth(1).unwrap().to_owned();
    assert_eq!(uri, format!("sip:{token}@{own};transport=tcp;c=0"));
    assert_eq!(got.get("Contact"), format!("\"Alice\" <{uri}>{params}"));
    assert_eq!(got.header("Path"), None);
    assert_eq!(got.header("Supported"), None);
    b.pbx.send(&got.respond(200, "OK").with("Contact", &format!("<{uri}>;expires=600, <sip:alice@desk.example.com>")));
    let answer = b.client.expect_status(200);
    assert_eq!(
        answer.get("Contact"),
        "<sip:alice@df7jal23ls0d.invalid;transport=ws>;expires=600, <sip:alice@desk.example.com>"
    );
    assert_eq!(b.edge.metric("sipws_path_ignored_total"), 0);

    // And in requests.
    let message = b.pbx.request("MESSAGE", &uri);
    b.pbx.send(&message);
    let got = b.client.expect("MESSAGE");
    assert_eq!(got.uri(), "sip:alice@df7jal23ls0d.invalid;transport=ws");
    b.client.send(&got.respond(200, "OK"));
    b.pbx.expect_status(200);
}

#[test]
fn each_of_several_contacts_is_rewritten_and_found_again() {
    let mut b = bridged(REWRITE);
    let contacts = ["sip:a@one.invalid;transport=ws", "sip:b@two.invalid", "sips:c@three.invalid"];
    b.client.send(
        &request("REGISTER", "sip:example.com")
            .set("Contact", &format!("<{}>;q=0.5, {};q=0.1", contacts[0], contacts[1]))
            .with("m", &format!("<{}>", contacts[2])),
    );
    let got = b.pbx.expect("REGISTER");
    let rewritten = got.all("Contact");
    let uris: Vec<_> = rewritten.iter().map(|c| uri_of(c).to_owned()).collect();
    assert_eq!(uris.len(), 3);
    assert!(uris.iter().all(|u| u.contains(&b.edge.sip_authority())), "{uris:?}");
    assert_eq!(rewritten[1], format!("<{}>;q=0.1", uris[1]), "a bare contact's parameters stay the contact's");
    b.pbx.send(&got.respond(200, "OK").with("Contact", &rewritten[0]).with("Contact", &rewritten[1..].join(",")));
    let shown = b.client.expect_status(200).all("Contact");
    assert_eq!(shown.iter().map(|c| uri_of(c)).collect::<Vec<_>>(), contacts);
    for (uri, contact) in uris.iter().zip(contacts) {
        let message = b.pbx.request("MESSAGE", uri);
        b.pbx.send(&message);
        assert_eq!(b.client.expect("MESSAGE").uri(), contact);
    }
    // The same contact again is the same contact to the registrar.
    b.client.send(&request("REGISTER", "sip:example.com").set("Contact", &format!("<{}>", contacts[1])));
    assert_eq!(uri_of(b.pbx.expect("REGISTER").get("Contact")), uris[1]);
}

#[test]
fn contacts_that_lead_nowhere_through_us_are_left_alone() {
    let mut b = bridged(REWRITE);
    for contact in ["*", "<tel:+15551234>", "<mailto:alice@example.com>"] {
        b.client.send(&request("REGISTER", "sip:example.com").set("Contact", contact).with("Expires", "0"));
        assert_eq!(b.pbx.expect("REGISTER").get("Contact"), contact);
    }
}

#[test]
fn a_clients_other_requests_keep_their_contact_where_registrations_are_rewritten() {
    let mut b = bridged(REWRITE);
    let sent = request("INVITE", "sip:bob@example.com");
    b.client.send(&sent);
    let got = b.pbx.expect("INVITE");
    assert_eq!(got.get("Contact"), sent.get("Contact"));
    assert_eq!(got.all("Record-Route").len(), 2);
}

#[test]
fn another_flows_contact_is_put_back_too() {
    let mut b = bridged(REWRITE);
    let mut other = WsClient::open(&b.edge);
    other.send(&request("REGISTER", "sip:example.com").set("Contact", "<sip:alice@other.invalid>"));
    let others = b.pbx.expect("REGISTER").get("Contact").to_owned();
    b.client.send(&request("REGISTER", "sip:example.com").set("Contact", "<sip:alice@mine.invalid>"));
    let got = b.pbx.expect("REGISTER");
    b.pbx.send(&got.respond(200, "OK").with("Contact", &format!("{}, {others}", got.get("Contact"))));
    let shown = b.client.expect_status(200).all("Contact");
    assert_eq!(shown, ["<sip:alice@mine.invalid>", "<sip:alice@other.invalid>"]);
}

#[test]
fn a_call_to_a_rewritten_contact_runs_through_to_its_end() {
    let mut b = bridged(REWRITE);
    let registered = register(&mut b.client, &mut b.pbx);
    let invite = b.pbx.request("INVITE", &registered.contact);
    b.pbx.send(&invite);
    b.pbx.expect_status(100);
    let got = b.client.expect("INVITE");
    assert!(got.uri().contains(".invalid"), "{got:?}");
    let answer = got.respond(200, "OK").with("Contact", &format!("<{}>", got.uri()));
    b.client.send(&answer);
    let mut dialog = Dialog::of_caller(&invite, &b.pbx.expect_status(200));
    b.pbx.send(&dialog.request("ACK"));
    b.client.expect("ACK");
    b.pbx.send(&dialog.request("BYE"));
    let bye = b.client.expect("BYE");
    b.client.send(&bye.respond(200, "OK"));
    b.pbx.expect_status(200);
}
