//! Which fields may stand behind a body (RFC 9110, 6.5.1), and how they are written.

use ::http::HeaderMap;

/// Fields of which a recipient would have needed to know before the body: they concern framing, routing, the connection,
/// the request's conditions, authentication, or how the content is to be read.
const HEAD_ONLY: [&str; 43] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

/// Whether a field of that name, compared without regard to case, may be a trailer.
pub fn may_be_trailer(name: &str) -> bool {
    !HEAD_ONLY.iter().any(|head_only| head_only.eq_ignore_ascii_case(name))
}

/// Appends the last chunk and the trailers that may be such, with the empty line (RFC 9112, 7.1.2).
pub fn encode_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_be_trailer(name.as_str()) {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9110_6_5_1_what_a_recipient_must_know_before_is_no_trailer() {
        for name in
            ["Content-Length", "transfer-encoding", "HOST", "Authorization", "set-cookie", "Content-Type"]
        {
            assert!(!may_be_trailer(name), "{name}");
        }
        for name in ["x-checksum", "Server-Timing", "grpc-status", "etag", "Digest"] {
            assert!(may_be_trailer(name), "{name}");
        }
    }

    #[test]
    fn rfc9112_7_1_2_trailers_stand_between_the_last_chunk_and_the_empty_line() {
        let mut out = Vec::new();
        encode_last_chunk(&mut out, None);
        assert_eq!(out, b"0\r\n\r\n");
        let mut trailers = HeaderMap::new();
        trailers.append("x-sum", "1".parse().unwrap());
        trailers.append("host", "h".parse().unwrap());
        trailers.append("x-sum", "2".parse().unwrap());
        out.clear();
        encode_last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\n");
    }
}
