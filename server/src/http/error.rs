//! Why a request is refused.

use std::fmt;

use ::http::StatusCode;

/// Why a request is refused: one variant per rule. All of them end the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseError {
    /// The first bytes are a TLS handshake: the client speaks HTTPS to a plain port.
    Tls,
    /// A line ends in LF without CR (RFC 9112, 2.2 lets a server take it; we don't, since proxies differ).
    BareLf,
    /// More than one empty line, or something that is no method, before the request line (RFC 9112, 2.2 and 3).
    NotARequest,
    /// The request line is not `method SP target SP version` (RFC 9112, 3); HTTP/0.9 is one such.
    RequestLine,
    /// The method is not a token (RFC 9110, 9.1).
    Method,
    /// The version is not `HTTP/` digit `.` digit (RFC 9112, 2.3).
    Version,
    /// A version other than 1.x, the preface of HTTP/2 included (RFC 9110, 15.6.6).
    VersionNotSupported,
    /// A byte in the target that no URI may hold (RFC 9112, 3.2).
    TargetByte,
    /// The target has none of the four forms, or one that the method does not allow (RFC 9112, 3.2).
    TargetForm,
    /// The request line is longer than `limit_request_line` (RFC 9112, 3).
    RequestLineTooLong,
    /// There are more fields than `limit_request_fields` (RFC 6585, 5).
    TooManyFields,
    /// A field is longer than `limit_request_field_size`, or the whole head is too large (RFC 6585, 5).
    FieldTooLarge,
    /// A field line starts with white space: obsolete line folding (RFC 9112, 5.2).
    ObsFold,
    /// A field name is empty, not a token, or white space stands before its colon (RFC 9112, 5.1).
    FieldName,
    /// A field value holds a control character: NUL, bare CR, … (RFC 9110, 5.5).
    FieldValue,
    /// An HTTP/1.1 request without `Host` (RFC 9112, 3.2).
    HostMissing,
    /// More than one `Host`, even if they are equal (RFC 9112, 3.2).
    HostRepeated,
    /// `Host` is not a host with an optional port (RFC 9112, 3.2).
    HostInvalid,
    /// `Content-Length` is not a number of digits, too large, or differs between copies (RFC 9112, 6.3).
    ContentLength,
    /// `Transfer-Encoding` is malformed, or `chunked` is not last or not alone of its name (RFC 9112, 6.1 and 6.3).
    TransferEncoding,
    /// A transfer coding other than `chunked` (RFC 9112, 6.1).
    TransferCodingUnknown,
    /// `Transfer-Encoding` and `Content-Length` (RFC 9112, 6.1 and 6.3).
    TransferEncodingWithLength,
    /// `Transfer-Encoding` in HTTP/1.0 (RFC 9112, 6.1).
    TransferEncodingInOld,
    /// An expectation other than `100-continue` (RFC 9110, 10.1.1).
    Expectation,
    /// The announced body is larger than `limit_request_body` (RFC 9110, 15.5.14).
    BodyTooLarge,
    /// The client closed its side inside a head (RFC 9112, 8).
    Incomplete,
    /// The first byte, `modifier1`, is not that of a request by the uwsgi protocol.
    Packet,
    /// A variable's length leads beyond the end of its uwsgi packet.
    VariableLength,
    /// A uwsgi variable's name is empty or not printable ASCII.
    VariableName,
    /// A uwsgi variable's value holds NUL.
    VariableValue,
    /// A uwsgi packet without `REQUEST_METHOD`, or with neither `REQUEST_URI` nor `PATH_INFO`.
    VariableMissing,
    /// A uwsgi packet of a chunked request without `CONTENT_LENGTH`, the only framing that the protocol has (RFC 9110,
    /// 15.5.12).
    LengthMissing,
}

impl ParseError {
    /// The status to answer with.
    pub fn status(self) -> StatusCode {
        match self {
            ParseError::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            ParseError::RequestLineTooLong => StatusCode::URI_TOO_LONG,
            ParseError::TooManyFields | ParseError::FieldTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            ParseError::TransferCodingUnknown => StatusCode::NOT_IMPLEMENTED,
            ParseError::Expectation => StatusCode::EXPECTATION_FAILED,
            ParseError::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ParseError::LengthMissing => StatusCode::LENGTH_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What is wrong, in words fit for the client and for a log.
    pub fn reason(self) -> &'static str {
        match self {
            ParseError::Tls => "a TLS handshake on a port that speaks plain HTTP",
            ParseError::BareLf => "a line ends in LF without CR",
            ParseError::NotARequest => "what came does not start like a request",
            ParseError::RequestLine => "the request line is not method, target and version",
            ParseError::Method => "the method is not a token",
            ParseError::Version => "the version is malformed",
            ParseError::VersionNotSupported => "only HTTP/1.0 and HTTP/1.1 are spoken here",
            ParseError::TargetByte => "the request target holds a byte that must be percent-encoded",
            ParseError::TargetForm => "the request target has no form that its method allows",
            ParseError::RequestLineTooLong => "the request line is too long",
            ParseError::TooManyFields => "there are too many header fields",
            ParseError::FieldTooLarge => "a header field or the whole head is too large",
            ParseError::ObsFold => "a header field is folded over two lines",
            ParseError::FieldName => "a header field has no valid name",
            ParseError::FieldValue => "a header field's value holds a control character",
            ParseError::HostMissing => "there is no Host",
            ParseError::HostRepeated => "there is more than one Host",
            ParseError::HostInvalid => "Host is not a host with an optional port",
            ParseError::ContentLength => "Content-Length is not one number",
            ParseError::TransferEncoding => "Transfer-Encoding is malformed or does not end in chunked",
            ParseError::TransferCodingUnknown => "the only transfer coding known here is chunked",
            ParseError::TransferEncodingWithLength => "both Transfer-Encoding and Content-Length",
            ParseError::TransferEncodingInOld => "Transfer-Encoding in HTTP/1.0",
            ParseError::Expectation => "the only expectation known here is 100-continue",
            ParseError::BodyTooLarge => "the request body is too large",
            ParseError::Incomplete => "the connection ended inside a request head",
            ParseError::Packet => "what came is no request by the uwsgi protocol, with modifier1 0",
            ParseError::VariableLength => "a variable's length leads beyond the end of its uwsgi packet",
            ParseError::VariableName => "a uwsgi variable's name is empty or not printable ASCII",
            ParseError::VariableValue => "a uwsgi variable's value holds NUL",
            ParseError::VariableMissing => {
                "the uwsgi packet lacks REQUEST_METHOD or REQUEST_URI: does the front server include uwsgi_params?"
            }
            ParseError::LengthMissing => "the front server sends a chunked body without its CONTENT_LENGTH",
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ParseError {}
