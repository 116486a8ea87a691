use super::*;
use crate::Body;

fn call(method: &str, target: &str, body: impl Into<Body>) -> Response {
    let req = ::http::Request::builder().method(method).uri(target).body(body.into()).unwrap();
    Demo::new(WorkerClass::Threads).call(req.into())
}

fn get(target: &str) -> Response {
    call("GET", target, "")
}

fn text(response: Response) -> String {
    String::from_utf8(response.into_body().into_bytes().unwrap().to_vec()).unwrap()
}

fn is_marked(response: &Response) -> bool {
    response.headers().get_all("x-app").iter().eq(["1"])
}

#[test]
fn every_route_on_the_page_is_one_the_application_answers_and_marks() {
    let page = text(get("/"));
    for route in ROUTES {
        let target = format!("{}{}", route.path.trim_end_matches('*'), route.example);
        assert!(page.contains(&target.replace('&', "&amp;")), "{target}");
        if ["/panic", "/overflow", "/bad-header"].contains(&route.path) {
            continue;
        }
        let method = if route.method == "POST" { "POST" } else { "GET" };
        let response = call(method, &target, "");
        assert!(is_marked(&response), "{target}");
        assert_ne!(response.status(), 404, "{target}");
    }
}

#[test]
fn echo_tells_what_the_application_saw() {
    let req = ::http::Request::builder()
        .method("PUT")
        .uri("/echo/a%20b%C3%BC?x=%31&y")
        .header("Host", "example.org:81")
        .header("X-A", "1")
        .header("X-A", "2")
        .body(Body::from(vec![0, 255]))
        .unwrap();
    let response = Demo::new(WorkerClass::Threads).call(req.into());
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let seen: serde_json::Value = serde_json::from_str(&text(response)).unwrap();
    let expected = serde_json::json!({
        "method": "PUT",
        "target": "/echo/a%20b%C3%BC?x=%31&y",
        "path": "/echo/a bü",
        "query": "x=%31&y",
        "version": "HTTP/1.1",
        "authority": "example.org:81",
        "headers": [["host", "example.org:81"], ["x-a", "1"], ["x-a", "2"]],
        "body": "AP8=",
    });
    assert_eq!(seen, expected);
}

#[test]
fn an_unknown_path_is_echoed_with_404() {
    let response = call("DELETE", "/nowhere?q", "");
    assert_eq!(response.status(), 404);
    assert!(is_marked(&response));
    let seen: serde_json::Value = serde_json::from_str(&text(response)).unwrap();
    assert_eq!((&seen["method"], &seen["target"]), (&"DELETE".into(), &"/nowhere?q".into()));
}

#[test]
fn another_method_is_refused_with_the_allowed_ones() {
    for (method, target, allow) in [("POST", "/stream", "GET, HEAD"), ("GET", "/upload", "POST")] {
        let response = call(method, target, "");
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()["allow"], allow);
        assert!(is_marked(&response));
    }
    assert_eq!(call("HEAD", "/plaintext", "").status(), 200);
}

#[test]
fn a_wrong_query_value_is_a_400_that_names_it() {
    for target in [
        "/stream?n=-1",
        "/stream?n=x",
        "/stream?size=1048577",
        "/stream?empty=2",
        "/fixed?n=",
        "/fixed?n=99999999999999999999999",
        "/sleep?ms=3600001",
        "/block?ms=1e3",
        "/burn?ms=+1",
        "/bad-header?where=elsewhere",
        "/status/099",
        "/status/600",
        "/status/2000",
        "/status/",
    ] {
        let response = get(target);
        assert_eq!(response.status(), 400, "{target}");
        assert!(is_marked(&response), "{target}");
        assert!(text(response).len() > 20, "{target}");
    }
}

#[test]
fn streams_have_no_length_and_fixed_bodies_do() {
    let response = get("/stream?n=3&size=2&empty=1");
    assert_eq!(response.body().length(), None);
    assert_eq!(text(response), "aabbcc");
    let response = get("/fixed?n=60011");
    assert_eq!(response.body().length(), Some(60_011));
    assert!(text(response).bytes().enumerate().all(|(at, byte)| byte == b'0' + (at % 10) as u8));
    assert_eq!(get("/no-length").body().length(), None);
    let response = get("/bad-length?declared=10&actual=5");
    assert_eq!(response.body().length(), Some(10));
    assert!(response.into_body().into_bytes().is_err());
}

#[test]
fn upload_gives_digest_and_length() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(text(call("POST", "/upload", "abc")), format!("{{\"sha256\":\"{digest}\",\"length\":3}}\n"));
}

#[test]
fn an_error_of_reading_a_body_is_let_through_and_not_marked() {
    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(crate::BodyError::Incomplete.into())
        }
    }
    for target in ["/upload", "/echo"] {
        let response = call("POST", target, Body::reader(Broken, None));
        assert_eq!(response.status(), 400, "{target}");
        assert!(!is_marked(&response), "{target}");
    }
}

#[test]
fn ignore_body_leaves_it_alone() {
    struct Untouchable;
    impl io::Read for Untouchable {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            panic!("the body was touched");
        }
    }
    assert_eq!(call("POST", "/ignore-body", Body::reader(Untouchable, None)).status(), 200);
}

#[test]
fn no_header_is_injected() {
    for place in ["value-crlf", "value-lf", "value-cr", "value-nul", "name-crlf"] {
        let response = get(&format!("/bad-header?where={place}"));
        assert_eq!(response.status(), 500, "{place}");
        assert!(response.headers().keys().all(|name| name == "content-type"), "{place}");
    }
}

#[test]
fn statuses_that_have_no_body_get_none() {
    for (code, empty) in [(200, false), (204, true), (205, true), (304, true), (404, false), (599, false)] {
        let response = get(&format!("/status/{code}"));
        assert_eq!(response.status(), code);
        assert_eq!(response.body().length() == Some(0), empty, "{code}");
    }
}

#[test]
#[should_panic(expected = "as it was asked to")]
fn panic_panics() {
    get("/panic");
}

#[test]
#[should_panic(expected = "in the middle of a body")]
fn panic_mid_panics_in_the_body() {
    let _ = get("/panic-mid").into_body().into_bytes();
}
