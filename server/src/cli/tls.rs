//! TLS as the settings ask for it.

use std::io;
use std::path::PathBuf;

use crate::config::Config;
use crate::{Protocol, Server};

#[cfg(feature = "tls")]
pub(super) use crate::tls::TlsConfig;

/// There is none in a program that was built without TLS.
#[cfg(not(feature = "tls"))]
#[derive(Clone)]
pub(super) enum TlsConfig {}

/// What TLS is spoken with, if it is.
pub(super) fn load(config: &Config) -> io::Result<Option<TlsConfig>> {
    let Config { certfile, keyfile, .. } = config;
    if certfile.is_empty() && keyfile.is_empty() {
        return Ok(None);
    }
    if config.protocol == Protocol::Uwsgi {
        let what = "a --certfile is of no use with --protocol uwsgi, which is spoken without TLS: leave one of them out";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // Without any, each key lies with its certificate.
    let keyfile = if keyfile.is_empty() { certfile } else { keyfile };
    if certfile.len() != keyfile.len() {
        let what = format!(
            "there are {} certfiles and {} keyfiles: give a --keyfile for each --certfile, in the same order",
            certfile.len(),
            keyfile.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    read(config, &mut certfile.iter().zip(keyfile)).map(Some)
}

type Pairs<'p, 'c> = &'p mut dyn Iterator<Item = (&'c PathBuf, &'c PathBuf)>;

#[cfg(feature = "tls")]
fn read(config: &Config, pairs: Pairs<'_, '_>) -> io::Result<TlsConfig> {
    use crate::tls::TlsFiles;

    // There is at least one.
    let (certfile, keyfile) = pairs.next().ok_or(io::ErrorKind::InvalidInput)?;
    let first =
        TlsFiles::new(certfile, keyfile).cert_reqs(config.cert_reqs).min_version(config.tls_min_version);
    let files = pairs.fold(first, |files, (certfile, keyfile)| files.and(certfile, keyfile));
    match &config.ca_certs {
        Some(roots) => files.ca_certs(roots),
        None => files,
    }
    .load()
}

#[cfg(not(feature = "tls"))]
fn read(_config: &Config, _pairs: Pairs<'_, '_>) -> io::Result<TlsConfig> {
    let what = "--certfile was given, but this program was built without TLS: build it with --features tls";
    Err(io::Error::new(io::ErrorKind::Unsupported, what))
}

/// Has all addresses of the server speak it, if it is spoken.
#[cfg(feature = "tls")]
pub(super) fn speak(server: Server, tls: Option<&TlsConfig>) -> Server {
    match tls {
        Some(tls) => server.tls(tls),
        None => server,
    }
}

#[cfg(not(feature = "tls"))]
pub(super) fn speak(server: Server, tls: Option<&TlsConfig>) -> Server {
    match tls {
        Some(tls) => match *tls {},
        None => server,
    }
}

/// Reads certificates and keys again.
pub(super) fn reload(tls: &TlsConfig) {
    #[cfg(feature = "tls")]
    match tls.reload() {
        Ok(()) => log::info!("The certificates were read again"),
        Err(error) => {
            log::error!("The certificates stay as they are, for the new ones are of no use: {error}")
        }
    }
    #[cfg(not(feature = "tls"))]
    match *tls {}
}
