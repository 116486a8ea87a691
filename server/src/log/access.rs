//! The access log: gunicorn's format, compiled once, and the line it makes of a request.

use std::cell::Cell;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use ::http::HeaderName;
use base64::Engine as _;

use super::context::known_request_id;
use super::json::Object;
use super::syslog::Envelope;
use super::{Sink, clock};
use crate::serve::{AccessLog, Exchange};

/// An access log that writes a line for each request.
#[derive(Debug)]
pub struct FormattedLog {
    sink: Option<Arc<Sink>>,
    syslog: Option<(Arc<Sink>, Envelope)>,
    format: AccessFormat,
}

thread_local! {
    static LINE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl FormattedLog {
    /// An access log of that format to `sink`.
    pub fn new(sink: impl Into<Arc<Sink>>, format: AccessFormat) -> Self {
        Self { sink: Some(sink.into()), syslog: None, format }
    }

    /// One that has lines sent to a [syslog daemon](Sink::syslog), too, or only there.
    pub fn of(sink: Option<Arc<Sink>>, syslog: Option<(Arc<Sink>, Envelope)>, format: AccessFormat) -> Self {
        Self { sink, syslog, format }
    }

    fn sinks(&self) -> impl Iterator<Item = &Arc<Sink>> {
        self.sink.iter().chain(self.syslog.as_ref().map(|(sink, _)| sink))
    }

    /// See [`Sink::start`].
    ///
    /// # Errors
    /// As there.
    pub fn start(&self) -> io::Result<()> {
        self.sinks().try_for_each(|sink| sink.start())
    }

    /// See [`Sink::reopen`].
    pub fn reopen(&self) {
        self.sinks().for_each(|sink| sink.reopen());
    }

    /// Waits until all lines are written, but for each sink no longer than `patience`. Blocks the OS thread. Says whether all are.
    pub fn flush(&self, patience: Duration) -> bool {
        self.sinks().filter(|sink| !sink.flush(patience)).count() == 0
    }
}

/// So that whoever set it up can still flush it.
impl AccessLog for Arc<FormattedLog> {
    fn log(&self, exchange: &Exchange<'_>) {
        FormattedLog::log(self, exchange);
    }
}

impl AccessLog for FormattedLog {
    /// Queues the line of one request. Does not wait and, apart from a user name to decode, does not allocate.
    fn log(&self, exchange: &Exchange<'_>) {
        let mut line = LINE.take();
        line.clear();
        if let Some(sink) = &self.sink {
            self.format.write(&mut line, exchange);
            line.push(b'\n');
            sink.push(&line);
        }
        if let Some((syslog, envelope)) = &self.syslog {
            line.clear();
            envelope.open(&mut line, log::Level::Info);
            self.format.write(&mut line, exchange);
            Envelope::close(&mut line);
            syslog.push(&line);
        }
        LINE.set(line);
    }
}

/// A compiled `--access-logformat`; it shows as the text it was made of.
///
/// The text `json` stands for a line that is an object, with these members as far as there are such values: `time` (RFC 3339,
/// UTC, of the answer's end), `pid`, `remote_addr`, `remote_user`, `method`, `path`, `query`, `protocol`, `status`, `body_bytes`,
/// `duration` (seconds), `referrer`, `user_agent`, `request_id`, and `fields`, an object of the
/// [fields](super::field) of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessFormat {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Atom(Atom),
    RequestHeader(HeaderName),
    ResponseHeader(HeaderName),
    Variable(Variable),
    Json,
}

/// Of the WSGI environment those that gunicorn makes of the request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Variable {
    Atom(Atom),
    Target,
    Port,
    Header(HeaderName),
    /// None of ours, so it has no value.
    Unknown,
}

/// gunicorn's one-letter atoms, and those of ours in braces before an `x` (where Apache has those of its TLS module).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Atom {
    RemoteAddress,
    Dash,
    User,
    Time,
    RequestLine,
    Method,
    Path,
    Query,
    Protocol,
    Status,
    Bytes,
    BytesOrDash,
    Referrer,
    Agent,
    Seconds,
    Milliseconds,
    Microseconds,
    DecimalSeconds,
    ProcessId,
    Route,
    RequestId,
    TlsVersion,
    TlsCipher,
}

impl AccessFormat {
    /// Compiles a format: text with atoms such as `%(h)s` or `%({x-request-id}i)s`, whose names in braces may be in any case;
    /// `%%` is a percent sign. Or `json`.
    ///
    /// # Errors
    /// An atom nobody knows, or one that is not finished: the text says which, and what there is.
    pub fn compile(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self { text: text.to_owned(), parts: vec![Part::Json] });
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let atom = after.strip_prefix('(').and_then(|after| after.split_once(')'));
            let atom = atom.and_then(|(name, after)| Some((name, after.strip_prefix(['s', 'd'])?)));
            let (name, after) = atom.ok_or_else(|| {
                let shown: String = after.chars().take(12).collect();
                format!("%{shown} is no atom; one looks like %(h)s, and a percent sign is %%")
            })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(part(name)?);
            rest = after;
        }
        literal.push_str(rest);
        if literal.chars().any(|c| c.is_control() && c != '\t') {
            return Err("expected one line, without control characters".to_owned());
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    fn write(&self, line: &mut Vec<u8>, exchange: &Exchange<'_>) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => line.extend_from_slice(text.as_bytes()),
                Part::Atom(atom) => atom.write(line, exchange),
                Part::RequestHeader(name) => escape_or_dash(line, exchange.request_header(name.as_str())),
                Part::ResponseHeader(name) => {
                    escape_or_dash(line, exchange.response_headers.get(name).map(|value| value.as_bytes()));
                }
                Part::Variable(variable) => variable.write(line, exchange),
                Part::Json => write_json(line, exchange),
            }
        }
    }
}

impl fmt::Display for AccessFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn part(name: &str) -> Result<Part, String> {
    let header = |name: &str| {
        let name = name.strip_prefix('{')?.strip_suffix('}')?;
        HeaderName::from_bytes(name.as_bytes()).ok()
    };
    let known = match name {
        "h" => Some(Atom::RemoteAddress),
        "l" => Some(Atom::Dash),
        "u" => Some(Atom::User),
        "t" => Some(Atom::Time),
        "r" => Some(Atom::RequestLine),
        "m" => Some(Atom::Method),
        "U" => Some(Atom::Path),
        "q" => Some(Atom::Query),
        "H" => Some(Atom::Protocol),
        "s" => Some(Atom::Status),
        "B" => Some(Atom::Bytes),
        "b" => Some(Atom::BytesOrDash),
        "f" => Some(Atom::Referrer),
        "a" => Some(Atom::Agent),
        "T" => Some(Atom::Seconds),
        "M" => Some(Atom::Milliseconds),
        "D" => Some(Atom::Microseconds),
        "L" => Some(Atom::DecimalSeconds),
        "p" => Some(Atom::ProcessId),
        "{route}x" => Some(Atom::Route),
        "{request_id}x" => Some(Atom::RequestId),
        "{tls_version}x" => Some(Atom::TlsVersion),
        "{tls_cipher}x" => Some(Atom::TlsCipher),
        _ => None,
    };
    let known = known.map(Part::Atom);
    let known = known.or_else(|| header(name.strip_suffix('i')?).map(Part::RequestHeader));
    let known = known.or_else(|| header(name.strip_suffix('o')?).map(Part::ResponseHeader));
    let known = known.or_else(|| variable(name.strip_suffix('e')?).map(Part::Variable));
    known.ok_or_else(|| {
        format!(
            "there is no atom %({name})s; there are h l u t r m U q H s B b f a T M D L p, \
             {{name}}i for a request header, {{name}}o for a response header, {{NAME}}e for a variable of WSGI, \
             {{route}}x, {{request_id}}x, {{tls_version}}x and {{tls_cipher}}x"
        )
    })
}

fn variable(name: &str) -> Option<Variable> {
    let name = name.strip_prefix('{')?.strip_suffix('}')?.to_ascii_uppercase();
    let header = |name: &str| HeaderName::from_bytes(name.replace('_', "-").as_bytes()).ok();
    Some(match name.as_str() {
        "" => return None,
        "REQUEST_METHOD" => Variable::Atom(Atom::Method),
        "RAW_URI" | "REQUEST_URI" => Variable::Target,
        "PATH_INFO" => Variable::Atom(Atom::Path),
        "QUERY_STRING" => Variable::Atom(Atom::Query),
        "SERVER_PROTOCOL" => Variable::Atom(Atom::Protocol),
        "REMOTE_ADDR" => Variable::Atom(Atom::RemoteAddress),
        "REMOTE_PORT" => Variable::Port,
        "REMOTE_USER" => Variable::Atom(Atom::User),
        "CONTENT_TYPE" | "CONTENT_LENGTH" => header(&name).map_or(Variable::Unknown, Variable::Header),
        _ => name.strip_prefix("HTTP_").and_then(header).map_or(Variable::Unknown, Variable::Header),
    })
}

impl Variable {
    fn write(&self, line: &mut Vec<u8>, exchange: &Exchange<'_>) {
        match self {
            Variable::Atom(atom) => atom.write(line, exchange),
            Variable::Target => escape_or_dash(line, exchange.target().map(str::as_bytes)),
            Variable::Port => match exchange.peer.as_inet() {
                Some(addr) => write_number(line, addr.port().into()),
                None => line.push(b'-'),
            },
            Variable::Header(name) => escape_or_dash(line, exchange.request_header(name.as_str())),
            Variable::Unknown => line.push(b'-'),
        }
    }
}

fn write_json(line: &mut Vec<u8>, exchange: &Exchange<'_>) {
    let mut object = Object::begin(line);
    let time = object.member("time");
    time.push(b'"');
    clock::now().write_rfc3339(time);
    time.push(b'"');
    object.number("pid", std::process::id().into());
    if let Some(addr) = exchange.peer.as_inet() {
        object.display("remote_addr", addr.ip());
    }
    object.bytes("remote_user", user(exchange.request_header("authorization")).as_deref());
    if let (Some(method), Some(target)) = (exchange.method(), exchange.target()) {
        object.text("method", method);
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        object.text("path", path);
        object.bytes("query", query.map(str::as_bytes));
    }
    object.bytes("protocol", exchange.version().map(str::as_bytes));
    object.number("status", exchange.status.as_u16().into());
    object.number("body_bytes", exchange.body_sent);
    Atom::DecimalSeconds.write(object.member("duration"), exchange);
    object.bytes("referrer", exchange.request_header("referer"));
    object.bytes("user_agent", exchange.request_header("user-agent"));
    object.context();
    object.end();
}

impl Atom {
    fn write(self, line: &mut Vec<u8>, exchange: &Exchange<'_>) {
        let target = exchange.target().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match self {
            Atom::RemoteAddress => match exchange.peer.as_inet() {
                Some(addr) => write_display(line, addr.ip()),
                None => line.push(b'-'),
            },
            Atom::Dash => line.push(b'-'),
            Atom::User => escape_or_dash(line, user(exchange.request_header("authorization")).as_deref()),
            Atom::Time => {
                line.push(b'[');
                line.extend_from_slice(&clock::now().access);
                line.push(b']');
            }
            Atom::RequestLine => escape_or_dash(line, exchange.request_line().map(str::as_bytes)),
            Atom::Method => escape_or_dash(line, exchange.method().map(str::as_bytes)),
            Atom::Path => escape_or_dash(line, Some(path.as_bytes())),
            Atom::Query => escape(line, query.as_bytes()),
            Atom::Protocol => escape_or_dash(line, exchange.version().map(str::as_bytes)),
            Atom::Status => write_number(line, exchange.status.as_u16().into()),
            Atom::BytesOrDash if exchange.body_sent == 0 => line.push(b'-'),
            Atom::Bytes | Atom::BytesOrDash => write_number(line, exchange.body_sent),
            Atom::Referrer => escape_or_dash(line, exchange.request_header("referer")),
            Atom::Agent => escape_or_dash(line, exchange.request_header("user-agent")),
            Atom::Seconds => write_number(line, exchange.duration.as_secs()),
            Atom::Milliseconds => write_number(line, exchange.duration.as_millis() as u64),
            Atom::Microseconds => write_number(line, exchange.duration.as_micros() as u64),
            Atom::DecimalSeconds => {
                write_number(line, exchange.duration.as_secs());
                write_display(line, format_args!(".{:06}", exchange.duration.subsec_micros()));
            }
            Atom::ProcessId => write_display(line, format_args!("<{}>", std::process::id())),
            Atom::Route => escape_or_dash(line, exchange.route.map(str::as_bytes)),
            Atom::RequestId => escape_or_dash(line, known_request_id().as_deref().map(str::as_bytes)),
            Atom::TlsVersion => match exchange.tls {
                Some(tls) => write_display(line, tls.version),
                None => line.push(b'-'),
            },
            Atom::TlsCipher => escape_or_dash(line, exchange.tls.map(|tls| tls.cipher_suite.as_bytes())),
        }
    }
}

fn write_number(line: &mut Vec<u8>, number: u64) {
    line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_display(line: &mut Vec<u8>, value: impl fmt::Display) {
    // writing to a Vec cannot fail
    let _ = write!(line, "{value}");
}

/// The user name of Basic credentials (RFC 7617); never the password.
fn user(credentials: Option<&[u8]>) -> Option<Vec<u8>> {
    credentials.and_then(|value| {
        let (scheme, token) = value.split_at_checked(6)?;
        if !scheme.eq_ignore_ascii_case(b"basic ") {
            return None;
        }
        let mut decoded = base64::engine::general_purpose::STANDARD.decode(token.trim_ascii()).ok()?;
        let colon = decoded.iter().position(|&byte| byte == b':')?;
        decoded.truncate(colon);
        Some(decoded)
    })
}

fn escape_or_dash(line: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None | Some([]) => line.push(b'-'),
        Some(bytes) => escape(line, bytes),
    }
}

/// Quotes and backslashes get a backslash, everything but printable ASCII becomes `\xHH` (as nginx and Apache do).
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            0x20..0x7f => line.push(byte),
            _ => write_display(line, format_args!("\\x{byte:02x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::SocketAddr;
    use std::time::SystemTime;

    use ::http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::{Addr, TlsInfo, TlsVersion};

    const CURL: &[u8] = b"GET /a/b?c=d HTTP/1.1\r\nReferer: http://r/\r\nUser-Agent: curl\r\n\
        Authorization: Basic YWxpY2U6c2VjcmV0\r\nX-A: 1\r\n\r\n";

    fn with_exchange<T>(head: Option<&[u8]>, f: impl FnOnce(&Exchange<'_>) -> T) -> T {
        let mut response = HeaderMap::new();
        response.insert("content-type", HeaderValue::from_static("text/plain"));
        f(&Exchange {
            peer: &Addr::Inet(SocketAddr::from(([192, 0, 2, 7], 9))),
            head,
            status: StatusCode::OK,
            response_headers: &response,
            route: Some("/a/{b}"),
            tls: Some(&TlsInfo {
                version: TlsVersion::V1_3,
                cipher_suite: "TLS_AES_256_GCM_SHA384".to_owned(),
                server_name: None,
                alpn_protocol: None,
                client_certificates: Vec::new(),
            }),
            body_sent: 1234,
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::from_micros(1_002_003),
        })
    }

    fn render(format: &str, head: Option<&[u8]>) -> String {
        let mut line = Vec::new();
        let format = AccessFormat::compile(format).unwrap();
        with_exchange(head, |exchange| format.write(&mut line, exchange));
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn every_atom_has_gunicorns_meaning() {
        let pid = std::process::id();
        for (format, expected) in [
            ("%(h)s", "192.0.2.7"),
            ("%(l)s", "-"),
            ("%(u)s", "alice"),
            ("%(r)s", "GET /a/b?c=d HTTP/1.1"),
            ("%(m)s", "GET"),
            ("%(U)s", "/a/b"),
            ("%(q)s", "c=d"),
            ("%(H)s", "HTTP/1.1"),
            ("%(s)s", "200"),
            ("%(B)s", "1234"),
            ("%(b)s", "1234"),
            ("%(f)s", "http://r/"),
            ("%(a)s", "curl"),
            ("%(T)s", "1"),
            ("%(M)s", "1002"),
            ("%(D)d", "1002003"),
            ("%(L)s", "1.002003"),
            ("%(p)s", &format!("<{pid}>")),
            ("%({x-A}i)s", "1"),
            ("%({x-b}i)s", "-"),
            ("%({Content-Type}o)s", "text/plain"),
            ("%({Request_Method}e)s %({RAW_URI}e)s", "GET /a/b?c=d"),
            ("%({PATH_INFO}e)s %({QUERY_STRING}e)s", "/a/b c=d"),
            ("%({remote_addr}e)s %({REMOTE_PORT}e)s %({REMOTE_USER}e)s", "192.0.2.7 9 alice"),
            ("%({HTTP_X_A}e)s %({HTTP_NONE}e)s %({CONTENT_TYPE}e)s", "1 - -"),
            ("%({SERVER_PROTOCOL}e)s %({HOME}e)s", "HTTP/1.1 -"),
            ("%({route}x)s", "/a/{b}"),
            ("%({tls_version}x)s %({tls_cipher}x)s", "TLSv1.3 TLS_AES_256_GCM_SHA384"),
            ("%({request_id}x)s", "-"),
            ("100%% %(s)s!", "100% 200!"),
        ] {
            assert_eq!(render(format, Some(CURL)), expected, "{format}");
        }
        let time = render("%(t)s", None);
        assert!(time.starts_with('[') && time.ends_with(" +0000]") && time.len() == 28, "{time}");
    }

    #[test]
    fn a_request_that_was_not_understood_shows_dashes() {
        assert_eq!(render("%(h)s %(u)s %(r)s %(m)s %(U)s %(H)s %(a)s", None), "192.0.2.7 - - - - - -");
    }

    #[test]
    fn a_request_cannot_forge_a_line() {
        let head = b"GET /\xc3\xa9\" HTTP/1.1\r\nUser-Agent: a\tb\xff\r\nReferer: \"\\\r\n\r\n";
        let line = render("%(a)s \"%(f)s\" %(r)s", Some(head));
        assert_eq!(line, "a\\x09b\\xff \"\\\"\\\\\" GET /\\xc3\\xa9\\\" HTTP/1.1");
    }

    #[test]
    fn credentials_that_are_not_basic_or_not_whole_give_no_user() {
        for value in
            [&b"Bearer abc"[..], b"Basic", b"Basic !!!", b"Basic YWxpY2U=", b"\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(user(Some(value)), None);
        }
    }

    #[test]
    fn a_wrong_format_is_told_what_would_be_right() {
        for (format, hint) in [
            ("%h", "%(h)s"),
            ("%(h)", "%(h)s"),
            ("%(h", "%(h)s"),
            ("100%", "%%"),
            ("%(x)s", "h l u t"),
            ("%({a b}i)s", "{name}i"),
            ("%({}e)s", "{NAME}e"),
            ("%({x}p)s", "{name}o"),
            ("%({id}x)s", "{request_id}x"),
            ("a\nb", "one line"),
        ] {
            let error = AccessFormat::compile(format).unwrap_err();
            assert!(error.contains(hint), "{format}: {error}");
        }
    }

    #[test]
    fn json_has_what_there_is_and_leaves_out_what_there_is_not() {
        let object: serde_json::Value = serde_json::from_str(&render("json", Some(CURL))).unwrap();
        let expected = serde_json::json!({
            "time": object["time"], "pid": std::process::id(), "remote_addr": "192.0.2.7", "remote_user": "alice",
            "method": "GET", "path": "/a/b", "query": "c=d", "protocol": "HTTP/1.1", "status": 200,
            "body_bytes": 1234, "duration": 1.002003, "referrer": "http://r/", "user_agent": "curl",
        });
        assert_eq!(object, expected);
        let object: serde_json::Value = serde_json::from_str(&render("json", None)).unwrap();
        assert!(object.get("method").is_none() && object["status"] == 200, "{object}");
    }

    #[test]
    fn a_client_forges_no_member_of_json() {
        let head = b"GET /\" HTTP/1.1\r\nUser-Agent: a\",\"status\":1,\"b\":\"\xff\\\r\n\r\n";
        let object: serde_json::Value = serde_json::from_str(&render("json", Some(head))).unwrap();
        assert_eq!((&object["path"], &object["status"]), (&"/\"".into(), &200.into()));
        assert_eq!(object["user_agent"], "a\",\"status\":1,\"b\":\"\u{fffd}\\");
    }

    #[test]
    fn each_exchange_is_one_line() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = FormattedLog::new(Sink::new("test", writer), AccessFormat::compile("%(m)s").unwrap());
        with_exchange(Some(CURL), |exchange| log.log(exchange));
        with_exchange(None, |exchange| log.log(exchange));
        drop(log);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "GET\n-\n");
    }
}
