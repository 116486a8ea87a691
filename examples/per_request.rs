//! The recipe "a dictionary for each request, under the greenlet's identity", which needs neither the identity nor
//! somebody who empties the dictionary afterwards.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin per_request -- --bind 127.0.0.1:8000
//! for i in $(seq 1 5); do curl "127.0.0.1:8000?a=$i&b=$i" & done
//! ```
//!
//! The log says of each request twice that its `a`, looked up where nobody has passed it, is its `b`, which was passed: before
//! and after a wait in which all the others had their turn.

use std::time::Duration;

use ctxlocal::dynamic;
use greenserve::{Request, StatusCode};

fn app(req: Request) -> Result<&'static str, (StatusCode, &'static str)> {
    let query = req.query().unwrap_or_default();
    let value = |name: &str| {
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
    };
    let (Some(a), Some(b)) = (value("a"), value("b")) else {
        return Err((StatusCode::BAD_REQUEST, "a and b are missing, as in /?a=1&b=1\n"));
    };

    // a for this request and for nobody else; it is dropped when the request is over
    dynamic::set("a", a);

    log_a_and_b("Before sleep", &b);
    greenlet::sleep(Duration::from_secs(1));
    log_a_and_b("After sleep", &b);
    Ok("OK\n")
}

/// Takes b as an argument, and a from where it was left.
fn log_a_and_b(prefix: &str, b: &str) {
    let a = dynamic::get::<String>("a").unwrap_or_default();
    eprintln!("{prefix}; a:{a} b:{b}");
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
