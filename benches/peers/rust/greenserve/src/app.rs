//! The application that all peers have.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use greenserve::{Body, Handler, IntoResponse, Request, Response, StatusCode};

/// With the file that it serves.
pub fn app(path: impl AsRef<Path>) -> io::Result<impl Handler + Send + Sync> {
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
