use std::collections::BTreeMap;

use super::super::forwarded::tests::{From, request};
use super::*;
use crate::http::uwsgi;
use crate::{Body, Handler, Router};

const STRANGER: &str = "192.0.2.9";
const TRUSTED: &str = "127.0.0.1";

/// All variables as text, and each of them looked up alone, which must agree.
fn all(req: &Request) -> BTreeMap<String, String> {
    let environ = req.environ().unwrap();
    let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
    let mut map = BTreeMap::new();
    for (name, value) in environ.iter() {
        assert_eq!(environ.get(&name).as_ref(), Some(&value), "{name}");
        assert!(map.insert(name.to_string(), text(&value)).is_none(), "{name} comes twice");
    }
    map
}

fn one(from: From, line: &str, headers: &[&str], name: &str) -> Option<String> {
    all(&request(from, line, headers)).remove(name)
}

fn mapped(header_map: HeaderMapping, peer: &str) -> From {
    let mut from = From::peer(peer);
    from.trust.header_map = header_map;
    from
}

#[test]
fn pep_3333_environ_variables() {
    let full = all(&request(
        From::peer(STRANGER),
        "POST /a%20b/%ff?c=%20 HTTP/1.1",
        &["Host: h:1", "Content-Type: text/plain", "content-length: 3", "X-A: 1"],
    ));
    let least = all(&request(From::peer(STRANGER), "GET / HTTP/1.0", &[]));
    // Name, with everything, with as little as possible.
    for (name, value, little) in [
        ("REQUEST_METHOD", "POST", Some("GET")),
        ("SCRIPT_NAME", "", Some("")),
        ("PATH_INFO", "/a b/\u{ff}", Some("/")),
        ("QUERY_STRING", "c=%20", Some("")),
        ("CONTENT_TYPE", "text/plain", None),
        ("CONTENT_LENGTH", "3", None),
        ("SERVER_NAME", "192.0.2.80", Some("192.0.2.80")),
        ("SERVER_PORT", "8000", Some("8000")),
        ("SERVER_PROTOCOL", "HTTP/1.1", Some("HTTP/1.0")),
        (
            "SERVER_SOFTWARE",
            concat!("greenserve/", env!("CARGO_PKG_VERSION")),
            full.get("SERVER_SOFTWARE").map(String::as_str),
        ),
        ("GATEWAY_INTERFACE", "CGI/1.1", Some("CGI/1.1")),
        ("REMOTE_ADDR", STRANGER, Some(STRANGER)),
        ("REMOTE_PORT", "4711", Some("4711")),
        ("RAW_URI", "/a%20b/%ff?c=%20", Some("/")),
        ("REQUEST_URI", "/a%20b/%ff?c=%20", Some("/")),
        ("wsgi.url_scheme", "http", Some("http")),
        ("HTTP_HOST", "h:1", None),
        ("HTTP_X_A", "1", None),
    ] {
        assert_eq!(full.get(name).map(String::as_str), Some(value), "{name}");
        assert_eq!(least.get(name).map(String::as_str), little, "{name}");
    }
    assert_eq!((full.len(), least.len()), (18, 14), "{full:?} {least:?}");
}

#[test]
fn the_path_of_every_form_of_target() {
    for (line, path, query) in [
        ("GET //a//b HTTP/1.0", "//a//b", ""),
        ("GET /%2e%2E/%41%zz%00? HTTP/1.0", "/../A%zz\0", ""),
        ("GET http://h/a?b?c HTTP/1.0", "/a", "b?c"),
        ("GET http://h HTTP/1.0", "/", ""),
        ("OPTIONS * HTTP/1.0", "*", ""),
        ("CONNECT h:1 HTTP/1.0", "", ""),
    ] {
        let vars = all(&request(From::peer(STRANGER), line, &[]));
        assert_eq!(
            (&*vars["PATH_INFO"], &*vars["QUERY_STRING"], &*vars["SCRIPT_NAME"]),
            (path, query, ""),
            "{line}"
        );
    }
}

#[test]
fn repeated_headers_are_joined_and_cookies_in_their_own_way() {
    let headers = ["X-A: 1", "Cookie: a=b", "x-a: 2", "COOKIE: c=d", "X-A:", "X-\u{61}: \u{e9}"];
    let vars = all(&request(From::peer(STRANGER), "GET / HTTP/1.0", &headers));
    // Bytes are shown as Latin-1, as a WSGI server would.
    assert_eq!(vars["HTTP_X_A"], "1,2,,\u{c3}\u{a9}");
    assert_eq!(vars["HTTP_COOKIE"], "a=b; c=d");
}

#[test]
fn some_headers_are_never_http_variables() {
    let headers = [
        "Proxy: evil",
        "pRoXy: evil",
        "Content-Type: a/b",
        "Content_Type: evil/evil",
        "Content_Length: 99",
        "Content-Length: 0",
        "Content-Length: 0",
    ];
    for mapping in [HeaderMapping::Drop, HeaderMapping::Dangerous] {
        let mut from = mapped(mapping, TRUSTED);
        from.trust.forwarder_headers = vec!["*".into()];
        let vars = all(&request(from, "POST / HTTP/1.0", &headers));
        assert_eq!((&*vars["CONTENT_TYPE"], &*vars["CONTENT_LENGTH"]), ("a/b", "0"));
        let http: Vec<_> = vars.keys().filter(|name| name.starts_with("HTTP_")).collect();
        assert!(http.is_empty(), "{http:?}");
    }
}

#[test]
fn an_underscore_never_overwrites_a_hyphen() {
    let orders = [["X-Real: good", "X_Real: evil"], ["X_Real: evil", "X-Real: good"]];
    for headers in orders {
        for mapping in [HeaderMapping::Drop, HeaderMapping::Dangerous] {
            let value = one(mapped(mapping, TRUSTED), "GET / HTTP/1.0", &headers, "HTTP_X_REAL");
            assert_eq!(value.as_deref(), Some("good"), "{mapping:?} {headers:?}");
        }
    }
    let alone = |mapping| {
        one(mapped(mapping, STRANGER), "GET / HTTP/1.0", &["X_Real: a", "x_real: b"], "HTTP_X_REAL")
    };
    assert_eq!(alone(HeaderMapping::Drop), None);
    assert_eq!(alone(HeaderMapping::Dangerous).as_deref(), Some("a,b"));
}

#[test]
fn forwarder_headers_are_a_trusted_peers_and_win() {
    let headers = ["Remote-User: evil", "REMOTE_USER: alice", "Remote-User: evil"];
    let user = |peer: &str, mapping| {
        let mut from = mapped(mapping, peer);
        from.trust.forwarder_headers = vec!["REMOTE_USER".into()];
        one(from, "GET / HTTP/1.0", &headers, "HTTP_REMOTE_USER")
    };
    for mapping in [HeaderMapping::Drop, HeaderMapping::Dangerous] {
        assert_eq!(user(TRUSTED, mapping).as_deref(), Some("alice"));
        assert_eq!(user("unix", mapping).as_deref(), Some("alice"));
        // What a stranger says in a header of his own is that header's value, and nothing else.
        assert_eq!(user(STRANGER, mapping).as_deref(), Some("evil,evil"));
    }
}

#[test]
fn script_name_of_a_trusted_peer_says_where_the_application_is() {
    let ends = |line: &str, prefix: &str| {
        let header = format!("SCRIPT_NAME: {prefix}");
        let req = request(From::peer(TRUSTED), line, &[&header, "PATH_INFO: /other"]);
        let vars = req.environ().map(|_| all(&req));
        vars.map(|vars| {
            (vars["SCRIPT_NAME"].clone(), vars["PATH_INFO"].clone(), vars["HTTP_PATH_INFO"].clone())
        })
    };
    for (path, prefix, script, rest) in [
        ("/app/x", "/app", "/app", "/x"),
        ("/app/x", "/app/", "/app", "/x"),
        ("/app", "/app", "/app", ""),
        ("/app/", "/app", "/app", "/"),
        ("/a%20b/c%20d", "/a%20b", "/a b", "/c d"),
        ("/x", "", "", "/x"),
        ("/x", "/", "", "/x"),
    ] {
        let found = ends(&format!("GET {path} HTTP/1.0"), prefix).unwrap();
        assert_eq!(found, (script.into(), rest.into(), "/other".into()), "{path} {prefix}");
    }
    for (line, prefix) in
        [("GET /apple HTTP/1.0", "/app"), ("GET / HTTP/1.0", "/app"), ("OPTIONS * HTTP/1.0", "/a")]
    {
        assert_eq!(ends(line, prefix), Err(ForwardedError::ScriptName), "{line}");
    }
    for from in [From::peer(STRANGER), mapped(HeaderMapping::Dangerous, STRANGER)] {
        let vars = all(&request(from, "GET /app/x HTTP/1.0", &["SCRIPT_NAME: /app", "Script-Name: /app"]));
        assert_eq!((&*vars["SCRIPT_NAME"], &*vars["PATH_INFO"]), ("", "/app/x"));
    }
}

#[test]
fn mounts_add_to_the_script_name() {
    let req = request(From::peer(TRUSTED), "GET /outer/in%20ner/x?y HTTP/1.0", &["SCRIPT_NAME: /outer"]);
    let environ = req.environ().unwrap().mounted_at("/in%20ner").unwrap();
    assert_eq!(environ.get("SCRIPT_NAME").as_deref(), Some(&b"/outer/in ner"[..]));
    assert_eq!(environ.get("PATH_INFO").as_deref(), Some(&b"/x"[..]));
    assert!(environ.mounted_at("/y").is_err());
}

#[test]
fn the_server_always_has_a_name_and_a_port() {
    let named = |local: Option<Addr>, secure: bool, headers: &[&str]| {
        let from = From { local, secure, ..From::peer("unix") };
        let vars = all(&request(from, "GET / HTTP/1.0", headers));
        (vars["SERVER_NAME"].clone(), vars["SERVER_PORT"].clone())
    };
    let pair = |name: &str, port: &str| (name.to_owned(), port.to_owned());
    let six = Some(Addr::Inet(("::1".parse::<std::net::IpAddr>().unwrap(), 81).into()));
    assert_eq!(named(six, false, &["Host: h"]), pair("[::1]", "81"), "RFC 3875, 4.1.14");
    for (headers, secure, name, port) in [
        (&["Host: h:90"][..], false, "h", "90"),
        (&["Host: h"], false, "h", "80"),
        (&["Host: h:"], true, "h", "443"),
        (&["Host: [::1]"], true, "[::1]", "443"),
        (&["Host: [::1]:5"], true, "[::1]", "5"),
        (&["Host: h", "X-Forwarded-Host: w:1"], false, "w", "1"),
        (&[], false, "localhost", "80"),
    ] {
        assert_eq!(named(Some(Addr::Unix(None)), secure, headers), pair(name, port), "{headers:?}");
        assert_eq!(named(None, secure, headers), pair(name, port), "{headers:?}");
    }
}

#[test]
fn a_unix_socket_has_an_empty_address_and_no_port() {
    let vars = all(&request(From::peer("unix"), "GET / HTTP/1.0", &["X-Forwarded-For: 1.2.3.4"]));
    assert_eq!((&*vars["REMOTE_ADDR"], vars.get("REMOTE_PORT")), ("", None));
}

#[test]
fn proxies_do_not_change_who_the_peer_is_and_do_change_the_scheme() {
    let headers = ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https"];
    let vars = all(&request(From::peer(TRUSTED), "GET / HTTP/1.0", &headers));
    assert_eq!((&*vars["REMOTE_ADDR"], &*vars["wsgi.url_scheme"]), (TRUSTED, "https"));
    let contradiction = ["X-Forwarded-Ssl: on", "X-Forwarded-Proto: http"];
    let req = request(From::peer(TRUSTED), "GET / HTTP/1.0", &contradiction);
    assert_eq!(req.environ().map(drop), Err(ForwardedError::Scheme));
}

#[test]
fn a_proxy_headers_variables_are_gunicorns() {
    let from = From { proxied: true, ..From::peer(STRANGER) };
    let vars = all(&request(from, "GET / HTTP/1.0", &[]));
    let proxy = ["PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT", "REMOTE_ADDR"].map(|name| &*vars[name]);
    assert_eq!(proxy, ["TCP4", "192.0.2.80", "8000", STRANGER]);
    assert!(!all(&request(From::peer(STRANGER), "GET / HTTP/1.0", &[])).contains_key("PROXY_ADDR"));
}

#[test]
fn each_of_thousands_of_headers_becomes_its_variable() {
    let mut map = ::http::Request::get("/").body(Body::empty()).unwrap();
    for n in 0..20_000 {
        let name: ::http::HeaderName = format!("x-{}", n % 10_000).parse().unwrap();
        map.headers_mut().append(name, "v".parse().unwrap());
    }
    let req = Request::from(map);
    let environ = req.environ().unwrap();
    assert_eq!(
        environ.iter().filter(|(name, value)| name.starts_with("HTTP_X_") && **value == *b"v,v").count(),
        10_000
    );
}

#[test]
fn flags_say_that_bodies_end() {
    let req = request(From::peer(STRANGER), "GET / HTTP/1.0", &[]);
    let flags = req.environ().unwrap().flags();
    assert!(flags.contains(&("wsgi.input_terminated", true)) && flags.contains(&("wsgi.multithread", false)));
}

#[test]
fn secrets_are_masked() {
    let req = request(
        From::peer(STRANGER),
        "GET / HTTP/1.0",
        &["Cookie: secret", "Authorization: secret", "X-A: 1"],
    );
    let text = format!("{:?}", req.environ().unwrap());
    assert!(text.contains("HTTP_X_A") && text.contains("Sensitive") && !text.contains("secret"), "{text}");
}

/// A request that a front server on this machine has handed on by the uwsgi protocol.
fn fronted(line: &str, headers: &[&str], vars: &[(&str, &str)]) -> Request {
    let from = From { vars: Some(uwsgi::tests::vars(vars)), ..From::peer(TRUSTED) };
    request(from, line, headers)
}

#[test]
fn a_front_servers_variables_are_there_and_count_before_the_servers() {
    let vars = all(&fronted(
        "POST /a?b=c HTTP/1.0",
        &["Content-Type: a/b", "X-A: 1"],
        &[
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "81"),
            ("SERVER_NAME", "front"),
            ("SERVER_PORT", ""),
            ("SERVER_PROTOCOL", "HTTP/2.0"),
            ("REQUEST_URI", "/before"),
            ("REMOTE_USER", "bob"),
            ("REMOTE_USER", "ann"),
            ("DOCUMENT_ROOT", "/srv"),
            ("EMPTY", ""),
        ],
    ));
    for (name, value) in [
        ("REMOTE_ADDR", "192.0.2.7"),
        ("REMOTE_PORT", "81"),
        ("SERVER_NAME", "front"),
        ("SERVER_PORT", "8000"),
        ("SERVER_PROTOCOL", "HTTP/2.0"),
        ("REQUEST_URI", "/before"),
        ("RAW_URI", "/a?b=c"),
        ("REMOTE_USER", "ann"),
        ("DOCUMENT_ROOT", "/srv"),
        ("EMPTY", ""),
        ("HTTP_X_A", "1"),
    ] {
        assert_eq!(vars.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[test]
fn a_front_servers_variables_are_neither_headers_nor_the_request_line() {
    let line = "POST /a?b=c HTTP/1.0";
    let mine = fronted(line, &["X-A: 1", "Content-Type: a/b"], &[]);
    let evil = [
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", "/evil"),
        ("QUERY_STRING", "evil"),
        ("RAW_URI", "/evil"),
        ("CONTENT_TYPE", "evil/evil"),
        ("CONTENT_LENGTH", "99"),
        ("HTTP_X_A", "evil"),
        ("HTTP_PROXY", "evil"),
        ("wsgi.url_scheme", "evil"),
        ("wsgi.errors", "evil"),
    ];
    assert_eq!(all(&fronted(line, &["X-A: 1", "Content-Type: a/b"], &evil)), all(&mine));
}

#[test]
fn a_front_servers_scheme_is_the_requests() {
    let scheme = |headers: &[&str], vars: &[(&str, &str)]| {
        let from = From {
            vars: Some(uwsgi::tests::vars(vars)),
            secure: uwsgi::tests::vars(vars).is_secure().unwrap_or(false),
            ..From::peer(TRUSTED)
        };
        all(&request(from, "GET / HTTP/1.0", headers))["wsgi.url_scheme"].clone()
    };
    assert_eq!(scheme(&[], &[("HTTPS", "on"), ("REMOTE_ADDR", STRANGER)]), "https");
    let claim = ["X-Forwarded-Proto: https"];
    assert_eq!(scheme(&claim, &[("REMOTE_ADDR", STRANGER)]), "http");
    assert_eq!(scheme(&claim, &[("REMOTE_ADDR", TRUSTED)]), "https", "a proxy before the front server");
}

#[test]
fn who_is_behind_a_front_server_that_does_not_say_is_nobody_to_believe() {
    let headers = ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil"];
    for untold in
        [&[][..], &[("REMOTE_ADDR", "")], &[("REMOTE_ADDR", "unix:")], &[("REMOTE_ADDR", "localhost")]]
    {
        for peer in [TRUSTED, "unix"] {
            let from = From { vars: Some(uwsgi::tests::vars(untold)), ..From::peer(peer) };
            let req = request(from, "GET / HTTP/1.0", &headers);
            assert_eq!(req.peer_addr(), None, "{untold:?}");
            assert_eq!(req.client_addr(), Ok(None), "{untold:?}");
            assert_eq!(req.scheme(), Ok("http"), "{untold:?}");
            assert_eq!(req.host(), Ok(None), "{untold:?}");
            let said = untold.first().map_or("", |(_, value)| value);
            assert_eq!(all(&req)["REMOTE_ADDR"], said);
        }
    }
}

#[test]
fn a_front_servers_script_name_is_taken_off_the_path_however_it_is_written() {
    let ends = |path: &str, script: &str| {
        let req = fronted(&format!("GET {path} HTTP/1.0"), &[], &[("SCRIPT_NAME", script)]);
        req.environ().map(drop)?;
        let vars = all(&req);
        Ok((vars["SCRIPT_NAME"].clone(), vars["PATH_INFO"].clone()))
    };
    for (path, script, name, rest) in [
        ("/app/x%20y", "/app", "/app", "/x y"),
        ("/%61pp/x", "/app", "/app", "/x"),
        ("/app/x", "/app/", "/app", "/x"),
        ("/app", "/app", "/app", ""),
        ("/a%20b/c", "/a b", "/a b", "/c"),
        ("/a%25b/c", "/a%b", "/a%b", "/c"),
        ("/%C3%A4/c", "/\u{e4}", "/\u{c3}\u{a4}", "/c"),
        ("/x", "", "", "/x"),
        ("/x", "/", "", "/x"),
    ] {
        assert_eq!(ends(path, script), Ok((name.into(), rest.into())), "{path} {script}");
    }
    for (path, script) in [("/apple", "/app"), ("/", "/app"), ("/a%2", "/a%20")] {
        assert_eq!(ends(path, script), Err(ForwardedError::ScriptName), "{path} {script}");
    }
}

#[test]
fn the_nests_of_routers_are_the_script_name() {
    let found = |headers: &[&str], peer: &str| {
        let seen = |req: Request| {
            let vars = all(&req);
            assert_eq!(
                req.environ().unwrap().get("PATH_INFO").as_deref(),
                Some(vars["PATH_INFO"].as_bytes())
            );
            format!("{} {}", vars["SCRIPT_NAME"], vars["PATH_INFO"])
        };
        let inner = Router::new().get("/x/{rest}", seen);
        let router = Router::new().nest("/a%20b/{user}", inner);
        let answer = router.call(request(From::peer(peer), "GET /a%20b/ann/x/y%20z HTTP/1.0", headers));
        assert_eq!(answer.status(), 200);
        String::from_utf8(answer.into_body().into_bytes().unwrap().to_vec()).unwrap()
    };
    assert_eq!(found(&[], STRANGER), "/a b/ann /x/y z");
    assert_eq!(found(&["SCRIPT_NAME: /a%20b"], TRUSTED), "/a b/ann /x/y z", "a part of the nests");
    assert_eq!(found(&["SCRIPT_NAME: /a%20b/ann/x"], TRUSTED), "/a b/ann/x /y z", "more than the nests");
}
