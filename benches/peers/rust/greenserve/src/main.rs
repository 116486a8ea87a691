//! greenserve, with the application that all peers have: `peer-greenserve PORT FILE`. With the file's name in `PEER_FILE` the
//! arguments are those of a server program, `--workers` among them.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use greenserve::{Body, ExitCode, Handler, IntoResponse, Request, Response, Server, StatusCode};

fn main() -> ExitCode {
    let served = match std::env::var_os("PEER_FILE") {
        Some(path) => app(path).map(greenserve::main),
        None => serve().map(|()| ExitCode::SUCCESS),
    };
    served.unwrap_or_else(|error| {
        eprintln!("peer-greenserve: {error}");
        ExitCode::FAILURE
    })
}

/// A server in this process, without all that a program has around it.
fn serve() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: peer-greenserve PORT FILE"));
    };
    Server::bind(format!("127.0.0.1:{port}"))?
        .backlog(8192)?
        .worker_connections(30_000)
        .keep_alive(Duration::from_secs(75))
        .serve(app(path)?)
}

fn app(path: impl AsRef<Path>) -> io::Result<impl Handler + Send + Sync> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let body = Bytes::from(vec![b'x'; 100 * 1024]);
    Ok(move |req: Request| -> Response {
        match req.path() {
            "/plaintext" => "Hello, World!".into_response(),
            "/sleep" => {
                greenlet::sleep(Duration::from_millis(number(&req, "ms")));
                "Hello, World!".into_response()
            }
            "/fixed" => body.clone().into_response(),
            "/stream" | "/stream-flushed" => {
                let (n, size) = (number(&req, "n"), number(&req, "size"));
                let flushed = req.path() == "/stream-flushed";
                Body::stream(move |out| {
                    let piece = vec![b'x'; size as usize];
                    for _ in 0..n {
                        out.write_all(&piece)?;
                        if flushed {
                            out.flush()?;
                        }
                    }
                    Ok(())
                })
                .into_response()
            }
            "/file" => match file.try_clone() {
                Ok(file) => Body::file(file, 0, length).into_response(),
                Err(error) => error.into_response(),
            },
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    })
}

/// A number in the query; 1 if there is none.
fn number(req: &Request, name: &str) -> u64 {
    let query = req.query().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}
