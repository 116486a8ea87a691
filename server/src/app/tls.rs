//! What is known of the TLS connection that a request came over.

use std::fmt;

/// A version of TLS. Older ones than these are not spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// `TLSv1.2`, `TLSv1.3`: the names that OpenSSL, Python and proxies use.
impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        })
    }
}

/// What the handshake has come to: see [`Request::tls`](crate::Request::tls).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsInfo {
    /// The version that is spoken (Python's `SSLSocket.version`).
    pub version: TlsVersion,
    /// The cipher suite by its name in IANA's registry, `TLS_AES_256_GCM_SHA384` say (`SSLSocket.cipher`).
    pub cipher_suite: String,
    /// The name that the client has asked for (SNI; RFC 6066, 3), in lower case. It chose the certificate; what the
    /// request asks for stands in its `Host`, which may be another.
    pub server_name: Option<String>,
    /// The protocol that was agreed on by ALPN (RFC 7301): `http/1.1`, or `None` if the client did not name any.
    pub alpn_protocol: Option<Vec<u8>>,
    /// The client's certificate and those that lead to its root, each as DER (`SSLSocket.getpeercert(True)`). They have
    /// been verified. Empty if the client showed none or was not asked.
    pub client_certificates: Vec<Vec<u8>>,
}
