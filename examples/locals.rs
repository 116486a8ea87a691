//! Values that belong to a request: set once at its begin, seen by everything that runs under it, gone at its end.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin locals -- --bind 127.0.0.1:8000
//! curl "127.0.0.1:8000/?user=ann" & curl "127.0.0.1:8000/?user=bob"
//! ```
//!
//! Both requests run on one OS thread and wait in the middle; a thread-local would mix them up. And a connection
//! serves one request after the other in the same green thread: the server begins each with fresh values, so nothing
//! of one user is left for the next.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use ctxlocal::ctxlocal;
use greenserve::{Request, StatusCode};

ctxlocal! {
    /// Who asks. Who reads it need not have been passed it.
    static USER: RefCell<String> = RefCell::new("nobody".to_owned());
    /// How many lines this request has logged.
    static LINES: Cell<u32> = Cell::new(0);
}

fn app(req: Request) -> Result<String, (StatusCode, &'static str)> {
    let query = req.query().unwrap_or_default();
    if let Some(user) = query.split('&').find_map(|pair| pair.strip_prefix("user=")) {
        USER.with(|current| user.clone_into(&mut current.borrow_mut()));
    }
    log("request begins");
    let stock = find_in_store("apples").ok_or((StatusCode::NOT_FOUND, "no apples\n"))?;
    log("request ends");
    let (user, lines) = (USER.with(|user| user.borrow().clone()), LINES.with(Cell::get));
    Ok(format!("{user}: {stock} apples, {lines} lines in the log\n"))
}

/// Deep in the model, where nobody knows of requests.
fn find_in_store(what: &str) -> Option<u32> {
    log(&format!("looking for {what}"));
    // others run now, with values of their own
    greenlet::sleep(Duration::from_millis(200));
    log(&format!("found {what}"));
    Some(42)
}

/// A line in the log says for whom it was written.
fn log(message: &str) {
    LINES.with(|lines| lines.set(lines.get() + 1));
    USER.with(|user| eprintln!("[{}] {message}", user.borrow()));
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
