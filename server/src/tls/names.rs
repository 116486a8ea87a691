//! Which certificate a client gets.

use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// By the name asked for: the first certificate that holds for it, by the rules by which clients check that (RFC 6125;
/// `*.example.com` is one label). For other names, or none, the first of all. Those with a kind of key that the client does
/// not know are passed over.
#[derive(Debug)]
pub(super) struct ByName(pub(super) Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = match self.0.len() {
            1 => None,
            _ => hello.server_name().and_then(|name| ServerName::try_from(name).ok()),
        };
        let named = name.and_then(|name| self.0.iter().filter(usable).find(|key| holds_for(key, &name)));
        named.or_else(|| self.0.iter().find(usable)).cloned()
    }
}

fn holds_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Ok(certificate) = key.end_entity_cert() else { return false };
    ParsedCertificate::try_from(certificate).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}
