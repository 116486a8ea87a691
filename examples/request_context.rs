//! Werkzeug's `Local`, `LocalStack` and `LocalProxy`, as a small framework would have them: views that are handed nothing
//! and know for whom they work, a template that renders another, and background work that keeps its request's user.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin request_context
//! ```

use std::cell::RefCell;
use std::time::Duration;

use ctxlocal::{ctxlocal, dynamic};
use greenlet::{Builder, Locals};

#[derive(Clone)]
struct Request {
    user: String,
    path: String,
}

ctxlocal! {
    /// `_request_stack = LocalStack()`: the last is the one that is being handled, the others wait for it. Background
    /// work begins with a copy.
    copied static REQUESTS: RefCell<Vec<Request>> = RefCell::default();
    /// Which template is being rendered, for messages.
    static TEMPLATE: &'static str = "none";
}

/// `request = LocalProxy(lambda: _request_stack.top)`: looks up anew each time it is used.
fn request<R>(f: impl FnOnce(&Request) -> R) -> R {
    REQUESTS.with_borrow(|stack| f(stack.last().expect("outside of a request")))
}

/// What the framework does around each request: values of its own, gone at the end, whatever the view does.
fn handle(user: &str, path: &str) -> String {
    ctxlocal::scope(|| within_request(user, path, view))
}

fn within_request<R>(user: &str, path: &str, f: impl FnOnce() -> R) -> R {
    let request = Request { user: user.to_owned(), path: path.to_owned() };
    REQUESTS.with_borrow_mut(|stack| stack.push(request));
    let result = f();
    REQUESTS.with_borrow_mut(Vec::pop);
    result
}

fn view() -> String {
    // g.visits = 3: names that only a plug-in knows
    dynamic::set("visits", request(|request| request.path.len()));
    // the others' turn; they have values of their own
    greenlet::sleep(Duration::from_millis(10));
    let page = TEMPLATE.with_value("page", || render("and a part: ", "/part"));

    // The mail is sent after the answer, for the user who asked.
    let copied = Builder::new().name("mailer").locals(Locals::Copied);
    let mailer = copied.spawn(|| {
        greenlet::sleep(Duration::from_millis(20));
        println!("mail sent for {}", request(|request| request.user.clone()));
    });
    match mailer {
        Ok(_runs_on) => page,
        Err(error) => format!("{page} (but no mail: {error})"),
    }
}

/// A page asks the framework for a part of another one, which is a request within the request.
fn render(text: &str, part: &str) -> String {
    let user = request(|request| request.user.clone());
    let part = within_request(&user, part, || {
        TEMPLATE.with_value("part", || {
            TEMPLATE
                .with(|name| request(|request| format!("{name} of {} for {}", request.path, request.user)))
        })
    });
    let visits = dynamic::get::<usize>("visits").unwrap_or_default();
    TEMPLATE.with(|name| {
        request(|request| format!("{name} {} for {user}, {visits} visits, {text}{part}", request.path))
    })
}

fn main() -> Result<(), greenlet::WaitError> {
    let clients = [("ann", "/"), ("bob", "/apples")];
    let jobs: Vec<_> = clients.map(|(user, path)| greenlet::spawn(move || handle(user, path))).into();
    greenlet::join_all(&jobs, None)?;
    for job in &jobs {
        println!("{}", job.value().as_deref().map_or("failed", String::as_str));
    }
    while greenlet::stats().greenlets > 0 {
        greenlet::sleep(Duration::from_millis(1));
    }
    Ok(())
}
