//! The `greenserve` binary as curl sees it, which reads the same rules in another way than the tests' own client. Where
//! there is no curl these tests say NOT CHECKED and pass.

use std::io::Write;
use std::process::{Command, Stdio};

use greenserve_tests::{Scratch, ServerProcess};
use serde_json::{Value, json};

/// What a run of curl came to.
struct Ran {
    /// curl's exit status: 0 if all was well, else the number of what was not.
    code: i32,
    out: Vec<u8>,
    /// With `-v`, the heads of both directions.
    err: String,
}

impl Ran {
    #[track_caller]
    fn text(&self) -> &str {
        assert_eq!(self.code, 0, "{}", self.err);
        std::str::from_utf8(&self.out).unwrap()
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_else(|_| panic!("{}", self.text()))
    }
}

fn there_is_curl() -> bool {
    let found = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    if !found {
        println!("NOT CHECKED: there is no curl");
    }
    found
}

/// Runs curl, which has half a minute, without a file of settings or a proxy of the environment's.
fn curl<S: AsRef<str>>(args: &[S], input: &[u8]) -> Ran {
    let mut command = Command::new("curl");
    command.args(["-q", "-s", "-S", "--noproxy", "", "--max-time", "30"]);
    command.args(args.iter().map(AsRef::as_ref));
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("curl starts");
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // it may leave before it has read all
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("curl ends");
    feeder.join().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The demo's URL for a target.
fn url(server: &ServerProcess, target: &str) -> String {
    format!("http://{}{target}", server.addr())
}

/// Runs a test with either kind of worker.
fn both(test: impl Fn(&ServerProcess)) {
    if there_is_curl() {
        for kind in ["green", "threads"] {
            test(&ServerProcess::start(["demo", "-k", kind]));
        }
    }
}

const SHOW: [&str; 2] = ["-w", " %{http_code} %{http_version} %{num_connects}"];

#[test]
fn get_in_both_versions() {
    both(|server| {
        let plain = url(server, "/plaintext");
        for (flag, version) in [("--http1.1", "1.1"), ("--http1.0", "1.1")] {
            let ran = curl(&[flag, SHOW[0], SHOW[1], &plain], b"");
            assert_eq!(ran.text(), format!("Hello, World! 200 {version} 1"));
        }
        // a body of unknown length is chunked for one, and ends with the connection for the other
        for flag in ["--http1.1", "--http1.0"] {
            let ran = curl(&["-v", flag, &url(server, "/stream?n=3&size=2")], b"");
            assert_eq!(ran.text(), "aabbcc", "{flag}");
            assert_eq!(ran.err.contains("transfer-encoding: chunked"), flag == "--http1.1", "{}", ran.err);
        }
    });
}

#[test]
fn a_request_of_http_0_9_is_refused() {
    both(|server| {
        let ran = curl(&[format!("telnet://{}", server.addr())], b"GET /plaintext\r\n");
        assert!(ran.text().starts_with("HTTP/1.1 400 "), "{}", ran.text());
        // an answer of HTTP/1.1 is no worse for one that would take less
        let ran = curl(&["--http0.9", &url(server, "/plaintext")], b"");
        assert_eq!(ran.text(), "Hello, World!");
    });
}

#[test]
fn head_gets_no_body() {
    both(|server| {
        let ran = curl(&["-I", &url(server, "/fixed?n=1000"), &url(server, "/plaintext")], b"");
        let lengths: Vec<_> = ran.text().lines().filter(|line| line.starts_with("content-length")).collect();
        assert_eq!(lengths, ["content-length: 1000", "content-length: 13"]);
    });
}

#[test]
fn one_connection_serves_several_requests() {
    both(|server| {
        let urls = [url(server, "/status/404"), url(server, "/no-length"), url(server, "/plaintext")];
        let args = [&["-o", "/dev/null", "-o", "/dev/null"][..], &SHOW].concat();
        let ran = curl(&[&args[..], &urls.each_ref().map(String::as_str)].concat(), b"");
        assert_eq!(ran.text(), " 404 1.1 1 200 1.1 0Hello, World! 200 1.1 0");
    });
}

#[test]
fn a_large_upload_waits_to_be_told_to_continue() {
    let scratch = Scratch::new();
    let file = scratch.write("large", vec![b'x'; 3 << 20]);
    both(|server| {
        let target = url(server, "/upload");
        let ran = curl(
            &["-v", "-X", "POST", "-H", "Expect: 100-continue", "-T", file.to_str().unwrap(), &target],
            b"",
        );
        assert_eq!(ran.json()["length"], 3 << 20);
        assert!(ran.err.contains("< HTTP/1.1 100 Continue"), "{}", ran.err);
        // who does not want the body says so at once
        let ran = curl(
            &[
                "-v",
                "-X",
                "POST",
                "-H",
                "Expect: 100-continue",
                "-T",
                file.to_str().unwrap(),
                &url(server, "/ignore-body"),
            ],
            b"",
        );
        assert_eq!(ran.text(), "the body was not read\n");
        assert!(!ran.err.contains("100 Continue"), "{}", ran.err);
    });
}

#[test]
fn uploads_of_every_form() {
    both(|server| {
        let body = "0123456789".repeat(100_000);
        let target = url(server, "/upload");
        let chunked = curl(&["-v", "-X", "POST", "-T", "-", &target], body.as_bytes());
        assert!(chunked.err.contains("> Transfer-Encoding: chunked"), "{}", chunked.err);
        let sized = curl(&["--data-binary", "@-", &target], body.as_bytes());
        let old = curl(&["--http1.0", "--data-binary", "@-", &target], body.as_bytes());
        let forced =
            curl(&["-H", "Transfer-Encoding: chunked", "--data-binary", "@-", &target], body.as_bytes());
        for ran in [&sized, &old, &forced] {
            assert_eq!(ran.json(), chunked.json());
        }
        assert_eq!(chunked.json()["length"], 1_000_000);
        let form = curl(&["-F", "a=b", "-F", "file=@-", &target], b"content");
        assert!(form.json()["length"].as_u64().unwrap() > 100);
        assert_eq!(curl(&["-d", "", &target], b"").json()["length"], 0);
    });
}

#[test]
fn targets_of_every_form() {
    both(|server| {
        let echo = curl(&["--path-as-is", &url(server, "/echo/../a/./b//c?d=/../")], b"").json();
        assert_eq!(echo["target"], "/echo/../a/./b//c?d=/../");
        let proxy = format!("http://{}", server.addr());
        let echo = curl(&["-x", &proxy, "http://example.org/echo/x?y"], b"").json();
        assert_eq!(
            (&echo["target"], &echo["path"]),
            (&json!("http://example.org/echo/x?y"), &json!("/echo/x"))
        );
        assert_eq!(echo["authority"], "example.org");
        let star = curl(&["-X", "OPTIONS", "--request-target", "*", &url(server, "/")], b"").json();
        assert_eq!((&star["method"], &star["target"]), (&json!("OPTIONS"), &json!("*")));
        // nobody digs a tunnel here
        let tunnel = curl(&["-p", "-x", &proxy, "http://example.org/"], b"");
        assert_eq!(tunnel.code, 56, "{}", tunnel.err);
        assert_eq!(curl(&[url(server, "/plaintext")], b"").text(), "Hello, World!");
    });
}

#[test]
fn a_client_that_gives_up_or_reads_slowly() {
    both(|server| {
        let ran = curl(&["--max-time", "0.3", &url(server, "/stream?n=1000&delay_ms=50")], b"");
        assert_eq!(ran.code, 28);
        let ran = curl(&["--limit-rate", "2M", &url(server, "/fixed?n=2000000")], b"");
        assert_eq!(ran.text().len(), 2_000_000);
        let ran = curl(&["-m", "20", &url(server, "/bad-length?declared=10&actual=5")], b"");
        assert_eq!(ran.code, 18, "a transfer that ends early: {}", ran.err);
        let ran = curl(&[url(server, "/panic-mid")], b"");
        assert!(matches!(ran.code, 18 | 56), "{} {}", ran.code, ran.err);
        assert_eq!(curl(&[url(server, "/plaintext")], b"").text(), "Hello, World!");
    });
}

#[test]
fn ranges_and_conditions() {
    if !there_is_curl() {
        return;
    }
    let scratch = Scratch::new();
    scratch.write("public/a.txt", "0123456789".repeat(10_000));
    let server = ServerProcess::start([format!("static:{}", scratch.join("public").display()).as_str()]);
    let file = url(&server, "/a.txt");
    for (range, expected) in [("10-14", "01234"), ("99998-", "89"), ("-3", "789")] {
        let ran = curl(&["-r", range, "-w", " %{http_code}", &file], b"");
        assert_eq!(ran.text(), format!("{expected} 206"), "{range}");
    }
    assert_eq!(curl(&["-C", "99990", &file], b"").text(), "0123456789");
    assert_eq!(curl(&["-f", "-r", "100000-", &file], b"").code, 22);
    let tag = scratch.join("tag");
    let tag = tag.to_str().unwrap();
    assert_eq!(curl(&["--etag-save", tag, &file], b"").text().len(), 100_000);
    let status = ["-w", "%{http_code}", "-o", "/dev/null", file.as_str()];
    assert_eq!(curl(&[&["--etag-compare", tag], &status[..]].concat(), b"").text(), "304");
    let copy = scratch.join("copy");
    let copy = copy.to_str().unwrap();
    assert_eq!(curl(&["-R", "-o", copy, &file], b"").code, 0);
    assert_eq!(curl(&[&["-z", copy], &status[..]].concat(), b"").text(), "304");
    assert_eq!(curl(&["--compressed", &file], b"").text().len(), 100_000);
}

#[test]
fn over_a_unix_socket() {
    if !there_is_curl() {
        return;
    }
    let scratch = Scratch::new();
    let path = scratch.join("app.sock");
    let _server = ServerProcess::builder().args(["demo"]).bind(format!("unix:{}", path.display())).start();
    let ran = curl(&["--unix-socket", path.to_str().unwrap(), "http://example.org/echo"], b"");
    assert_eq!(ran.json()["authority"], "example.org");
}
