//! Work that a client does not wait for: what is short is done after the response, what takes long goes on by itself.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin after_response -- --bind 127.0.0.1:8000
//! curl 127.0.0.1:8000
//! ```

use std::time::Duration;

use greenlet::{Builder, Locals};
use greenserve::log::{field, request_id};
use greenserve::{Request, after_response};

fn app(req: Request) -> String {
    field("path", req.path().to_owned());
    place_order();
    format!("your order is {}\n", request_id())
}

/// Deep in the application, where nobody knows of requests.
fn place_order() {
    // The client has its answer by then; its next request on this connection waits.
    after_response(|| log::info!("the order is in the books"));

    // This would be too long to wait. It takes a copy of the request's values along, of which the log makes use.
    let mailer = Builder::new().name("mailer").locals(Locals::Copied).spawn(|| {
        greenlet::sleep(Duration::from_millis(200));
        log::info!("the mail is sent");
    });
    if let Err(error) = mailer {
        log::error!("no mail will be sent: {error}");
    }
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
