//! What is answered on the metrics' address.

use std::time::Duration;

use ::http::{HeaderValue, Method, StatusCode, header};

use super::board::{Board, Look, State, column, silence, state};
use super::render;
use crate::app::{Handler, IntoResponse, Request, Response};

/// A worker that has given no sign of life for so long hangs. It gives one every second.
const HANGS: Duration = Duration::from_secs(5);

/// The application behind the metrics' address: `/metrics`, `/stats`, `/health`.
pub(crate) struct Pages(pub(crate) Board);

impl Handler for Pages {
    fn call(&self, req: Request) -> Response {
        if req.method() != Method::GET && req.method() != Method::HEAD {
            return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")], "Method Not Allowed\n")
                .into_response();
        }
        let look = || self.0.look();
        let mut response = match req.path() {
            "/metrics" => {
                let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
                ([kind], render::prometheus(&look())).into_response()
            }
            "/stats" => {
                let text = format!("{:#}\n", render::json(&look()));
                ([(header::CONTENT_TYPE, "application/json")], text).into_response()
            }
            "/health" | "/health/ready" => health(is_ready(&look()), "ready"),
            "/health/live" => health(is_live(&look()), "alive"),
            "/" => "/metrics\n/stats\n/health\n/health/live\n/health/ready\n".into_response(),
            _ => (StatusCode::NOT_FOUND, "Not Found\n").into_response(),
        };
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn health(well: bool, what: &str) -> Response {
    match well {
        true => format!("{what}\n").into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, format!("not {what}\n")).into_response(),
    }
}

/// Whether some worker accepts and does not hang.
fn is_ready(look: &Look) -> bool {
    look.rows.iter().any(|row| state(row) == State::Ready && silence(row[column::BEAT]) < HANGS)
}

/// Whether some worker does not hang, whatever it does.
fn is_live(look: &Look) -> bool {
    look.rows.iter().any(|row| silence(row[column::BEAT]) < HANGS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Body;

    fn status(pages: &Pages, path: &str) -> u16 {
        pages.call(::http::Request::get(path).body(Body::empty()).unwrap().into()).status().as_u16()
    }

    #[test]
    fn ready_is_who_accepts_and_alive_who_does_anything() {
        let board = Board::new().unwrap();
        let pages = Pages(board.clone());
        assert_eq!((status(&pages, "/health"), status(&pages, "/health/live")), (503, 503));
        let first = board.begin(1).unwrap();
        assert_eq!((status(&pages, "/health"), status(&pages, "/health/live")), (503, 200));
        board.set_state(first, State::Ready);
        assert_eq!((status(&pages, "/health/ready"), status(&pages, "/health/live")), (200, 200));
        board.set_state(first, State::Stopping);
        let second = board.begin(2).unwrap();
        assert_eq!(status(&pages, "/health"), 503);
        board.set_state(second, State::Ready);
        assert_eq!(status(&pages, "/health"), 200, "one that accepts is enough");
        // As if it had hung since the machine was started.
        board.row(second)[column::BEAT].store(0, std::sync::atomic::Ordering::Relaxed);
        assert_eq!((status(&pages, "/health"), status(&pages, "/health/live")), (503, 200));
    }

    #[test]
    fn what_is_not_there_is_404_and_only_reading_is_allowed() {
        let pages = Pages(Board::new().unwrap());
        assert_eq!((status(&pages, "/"), status(&pages, "/nowhere")), (200, 404));
        let post = ::http::Request::post("/metrics").body(Body::empty()).unwrap();
        assert_eq!(pages.call(post.into()).status(), 405);
    }
}
