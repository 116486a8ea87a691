//! Work beside and behind a request: a handler that streams while it waits for others, and leaves one running.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin background -- --bind 127.0.0.1:8000
//! curl -N 127.0.0.1:8000
//! ```
//!
//! The log goes on after the response has ended.

use std::io::{self, Write};
use std::time::Duration;

use greenserve::{Body, IntoResponse, Request, Response};

/// Ten steps, after each of which others get their turn.
fn long_task() -> u32 {
    let mut sum = 0;
    for step in 1..=10 {
        sum += step;
        greenlet::yield_now();
    }
    sum
}

/// Goes on after the request has ended: nobody waits for it, and nobody has to.
fn background_task() {
    for step in 1..=5 {
        eprintln!("background task, step {step}");
        greenlet::sleep(Duration::from_millis(100));
    }
    eprintln!("background task done");
}

fn page(out: &mut impl Write) -> io::Result<()> {
    // a green thread for a part of the work; join() gives its value, or its panic
    let sum = greenlet::spawn(long_task).join().map_err(io::Error::other)?;
    writeln!(out, "the long task says {sum}")?;

    writeln!(out, "sleeping for half a second...")?;
    out.flush()?;
    greenlet::sleep(Duration::from_millis(500));
    writeln!(out, "done")?;

    writeln!(out, "getting some addresses...")?;
    out.flush()?;
    let names = ["localhost:80", "127.0.0.1:80", "[::1]:80"];
    let jobs = names.map(|name| greenlet::spawn(move || greenlet::net::resolve(name)));
    // those that take too long are left out of the page, that is all
    let _ = greenlet::join_all(&jobs, Duration::from_secs(2));
    for (name, job) in names.iter().zip(&jobs) {
        match job.value().as_deref() {
            Some(Ok(addresses)) => writeln!(out, "{name} = {addresses:?}")?,
            Some(Err(error)) => writeln!(out, "{name}: {error}")?,
            None => writeln!(out, "{name}: no answer yet")?,
        }
    }

    // the handle is dropped; the green thread lives on
    greenlet::spawn(background_task);
    writeln!(out, "see you in the log")
}

fn app(_req: Request) -> Response {
    Body::stream(|out| page(out)).into_response()
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
