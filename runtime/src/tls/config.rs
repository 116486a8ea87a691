//! Configurations from what lies on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};

/// A configuration for clients that trusts what the system trusts: the roots in `SSL_CERT_FILE` and `SSL_CERT_DIR`, else
/// the system's own (`ssl.create_default_context()`). TLS 1.2 and 1.3.
///
/// Reads some hundred certificates, on a thread of the pool, while the greenlet is parked: make one and share it
/// (`Arc`).
///
/// # Errors
/// `NotFound` when the system has no roots.
pub fn client_config() -> io::Result<ClientConfig> {
    let found = crate::unblock(rustls_native_certs::load_native_certs);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "the system has no root certificates to trust{why}: install its ca-certificates, or name a file in \
                 SSL_CERT_FILE"
            ),
        ));
    }
    Ok(trusting(roots))
}

/// A configuration for clients that trusts the certificates of a PEM file and no others
/// (`ssl.create_default_context(cafile=…)`). TLS 1.2 and 1.3. Parks the caller while the file is read.
///
/// # Errors
/// What opening the file says; `InvalidData` when it holds no certificate, or a damaged one. They name the file.
pub fn client_config_trusting(roots: impl AsRef<Path>) -> io::Result<ClientConfig> {
    let path = roots.as_ref().to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in read(&path, certificates)? {
        roots.add(certificate).map_err(|error| bad(&path, &error))?;
    }
    Ok(trusting(roots))
}

/// A configuration for servers: a certificate with those that lead to its root, leaf first, and the certificate's
/// private key (PKCS #8, PKCS #1 or SEC 1), both as PEM files, which may be one
/// (`SSLContext.load_cert_chain`). TLS 1.2 and 1.3; clients need no certificate. Parks the caller while the files are
/// read.
///
/// # Errors
/// What opening the files says; `InvalidData` when one does not hold what it should, or the key is not the
/// certificate's. They name the file.
pub fn server_config(certificates: impl AsRef<Path>, key: impl AsRef<Path>) -> io::Result<ServerConfig> {
    let (chain_path, key_path) = (certificates.as_ref().to_owned(), key.as_ref().to_owned());
    let chain = read(&chain_path, self::certificates)?;
    let key = read(&key_path, |path| PrivateKeyDer::from_pem_file(path))?;
    builder(ServerConfig::builder_with_provider)
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad(&key_path, &error))
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    builder(ClientConfig::builder_with_provider).with_root_certificates(roots).with_no_client_auth()
}

/// With our provider of cryptography, whatever others the program has linked in.
fn builder<S: rustls::ConfigSide>(
    with_provider: impl FnOnce(Arc<rustls::crypto::CryptoProvider>) -> ConfigBuilder<S, rustls::WantsVersions>,
) -> ConfigBuilder<S, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match with_provider(provider).with_safe_default_protocol_versions() {
        Ok(builder) => builder,
        Err(_) => unreachable!("ring's cipher suites serve both protocol versions"),
    }
}

type PemResult<T> = Result<T, rustls::pki_types::pem::Error>;

/// Reads a PEM file beside the hub.
fn read<T: Send + 'static>(
    path: &Path,
    parse: impl FnOnce(&Path) -> PemResult<T> + Send + 'static,
) -> io::Result<T> {
    let owned = PathBuf::from(path);
    crate::unblock(move || parse(&owned)).map_err(|error| match error {
        rustls::pki_types::pem::Error::Io(error) => {
            io::Error::new(error.kind(), format!("cannot read '{}': {error}", path.display()))
        }
        error => bad(path, &error),
    })
}

fn certificates(path: &Path) -> PemResult<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(path)?.collect::<PemResult<Vec<_>>>()?;
    if found.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(found) }
}

fn bad(path: &Path, error: &dyn std::error::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("'{}' is of no use for TLS: {error}", path.display()))
}
