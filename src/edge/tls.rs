//! TLS for wss and for SIP: certificates from PEM files, or one made at start; re-read when the files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::TlsVersion;
use crate::error::{Error, Kind};

/// The cryptography, named at every use: a library installs no process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

const SINCE_1_3: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
const SINCE_1_2: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

const fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V1_3 => const { &SINCE_1_3 },
        TlsVersion::V1_2 => const { &SINCE_1_2 },
    }
}

/// A chain and its key, in PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Identity {
    /// The two paths of a configuration, which checked that there are both or neither.
    pub fn of(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<Identity> {
        Some(Identity { certificate: certificate?.clone(), key: key?.clone() })
    }

    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        Ok((read_certificates(&self.certificate)?, read_key(&self.key)?))
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.certificate, &self.key].map(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok())
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| Error::new(Kind::Tls, format!("{}: {e}", path.display())))
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| Error::new(Kind::Tls, format!("{}: {e}", path.display())))
}

/// The server side's TLS, exchangeable while connections run: each keeps what it began with.
#[derive(Debug)]
pub struct ServerTls {
    current: ArcSwap<ServerConfig>,
    min: TlsVersion,
    identity: Mutex<(Option<Identity>, [Option<SystemTime>; 2])>,
}

impl ServerTls {
    /// From `identity`, or with a self-signed certificate for localhost.
    pub fn new(identity: Option<Identity>, min: TlsVersion) -> Result<ServerTls, Error> {
        let seen = identity.as_ref().map_or([None, None], Identity::changed);
        let config = server_config(identity.as_ref(), min)?;
        Ok(ServerTls { current: ArcSwap::from_pointee(config), min, identity: Mutex::new((identity, seen)) })
    }

    /// What a connection that begins now uses.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Re-reads the files if they have changed. `Ok(true)`: new connections get the new certificate. On an error the
    /// old one stays, and the next call tries again.
    pub fn refresh(&self) -> Result<bool, Error> {
        let mut identity = self.identity.lock();
        let (Some(files), seen) = &mut *identity else {
            return Ok(false);
        };
        let now = files.changed();
        if now == *seen {
            return Ok(false);
        }
        self.current.store(Arc::new(server_config(Some(files), self.min)?));
        *seen = now;
        Ok(true)
    }
}

fn server_config(identity: Option<&Identity>, min: TlsVersion) -> Result<ServerConfig, Error> {
    let (chain, key) = match identity {
        Some(files) => files.load()?,
        None => self_signed()?,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(min))
        .map_err(|e| Error::new(Kind::Tls, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| match identity {
            Some(files) => {
                Error::new(Kind::Tls, format!("{} and {}: {e}", files.certificate.display(), files.key.display()))
            }
            None => Error::new(Kind::Tls, e.to_string()),
        })?;
    // Tickets instead of a cache: a client that comes back pays half, and the server remembers nothing.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|e| Error::new(Kind::Tls, e.to_string()))?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

fn self_signed() -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])
        .map_err(|e| Error::new(Kind::Tls, format!("self-signed certificate: {e}")))?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|e| Error::new(Kind::Tls, format!("self-signed certificate: {e}")))?;
    Ok((vec![made.cert.der().clone()], key))
}

/// TLS towards SIP servers: certificates are verified, against `ca` or else the system's roots; `identity` is shown
/// to a server that asks for a client certificate.
pub fn client_config(ca: Option<&Path>, identity: Option<&Identity>) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let certificates = read_certificates(path)?;
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(Error::new(Kind::Tls, format!("{}: no certificate in it", path.display())));
            }
        }
        None => {
            let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if added == 0 {
                return Err(Error::new(
                    Kind::Tls,
                    "no trusted root certificates on this system: install ca-certificates, or set sip.ca".to_owned(),
                ));
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(provider())
        // SIP servers are slower to move than browsers.
        .with_protocol_versions(versions(TlsVersion::V1_2))
        .map_err(|e| Error::new(Kind::Tls, e.to_string()))?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(files) => {
            let (chain, key) = files.load()?;
            builder.with_client_auth_cert(chain, key).map_err(|e| {
                Error::new(Kind::Tls, format!("{} and {}: {e}", files.certificate.display(), files.key.display()))
            })
        }
    }
}
