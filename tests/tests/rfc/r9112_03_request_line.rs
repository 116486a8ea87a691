//! RFC 9112, section 3: method, target in its four forms, `Host`.

use crate::app::plain;
use crate::table::Answer::*;
use crate::table::{check, line, row};

const METHOD: &str = "the method is not a token";
const THREE_PARTS: &str = "the request line is not method, target and version";
const VERSION: &str = "the version is malformed";
const BYTE: &str = "the request target holds a byte that must be percent-encoded";
const FORM: &str = "the request target has no form that its method allows";
const NO_HOST: &str = "there is no Host";
const HOSTS: &str = "there is more than one Host";
const BAD_HOST: &str = "Host is not a host with an optional port";

#[test]
fn section_3_and_3_1_the_line_and_the_method() {
    let mut rows = vec![
        row("9112 3.1: case matters", line("get /a HTTP/1.1"), &[App("get /a 1.1 a []")]),
        row(
            "9112 3.1: any token",
            line("!#$%&'*+-.^_`|~09aZ /a HTTP/1.1"),
            &[App("!#$%&'*+-.^_`|~09aZ /a 1.1 a []")],
        ),
        row("9110 9.1: one letter", line("X /a HTTP/1.1"), &[App("X /a 1.1 a []")]),
        row("9110 9.3.8: TRACE is the application's", line("TRACE /a HTTP/1.1"), &[App("TRACE /a 1.1 a []")]),
    ];
    for (name, bad, reason) in [
        ("9112 3: two spaces behind the method", "GET  / HTTP/1.1", VERSION),
        ("9112 3: two spaces behind the target", "GET /  HTTP/1.1", VERSION),
        ("9112 3: space behind the version", "GET / HTTP/1.1 ", VERSION),
        ("9112 3: tab behind the version", "GET / HTTP/1.1\t", VERSION),
        ("9112 3: space in the target", "GET /a b HTTP/1.1", VERSION),
        ("9112 3: tabs for spaces", "GET\t/\tHTTP/1.1", METHOD),
        ("9112 3: VT for a space", "GET /\x0bHTTP/1.1", THREE_PARTS),
        ("9112 3: FF for a space", "GET\x0c/ HTTP/1.1", METHOD),
        ("9112 3: no-break space", "GET\u{a0}/ HTTP/1.1", METHOD),
        ("9112 3: method alone", "GET", THREE_PARTS),
        ("9112 3: no target", "GET HTTP/1.1", THREE_PARTS),
        ("9112 3: no version", "GET /", THREE_PARTS),
        ("9112 3: nothing behind the target's space", "GET / ", VERSION),
        ("9112 3.1: a colon", "GE:T / HTTP/1.1", METHOD),
        ("9112 3.1: a bracket", "G(T / HTTP/1.1", METHOD),
        ("9112 3.1: quotes", "\"GET\" / HTTP/1.1", ""),
        ("9112 3.1: a slash", "GET/ / HTTP/1.1", METHOD),
        ("9112 3.1: a comma", "GET,POST / HTTP/1.1", METHOD),
        ("9112 3.1: a control character", "G\x01T / HTTP/1.1", METHOD),
        ("9112 3.1: NUL", "G\0T / HTTP/1.1", METHOD),
        ("9112 3.1: DEL", "G\x7fT / HTTP/1.1", METHOD),
        ("9112 3.1: UTF-8", "G\u{cb}T / HTTP/1.1", METHOD),
    ] {
        let reason = if reason.is_empty() { "what came does not start like a request" } else { reason };
        rows.push(row(name, line(bad), &[No(400, reason)]));
    }
    check(&rows, plain);
}

#[test]
fn section_3_2_target() {
    let mut rows = vec![
        row("9112 3.2.1: path", line("GET /a/b%20c;d=e HTTP/1.1"), &[App("GET /a/b%20c;d=e 1.1 a []")]),
        row(
            "9112 3.2.1: query",
            line("GET /?a=b&c=/?:@!$'()*+,;~ HTTP/1.1"),
            &[App("GET /?a=b&c=/?:@!$'()*+,;~ 1.1 a []")],
        ),
        row("9112 3.2.1: empty query", line("GET /a? HTTP/1.1"), &[App("GET /a? 1.1 a []")]),
        row("9112 3.2.1: two slashes are a path", line("GET //b/c HTTP/1.1"), &[App("GET //b/c 1.1 a []")]),
        row(
            "9112 3.2.1: dots are the application's",
            line("GET /../a HTTP/1.1"),
            &[App("GET /../a 1.1 a []")],
        ),
        row(
            "3986 2: what browsers leave as it is",
            line("GET /a|b^{c}\\?d|`{e}^ HTTP/1.1"),
            &[App("GET /a|b^{c}\\?d|`{e}^ 1.1 a []")],
        ),
        row(
            "9112 3.2.2: absolute form wins over Host",
            line("GET http://b/c?d HTTP/1.1"),
            &[App("GET http://b/c?d 1.1 b []")],
        ),
        row(
            "9112 3.2.2: with a port",
            line("GET http://b:81/ HTTP/1.1"),
            &[App("GET http://b:81/ 1.1 b:81 []")],
        ),
        row("9112 3.2.2: no path", line("GET http://b HTTP/1.1"), &[App("GET http://b 1.1 b []")]),
        row(
            "9112 3.2.2: no path, but a query",
            line("GET http://b?c HTTP/1.1"),
            &[App("GET http://b?c 1.1 b []")],
        ),
        row(
            "9110 4.2.2: https, in any case",
            line("GET HTTPS://b/ HTTP/1.1"),
            &[App("GET HTTPS://b/ 1.1 b []")],
        ),
        row(
            "9112 3.2.2: an address in brackets",
            line("GET http://[::1]:8/ HTTP/1.1"),
            &[App("GET http://[::1]:8/ 1.1 [::1]:8 []")],
        ),
        row("9112 3.2.2: in HTTP/1.0", "GET http://b/ HTTP/1.0\r\n\r\n", &[Last("GET http://b/ 1.0 b []")]),
        row(
            "9112 3.2.2: the absolute form needs a Host nevertheless",
            "GET http://b/ HTTP/1.1\r\n\r\n",
            &[No(400, NO_HOST)],
        ),
        row(
            "9110 9.3.6: CONNECT, and what follows is no request",
            line("CONNECT b:443 HTTP/1.1"),
            &[ExactlyLast(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\n",
            )],
        ),
        row("9112 3.2.4: OPTIONS *", line("OPTIONS * HTTP/1.1"), &[App("OPTIONS * 1.1 a []")]),
        row("9112 3.2.4: OPTIONS of a path", line("OPTIONS /a HTTP/1.1"), &[App("OPTIONS /a 1.1 a []")]),
    ];
    for (name, bad) in [
        ("9112 3.2: NUL", "GET /a\0b HTTP/1.1"),
        ("9112 3.2: a control character", "GET /a\x01b HTTP/1.1"),
        ("9112 3.2: a tab", "GET /a\tb HTTP/1.1"),
        ("9112 3.2: DEL", "GET /a\x7fb HTTP/1.1"),
        ("9112 3.2: UTF-8", "GET /\u{e9} HTTP/1.1"),
        ("9112 3.2: UTF-8 in the query", "GET /?\u{e9} HTTP/1.1"),
        ("9110 4.2.5: a fragment", "GET /a#b HTTP/1.1"),
        ("3986 2: quotes", "GET /\"a\" HTTP/1.1"),
        ("3986 2: angle brackets", "GET /<script> HTTP/1.1"),
        ("9112 3.2.2: UTF-8 in the host", "GET http://\u{e9}/ HTTP/1.1"),
    ] {
        rows.push(row(name, line(bad), &[No(400, BYTE)]));
    }
    for (name, bad) in [
        ("9112 3.2: a byte for the query only", "GET /a` HTTP/1.1"),
        ("9112 3.2: relative", "GET a HTTP/1.1"),
        ("9112 3.2: relative with a slash", "GET a/b HTTP/1.1"),
        ("9112 3.2: a query alone", "GET ?a HTTP/1.1"),
        ("9112 3.2.2: no host", "GET http:///a HTTP/1.1"),
        ("9112 3.2.2: nothing behind the scheme", "GET http:// HTTP/1.1"),
        ("9112 3.2.2: one slash", "GET http:/a HTTP/1.1"),
        ("9112 3.2.2: another scheme", "GET ftp://a/ HTTP/1.1"),
        ("9112 3.2.2: a bad port", "GET http://a:b/ HTTP/1.1"),
        ("9112 3.2.2: a port too large", "GET http://a:65536/ HTTP/1.1"),
        ("9112 3.2.2: an open bracket", "GET http://[::1/ HTTP/1.1"),
        ("9110 4.2.4: user information", "GET http://u@a/ HTTP/1.1"),
        ("9110 4.2.4: user and password", "GET http://u:p@a/ HTTP/1.1"),
        ("9112 3.2.3: authority form for GET", "GET a:80 HTTP/1.1"),
        ("9112 3.2.3: a path for CONNECT", "CONNECT /a HTTP/1.1"),
        ("9112 3.2.3: absolute form for CONNECT", "CONNECT http://a:80/ HTTP/1.1"),
        ("9110 9.3.6: CONNECT without a port", "CONNECT a HTTP/1.1"),
        ("9110 9.3.6: CONNECT with an empty port", "CONNECT a: HTTP/1.1"),
        ("9112 3.2.4: asterisk for GET", "GET * HTTP/1.1"),
        ("9112 3.2.4: two asterisks", "OPTIONS ** HTTP/1.1"),
    ] {
        rows.push(row(name, line(bad), &[No(400, FORM)]));
    }
    check(&rows, plain);
}

#[test]
fn section_3_2_host() {
    let host = |fields: &str| format!("GET /a HTTP/1.1\r\n{fields}\r\n");
    let mut rows = vec![
        row("9112 3.2: none in 1.1", host(""), &[No(400, NO_HOST)]),
        row("9112 3.2: none in a later 1.x", "GET / HTTP/1.5\r\n\r\n", &[No(400, NO_HOST)]),
        row("9112 3.2: none in 1.0", "GET /a HTTP/1.0\r\n\r\n", &[Last("GET /a 1.0 - []")]),
        row("9112 3.2: two", host("Host: a\r\nHost: b\r\n"), &[No(400, HOSTS)]),
        row("9112 3.2: two that are equal", host("Host: a\r\nHost: a\r\n"), &[No(400, HOSTS)]),
        row("9112 3.2: two in different cases", host("Host: a\r\nX: y\r\nhOST: a\r\n"), &[No(400, HOSTS)]),
        row("9112 3.2: two in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", &[No(400, HOSTS)]),
        row(
            "9112 3.2: a folded one",
            host("Host: a\r\n b\r\n"),
            &[No(400, "a header field is folded over two lines")],
        ),
        row("9112 3.2: a bad one in 1.0", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", &[No(400, BAD_HOST)]),
        row(
            "9112 3.2: a bad one beside the absolute form",
            "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n",
            &[No(400, BAD_HOST)],
        ),
    ];
    for (name, good, answer) in [
        ("9110 7.2: a port", "Host: a:80\r\n", "GET /a 1.1 a:80 []"),
        ("9110 7.2: an empty port", "Host: a:\r\n", "GET /a 1.1 a: []"),
        ("9110 7.2: an IPv4 address", "Host: 127.0.0.1:65535\r\n", "GET /a 1.1 127.0.0.1:65535 []"),
        ("9110 7.2: an IPv6 address", "Host: [::1]:8\r\n", "GET /a 1.1 [::1]:8 []"),
        ("9110 7.2: underscores", "Host: a_b.c\r\n", "GET /a 1.1 a_b.c []"),
        ("3986 3.2.2: percent-encoded", "Host: a%20b\r\n", "GET /a 1.1 a%20b []"),
        ("9112 5: in any case, white space around it", "hOsT: \t a \t\r\n", "GET /a 1.1 a []"),
    ] {
        rows.push(row(name, host(good), &[App(answer)]));
    }
    for (name, bad) in [
        ("9110 4.2.1: empty", "Host:\r\n"),
        ("9110 4.2.1: empty but for the port", "Host: :80\r\n"),
        ("9112 3.2: a space", "Host: a b\r\n"),
        ("9112 3.2: a list", "Host: a, b\r\n"),
        ("9112 3.2: a path", "Host: a/b\r\n"),
        ("9112 3.2: a scheme", "Host: http://a\r\n"),
        ("9112 3.2: a query", "Host: a?b\r\n"),
        ("9112 3.2: a fragment", "Host: a#b\r\n"),
        ("9112 3.2: user information", "Host: u@a\r\n"),
        ("9112 3.2: two ports", "Host: a:80:80\r\n"),
        ("9112 3.2: no port", "Host: a:8x\r\n"),
        ("9112 3.2: a port too large", "Host: a:65536\r\n"),
        ("9112 3.2: a port with a sign", "Host: a:+80\r\n"),
        ("9112 3.2: UTF-8", "Host: \u{e9}\r\n"),
        ("9112 3.2: no-break space", "Host: \u{a0}a\r\n"),
        ("9112 3.2: quotes", "Host: \"a\"\r\n"),
        ("9112 3.2: an open bracket", "Host: [::1\r\n"),
        ("9112 3.2: something behind the bracket", "Host: [::1]x\r\n"),
        ("9112 3.2: no address in brackets", "Host: [a]\r\n"),
        ("9112 3.2: a bare IPv6 address", "Host: ::1\r\n"),
        ("3986 2.1: a bad escape", "Host: a%2\r\n"),
    ] {
        rows.push(row(name, host(bad), &[No(400, BAD_HOST)]));
    }
    check(&rows, plain);
}
