//! Are the files that the configuration names there, readable, and what they should be? Before anything is started, and
//! again before a reload.

use super::Config;
use super::errors::{ConfigError, ConfigErrors};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;

/// See [`Config::check_files`].
pub(super) fn check(config: &Config) -> Result<(), ConfigErrors> {
    let mut errors = Vec::new();
    for (section, certificate, key) in
        [("tls", &config.tls.certificate, &config.tls.key), ("sip", &config.sip.certificate, &config.sip.key)]
    {
        let certificates = certificate.as_deref().map(certificates);
        let private_key = key.as_deref().map(private_key);
        match (certificates, private_key) {
            (Some(Ok(certificates)), Some(Ok(key))) => {
                let provider = rustls::crypto::aws_lc_rs::default_provider();
                if let Err(error) = CertifiedKey::from_der(certificates, key, &provider) {
                    errors.push(ConfigError::new(format!("{section}.key"), mismatch(&error, section)));
                }
            }
            (certificates, key) => {
                if let Some(Err(why)) = certificates {
                    errors.push(ConfigError::new(format!("{section}.certificate"), why));
                }
                if let Some(Err(why)) = key {
                    errors.push(ConfigError::new(format!("{section}.key"), why));
                }
            }
        }
    }
    for (key, ca) in [("sip.ca", &config.sip.ca), ("client.ca", &config.client.ca)] {
        if let Some(Err(why)) = ca.as_deref().map(certificates) {
            errors.push(ConfigError::new(key, why));
        }
    }
    if let Some(pages) = &config.admin.pages
        && let Err(error) = std::fs::read_dir(pages)
    {
        errors.push(ConfigError::new("admin.pages", format!("{}: {error}", pages.display())));
    }
    ConfigErrors::none_of(errors)
}

fn mismatch(error: &rustls::Error, section: &str) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("does not belong to the first certificate of {section}.certificate")
        }
        other => other.to_string(),
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates: Vec<_> = read.map_err(|error| unreadable(path, &error))?;
    if certificates.is_empty() {
        return Err(format!("{}: no PEM certificate (-----BEGIN CERTIFICATE-----) in it", path.display()));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            format!("{}: no PEM private key (-----BEGIN PRIVATE KEY-----) in it", path.display())
        }
        error => unreadable(path, &error),
    })
}

fn unreadable(path: &Path, error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) => format!("{}: {error}", path.display()),
        error => format!("{}: {error}", path.display()),
    }
}
