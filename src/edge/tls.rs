//! TLS for wss and for SIP, as server and as client: certificates from PEM files, which are read again when they change,
//! from a host's memory, or made at start.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, WantsVerifier,
};

use crate::config::{Client, TlsVersion};
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

/// A certificate chain and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    /// In PEM files, which are looked at again from time to time.
    Files { certificate: PathBuf, key: PathBuf },
    /// In memory, as it is.
    Pem { chain: Vec<u8>, key: Vec<u8> },
}

impl Identity {
    /// From PEM files: the chain, the server's own certificate first, and the private key.
    pub fn files(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Identity {
        Identity(Source::Files { certificate: certificate.into(), key: key.into() })
    }

    /// From PEM texts: the chain, the server's own certificate first, and the private key. [`Identity::check`] says
    /// whether they are.
    pub fn pem(chain: Vec<u8>, key: Vec<u8>) -> Identity {
        Identity(Source::Pem { chain, key })
    }

    /// The two paths of a configuration, which checked that there are both or neither.
    pub fn of(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<Identity> {
        Some(Identity::files(certificate?, key?))
    }

    /// Can it be read, and does the key belong to the certificate? Blocking, where it is in files.
    pub fn check(&self) -> Result<(), Error> {
        let (chain, key) = self.load()?;
        CertifiedKey::from_der(chain, key, &provider()).map(drop).map_err(|e| self.unfit(&e))
    }

    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let wrong = |place: &dyn fmt::Display, e: &dyn fmt::Display| Error::new(Kind::Tls, format!("{place}: {e}"));
        match &self.0 {
            Source::Files { certificate, key } => Ok((
                read_certificates(certificate)?,
                PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(&key.display(), &e))?,
            )),
            Source::Pem { chain, key } => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.map_err(|e| wrong(&"the certificate chain", &e))?;
                if chain.is_empty() {
                    return Err(wrong(&"the certificate chain", &"no PEM certificate in it"));
                }
                Ok((chain, PrivateKeyDer::from_pem_slice(key).map_err(|e| wrong(&"the private key", &e))?))
            }
        }
    }

    /// What is wrong with chain and key together.
    fn unfit(&self, error: &rustls::Error) -> Error {
        let text = match &self.0 {
            Source::Files { certificate, key } => format!("{} and {}: {error}", certificate.display(), key.display()),
            Source::Pem { .. } => format!("the certificate chain and the private key: {error}"),
        };
        Error::new(Kind::Tls, text)
    }

    fn changed(&self) -> [Option<SystemTime>; 2] {
        match &self.0 {
            Source::Files { certificate, key } => {
                [certificate, key].map(|p| std::fs::metadata(p).and_then(|m| m.modified()).ok())
            }
            Source::Pem { .. } => [None, None],
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Files { certificate, key } => {
                write!(f, "Identity({} {})", certificate.display(), key.display())
            }
            // The key is nobody's business.
            Source::Pem { .. } => f.write_str("Identity(in memory)"),
        }
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| Error::new(Kind::Tls, format!("{}: {e}", path.display())))
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
        Some(identity) => identity.load()?,
        None => self_signed()?,
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(min))
        .map_err(|e| Error::new(Kind::Tls, e.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|e| identity.map_or_else(|| Error::new(Kind::Tls, e.to_string()), |identity| identity.unfit(&e)))?;
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

/// TLS towards SIP servers: certificates are verified, against the system's roots and those in `ca`; `identity` is shown
/// to a server that asks for a client certificate.
pub fn client_config(ca: Option<&Path>, identity: Option<&Identity>) -> Result<ClientConfig, Error> {
    // SIP servers are slower to move than browsers.
    let builder = client_builder(TlsVersion::V1_2)?.with_root_certificates(roots(ca, "sip.ca")?);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => {
            let (chain, key) = identity.load()?;
            builder.with_client_auth_cert(chain, key).map_err(|e| identity.unfit(&e))
        }
    }
}

/// TLS towards WebSocket servers, from `[client]`: made when it is first asked for, and then kept.
#[derive(Debug)]
pub struct ClientTls {
    client: Client,
    made: Mutex<Option<Arc<ClientConfig>>>,
}

impl ClientTls {
    /// Reads nothing yet.
    pub fn new(client: &Client) -> ClientTls {
        ClientTls { client: client.clone(), made: Mutex::new(None) }
    }

    /// What a connection that begins now uses. Blocking, the first time: it reads the system's certificates and
    /// `client.ca`. After an error the next call tries again.
    pub fn get(&self) -> Result<Arc<ClientConfig>, Error> {
        let mut made = self.made.lock();
        if let Some(config) = &*made {
            return Ok(config.clone());
        }
        let builder = client_builder(self.client.min_version)?;
        let config = if self.client.verify {
            builder.with_root_certificates(roots(self.client.ca.as_deref(), "client.ca")?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider())))
        };
        Ok(made.insert(Arc::new(config.with_no_client_auth())).clone())
    }
}

fn client_builder(min: TlsVersion) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(min))
        .map_err(|e| Error::new(Kind::Tls, e.to_string()))
}

/// The system's trust anchors, and those in `ca`, which `key` names.
fn roots(ca: Option<&Path>, key: &str) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca
        && roots.add_parsable_certificates(read_certificates(path)?).0 == 0
    {
        return Err(Error::new(Kind::Tls, format!("{}: no certificate in it", path.display())));
    }
    if roots.is_empty() {
        let text = format!("no trusted root certificates on this system: install ca-certificates, or set {key}");
        return Err(Error::new(Kind::Tls, text));
    }
    Ok(roots)
}

/// Believes every certificate (`client.verify = false`); that its owner is there is still proved.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
