//! wss through real sockets: which TLS is spoken, which certificate is shown, and what happens when its files change.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::TcpStream;
use std::sync::Arc;

use common::{
    Authority, DEADLINE, Edge, Handshake, Issued, Scratch, Trust, WsClient, bridged, config, request, start,
    start_with, unchecked_client_config, wait_until,
};
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use sipws::edge::tls::Identity;
use sipws::{Kind, Setup};

const WSS: &str = "listen = [{ url = \"wss://127.0.0.1:0/\" }]";

/// A configuration with the certificate in the two files.
fn with_files(certificate: &str, key: &str) -> String {
    format!("{WSS}\ntls.certificate = \"{certificate}\"\ntls.key = \"{key}\"\n")
}

/// A TLS client that speaks only these versions and believes `root`.
fn client(versions: &[&'static SupportedProtocolVersion], root: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A client's handshake: the version that is spoken, and the certificate that is shown.
fn shake_hands(edge: &Edge, config: Arc<ClientConfig>) -> std::io::Result<(ProtocolVersion, CertificateDer<'static>)> {
    let mut client = ClientConnection::new(config, "127.0.0.1".try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(edge.websocket_address(0))?;
    socket.set_read_timeout(Some(DEADLINE))?;
    while client.is_handshaking() {
        client.complete_io(&mut socket)?;
    }
    Ok((client.protocol_version().unwrap(), client.peer_certificates().unwrap()[0].clone().into_owned()))
}

fn issue(scratch: &Scratch, authority: &Authority) -> (Issued, String, String) {
    let issued = authority.issue("127.0.0.1");
    let (certificate, key) = (scratch.file("cert.pem", &issued.pem), scratch.file("key.pem", &issued.key_pem));
    (issued, certificate, key)
}

/// Whether a client that believes only `authority` gets a WebSocket.
fn opens(edge: &Edge, authority: &Authority) -> Option<WsClient> {
    let handshake = Handshake::default().trust(Trust::Root(authority.root()));
    WsClient::try_open(&edge.websocket_urls()[0], &handshake).ok().map(|client| client.expect("a 101"))
}

fn is_served(edge: &Edge, client: &mut WsClient) {
    client.send(&request("OPTIONS", &format!("sip:{}", edge.sip_authority())));
    client.expect_status(200);
}

#[test]
fn nothing_below_tls_1_3_is_spoken_by_default() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let (issued, certificate, key) = issue(&scratch, &authority);
    let edge = start(&with_files(&certificate, &key));
    let refusal = shake_hands(&edge, client(&[&TLS12], &authority.root())).unwrap_err();
    assert!(refusal.to_string().contains("ProtocolVersion"), "{refusal}");
    edge.wait_metric("sipws_handshakes_total{outcome=\"tls\"}", 1);
    let (version, shown) = shake_hands(&edge, client(&[&TLS12, &TLS13], &authority.root())).unwrap();
    assert_eq!((version, shown), (ProtocolVersion::TLSv1_3, issued.certificate));
}

#[test]
fn tls_1_2_is_spoken_where_the_configuration_says_so() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let (_, certificate, key) = issue(&scratch, &authority);
    let edge = start(&format!("{}tls.min_version = \"1.2\"", with_files(&certificate, &key)));
    for (offered, spoken) in [
        (&[&TLS12][..], ProtocolVersion::TLSv1_2),
        (&[&TLS12, &TLS13], ProtocolVersion::TLSv1_3),
        (&[&TLS13], ProtocolVersion::TLSv1_3),
    ] {
        assert_eq!(shake_hands(&edge, client(offered, &authority.root())).unwrap().0, spoken);
    }
}

#[test]
fn without_a_certificate_one_is_made_for_this_host() {
    let (edge, another) = (start(WSS), start(WSS));
    let shown = |edge| shake_hands(edge, unchecked_client_config()).unwrap().1;
    // What it shows to a client that asks no questions is what another may be told to trust.
    let believing = Handshake::default().trust(Trust::Root(shown(&edge)));
    let mut client = WsClient::try_open(&edge.websocket_urls()[0], &believing).unwrap().unwrap();
    is_served(&edge, &mut client);
    assert!(opens(&edge, &Authority::new()).is_none(), "nobody signed it");
    assert_eq!(shown(&edge), shown(&edge));
    assert_ne!(shown(&edge), shown(&another), "each makes its own");
}

#[test]
fn messages_pass_over_wss_in_both_directions() {
    let mut b = bridged(WSS);
    assert!(b.edge.websocket_urls()[0].starts_with("wss://"));
    b.edge.wait_metric("sipws_connections{transport=\"wss\"}", 1);
    let body = "x".repeat(40_000);
    b.client.send(&request("MESSAGE", "sip:bob@example.com").body("text/plain", body.as_bytes()));
    let asked = b.pbx.expect("MESSAGE");
    assert_eq!(asked.body, body.as_bytes());
    b.pbx.send(&asked.respond(200, "OK").body("text/plain", body.as_bytes()));
    assert_eq!(b.client.expect_status(200).body, body.as_bytes());

    // The way back to a client is in the Path of its registration.
    b.client.send(&request("REGISTER", "sip:example.com"));
    let register = b.pbx.expect("REGISTER");
    let ask = b.pbx.request("MESSAGE", "sip:alice@phone.invalid").with("Route", register.get("Path"));
    b.pbx.send(&ask.body("text/plain", body.as_bytes()));
    let asked = b.client.expect("MESSAGE");
    assert!(asked.get("Via").starts_with("SIP/2.0/WSS "), "{asked:?}");
    assert_eq!(asked.body, body.as_bytes());
    b.client.send(&asked.respond(200, "OK"));
    b.pbx.expect_status(200);

    b.client.send_close(1000, "");
    assert_eq!(b.client.expect_close().0, Some(1000));
    b.edge.wait_metric("sipws_connections{transport=\"wss\"}", 0);
}

#[test]
fn a_changed_certificate_is_for_new_connections_and_running_ones_go_on() {
    let (scratch, old, new) = (Scratch::new(), Authority::new(), Authority::new());
    let (_, certificate, key) = issue(&scratch, &old);
    let edge = start(&with_files(&certificate, &key));
    let mut early = opens(&edge, &old).expect("a connection");
    assert!(opens(&edge, &new).is_none());
    issue(&scratch, &new);
    // Nobody tells it.
    wait_until("the new certificate is in use", || opens(&edge, &new).is_some());
    assert!(opens(&edge, &old).is_none());
    is_served(&edge, &mut early);
}

#[test]
fn files_that_cannot_be_used_leave_the_old_certificate_in_use() {
    let (scratch, old, new) = (Scratch::new(), Authority::new(), Authority::new());
    let (_, certificate, key) = issue(&scratch, &old);
    let toml = with_files(&certificate, &key);
    let edge = start(&toml);
    let mut early = opens(&edge, &old).expect("a connection");
    let next = new.issue("127.0.0.1");
    // Cut short, garbage, gone, and a certificate that is not the key's.
    for (name, broken) in [
        ("cert.pem", Some(&next.pem[..next.pem.len() / 2])),
        ("cert.pem", Some("no PEM")),
        ("cert.pem", None),
        ("cert.pem", Some(next.pem.as_str())),
    ] {
        match broken {
            Some(text) => drop(scratch.file(name, text)),
            None => std::fs::remove_file(&certificate).unwrap(),
        }
        let refusal = edge.reload(config(&toml)).expect_err("it cannot be used");
        assert!(refusal.to_string().contains(&certificate), "{refusal}");
        assert!(opens(&edge, &old).is_some() && opens(&edge, &new).is_none(), "{broken:?}");
    }
    // The key that belongs to it comes at last.
    scratch.file("key.pem", &next.key_pem);
    assert_eq!(edge.reload(config(&toml)).unwrap(), Vec::<String>::new());
    assert!(opens(&edge, &new).is_some() && opens(&edge, &old).is_none());
    is_served(&edge, &mut early);
}

#[test]
fn a_server_does_not_start_with_a_certificate_that_cannot_be_used() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let (_, certificate, key) = issue(&scratch, &authority);
    let foreign = scratch.file("foreign.pem", &authority.issue("127.0.0.1").key_pem);
    let missing = format!("{key}.no");
    for (key, named) in [(&foreign, &foreign), (&missing, &missing), (&certificate, &certificate)] {
        let error = sipws::Server::start(config(&with_files(&certificate, key))).err().expect("no server");
        assert_eq!((error.kind(), error.side()), (sipws::Kind::Tls, sipws::Side::Downstream));
        assert!(error.to_string().contains(named.as_str()), "{error}");
    }
}

#[test]
fn a_hosts_certificate_comes_from_memory() {
    let authority = Authority::new();
    let issued = authority.issue("127.0.0.1");
    let pem = |chain: &str, key: &str| Identity::pem(chain.as_bytes().to_vec(), key.as_bytes().to_vec());
    let identity = pem(&issued.pem, &issued.key_pem);
    assert!(identity.check().is_ok());
    assert!(!format!("{identity:?}").contains("KEY"), "{identity:?}");
    let edge = start_with(WSS, |setup| setup.identity(identity));
    let (version, shown) = shake_hands(&edge, client(&[&TLS12, &TLS13], &authority.root())).unwrap();
    assert_eq!((version, shown), (ProtocolVersion::TLSv1_3, issued.certificate.clone()));

    let other = authority.issue("127.0.0.1");
    for (chain, key, says) in [
        ("", &issued.key_pem[..], "the certificate chain: no PEM certificate in it"),
        (&issued.pem, "", "the private key: "),
        (&issued.pem, &other.key_pem, "the certificate chain and the private key: "),
    ] {
        let error = pem(chain, key).check().unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
        let error = Setup::new(config(WSS)).identity(pem(chain, key)).start().err().unwrap();
        assert_eq!(error.kind(), Kind::Tls);
    }
}
