use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A folder of its own for a test, removed when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("greenserve-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("root/sub dir")).unwrap();
        fs::write(path.join("secret"), "secret").unwrap();
        fs::write(path.join("root/index.html"), "<h1>home</h1>").unwrap();
        fs::write(path.join("root/digits.txt"), "0123456789").unwrap();
        fs::write(path.join("root/sub dir/index.html"), "sub").unwrap();
        Self(path)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.call("GET", target, headers)
    }

    fn call(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        let mut req = ::http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            req = req.header(*name, *value);
        }
        StaticFiles::new(self.root()).unwrap().call(req.body(Body::empty()).unwrap().into())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn text(response: Response) -> String {
    String::from_utf8(response.into_body().into_bytes().unwrap().to_vec()).unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[test]
fn a_file_comes_with_type_length_and_validators() {
    let folder = Folder::new("whole");
    let response = folder.get("/digits.txt", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(header(&response, "accept-ranges"), Some("bytes"));
    assert_eq!(response.body().length(), Some(10));
    assert!(header(&response, "etag").unwrap().starts_with('"'));
    assert!(httpdate::parse_http_date(header(&response, "last-modified").unwrap()).is_ok());
    assert_eq!(text(response), "0123456789");
}

#[test]
fn types_come_from_the_extension() {
    let folder = Folder::new("types");
    for (name, expected) in [
        ("a.html", "text/html; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.png", "image/png"),
        ("a.wasm", "application/wasm"),
        ("a", "application/octet-stream"),
        ("a.unknown-extension", "application/octet-stream"),
    ] {
        fs::write(folder.root().join(name), "").unwrap();
        let response = folder.get(&format!("/{name}"), &[]);
        assert_eq!(header(&response, "content-type"), Some(expected), "{name}");
        assert_eq!(response.body().length(), Some(0));
    }
}

#[test]
fn folders_have_an_index_and_a_slash() {
    let folder = Folder::new("index");
    assert_eq!(text(folder.get("/", &[])), "<h1>home</h1>");
    assert_eq!(text(folder.get("/sub%20dir/", &[])), "sub");
    let response = folder.get("/sub%20dir?x=1", &[]);
    assert_eq!(response.status(), 301);
    assert_eq!(header(&response, "location"), Some("/sub%20dir/?x=1"));
    fs::remove_file(folder.root().join("sub dir/index.html")).unwrap();
    assert_eq!(folder.get("/sub%20dir/", &[]).status(), 404);
    assert_eq!(folder.get("/digits.txt/", &[]).status(), 404);
}

#[test]
fn in_a_nest_the_folder_begins_where_the_nest_does() {
    let folder = Folder::new("nest");
    let site = crate::Router::new().nest("/{a}", StaticFiles::new(folder.root()).unwrap());
    let get = |target: &str| site.call(::http::Request::get(target).body(Body::empty()).unwrap().into());
    assert_eq!(text(get("/x/digits.txt")), text(folder.get("/digits.txt", &[])));
    assert_eq!(get("/digits.txt/x").status(), 404);
    for (target, location) in [
        ("/x/sub%20dir?y", "/x/sub%20dir/?y"),
        ("/x", "/x/"),
        (r"/\evil.example/sub%20dir", "/%5Cevil.example/sub%20dir/"),
        (r"/%2Fevil.example", "/%2Fevil.example/"),
    ] {
        let response = get(target);
        assert_eq!(
            (response.status().as_u16(), header(&response, "location")),
            (301, Some(location)),
            "{target}"
        );
    }
}

#[test]
fn there_is_no_way_out_of_the_root() {
    let folder = Folder::new("escape");
    let root = folder.root();
    symlink("../secret", root.join("up")).unwrap();
    symlink("..", root.join("parent")).unwrap();
    symlink(folder.0.join("secret"), root.join("absolute")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    fs::write(root.join(".env"), "secret").unwrap();
    for target in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/sub%20dir/../../secret",
        "/up",
        "/parent/secret",
        "/absolute",
        "/parent/",
        "/loop",
        "/.env",
        "/%2eenv",
        "/digits.txt%00",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/nothing",
    ] {
        assert_eq!(folder.get(target, &[]).status(), 404, "{target}");
    }
    assert_eq!(folder.get(&format!("/{}", "x".repeat(300)), &[]).status(), 404);
}

#[test]
fn a_link_that_stays_inside_is_followed() {
    let folder = Folder::new("inside");
    symlink("../digits.txt", folder.root().join("sub dir/link")).unwrap();
    assert_eq!(text(folder.get("/sub%20dir/link", &[])), "0123456789");
}

#[test]
fn a_root_that_is_a_link_can_be_exchanged() {
    let folder = Folder::new("exchange");
    fs::create_dir(folder.0.join("next")).unwrap();
    fs::write(folder.0.join("next/index.html"), "next").unwrap();
    let current = folder.0.join("current");
    symlink("root", &current).unwrap();
    let files = StaticFiles::new(&current).unwrap();
    let get = || text(files.call(::http::Request::get("/").body(Body::empty()).unwrap().into()));
    assert_eq!(get(), "<h1>home</h1>");
    fs::remove_file(&current).unwrap();
    symlink("next", &current).unwrap();
    assert_eq!(get(), "next");
}

#[test]
fn what_is_neither_file_nor_folder_is_not_served() {
    let folder = Folder::new("special");
    let _socket = std::os::unix::net::UnixListener::bind(folder.root().join("socket")).unwrap();
    assert_eq!(folder.get("/socket", &[]).status(), 404);
    symlink("/dev/null", folder.root().join("null")).unwrap();
    assert_eq!(folder.get("/null", &[]).status(), 404);
}

#[test]
fn other_methods_are_refused() {
    let folder = Folder::new("methods");
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let response = folder.call(method, "/digits.txt", &[]);
        assert_eq!(response.status(), 405);
        assert_eq!(header(&response, "allow"), Some("GET, HEAD"));
    }
    let head = folder.call("HEAD", "/digits.txt", &[("range", "bytes=0-1")]);
    assert_eq!(head.status(), 200, "Range means nothing to HEAD");
    assert_eq!(head.body().length(), Some(10));
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let folder = Folder::new("conditions");
    let first = folder.get("/digits.txt", &[]);
    let (etag, date) = (header(&first, "etag").unwrap(), header(&first, "last-modified").unwrap());
    for condition in [("if-none-match", etag), ("if-modified-since", date)] {
        let response = folder.get("/digits.txt", &[condition]);
        assert_eq!(response.status(), 304);
        assert_eq!(header(&response, "etag"), Some(etag));
        assert_eq!(header(&response, "content-type"), None);
        assert_eq!(response.body().length(), Some(0));
    }
    assert_eq!(folder.get("/digits.txt", &[("if-match", "\"other\"")]).status(), 412);

    fs::write(folder.root().join("digits.txt"), "changed").unwrap();
    assert_eq!(text(folder.get("/digits.txt", &[("if-none-match", etag)])), "changed");
}

#[test]
fn one_range_is_a_206() {
    let folder = Folder::new("range");
    let response = folder.get("/digits.txt", &[("range", "bytes=2-4")]);
    assert_eq!(response.status(), 206);
    assert_eq!(header(&response, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(response.body().length(), Some(3));
    let etag = header(&response, "etag").unwrap().to_owned();
    assert_eq!(text(response), "234");

    let response = folder.get("/digits.txt", &[("range", "bytes=2-4"), ("if-range", &etag)]);
    assert_eq!(response.status(), 206);
    let response = folder.get("/digits.txt", &[("range", "bytes=2-4"), ("if-range", "\"old\"")]);
    assert_eq!((response.status(), text(response)), (StatusCode::OK, "0123456789".to_owned()));
}

#[test]
fn a_range_beyond_the_end_is_a_416_that_tells_the_length() {
    let folder = Folder::new("beyond");
    let response = folder.get("/digits.txt", &[("range", "bytes=10-")]);
    assert_eq!(response.status(), 416);
    assert_eq!(header(&response, "content-range"), Some("bytes */10"));
}

#[test]
fn several_ranges_are_one_multipart_body_of_the_stated_length() {
    let folder = Folder::new("multipart");
    let response = folder.get("/digits.txt", &[("range", "bytes=0-1,-2")]);
    assert_eq!(response.status(), 206);
    assert_eq!(header(&response, "content-range"), None);
    let boundary = header(&response, "content-type").unwrap().strip_prefix("multipart/byteranges; boundary=");
    let boundary = boundary.unwrap().to_owned();
    let length = response.body().length().unwrap();
    let body = text(response);
    assert_eq!(body.len() as u64, length);
    let part = |range, content| {
        let kind = "text/plain; charset=utf-8";
        format!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {range}/10\r\n\r\n{content}"
        )
    };
    assert_eq!(body, format!("{}{}\r\n--{boundary}--\r\n", part("0-1", "01"), part("8-9", "89")));
}

#[test]
fn a_root_that_is_no_folder_is_an_error_that_names_it() {
    let folder = Folder::new("no-folder");
    for name in ["nothing", "secret"] {
        let error = StaticFiles::new(folder.0.join(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_file_from_before_1970_is_served_without_its_date() {
    let folder = Folder::new("old");
    let file = File::options().write(true).open(folder.root().join("digits.txt")).unwrap();
    file.set_modified(UNIX_EPOCH - Duration::from_secs(10)).unwrap();
    let response = folder.get("/digits.txt", &[]);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "last-modified"), None);
}
