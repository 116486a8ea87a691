//! may_minihttp with one worker thread: `peer-may PORT`. It has no streams and no files, and ignores
//! `Connection: close`.

use std::io;
use std::time::Duration;

use may_minihttp::{HttpServer, HttpService, Request, Response};

/// 100 KiB.
fn fixed() -> &'static str {
    static FIXED: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    FIXED.get_or_init(|| "x".repeat(100 * 1024))
}

#[derive(Clone)]
struct App;

impl HttpService for App {
    fn call(&mut self, req: Request, response: &mut Response) -> io::Result<()> {
        let (path, query) = req.path().split_once('?').unwrap_or((req.path(), ""));
        match path {
            "/plaintext" => {
                response.header("Content-Type: text/plain").body("Hello, World!");
            }
            "/sleep" => {
                let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).unwrap_or(1);
                may::coroutine::sleep(Duration::from_millis(ms));
                response.header("Content-Type: text/plain").body("Hello, World!");
            }
            "/fixed" => {
                response.header("Content-Type: text/plain").body(fixed());
            }
            _ => {
                response.status_code(404, "Not Found");
            }
        }
        Ok(())
    }
}

fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1) else {
        return Err(io::Error::other("usage: peer-may PORT"));
    };
    may::config().set_workers(1);
    let server = HttpServer(App).start(format!("127.0.0.1:{port}"))?;
    server.join().map_err(|_| io::Error::other("the server panicked"))
}
