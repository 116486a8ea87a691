//! Every line of the log says for whom it was made, though nobody has passed that on: the recipe "I want to log the user id
//! if an error occurs in the model, without giving it to each class and method".
//!
//! ```sh
//! cargo run -p greenserve-examples --bin log_fields -- --bind 127.0.0.1:8000 --request-id-header X-Request-Id
//! for i in $(seq 1 5); do curl "127.0.0.1:8000?user=$i" & done
//! ```

use std::time::Duration;

use greenserve::{IntoResponse, Request, Response, StatusCode, log as request_log};

/// The controller: it knows the user, and says so once.
fn app(req: Request) -> Response {
    let id = request_log::request_id();
    let Some(user) = req.query().and_then(|query| query.strip_prefix("user=")) else {
        return (StatusCode::BAD_REQUEST, "user is missing, as in /?user=1\n").into_response();
    };
    request_log::field("user", user);
    let balance = balance();
    ([("x-request-id", &*id)], format!("you have {balance} apples\n")).into_response()
}

/// The model: it knows nobody.
fn balance() -> u32 {
    log::info!("looking into the books");
    // The others' turn: they have fields of their own.
    greenlet::sleep(Duration::from_millis(100));
    // A library on a thread pool logs, too, if it is given the context.
    let context = request_log::context();
    let apples = greenlet::unblock(move || {
        context.within(|| {
            log::warn!("the books are dusty");
            42
        })
    });
    assert!(
        !request_log::fields().any(|(name, value)| name == "user" && &*value == "nobody"),
        "no such user"
    );
    apples
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
