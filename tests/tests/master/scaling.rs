//! As many workers as there is work for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use greenserve_tests::{PATIENCE, ServerProcess, eventually};

#[test]
fn the_master_begins_with_the_least_number_and_adds_workers_while_they_are_busy() {
    let server = ServerProcess::start(["demo", "-w", "3", "--min-workers", "1"]);
    server.wait_for_workers(1);
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !enough.load(Ordering::SeqCst) {
                    assert_eq!(server.get("/burn?ms=100").status, 200);
                }
            });
        }
        let more = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(PATIENCE, || server.children().len() > 1);
        }));
        enough.store(true, Ordering::SeqCst);
        more.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let log = server.wait_for_log("The workers are busy for");
    assert!(log.contains("2 of them, not 1"), "{log}");
}
