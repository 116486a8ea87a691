//! Behind proxies: what `/environ` tells of where a request came from, with the settings from the command line.

use std::net::SocketAddr;

use greenserve_tests::{Client, Response, Scratch, ServerProcess, request};
use serde_json::{Value, json};

fn environ(client: &mut Client, headers: &[&str]) -> Value {
    client.send(request("GET", "/environ?a=1", headers, b""));
    let response = client.response();
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()
}

fn status(server: &ServerProcess, headers: &[&str]) -> Response {
    server.answer_to(request("GET", "/environ", headers, b""))
}

const FORWARDED: &[&str] =
    &["X-Forwarded-For: 6.6.6.6, 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: www.example"];

/// What follows from [`FORWARDED`] if it is believed, and if it is not.
fn believed(seen: &Value) -> bool {
    let said = (&seen["scheme"], &seen["host"], &seen["client"]);
    assert_eq!(seen["environ"]["wsgi.url_scheme"], seen["scheme"]);
    if said == (&json!("https"), &json!("www.example"), &json!("192.0.2.7")) {
        return true;
    }
    assert_eq!((said.0, said.1), (&json!("http"), &json!("test")), "{seen}");
    assert_ne!(seen["client"], "192.0.2.7", "{seen}");
    false
}

#[test]
fn who_is_believed_is_set_by_flag_or_variable() {
    for (flags, variable, expected) in [
        (&[][..], "", true),
        (&["--forwarded-allow-ips", "127.0.0.0/8"], "", true),
        (&["--forwarded-allow-ips", ""], "", false),
        (&["--forwarded-allow-ips", "10.0.0.1, ::1"], "", false),
        (&[], "10.0.0.1", false),
        (&["--forwarded-allow-ips=127.0.0.1"], "10.0.0.1", true),
    ] {
        let builder = ServerProcess::builder().args(["demo"]).args(flags);
        let server = builder.env("FORWARDED_ALLOW_IPS", variable).start();
        let seen = environ(&mut server.connect(), FORWARDED);
        assert_eq!(believed(&seen), expected, "{flags:?} {variable}");
        assert_eq!(seen["environ"]["REMOTE_ADDR"], "127.0.0.1", "the peer stays who it is");
        assert_eq!(seen["environ"]["HTTP_X_FORWARDED_FOR"], "6.6.6.6, 192.0.2.7");
        assert_eq!(seen["environ"]["SERVER_PORT"], server.addr().port().to_string());
    }
}

#[test]
fn a_unix_socket_is_believed_always() {
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let bind = format!("unix:{}", path.display());
    let _server = ServerProcess::builder().args(["demo", "--forwarded-allow-ips="]).bind(bind).start();
    let seen = environ(&mut Client::unix(&path), FORWARDED);
    assert!(believed(&seen));
    assert_eq!(
        (&seen["environ"]["REMOTE_ADDR"], &seen["environ"]["REMOTE_PORT"]),
        (&json!(""), &Value::Null)
    );
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_is_found_in_ipv4_networks() {
    if std::net::TcpListener::bind("[::]:0").is_err() {
        // a machine without IPv6
        return;
    }
    let flags = ["demo", "--forwarded-allow-ips", "127.0.0.0/8", "--proxy-protocol", "auto"];
    let server =
        ServerProcess::builder().args(flags).args(["--proxy-allow-from", "127.0.0.1"]).bind("[::]:0").start();
    let port = server.listening()[0].rsplit_once(':').unwrap().1.parse().unwrap();
    let mut client = Client::tcp(SocketAddr::from(([127, 0, 0, 1], port)));
    client.send("PROXY UNKNOWN\r\n");
    let seen = environ(&mut client, FORWARDED);
    assert!(seen["peer"].as_str().unwrap().starts_with("[::ffff:127.0.0.1]:"), "{seen}");
    assert!(believed(&seen));
}

#[test]
fn contradictory_headers_are_answered_400_when_somebody_asks() {
    let server = ServerProcess::start(["demo"]);
    let schemes = ["X-Forwarded-Ssl: on", "X-Forwarded-Proto: http"];
    let clients = ["Forwarded: for=6.6.6.6", "X-Forwarded-For: 192.0.2.7"];
    let hosts = ["Forwarded: host=a", "X-Forwarded-Host: b"];
    for headers in [&schemes[..], &clients, &hosts, &["Forwarded: for=\"open"], &["X-Forwarded-Host: a/b"]] {
        let response = status(&server, headers);
        assert_eq!(response.status, 400, "{headers:?}");
        assert!(!response.from_app());
        assert_eq!(server.answer_to(request("GET", "/plaintext", headers, b"")).status, 200);
    }
    let server = ServerProcess::start(["demo", "--forwarded-allow-ips="]);
    assert_eq!(status(&server, &schemes).status, 200, "a stranger's are not looked at");
    let server = ServerProcess::start(["demo", "--secure-scheme-headers", "X-Forwarded-Ssl=on"]);
    let response = status(&server, &schemes);
    assert_eq!((response.status, &response.json()["scheme"]), (200, &json!("https")));
}

#[test]
fn a_prefix_that_is_not_where_the_path_begins_is_a_500_and_a_line_in_the_log() {
    let server = ServerProcess::start(["demo"]);
    assert_eq!(status(&server, &["SCRIPT_NAME: /app"]).status, 500);
    server.wait_for_log("SCRIPT_NAME");
    let seen = environ(&mut server.connect(), &["SCRIPT_NAME: /environ"]);
    assert_eq!(
        (&seen["environ"]["SCRIPT_NAME"], &seen["environ"]["PATH_INFO"]),
        (&json!("/environ"), &json!(""))
    );
}

#[test]
fn header_map_says_what_becomes_of_underscores() {
    let pair = ["X-Real: good", "X_Real: evil"];
    let mapped = |mapping: &str, headers: &[&str]| {
        let server = ServerProcess::start(["demo", "--header-map", mapping]);
        let mut client = server.connect();
        client.send(request("GET", "/environ", headers, b""));
        let response = client.response();
        match response.status {
            200 => response.json()["environ"]["HTTP_X_REAL"].as_str().unwrap_or("-").to_owned(),
            status => {
                assert!(!response.from_app());
                client.expect_close();
                status.to_string()
            }
        }
    };
    for (mapping, both, alone) in
        [("drop", "good", "-"), ("refuse", "400", "400"), ("dangerous", "good", "evil")]
    {
        assert_eq!(mapped(mapping, &pair), both, "{mapping}");
        assert_eq!(mapped(mapping, &pair[1..]), alone, "{mapping}");
        assert_eq!(mapped(mapping, &["X-Real: good", "SCRIPT_NAME: /environ"]), "good", "{mapping}");
    }
}

#[test]
fn what_is_forwarded_is_bounded_by_the_limits_of_fields() {
    let server = ServerProcess::start(["demo"]);
    let long = format!("X-Forwarded-For: {}192.0.2.7", "6.6.6.6,".repeat(1 << 17));
    assert_eq!(status(&server, &[&long]).status, 431);
    let server = ServerProcess::start(["demo", "--limit-request-field_size", "0"]);
    let long = format!("X-Forwarded-For: {}192.0.2.7", "127.0.0.1,".repeat(90_000));
    assert_eq!(environ(&mut server.connect(), &[&long])["client"], "192.0.2.7");
    let forwarded = format!("Forwarded: for=127.0.0.1{}", ",for=127.0.0.1".repeat(70_000));
    assert_eq!(environ(&mut server.connect(), &[&forwarded])["client"], "127.0.0.1");
}

#[test]
fn the_access_log_shows_the_address_of_the_proxy_header_and_not_that_of_a_http_header() {
    for class in ["green", "threads"] {
        let flags = ["demo", "-k", class, "--access-logfile", "-", "--proxy-protocol", "v1"];
        let server = ServerProcess::start(flags.into_iter().chain(["--forwarded-allow-ips", "*"]));
        let mut client = server.connect();
        client.send("PROXY TCP6 2001:db8::7 2001:db8::80 4711 443\r\n");
        let seen = environ(&mut client, &["X-Forwarded-For: 192.0.2.7"]);
        let vars = &seen["environ"];
        let proxy = ["PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT", "REMOTE_ADDR", "SERVER_NAME"];
        let expected = ["TCP6", "2001:db8::80", "443", "2001:db8::7", "[2001:db8::80]"];
        assert_eq!(proxy.map(|name| &vars[name]), expected.map(|value| json!(value)).each_ref(), "{seen}");
        assert_eq!(seen["client"], "192.0.2.7");
        let line = server.wait_for_output("/environ");
        assert!(line.starts_with("2001:db8::7 - - ["), "{line}");
        let mut other = server.connect();
        other.send(request("GET", "/environ", &[], b""));
        other.expect_gone();
        server.wait_for_log("it does not begin with a PROXY header");
    }
}

#[test]
fn the_application_is_told_whether_threads_or_other_processes_serve_too() {
    for (flags, threads, processes) in [
        (&["-w", "0"][..], false, false),
        (&["-w", "1"], false, false),
        (&["-w", "2"], false, true),
        (&["-w", "2", "-k", "threads"], true, true),
    ] {
        let server = ServerProcess::builder().args(["demo"]).args(flags).start();
        let flags_seen = environ(&mut server.connect(), &[])["flags"].clone();
        assert_eq!(flags_seen["wsgi.multithread"], threads, "{flags:?}");
        assert_eq!(flags_seen["wsgi.multiprocess"], processes, "{flags:?}");
    }
}
