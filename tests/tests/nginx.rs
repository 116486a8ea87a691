//! The `greenserve` binary behind a real nginx, by the ways that people put it there: HTTP over TCP with connections that
//! are used again, HTTP over a unix socket, and uwsgi over both.
//!
//! nginx runs as a child in the foreground, on a free port and with all its files in a scratch directory. Where there is
//! none these tests say NOT CHECKED and pass.

use std::net::SocketAddr;
use std::thread;

use greenserve_tests::{
    Client, Framing, PATIENCE, Proxy, ReadError, Response, Scratch, ServerProcess, eventually,
};
use serde_json::{Value, json};

/// The ways, each the name of a server in nginx's configuration.
const WAYS: [&str; 4] = ["http-tcp", "http-unix", "uwsgi-tcp", "uwsgi-unix"];

/// nginx and the servers behind it, one for each way. nginx goes first.
struct World {
    nginx: Proxy,
    servers: Vec<ServerProcess>,
    scratch: Scratch,
}

impl World {
    /// `None`: there is no nginx.
    fn start(args: &[&str]) -> Option<World> {
        if !Proxy::exists("nginx") {
            return None;
        }
        let scratch = Scratch::new();
        let servers: Vec<_> = WAYS.map(|way| serve(&scratch, way, args, None)).into();
        scratch.write("uwsgi_params", UWSGI_PARAMS);
        let (http, uwsgi) = (servers[0].addr(), servers[2].addr());
        let nginx = Proxy::nginx(&scratch, |addr| configuration(&scratch, addr, http, uwsgi));
        Some(World { nginx, servers, scratch })
    }

    fn connect(&self) -> Client {
        Client::tcp(self.nginx.addr())
    }

    #[track_caller]
    fn ask(&self, way: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Response {
        let mut client = self.connect();
        client.send(request(way, method, target, fields, body));
        client.response_to(method)
    }

    #[track_caller]
    fn get(&self, way: &str, target: &str) -> Response {
        self.ask(way, "GET", target, &[], b"")
    }

    #[track_caller]
    fn json(&self, way: &str, target: &str, fields: &[&str]) -> Value {
        let response = self.ask(way, "GET", target, fields, b"");
        serde_json::from_str(response.text()).unwrap_or_else(|_| panic!("{way}: {}", response.text()))
    }
}

/// The server for a way; at its old place, if it had one.
fn serve(scratch: &Scratch, way: &str, args: &[&str], at: Option<SocketAddr>) -> ServerProcess {
    let (protocol, kind) = way.split_once('-').unwrap();
    let bind = match (kind, at) {
        ("tcp", None) => "127.0.0.1:0".to_owned(),
        ("tcp", Some(at)) => at.to_string(),
        _ => format!("unix:{}", scratch.join(&format!("{way}.sock")).display()),
    };
    ServerProcess::builder().args(args).args(["--protocol", protocol]).bind(bind).start()
}

fn request(way: &str, method: &str, target: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {way}\r\n{fields}{length}\r\n");
    [head.as_bytes(), body].concat()
}

/// What nginx brings along under this name.
const UWSGI_PARAMS: &str = "
    uwsgi_param QUERY_STRING $query_string;
    uwsgi_param REQUEST_METHOD $request_method;
    uwsgi_param CONTENT_TYPE $content_type;
    uwsgi_param CONTENT_LENGTH $content_length;
    uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param PATH_INFO $document_uri;
    uwsgi_param DOCUMENT_ROOT $document_root;
    uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param REQUEST_SCHEME $scheme;
    uwsgi_param HTTPS $https if_not_empty;
    uwsgi_param REMOTE_ADDR $remote_addr;
    uwsgi_param REMOTE_PORT $remote_port;
    uwsgi_param SERVER_PORT $server_port;
    uwsgi_param SERVER_NAME $server_name;
";

/// As nginx's documentation has it for WebSockets, and events that are not held back.
fn upgrading(way: &str) -> String {
    format!(
        "location /ws {{
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_pass http://{way};
        }}
        location /tls/ {{
            rewrite ^/tls(/.*)$ $1 break;
            proxy_set_header X-Forwarded-Proto https;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_pass http://{way};
        }}"
    )
}

/// One server for each way, with the locations that people write.
fn configuration(scratch: &Scratch, listen: SocketAddr, http: SocketAddr, uwsgi: SocketAddr) -> String {
    let dir = scratch.path().display();
    let temp: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("{of}_temp_path {dir}/{of};\n"))
        .concat();
    let servers: String = WAYS
        .map(|way| {
            let (protocol, pass) = match &way[..4] {
                "http" => (
                    "proxy",
                    format!(
                        "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                         proxy_set_header X-Forwarded-Proto $scheme;
                         proxy_set_header X-Forwarded-Host $http_host;
                         proxy_set_header Host $http_host;
                         proxy_redirect off;
                         proxy_http_version 1.1;
                         proxy_set_header Connection \"\";
                         proxy_pass http://{way};"
                    ),
                ),
                _ => ("uwsgi", format!("include uwsgi_params; uwsgi_param MINE mine; uwsgi_pass {way};")),
            };
            format!(
                "server {{
                    listen {listen}{default};
                    server_name {way};
                    root {dir}/public;
                    location / {{ try_files $uri @app; }}
                    location @app {{ {pass} }}
                    location /stream {{ {protocol}_buffering off; {pass} }}
                    {unbuffered}
                    location /unbuffered/ {{
                        rewrite ^/unbuffered(/.*)$ $1 break;
                        {protocol}_request_buffering off;
                        {pass}
                    }}
                    location /app/ {{
                        rewrite ^/app(/.*)$ $1 break;
                        {script}
                        {pass}
                    }}
                }}",
                unbuffered = if protocol == "proxy" { upgrading(way) } else { String::new() },
                default = if way == "uwsgi-tcp" { " default_server" } else { "" },
                script = if protocol == "uwsgi" { "uwsgi_param SCRIPT_NAME /app;" } else { "" },
            )
        })
        .concat();
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log info;
         events {{ worker_connections 1024; }}
         http {{
            map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
            access_log off; client_max_body_size 4G; sendfile on; server_tokens off;
            {temp}
            upstream http-tcp {{ server {http} fail_timeout=0; keepalive 32; }}
            upstream http-unix {{ server unix:{dir}/http-unix.sock fail_timeout=0; }}
            upstream uwsgi-tcp {{ server {uwsgi} fail_timeout=0; }}
            upstream uwsgi-unix {{ server unix:{dir}/uwsgi-unix.sock fail_timeout=0; }}
            {servers}
         }}"
    )
}

#[test]
fn answers_come_through_whole() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let mut client = world.connect();
        for _ in 0..3 {
            client.send(request(way, "GET", "/plaintext", &[], b""));
            assert_eq!(client.response().text(), "Hello, World!", "{way}");
        }
        let head = world.ask(way, "HEAD", "/fixed?n=1000", &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("1000")), "{way}");
        for status in [204, 304, 404, 418, 500] {
            assert_eq!(world.get(way, &format!("/status/{status}")).status, status, "{way}");
        }
        let large = world.get(way, "/fixed?n=20000000");
        assert_eq!((large.framing, large.body.len()), (Framing::Length(20_000_000), 20_000_000), "{way}");
        let digits = b"0123456789".iter().cycle();
        assert!(large.body.iter().zip(digits).all(|(found, expected)| found == expected), "{way}");
        let unknown = world.get(way, "/no-length");
        assert_eq!(unknown.text(), "a body of undeclared length\n", "{way}");
        let mut old = world.connect();
        old.send(format!("GET /no-length HTTP/1.0\r\nHost: {way}\r\n\r\n"));
        assert_eq!(old.response().text(), unknown.text(), "{way}");
    }
    // who names no host gets the server by its own name; over HTTP it would depend on proxy_set_header
    let mut nameless = world.connect();
    nameless.send("GET /echo HTTP/1.0\r\n\r\n");
    let echo: Value = serde_json::from_str(nameless.response().text()).unwrap();
    assert!(echo["authority"].as_str().unwrap().starts_with("uwsgi-tcp"), "{echo}");
}

#[test]
fn a_stream_comes_through_piece_by_piece() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let mut client = world.connect();
        // without an end in sight: what is seen has been sent before it
        client.send(request(way, "GET", "/stream?n=1000000&size=10&delay_ms=50", &[], b""));
        assert_eq!(client.read_head("GET").unwrap().framing, Framing::Chunked, "{way}");
        let mut seen = Vec::new();
        while seen.len() < 30 {
            seen.extend(client.read_chunk());
        }
        assert!(seen.starts_with(b"aaaaaaaaaabbbbbbbbbbcccccccccc"), "{way}");
    }
}

#[test]
fn uploads_come_through_whole() {
    let Some(world) = World::start(&["demo"]) else { return };
    let body: Vec<u8> = (0..1u32 << 20).map(|n| (n % 253) as u8).collect();
    let mut chunked = Vec::new();
    for piece in body.chunks(50_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    for way in WAYS {
        for target in ["/upload", "/unbuffered/upload"] {
            let sized = world.ask(way, "POST", target, &[], &body);
            let seen: Value = serde_json::from_str(sized.text()).unwrap();
            assert_eq!(seen["length"], 1 << 20, "{way} {target}: {seen}");
            let mut client = world.connect();
            client.send(request(way, "POST", target, &["Transfer-Encoding: chunked"], b""));
            client.send(&chunked);
            assert_eq!(client.response().body, sized.body, "{way} {target}");
            let expecting = world.ask_expecting(way, target, &body);
            assert_eq!(expecting.body, sized.body, "{way} {target}");
        }
        let empty = world.ask(way, "POST", "/upload", &["Content-Length: 0"], b"");
        let seen: Value = serde_json::from_str(empty.text()).unwrap();
        assert_eq!(seen["length"], 0, "{way}");
        assert_eq!(world.ask(way, "POST", "/ignore-body", &[], &body).status, 200, "{way}");
    }
}

impl World {
    /// As a client that waits to be told to continue; nginx tells it.
    fn ask_expecting(&self, way: &str, target: &str, body: &[u8]) -> Response {
        let mut client = self.connect();
        let bytes = request(way, "POST", target, &["Expect: 100-continue"], body);
        let (head, body) = bytes.split_at(bytes.len() - body.len());
        client.send(head);
        assert_eq!(client.response().status, 100, "{way}");
        client.send(body);
        client.response()
    }
}

#[test]
fn the_application_sees_the_request_as_the_client_made_it() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let fields = ["X-A: 1", "X-A: 2", "Cookie: a=b", "User-Agent: test/1"];
        let target = "/echo/%C3%A4%20b%2Fc?q=%26%20";
        let echo = world.json(way, target, &fields);
        assert_eq!(echo["target"], target, "{way}");
        assert_eq!(echo["path"], "/echo/ä b/c", "{way}");
        assert_eq!(echo["query"], "q=%26%20", "{way}");
        assert_eq!(echo["authority"], way);
        let headers = echo["headers"].as_array().unwrap();
        for field in [["cookie", "a=b"], ["user-agent", "test/1"]] {
            assert!(headers.contains(&json!(field)), "{way}: {field:?} in {headers:?}");
        }
        // newer nginx makes one field of them
        let all: Vec<_> = headers.iter().filter(|field| field[0] == "x-a").map(|field| &field[1]).collect();
        assert!(all == [&json!("1"), &json!("2")] || all == [&json!("1, 2")], "{way}: {all:?}");
    }
}

#[test]
fn forwarded_fields_reach_the_application() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in ["http-tcp", "http-unix"] {
        let echo = world.json(way, "/echo", &["X-Forwarded-For: 192.0.2.1"]);
        let headers = echo["headers"].as_array().unwrap();
        for field in [
            ["x-forwarded-for", "192.0.2.1, 127.0.0.1"],
            ["x-forwarded-proto", "http"],
            ["x-forwarded-host", way],
        ] {
            assert!(headers.contains(&json!(field)), "{way}: {field:?} in {headers:?}");
        }
    }
}

#[test]
fn uwsgi_brings_the_variables_and_the_clients_address() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in ["uwsgi-tcp", "uwsgi-unix"] {
        let mut client = world.connect();
        client.send(request(way, "GET", "/whoami", &[], b""));
        let who: Value = serde_json::from_str(client.response().text()).unwrap();
        assert_eq!(who["peer"], client.local_addr().to_string(), "{way}");
        let vars = world.json(way, "/vars", &[]);
        for pair in [
            ["MINE", "mine"],
            ["REMOTE_ADDR", "127.0.0.1"],
            ["SERVER_PROTOCOL", "HTTP/1.1"],
            ["REQUEST_SCHEME", "http"],
            ["SERVER_NAME", way],
        ] {
            assert!(vars.as_array().unwrap().contains(&json!(pair)), "{way}: {pair:?} in {vars}");
        }
    }
}

#[test]
fn a_path_that_was_rewritten_is_what_the_application_sees() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let echo = world.json(way, "/unbuffered/echo/%C3%A4?a", &[]);
        assert_eq!((&echo["path"], &echo["query"]), (&json!("/echo/ä"), &json!("a")), "{way}");
        let echo = world.json(way, "/app/echo?a", &[]);
        // the name of the application's place belongs to the target if nginx tells it
        let expected = if way.starts_with("uwsgi") { "/app/echo?a" } else { "/echo?a" };
        assert_eq!(echo["target"], expected, "{way}");
    }
    for way in ["uwsgi-tcp", "uwsgi-unix"] {
        assert_eq!(world.json(way, "/echo//x/../%79?a", &[])["target"], "/echo/y?a");
    }
}

#[test]
fn many_requests_at_once() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        thread::scope(|scope| {
            for thread in 0..10 {
                let mut client = world.connect();
                scope.spawn(move || {
                    for number in 0..50 {
                        let target = format!("/echo/{thread}/{number}");
                        client.send(request(way, "GET", &target, &[], b""));
                        let response = client.response();
                        assert_eq!(response.status, 200, "{way}: {}", response.text());
                        assert!(response.text().contains(&target), "{way}: {}", response.text());
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_that_leaves_early_leaves_nothing_behind() {
    let Some(world) = World::start(&["demo"]) else { return };
    for (way, server) in WAYS.iter().zip(&world.servers) {
        let before = server.proc().open_files();
        for _ in 0..10 {
            let mut client = world.connect();
            client.send(request(way, "GET", "/stream?n=1000000&size=100&delay_ms=10", &[], b""));
            client.read_head("GET").unwrap();
            client.reset();
            let mut client = world.connect();
            client.send(request(way, "POST", "/unbuffered/upload", &["Content-Length: 100"], b""));
            client.reset();
        }
        eventually(PATIENCE, || server.proc().open_files() <= before);
        assert_eq!(world.get(way, "/plaintext").status, 200, "{way}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_passed_on_as_whole() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let mut targets = vec!["/bad-length?declared=100000&actual=5"];
        if way != "uwsgi-unix" {
            // there nothing but the length could tell
            targets.push("/panic-mid");
        }
        for target in targets {
            let mut client = world.connect();
            client.send(request(way, "GET", target, &[], b""));
            match client.try_response() {
                Err(ReadError::Truncated(_) | ReadError::Failed(_)) => {}
                Ok(response) if response.status == 502 => {}
                other => panic!("{way} {target}: {other:?}"),
            }
        }
        assert_eq!(world.get(way, "/panic").status, 500, "{way}");
        assert_eq!(world.get(way, "/plaintext").status, 200, "{way}");
    }
}

#[test]
fn a_server_may_restart_behind_nginx() {
    let Some(mut world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        assert_eq!(world.get(way, "/plaintext").status, 200, "{way}");
        let old = world.servers.remove(0);
        let at = way.ends_with("tcp").then(|| old.addr());
        drop(old);
        assert_eq!(world.get(way, "/plaintext").status, 502, "{way}");
        world.servers.push(serve(&world.scratch, way, &["demo"], at));
        assert_eq!(world.get(way, "/plaintext").text(), "Hello, World!", "{way}");
    }
}

#[test]
fn files_come_through_with_conditions_and_ranges() {
    let files = Scratch::new();
    let content: Vec<u8> = (0..1_000_000u32).map(|n| (n % 251) as u8).collect();
    files.write("ä b.bin", &content);
    let Some(world) = World::start(&[&format!("static:{}", files.path().display())]) else { return };
    for way in WAYS {
        let whole = world.get(way, "/%C3%A4%20b.bin");
        assert_eq!((whole.status, whole.body == content), (200, true), "{way}");
        let etag = format!("If-None-Match: {}", whole.header("etag").unwrap());
        assert_eq!(world.ask(way, "GET", "/%C3%A4%20b.bin", &[&etag], b"").status, 304, "{way}");
        let part = world.ask(way, "GET", "/%C3%A4%20b.bin", &["Range: bytes=10-19"], b"");
        assert_eq!((part.status, &part.body[..]), (206, &content[10..20]), "{way}");
    }
}

#[test]
fn a_websocket_goes_through() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in ["http-tcp", "http-unix"] {
        let mut client = world.connect();
        let fields = [
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ];
        client.send(request(way, "GET", "/ws", &fields, b""));
        let head = client.read_head("GET").unwrap();
        assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")), "{way}");
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{way}");
        // "hi" and a close of 1001, masked with zeros
        client.send(b"\x81\x82\0\0\0\0hi\x88\x82\0\0\0\0\x03\xe9");
        assert_eq!(client.read_rest().unwrap(), b"\x81\x02hi\x88\x02\x03\xe9", "{way}");
        assert_eq!(world.get(way, "/ws").status, 426, "{way}: without being asked for it");
    }
}

#[test]
fn events_come_one_by_one_although_nginx_buffers() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in WAYS {
        let mut client = world.connect();
        // the next one is a minute away
        client.send(request(way, "GET", "/events?n=2&delay_ms=60000", &["Last-Event-ID: 7"], b""));
        let head = client.read_head("GET").unwrap();
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{way}");
        let mut seen = Vec::new();
        while !seen.ends_with(b"\n\n") {
            seen.extend(client.read_chunk());
        }
        assert!(seen.starts_with(b"event: count\nid: 8\n"), "{way}: {}", String::from_utf8_lossy(&seen));
    }
}

#[test]
fn the_scheme_and_the_client_are_what_nginx_says() {
    let Some(world) = World::start(&["demo"]) else { return };
    for way in ["http-tcp", "http-unix"] {
        let plain = world.json(way, "/environ", &[]);
        assert_eq!((&plain["scheme"], &plain["host"]), (&json!("http"), &json!(way)), "{way}");
        let seen = world.json(way, "/tls/environ", &["X-Forwarded-For: 192.0.2.1"]);
        assert_eq!((&seen["scheme"], &seen["client"]), (&json!("https"), &json!("127.0.0.1")), "{way}");
        assert_eq!(seen["environ"]["wsgi.url_scheme"], "https", "{way}");
    }
}

#[test]
fn by_uwsgi_nginx_says_who_and_where_and_the_client_can_claim_nothing() {
    // The client is on this machine, which is trusted unless told otherwise.
    let Some(world) = World::start(&["demo", "--forwarded-allow-ips", ""]) else { return };
    let claims = [
        "X-Forwarded-For: 192.0.2.1",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "Forwarded: for=192.0.2.1;proto=https;host=evil",
        "Remote-User: evil",
        "Script-Name: /evil",
        "Https: on",
    ];
    for way in ["uwsgi-tcp", "uwsgi-unix"] {
        let seen = world.json(way, "/environ?a=1", &claims);
        assert_eq!((&seen["scheme"], &seen["client"]), (&json!("http"), &json!("127.0.0.1")), "{way}");
        assert_eq!(seen["host"], way);
        for (name, value) in [
            ("SERVER_NAME", way),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("MINE", "mine"),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", "/environ"),
            ("QUERY_STRING", "a=1"),
            ("HTTP_REMOTE_USER", "evil"),
        ] {
            assert_eq!(seen["environ"][name], value, "{way}: {name}");
        }
        assert!(seen["environ"].get("REMOTE_USER").is_none(), "{way}: {seen}");
    }
}
