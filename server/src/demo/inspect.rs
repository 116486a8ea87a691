//! What the application saw.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;

use ::http::StatusCode;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;

use super::query::BadQuery;
use super::{Answer, Demo};
use crate::config::WorkerClass;
use crate::{Addr, IntoResponse, Request};

/// Largest body that `/echo` holds in memory.
const ECHO_BODY: u64 = 64 << 20;

#[derive(Serialize)]
struct Echo<'a> {
    method: &'a str,
    target: &'a str,
    path: &'a str,
    query: &'a str,
    version: &'a str,
    authority: Option<&'a str>,
    headers: &'a [(String, Cow<'a, str>)],
    body: &'a str,
}

/// What the application saw of the request, as JSON, after reading its whole body. Header names are in lower case
/// and in the order of arrival; bytes that are not UTF-8 are shown as Latin-1.
pub(super) fn echo(status: StatusCode, mut req: Request) -> Answer {
    let mut body = Vec::new();
    req.body_mut().by_ref().take(ECHO_BODY + 1).read_to_end(&mut body)?;
    if body.len() as u64 > ECHO_BODY {
        let text = format!("a body to be echoed has at most {ECHO_BODY} bytes\n");
        return Ok((StatusCode::PAYLOAD_TOO_LARGE, text).into_response());
    }
    let headers = req.headers_in_order().map(|(name, value)| (name.to_ascii_lowercase(), text(value)));
    let path = req.path_decoded();
    let echo = Echo {
        method: req.method().as_str(),
        target: &req.raw_target(),
        path: &text(&path),
        query: req.query().unwrap_or_default(),
        version: &format!("{:?}", req.version()),
        authority: req.authority(),
        headers: &headers.collect::<Vec<_>>(),
        body: &BASE64_STANDARD.encode(&body),
    };
    let mut response = json(&echo)?;
    *response.status_mut() = status;
    Ok(response)
}

#[derive(Serialize)]
struct WhoAmI {
    peer: Option<String>,
    local: Option<String>,
    greenlet: Option<Greenlet>,
    thread: Option<String>,
    pid: u32,
}

#[derive(Serialize)]
struct Greenlet {
    id: u64,
    name: String,
}

/// Who serves this connection. With OS threads there is no greenlet to tell of.
pub(super) fn whoami(demo: &Demo, req: Request) -> Answer {
    let greenlet = match demo.worker_class {
        WorkerClass::Green => {
            let current = greenlet::current();
            Some(Greenlet { id: current.id(), name: current.name().to_owned() })
        }
        WorkerClass::Threads | WorkerClass::Sync => None,
    };
    let address = |addr: Option<Addr>| addr.map(|addr| addr.to_string());
    json(&WhoAmI {
        peer: address(req.peer_addr()),
        local: address(req.local_addr()),
        greenlet,
        thread: std::thread::current().name().map(str::to_owned),
        pid: std::process::id(),
    })
}

/// The variables of the uwsgi protocol in order of arrival.
pub(super) fn vars(_: &Demo, req: Request) -> Answer {
    let vars =
        req.vars().map(|vars| vars.iter().map(|(name, value)| (name, text(value))).collect::<Vec<_>>());
    json(&vars)
}

#[derive(Serialize)]
struct Origin<'a> {
    scheme: &'static str,
    host: Option<Cow<'a, str>>,
    client: Option<IpAddr>,
    peer: Option<String>,
    environ: BTreeMap<Cow<'static, str>, String>,
    flags: BTreeMap<&'static str, bool>,
}

/// The request as CGI has it, and where it came from. Bytes that are not UTF-8 are shown as Latin-1.
pub(super) fn environ(_: &Demo, req: Request) -> Answer {
    let environ = req.environ()?;
    json(&Origin {
        scheme: req.scheme()?,
        host: req.host()?,
        client: req.client_addr()?,
        peer: req.peer_addr().map(|addr| addr.to_string()),
        environ: environ.iter().map(|(name, value)| (name, text(&value).into_owned())).collect(),
        flags: environ.flags().into(),
    })
}

#[derive(Serialize)]
struct Tls<'a> {
    version: String,
    cipher_suite: &'a str,
    server_name: Option<&'a str>,
    alpn_protocol: Option<Cow<'a, str>>,
    client_certificates: Vec<String>,
}

/// What the TLS handshake came to; certificates are DER in Base64.
pub(super) fn tls(_: &Demo, req: Request) -> Answer {
    let info = req.tls();
    json(&info.as_deref().map(|info| Tls {
        version: info.version.to_string(),
        cipher_suite: &info.cipher_suite,
        server_name: info.server_name.as_deref(),
        alpn_protocol: info.alpn_protocol.as_deref().map(text),
        client_certificates: info.client_certificates.iter().map(|der| BASE64_STANDARD.encode(der)).collect(),
    }))
}

/// `/status/NNN`: that status, with its reason as the body where it may have one.
pub(super) fn status(_: &Demo, req: Request) -> Answer {
    let text = req.path().trim_start_matches("/status/");
    let code = text.parse().ok().filter(|code| (200..600).contains(code) && text.len() == 3);
    let Some(status) = code.and_then(|code: u16| StatusCode::from_u16(code).ok()) else {
        return Err(BadQuery(format!("{text} is not a status from 200 to 599")).into());
    };
    if matches!(status.as_u16(), 204 | 205 | 304) {
        return Ok(status.into_response());
    }
    Ok((status, format!("{status}\n")).into_response())
}

/// A JSON response, with a line break at its end for the terminal's sake.
pub(super) fn json(value: &impl Serialize) -> Answer {
    let mut text = serde_json::to_vec(value).map_err(std::io::Error::other)?;
    text.push(b'\n');
    Ok(([("content-type", "application/json")], text).into_response())
}

/// UTF-8 if it is, else Latin-1, so that nothing is lost.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into(),
    }
}
