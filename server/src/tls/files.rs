//! Certificates, keys and roots from PEM files. Errors name the setting, the file and the remedy.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientCertVerifierBuilder, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::TlsConfig;
use super::names::ByName;
use crate::app::TlsVersion;
pub use crate::config::CertReqs;

/// Where certificates lie, and what is asked of clients. The names are gunicorn's settings.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pairs: Vec<Pair>,
    ca_certs: Option<PathBuf>,
    cert_reqs: CertReqs,
    min_version: TlsVersion,
}

#[derive(Debug, Clone)]
struct Pair {
    certfile: PathBuf,
    keyfile: PathBuf,
}

impl TlsFiles {
    /// A certificate with those that lead to its root, its own first, and its private key (PKCS #8, PKCS #1 or SEC 1, not
    /// encrypted), both in PEM. They may be one file. TLS 1.2 and 1.3; clients are not asked for certificates.
    pub fn new(certfile: impl Into<PathBuf>, keyfile: impl Into<PathBuf>) -> TlsFiles {
        TlsFiles {
            pairs: Vec::new(),
            ca_certs: None,
            cert_reqs: CertReqs::None,
            min_version: TlsVersion::V1_2,
        }
        .and(certfile, keyfile)
    }

    /// One more certificate, for the names that stand in it (its subject alternative names; `*.example.com` is understood).
    /// A client gets the first that holds for the name it asks for (SNI), and for any other name the first of all. Two for
    /// the same names may have keys of different kinds, RSA and ECDSA say: a client gets the first that it can use.
    pub fn and(mut self, certfile: impl Into<PathBuf>, keyfile: impl Into<PathBuf>) -> TlsFiles {
        self.pairs.push(Pair { certfile: certfile.into(), keyfile: keyfile.into() });
        self
    }

    /// The roots that clients' certificates must lead to, in PEM.
    pub fn ca_certs(mut self, file: impl Into<PathBuf>) -> TlsFiles {
        self.ca_certs = Some(file.into());
        self
    }

    /// Whether clients are asked for a certificate (not). Needs [`ca_certs`](Self::ca_certs).
    pub fn cert_reqs(mut self, cert_reqs: CertReqs) -> TlsFiles {
        self.cert_reqs = cert_reqs;
        self
    }

    /// The oldest version of TLS that is spoken (1.2).
    pub fn min_version(mut self, version: TlsVersion) -> TlsFiles {
        self.min_version = version;
        self
    }

    /// Reads the files. A key that everybody on this machine may read is worth a warning in the log. Blocks.
    ///
    /// # Errors
    /// What opening a file says; `InvalidData` when one does not hold what it should, or a key is not its certificate's;
    /// `InvalidInput` when clients are to show certificates and nothing says which. They name the setting and the file.
    pub fn load(self) -> io::Result<TlsConfig> {
        TlsConfig::new(move || self.read().map(Arc::new))
    }

    fn read(&self) -> io::Result<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let keys = self.pairs.iter().map(|pair| pair.read(&provider).map(Arc::new));
        let keys = keys.collect::<io::Result<Vec<_>>>()?;
        let versions: &[_] = match self.min_version {
            TlsVersion::V1_2 => rustls::ALL_VERSIONS,
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(io::Error::other)?;
        let builder = match self.verifier(provider)? {
            None => builder.with_no_client_auth(),
            Some(verifier) => {
                let verifier = verifier.build().map_err(|error| {
                    invalid("ca_certs", self.ca_certs.as_deref(), format!("is of no use: {error}"))
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Anew each time: a session of before says nothing of what clients must show now.
        config.ticketer = Ticketer::new().map_err(io::Error::other)?;
        Ok(config)
    }

    /// What checks clients' certificates, if they are asked for any.
    fn verifier(&self, provider: Arc<CryptoProvider>) -> io::Result<Option<ClientCertVerifierBuilder>> {
        let (setting, roots) = ("ca_certs", self.ca_certs.as_deref().map(roots).transpose()?);
        let roots = match (self.cert_reqs, roots) {
            (CertReqs::None, None) => return Ok(None),
            (CertReqs::None, Some(_)) => {
                log::warn!(
                    "{setting} has no effect, since cert_reqs is none: clients are not asked for certificates"
                );
                return Ok(None);
            }
            (reqs, None) => {
                let what = format!(
                    "cert_reqs is {reqs}, but nothing says whose certificates are good: name a PEM file with their roots \
                     in {setting}"
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
            (_, Some(roots)) => roots,
        };
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Some(match self.cert_reqs {
            CertReqs::Required => builder,
            _ => builder.allow_unauthenticated(),
        }))
    }
}

impl Pair {
    fn read(&self, provider: &CryptoProvider) -> io::Result<CertifiedKey> {
        let chain = self.chain()?;
        let key = provider.key_provider.load_private_key(self.key()?).map_err(|error| {
            let what = format!("holds a key of no use ({error}): RSA, ECDSA and Ed25519 keys can be used");
            invalid("keyfile", Some(&self.keyfile), what)
        })?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
            Err(_) => {
                let what = format!(
                    "is not the key of the first certificate in certfile '{}': a server's own certificate stands before \
                     those that lead to its root, and of several files the first keyfile belongs to the first certfile",
                    self.certfile.display()
                );
                Err(invalid("keyfile", Some(&self.keyfile), what))
            }
        }
    }

    fn chain(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let text = open("certfile", &self.certfile)?;
        let chain = certificates("certfile", &self.certfile, &text)?;
        let bad = |error| {
            let what = format!("holds a certificate that can't be made out ({error}): have it issued again");
            invalid("certfile", Some(&self.certfile), what)
        };
        match chain.first() {
            Some(own) => ParsedCertificate::try_from(own).map(drop).map_err(bad)?,
            None if text.windows(12).any(|part| part == b"PRIVATE KEY-") => {
                let what = "holds a private key and no certificate: have certfile and keyfile been swapped?";
                return Err(invalid("certfile", Some(&self.certfile), what));
            }
            None => {
                let what = "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----; \
                            openssl x509 -inform DER -in OLD -out NEW makes it from DER";
                return Err(invalid("certfile", Some(&self.certfile), what));
            }
        }
        Ok(chain)
    }

    fn key(&self) -> io::Result<PrivateKeyDer<'static>> {
        let (setting, path) = ("keyfile", Some(self.keyfile.as_path()));
        let text = open(setting, &self.keyfile)?;
        warn_if_public(&self.keyfile);
        let holds = |needle: &[u8]| text.windows(needle.len()).any(|part| part == needle);
        match PrivateKeyDer::from_pem_slice(&text) {
            // The old form of encryption stands in what looks like a key.
            _ if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") => {
                let what = "holds an encrypted key, and there is nobody to ask for its pass phrase: \
                            openssl pkey -in OLD -out NEW decrypts it";
                Err(invalid(setting, path, what))
            }
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) if holds(b"BEGIN CERTIFICATE") => {
                let what = "holds a certificate and no private key: have certfile and keyfile been swapped?";
                Err(invalid(setting, path, what))
            }
            Err(pem::Error::NoItemsFound) => {
                let what =
                    "holds no private key in PEM, which begins with -----BEGIN PRIVATE KEY----- or the like";
                Err(invalid(setting, path, what))
            }
            Err(error) => Err(invalid(setting, path, format!("is no good PEM: {error}"))),
        }
    }
}

fn roots(path: &Path) -> io::Result<RootCertStore> {
    let setting = "ca_certs";
    let mut roots = RootCertStore::empty();
    for certificate in certificates(setting, path, &open(setting, path)?)? {
        let added = roots.add(certificate);
        added.map_err(|error| invalid(setting, Some(path), format!("holds a root of no use: {error}")))?;
    }
    if roots.is_empty() {
        let what = "holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----";
        return Err(invalid(setting, Some(path), what));
    }
    Ok(roots)
}

fn certificates(setting: &str, path: &Path, text: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|error| invalid(setting, Some(path), format!("is no good PEM: {error}")))
}

fn open(setting: &str, path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::PermissionDenied => "let the server's user read it",
            _ => "give the path of a PEM file",
        };
        let what = format!("{setting} '{}' can't be read: {error}; {remedy}", path.display());
        io::Error::new(error.kind(), what)
    })
}

/// Who has the key can be the server.
fn warn_if_public(path: &Path) {
    if fs::metadata(path).is_ok_and(|found| found.mode() & 0o004 != 0) {
        log::warn!(
            "keyfile '{0}' can be read by everybody on this machine: take that away with chmod o-r '{0}'",
            path.display()
        );
    }
}

fn invalid(setting: &str, path: Option<&Path>, what: impl fmt::Display) -> io::Error {
    let path = path.unwrap_or(Path::new("")).display();
    io::Error::new(io::ErrorKind::InvalidData, format!("{setting} '{path}' {what}"))
}
