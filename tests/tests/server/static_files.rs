//! `static:DIR`: files and nothing but the files under the folder.

use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use greenserve_tests::{Framing, Response, Scratch, ServerProcess, request};

/// A site with an index, some types, a sub-folder; beside it a file that must never be served.
fn site() -> (Scratch, ServerProcess) {
    let scratch = Scratch::new();
    scratch.write("secret.txt", "the secret");
    scratch.write("site/index.html", "<h1>home</h1>");
    scratch.write("site/style.css", "body {}");
    scratch.write("site/data.bin", (0..=255).collect::<Vec<u8>>());
    scratch.write("site/empty.txt", "");
    scratch.write("site/with space & ü.txt", "odd name");
    scratch.write("site/docs/index.html", "<h1>docs</h1>");
    scratch.write("site/docs/a.txt", "0123456789");
    scratch.write("site/bare/a.txt", "no index here");
    symlink(scratch.join("secret.txt"), scratch.join("site/way-out")).unwrap();
    symlink(scratch.path(), scratch.join("site/way-up")).unwrap();
    symlink(scratch.join("site/docs/a.txt"), scratch.join("site/inside")).unwrap();
    let server = ServerProcess::start([&*format!("static:{}", scratch.join("site").display())]);
    (scratch, server)
}

#[track_caller]
fn get_with(server: &ServerProcess, target: &str, headers: &[&str]) -> Response {
    server.answer_to(request("GET", target, headers, b""))
}

#[test]
fn files_are_served_with_their_type_and_length() {
    let (_scratch, server) = site();
    let mut client = server.connect();
    let rows = [
        ("/index.html", "text/html", &b"<h1>home</h1>"[..]),
        ("/style.css", "text/css", b"body {}"),
        ("/docs/a.txt", "text/plain", b"0123456789"),
        ("/docs/a.txt?query=ignored", "text/plain", b"0123456789"),
        ("/with%20space%20%26%20%C3%BC.txt", "text/plain", b"odd name"),
        ("/%64ocs/a%2Etxt", "text/plain", b"0123456789"),
        ("/empty.txt", "text/plain", b""),
    ];
    for (target, kind, body) in rows {
        let response = client.get(target);
        assert_eq!(response.status, 200, "{target}");
        assert!(
            response.header("content-type").is_some_and(|t| t.starts_with(kind)),
            "{target}: {:?}",
            response.headers
        );
        assert_eq!((response.framing, &response.body[..]), (Framing::Length(body.len()), body), "{target}");
        assert!(response.header("etag").is_some() && response.header("last-modified").is_some(), "{target}");
    }
    let all_bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(client.get("/data.bin").body, all_bytes);
}

#[test]
fn a_folder_is_its_index_and_a_folder_without_its_slash_is_redirected() {
    let (_scratch, server) = site();
    assert_eq!(server.get("/").text(), "<h1>home</h1>");
    assert_eq!(server.get("/docs/").text(), "<h1>docs</h1>");
    let response = server.get("/docs");
    assert!([301, 302, 307, 308].contains(&response.status), "{}", response.status);
    assert!(response.header("location").is_some_and(|to| to.ends_with("/docs/")));
    assert!([403, 404].contains(&server.get("/bare/").status), "no index, no listing");
}

#[test]
fn a_redirect_never_leads_to_another_host() {
    let (_scratch, server) = site();
    for target in ["//docs", "///docs", "//evil.example/..%2fdocs", "/%2Fdocs", "/\\evil.example/../docs"] {
        let response = server.get(target);
        if let Some(to) = response.header("location") {
            assert!(
                to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/\\"),
                "{target} leads to {to}"
            );
        }
    }
}

#[test]
fn what_is_not_there_is_404() {
    let (_scratch, server) = site();
    for target in ["/nope", "/docs/nope", "/index.html/", "/index.html/x", "/docs/a.txt/", "/nope/"] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
}

#[test]
fn there_is_no_way_out_of_the_root() {
    let (scratch, server) = site();
    let above = scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
    let targets = [
        "/../secret.txt",
        "/docs/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/..%2fsecret.txt",
        "/docs/..%2f..%2fsecret.txt",
        "/.%2e/secret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "//../secret.txt",
        "/./../secret.txt",
        "/docs//../../secret.txt",
        "/..",
        "/../",
        "/way-out",
        "/way-up/secret.txt",
        "/way-up/",
        "/%00",
        "/docs/a.txt%00.html",
        "/secret.txt",
    ];
    let absolute = format!("/{}", scratch.join("secret.txt").display());
    let sibling = format!("/../../{above}/secret.txt");
    for target in targets.iter().copied().chain([&*absolute, &*sibling, "//etc/passwd", "/%2fetc/passwd"]) {
        let response = server.get(target);
        assert!([400, 403, 404].contains(&response.status), "{target}: {}", response.status);
        assert!(!String::from_utf8_lossy(&response.body).contains("the secret"), "{target}");
    }
    let full = "GET http://test/%2e%2e/secret.txt HTTP/1.1\r\nHost: test\r\n\r\n";
    assert!(server.answer_to(full).status >= 400);
}

#[test]
fn a_dot_segment_that_stays_inside_may_be_resolved_but_never_beyond_the_root() {
    let (_scratch, server) = site();
    let response = server.get("/docs/../docs/a.txt");
    assert!(response.status == 400 || response.status == 404 || response.text() == "0123456789");
}

#[test]
fn only_get_and_head_are_served() {
    let (_scratch, server) = site();
    let mut client = server.connect();
    client.send(request("HEAD", "/docs/a.txt", &[], b""));
    let head = client.response_to("HEAD");
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        client.send(request(method, "/docs/a.txt", &[], b""));
        let response = client.response();
        assert_eq!(response.status, 405, "{method}");
        assert!(
            response.header("allow").is_some_and(|allow| allow.contains("GET") && allow.contains("HEAD"))
        );
    }
}

#[test]
fn a_range_is_served_in_part() {
    // RFC 9110 section 14
    let (_scratch, server) = site();
    assert_eq!(server.get("/docs/a.txt").header("accept-ranges"), Some("bytes"));
    let rows = [
        ("bytes=0-0", "0", "bytes 0-0/10"),
        ("bytes=2-5", "2345", "bytes 2-5/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-3", "789", "bytes 7-9/10"),
        ("bytes=8-100", "89", "bytes 8-9/10"),
        ("bytes=-100", "0123456789", "bytes 0-9/10"),
    ];
    for (range, body, content_range) in rows {
        let response = get_with(&server, "/docs/a.txt", &[&format!("Range: {range}")]);
        assert_eq!((response.status, response.text()), (206, body), "{range}");
        assert_eq!(response.header("content-range"), Some(content_range), "{range}");
    }
}

#[test]
fn a_range_outside_the_file_is_416_and_one_that_makes_no_sense_is_ignored() {
    let (_scratch, server) = site();
    for range in ["bytes=10-", "bytes=100-200", "bytes=-0"] {
        let response = get_with(&server, "/docs/a.txt", &[&format!("Range: {range}")]);
        assert_eq!((response.status, response.header("content-range")), (416, Some("bytes */10")), "{range}");
    }
    for range in [
        "bytes=5-2",
        "bytes=a-b",
        "lines=1-2",
        "bytes",
        "bytes=",
        "bytes=--1",
        "bytes=1",
        "bytes=99999999999999999999999-",
    ] {
        let response = get_with(&server, "/docs/a.txt", &[&format!("Range: {range}")]);
        assert!(matches!(response.status, 200 | 416), "{range}: {}", response.status);
        if response.status == 200 {
            assert_eq!(response.text(), "0123456789", "{range}");
        }
    }
}

#[test]
fn conditional_requests_save_the_body() {
    // RFC 9110 section 13
    let (_scratch, server) = site();
    let full = server.get("/docs/a.txt");
    let (etag, modified) = (full.header("etag").unwrap(), full.header("last-modified").unwrap());
    let earlier = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(86_400 * 365));
    let rows: &[(&[String], u16)] = &[
        (&[format!("If-None-Match: {etag}")], 304),
        (&[format!("If-None-Match: \"other\", {etag}")], 304),
        (&["If-None-Match: *".to_owned()], 304),
        (&[format!("If-None-Match: W/{}", etag.trim_start_matches("W/"))], 304),
        (&["If-None-Match: \"other\"".to_owned()], 200),
        (&[format!("If-Modified-Since: {modified}")], 304),
        (&[format!("If-Modified-Since: {earlier}")], 200),
        (&["If-Modified-Since: yesterday".to_owned()], 200),
        (&["If-None-Match: \"other\"".to_owned(), format!("If-Modified-Since: {modified}")], 200),
    ];
    for (headers, status) in rows {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        let mut client = server.connect();
        client.send(request("GET", "/docs/a.txt", &headers, b""));
        let response = client.response();
        assert_eq!(response.status, *status, "{headers:?}");
        if *status == 304 {
            assert_eq!(response.header("etag"), Some(etag), "a 304 names the tag");
            assert_eq!(client.get("/docs/a.txt").text(), "0123456789", "in step after a 304");
        }
    }
}

#[test]
fn a_changed_file_has_another_tag() {
    let (scratch, server) = site();
    let before = server.get("/docs/a.txt").header("etag").unwrap().to_owned();
    scratch.write("site/docs/a.txt", "another content");
    let after = get_with(&server, "/docs/a.txt", &[&format!("If-None-Match: {before}")]);
    assert_eq!((after.status, after.text()), (200, "another content"));
}

#[test]
fn a_large_file_arrives_byte_for_byte_while_others_are_served() {
    let scratch = Scratch::new();
    let content: Vec<u8> = (0..30_000_000u32).map(|i| (i ^ (i >> 7) ^ (i >> 15)) as u8).collect();
    scratch.write("large.bin", &content);
    scratch.write("small.txt", "small");
    let server =
        ServerProcess::start(["--keep-alive", "60", &*format!("static:{}", scratch.path().display())]);
    let small = server.get("/small.txt");
    assert_eq!(small.text(), "small");
    let before = server.proc().resident();
    let mut slow = server.connect();
    slow.shrink_receive_buffer();
    slow.send(request("GET", "/large.bin", &[], b""));
    assert_eq!(slow.read_head("GET").unwrap().framing, Framing::Length(content.len()));
    for _ in 0..5 {
        assert_eq!(server.get("/small.txt").text(), "small", "a slow reader holds up nobody");
    }
    let mut quick = server.connect();
    let whole = quick.get("/large.bin");
    assert!(whole.body == content, "the file arrived changed");
    let part = get_with(&server, "/large.bin", &["Range: bytes=1234567-23456789"]);
    assert!(part.body == content[1_234_567..=23_456_789], "a range arrived changed");
    assert_eq!(quick.get("/small.txt").text(), "small", "in step after a large file");
    let grown = server.proc().resident().saturating_sub(before);
    assert!(grown < 10_000_000, "files are sent from the page cache, yet the server grew by {grown} bytes");
}

#[test]
fn the_same_files_are_served_by_threads() {
    let (scratch, _server) = site();
    let server =
        ServerProcess::start(["-k", "threads", &*format!("static:{}", scratch.join("site").display())]);
    assert_eq!(server.get("/").text(), "<h1>home</h1>");
    assert_eq!(get_with(&server, "/docs/a.txt", &["Range: bytes=2-5"]).text(), "2345");
    assert_eq!(server.get("/way-out").status / 100, 4);
}

#[test]
fn a_link_that_stays_inside_is_followed_or_refused_but_never_a_500() {
    let (_scratch, server) = site();
    let response = server.get("/inside");
    assert!(
        response.status == 200 && response.text() == "0123456789" || [403, 404].contains(&response.status)
    );
}
