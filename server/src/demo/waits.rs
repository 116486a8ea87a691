//! Taking time, in three ways.

use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::query::Query;
use super::{Answer, Demo};
use crate::config::WorkerClass;
use crate::{IntoResponse, Request};

impl Demo {
    /// Sleeps in the way of the worker: a green thread parks, an OS thread blocks.
    pub(super) fn sleep(self, time: Duration) {
        match self.worker_class {
            WorkerClass::Green => greenlet::sleep(time),
            WorkerClass::Threads | WorkerClass::Sync => thread::sleep(time),
        }
    }
}

/// `/sleep?ms=`: parks the green thread, at most for an hour.
pub(super) fn sleep(demo: &Demo, req: Request) -> Answer {
    let ms = Query::of(&req).number("ms", 1000, 0..=3_600_000)?;
    demo.sleep(Duration::from_millis(ms));
    Ok(format!("slept for {ms} ms\n").into_response())
}

/// `/block?ms=`: blocks the OS thread and with it the whole hub, at most for ten minutes.
pub(super) fn block(_: &Demo, req: Request) -> Answer {
    let ms = Query::of(&req).number("ms", 1000, 0..=600_000)?;
    thread::sleep(Duration::from_millis(ms));
    Ok(format!("blocked for {ms} ms\n").into_response())
}

/// `/burn?ms=`: computes, at most for ten minutes.
pub(super) fn burn(_: &Demo, req: Request) -> Answer {
    let ms = Query::of(&req).number("ms", 100, 0..=600_000)?;
    let end = Instant::now() + Duration::from_millis(ms);
    let mut rounds = 0_u64;
    let mut block = [0; 32];
    while Instant::now() < end {
        block = Sha256::digest(block).into();
        rounds += 1;
    }
    Ok(format!("computed for {ms} ms: {rounds} rounds of SHA-256, ending in {:02x}\n", block[31])
        .into_response())
}
