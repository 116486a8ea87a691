//! A server whose handler asks PostgreSQL by the plain `postgres` crate, driven by HTTP.

use std::thread;
use std::time::{Duration, Instant};

use greenserve_tests::{ServerProcess, raise_open_files_limit};

/// All at once, and how long until the last has its answer.
fn ask(server: &ServerProcess, requests: usize) -> Duration {
    let begin = Instant::now();
    thread::scope(|scope| {
        for _ in 0..requests {
            scope.spawn(|| {
                let response = server.get("/sleep");
                assert_eq!(response.status, 200, "{response:?}");
                assert_eq!(response.text(), "slept\n");
            });
        }
    });
    begin.elapsed()
}

#[test]
fn a_hundred_queries_at_once_take_about_as_long_as_one() {
    const REQUESTS: usize = 100;
    raise_open_files_limit();
    let server = ServerProcess::builder()
        .program(env!("CARGO_BIN_EXE_postgres-handler"))
        .args(["-k", "green"])
        .start();
    // All connections are made, which is not what is measured.
    ask(&server, REQUESTS);
    let one = ask(&server, 1);
    let all = ask(&server, REQUESTS);
    println!("{REQUESTS} requests of `select pg_sleep(0.2)` in one worker: {all:?}, one alone {one:?}");
    assert!(all < one * 5, "{REQUESTS} requests take {all:?}, one alone {one:?}");
}
