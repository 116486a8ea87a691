//! The router, its limits and what takes requests apart, served by the public API to clients that send exact bytes.

use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use greenserve::log::{AccessFormat, FormattedLog, Sink};
use greenserve::{
    Body, Error, Handler, IntoResponse, Json, Request, Response, Router, Server, ServerHandle, StatusCode,
    cookie::Cookie, limit_body, time_limit,
};
use greenserve_tests::{Client, request};
use serde::{Deserialize, Serialize};

/// A server in a thread of its own; stopped when dropped.
struct Running {
    addr: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Running {
    fn start(threads: bool, app: impl Handler + Send + Sync) -> Running {
        Running::serve(Server::bind("127.0.0.1:0").unwrap(), threads, app)
    }

    fn serve(server: Server, threads: bool, app: impl Handler + Send + Sync) -> Running {
        let addr = server.local_addrs()[0].as_inet().unwrap();
        let handle = server.handle();
        let serve = move || if threads { server.serve_threads(app) } else { server.serve(app) };
        Running { addr, handle, thread: Some(std::thread::spawn(serve)) }
    }

    fn client(&self) -> Client {
        Client::tcp(self.addr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("joined once").expect("the server panicked").expect("the server failed");
        }
    }
}

/// Runs a test with green threads and with OS threads.
fn both<A: Handler + Send + Sync>(app: impl Fn() -> A, test: impl Fn(&Running)) {
    for threads in [false, true] {
        println!("threads: {threads}");
        test(&Running::start(threads, app()));
    }
}

#[derive(Deserialize, Serialize)]
struct Point {
    x: i32,
    y: i32,
}

fn point(mut req: Request) -> Result<Json<Point>, Error> {
    let Point { x, y } = req.json()?;
    Ok(Json(Point { x: y, y: x }))
}

fn size(req: Request) -> std::io::Result<String> {
    Ok(req.into_body().into_bytes()?.len().to_string())
}

/// Status and text of the answer to a request with this body.
fn post(client: &mut Client, target: &str, headers: &[&str], body: &[u8]) -> (u16, String) {
    client.send(request("POST", target, headers, body));
    let response = client.response();
    (response.status, response.text().to_owned())
}

fn chunked(target: &str, sizes: &[usize]) -> Vec<u8> {
    let mut all =
        format!("POST {target} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
    for size in sizes {
        all.extend(format!("{size:x}\r\n{}\r\n", "x".repeat(*size)).bytes());
    }
    all.extend(b"0\r\n\r\n");
    all
}

#[test]
fn paths_and_methods_lead_to_their_handlers() {
    let app = || {
        let users = Router::new()
            .get("/{id}", |req: Request| format!("{} {:?}", req.route().unwrap_or("none"), req.param("id")))
            .put("/{id}", |_: Request| StatusCode::NO_CONTENT);
        Router::new().get("/", |_: Request| "home").nest("/users", users)
    };
    both(app, |server| {
        let mut client = server.client();
        assert_eq!(client.get("/").text(), "home");
        assert_eq!(client.get("/users/a%2Fb%20c").text(), "/users/{id} Some(\"a/b c\")");
        assert_eq!(client.get("/users/%FF").status, 400);
        assert_eq!(client.get("/users/7/").status, 404);
        assert_eq!(client.get("//users/7").status, 404);
        assert_eq!(client.get("http://other/users/7?a").text(), "/users/{id} Some(\"7\")");
        client.send(request("HEAD", "/users/7", &[], b""));
        let head = client.response_to("HEAD");
        assert_eq!((head.status, head.header("content-length")), (200, Some("21")));
        client.send(request("DELETE", "/users/7", &[], b""));
        let refused = client.response();
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD, OPTIONS, PUT")));
        client.send(request("OPTIONS", "/users/7", &[], b""));
        let options = client.response();
        assert_eq!((options.status, options.header("allow")), (204, Some("GET, HEAD, OPTIONS, PUT")));
        client.send(request("OPTIONS", "*", &[], b""));
        assert_eq!(client.response().status, 204);
        client.send("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n");
        assert_eq!(client.response_to("CONNECT").status, 501);
    });
}

#[test]
fn json_that_is_not_what_was_wanted_is_refused_with_the_reason_and_the_connection_lives_on() {
    both(
        || Router::new().post("/point", point),
        |server| {
            let mut client = server.client();
            const JSON: &[&str] = &["Content-Type: application/json"];
            for (headers, body, status, reason) in [
                (JSON, r#"{"x": 1, "y": 2}"#, 200, r#"{"x":2,"y":1}"#),
                (JSON, r#"{"x": 1"#, 400, "the body is no JSON: EOF"),
                (JSON, r#"{"x": 1}"#, 422, "missing field `y`"),
                (&["Content-Type: text/plain"], r#"{"x": 1, "y": 2}"#, 415, "application/json"),
                (&[], r#"{"x": 1, "y": 2}"#, 415, "application/json"),
            ] {
                let (found, text) = post(&mut client, "/point", headers, body.as_bytes());
                assert_eq!(found, status, "{body}: {text}");
                assert!(text.contains(reason), "{text}");
            }
            let large = vec![b' '; 2 * 1024 * 1024 + 1];
            assert_eq!(post(&mut server.client(), "/point", JSON, &large).0, 413);
        },
    );
}

#[test]
fn a_body_that_is_announced_too_large_is_refused_before_anybody_sends_or_reads_it() {
    let app = || {
        let never = |_: Request| -> Response { panic!("the handler was asked") };
        Router::new()
            .post("/small", never.with(limit_body(10)))
            .post("/large", size.with(limit_body(5_000_000)))
    };
    both(app, |server| {
        let mut client = server.client();
        client.send("POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.response().status, 413, "and no 100 Continue before it");
        client.expect_close();
        let mut other = server.client();
        assert_eq!(post(&mut other, "/small", &[], b"eleven bytes").0, 413);
        assert_eq!(post(&mut other, "/large", &[], &[b'x'; 3_000_000]), (200, "3000000".into()));
    });
}

#[test]
fn a_chunked_body_is_refused_where_it_crosses_the_limit_of_its_route() {
    let app = || {
        Router::new()
            .post("/ten", size.with(limit_body(10)))
            .post("/json", point.with(limit_body(10)))
            .post("/any", size)
    };
    both(app, |server| {
        let mut client = server.client();
        client.send(chunked("/ten", &[4, 6]));
        assert_eq!(client.response().text(), "10");
        client.send(chunked("/any", &[4, 6, 1]));
        assert_eq!(client.response().text(), "11");
        client.send(chunked("/ten", &[4, 6, 1]));
        assert_eq!(client.response().status, 413);
        let mut endless = server.client();
        endless.send(chunked("/ten", &[4])[..].strip_suffix(b"0\r\n\r\n").unwrap());
        endless.send("ffffff\r\n");
        endless.send("xxxxxxxxxxx");
        assert_eq!(endless.response().status, 413, "without the rest of the chunk");
        endless.expect_close();
    });
}

#[test]
fn the_smaller_of_the_servers_and_the_routes_limit_holds() {
    let server = Server::bind("127.0.0.1:0").unwrap();
    let server = server.limits(greenserve::http::Limits { request_body: 20, ..Default::default() });
    let addr = server.local_addrs()[0].as_inet().unwrap();
    let handle = server.handle();
    let thread = std::thread::spawn(move || {
        server.serve(
            Router::new().post("/more", size.with(limit_body(30))).post("/less", size.with(limit_body(10))),
        )
    });
    let running = Running { addr, handle, thread: Some(thread) };
    assert_eq!(post(&mut running.client(), "/more", &[], &[b'x'; 20]).1, "20");
    assert_eq!(post(&mut running.client(), "/more", &[], &[b'x'; 21]).0, 413);
    assert_eq!(post(&mut running.client(), "/less", &[], &[b'x'; 11]).0, 413);
    let mut client = running.client();
    client.send(chunked("/more", &[21]));
    assert_eq!(client.response().status, 413);
}

#[test]
fn a_handler_is_ended_when_its_time_is_over_and_the_connection_lives_on() {
    let app = || {
        let slow = |_: Request| greenlet::sleep(Duration::from_secs(3600));
        let bounded = size.with(time_limit(Duration::from_millis(50)));
        Router::new().get("/slow", slow.with(time_limit(Duration::from_millis(50)))).post("/size", bounded)
    };
    both(app, |server| {
        let mut client = server.client();
        assert_eq!(client.get("/slow").status, 503);
        assert_eq!(client.get("/slow").status, 503);
        assert_eq!(post(&mut client, "/size", &[], b"abc").1, "3");
    });
    let server = Running::start(false, app());
    let mut client = server.client();
    client.send("POST /size HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    assert_eq!(client.response().status, 503, "it waited for the client");
    client.send("cde");
    assert_eq!(client.get("/slow").status, 503, "what is left of the body is no request");
}

#[test]
fn cookies_go_both_ways() {
    let app = || {
        Router::new().get("/", |req: Request| -> Result<Response, Error> {
            let seen: u32 = req.cookie("seen").and_then(|seen| seen.parse().ok()).unwrap_or_default();
            let mut response = format!("seen {seen} times").into_response();
            response.set_cookie(Cookie::build(("seen", (seen + 1).to_string())).path("/").http_only(true))?;
            response.set_cookie(("other", "1"))?;
            Ok(response)
        })
    };
    let server = Running::start(false, app());
    let mut client = server.client();
    client.send(request("GET", "/", &["Cookie: a=b; seen=41", "Cookie: seen=7"], b""));
    let response = client.response();
    assert_eq!(response.text(), "seen 41 times");
    assert_eq!(response.header_all("set-cookie"), ["seen=42; HttpOnly; Path=/", "other=1"]);
}

#[test]
fn forms_and_queries_are_taken_apart() {
    #[derive(Deserialize)]
    struct Search {
        words: String,
        tag: Vec<String>,
    }
    let show = |search: Search| format!("{}:{}", search.words, search.tag.join("+"));
    let app = move || {
        Router::new()
            .get("/", move |req: Request| req.query_as().map(show))
            .post("/", move |mut req: Request| req.form().map(show))
    };
    let server = Running::start(false, app());
    let mut client = server.client();
    assert_eq!(client.get("/?tag=a&words=x+%26&tag=b").text(), "x &:a+b");
    let wrong = client.get("/?tag=a");
    assert_eq!((wrong.status, wrong.text().contains("words")), (400, true));
    let form = &["Content-Type: application/x-www-form-urlencoded"];
    assert_eq!(post(&mut client, "/", form, b"words=%C3%BC&tag=1"), (200, "ü:1".into()));
    assert_eq!(post(&mut client, "/", form, b"nonsense").0, 422);
    assert_eq!(post(&mut client, "/", &[], b"words=x&tag=1").0, 415);
}

#[test]
fn a_form_with_files_is_read_as_it_comes() {
    let app = || {
        let upload = |mut req: Request| -> Result<String, Error> {
            let mut form = req.multipart()?;
            let mut all = String::new();
            while let Some(mut part) = form.next_part()? {
                let name = part.file_name().or(part.name()).unwrap_or_default().to_owned();
                all += &format!("{name}:{} ", std::io::copy(&mut part, &mut std::io::sink())?);
            }
            Ok(all)
        };
        Router::new().post("/", upload).post("/limited", upload.with(limit_body(1000)))
    };
    let field = |name: &str, size: usize| {
        format!("--X\r\nContent-Disposition: form-data; {name}\r\n\r\n{}\r\n", "x".repeat(size))
    };
    let form = field("name=\"a\"", 3) + &field("name=\"f\"; filename=\"b.bin\"", 3_000_000) + "--X--\r\n";
    let headers = &["Content-Type: multipart/form-data; boundary=X"];
    both(app, |server| {
        let mut client = server.client();
        assert_eq!(post(&mut client, "/", headers, form.as_bytes()).1, "a:3 b.bin:3000000 ");
        assert_eq!(post(&mut client, "/", headers, &form.as_bytes()[..2000]).0, 400);
        assert_eq!(post(&mut client, "/", &[], form.as_bytes()).0, 415);
        let mut client = server.client();
        client.send("POST /limited HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n");
        client.send(format!("{}\r\n\r\n7d0\r\n{}\r\n", headers[0], &form[..2000]));
        assert_eq!(client.response().status, 413);
    });
}

#[test]
fn middleware_sees_the_route_of_what_was_streamed_and_the_address_of_the_client() {
    fn marked(req: Request, next: &dyn Handler) -> Response {
        let known = req.peer_addr().is_some();
        let mut response = next.call(req);
        let mark = format!("{} {known}", response.route().unwrap_or("none"));
        response.headers_mut().insert("x-mark", mark.parse().unwrap());
        response
    }
    let app = || {
        let stream = |_: Request| Body::stream(|out| std::io::Write::write_all(out, b"streamed"));
        Router::new().get("/{a}/b", stream).with(marked).with(limit_body(1))
    };
    both(app, |server| {
        let mut client = server.client();
        let response = client.get("/x/b");
        assert_eq!((response.text(), response.header("x-mark")), ("streamed", Some("/{a}/b true")));
        assert_eq!(client.get("/x").header("x-mark"), Some("none true"));
    });
}

#[test]
fn the_access_log_has_the_route_and_the_requests_id() {
    let (mut log, writer) = std::io::pipe().unwrap();
    let format = AccessFormat::compile("%(s)s %({route}x)s %({request_id}x)s %({tls_version}x)s").unwrap();
    let log_to = std::sync::Arc::new(FormattedLog::new(Sink::new("access", writer), format));
    let user = |_: Request| greenserve::log::request_id().to_string();
    let router = Router::new().nest("/users", Router::new().get("/{id}", user)).get("/", |_: Request| "");
    let server = Server::bind("127.0.0.1:0").unwrap().access_log(std::sync::Arc::clone(&log_to));
    let running = Running::serve(server, false, router);
    let mut client = running.client();
    let id = client.get("/users/7").text().to_owned();
    client.get("/");
    client.get("/nothing");
    drop(running);
    drop(log_to);
    let mut lines = String::new();
    std::io::Read::read_to_string(&mut log, &mut lines).unwrap();
    assert_eq!(lines, format!("200 /users/{{id}} {id} -\n200 / - -\n404 - - -\n"));
}
