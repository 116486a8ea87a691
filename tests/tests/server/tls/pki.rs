//! Certificates for tests.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use greenserve_tests::Scratch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, WantsVerifier,
};

/// Issues certificates, and keeps them in a folder.
pub(super) struct Authority {
    pub(super) scratch: Scratch,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key.
pub(super) struct Identity {
    pub(super) certfile: PathBuf,
    pub(super) keyfile: PathBuf,
    pub(super) certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Identity {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.clone()).unwrap()
    }
}

impl Authority {
    pub(super) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // A certificate named as its issuer would pass for its own.
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Authority { scratch: Scratch::new(), issuer }
    }

    pub(super) fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let file = names.concat().replace('*', "any");
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        let key = key.serialize_der();
        let certfile = self.scratch.write(&format!("{file}.cert"), pem("CERTIFICATE", &certificate));
        let keyfile = self.scratch.write(&format!("{file}.key"), pem("PRIVATE KEY", &key));
        private(&keyfile);
        Identity { certfile, keyfile, certificate, key }
    }

    /// The root as a file.
    pub(super) fn root(&self) -> PathBuf {
        self.scratch.write("root.pem", pem("CERTIFICATE", self.issuer.der()))
    }

    /// A client that trusts this authority.
    pub(super) fn client(&self) -> ClientConfig {
        self.trusted(rustls::ALL_VERSIONS).with_no_client_auth()
    }

    pub(super) fn client_of_version(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
        self.trusted(&[version]).with_no_client_auth()
    }

    /// One that shows who it is.
    pub(super) fn client_as(&self, identity: &Identity) -> ClientConfig {
        let chain = vec![identity.certificate.clone()];
        self.trusted(rustls::ALL_VERSIONS).with_client_auth_cert(chain, identity.key()).unwrap()
    }

    fn trusted(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        builder(versions).with_root_certificates(roots)
    }
}

fn builder(versions: &[&'static SupportedProtocolVersion]) -> ConfigBuilder<ClientConfig, WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap()
}

/// A client that takes any certificate, to see which one it gets.
pub(super) fn curious() -> ClientConfig {
    let verifier = Arc::new(Anything);
    builder(rustls::ALL_VERSIONS).dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

pub(super) fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", BASE64_STANDARD.encode(der))
}

/// Takes everybody else's right to read away.
pub(super) fn private(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
