//! Published crates and C libraries in green threads, as they are. `../../run` starts the servers that are needed, and leaves
//! out the tests of those that can't be had, by the modules' names.

mod libcurl;
mod mysql;
mod postgres;
mod postgres_handler;
mod postgres_libpq;
mod postgres_pool;
mod redis;
mod rusqlite;
mod tungstenite;
mod ureq;

use greenserve_guests::{in_time, on_threads, spawn, until};

/// Runs `stuck` in a greenlet, kills that once `begun` holds, runs `meanwhile`, and gives what `stuck` returned, if it did.
#[track_caller]
fn killed<T: 'static>(
    begun: impl Fn() -> bool,
    meanwhile: impl FnOnce(),
    stuck: impl FnOnce() -> T + 'static,
) -> Option<T> {
    let result = std::rc::Rc::new(std::cell::Cell::new(None));
    let give = result.clone();
    let stuck = greenlet::Builder::new()
        .stack_size(greenserve_guests::stack())
        .spawn(move || give.set(Some(stuck())));
    let stuck = stuck.expect("a greenlet");
    until(begun);
    stuck.kill_soon();
    meanwhile();
    let _ = stuck.join();
    result.take()
}
