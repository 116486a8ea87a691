//! A web application: a function from request to response. It may block as it likes, it holds up nobody else.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin hello -- --bind 127.0.0.1:8000
//! curl -N 127.0.0.1:8000/slow 127.0.0.1:8000/stream
//! curl -d "some text" 127.0.0.1:8000/count
//! ```
//!
//! All flags of the `greenserve` program are there: `--help` lists them.

use std::io::{self, BufRead, BufReader, Write};
use std::time::Duration;

use greenserve::{Body, IntoResponse, Method, Request, Response, StatusCode};

fn app(req: Request) -> Response {
    match (req.method(), req.path()) {
        (&Method::GET, "/") => "Hello, World!\n".into_response(),
        (&Method::GET, "/slow") => {
            // parks this request's green thread; thousands of others may do the same meanwhile
            greenlet::sleep(Duration::from_secs(1));
            "done\n".into_response()
        }
        (&Method::GET, "/stream") => Body::stream(|out| {
            for n in 1..=5 {
                writeln!(out, "line {n}")?;
                // what is written so far goes out before the wait
                out.flush()?;
                greenlet::sleep(Duration::from_millis(200));
            }
            Ok(())
        })
        .into_response(),
        (&Method::POST, "/count") => count(req).into_response(),
        (_, "/" | "/slow" | "/stream" | "/count") => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        (_, path) => (StatusCode::NOT_FOUND, format!("there is no {path} here\n")).into_response(),
    }
}

/// Counts lines and bytes of the body, which is read as it comes in. An error goes to the client with its status.
fn count(req: Request) -> io::Result<String> {
    let mut body = BufReader::new(req.into_body());
    let (mut lines, mut bytes) = (0, 0);
    let mut line = Vec::new();
    while let n @ 1.. = body.read_until(b'\n', &mut line)? {
        lines += 1;
        bytes += n;
        line.clear();
    }
    Ok(format!("{lines} lines, {bytes} bytes\n"))
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
