//! corosensei alone: the switch and the stack without a scheduler, the floor that nobody on top of it can undercut.

use std::hint::black_box;
use std::process::ExitCode;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult};
use micro_peers::{Figures, Footprint, cpu, ns};

fn main() -> ExitCode {
    micro_peers::main(
        "corosensei",
        &[("switch", |_| switch()), ("spawn_join", |_| spawn_join()), ("parked", parked)],
    )
}

fn switch() -> Figures {
    const TIMES: u64 = 10_000_000;
    let mut coroutine = Coroutine::new(|yielder, ()| {
        for _ in 0..TIMES {
            yielder.suspend(());
        }
    });
    let start = cpu();
    while let CoroutineResult::Yield(()) = coroutine.resume(()) {}
    // there and back again are two switches
    ns(start, 2 * TIMES)
}

fn spawn_join() -> Figures {
    const TIMES: u64 = 5_000_000;
    let mut stack = DefaultStack::default();
    let start = cpu();
    for _ in 0..TIMES {
        let mut coroutine: Coroutine<(), (), u32, _> = Coroutine::with_stack(stack, |_, ()| black_box(1));
        black_box(coroutine.resume(()).as_return());
        stack = coroutine.into_stack();
    }
    ns(start, TIMES)
}

/// Each on a stack of its own, as corosensei makes them, suspended and not resumed.
fn parked(count: usize) -> Figures {
    let before = Footprint::new();
    let mut coroutines = Vec::with_capacity(count);
    for number in 0..count {
        let stack =
            DefaultStack::new(STACK).unwrap_or_else(|error| panic!("no stack number {number}: {error}"));
        let mut coroutine: Coroutine<(), (), (), _> =
            Coroutine::with_stack(stack, |yielder, ()| yielder.suspend(()));
        let _ = coroutine.resume(());
        coroutines.push(coroutine);
    }
    let figures = before.of_each(count);
    // taking them apart is not what is measured
    std::mem::forget(coroutines);
    figures
}

/// As small as ours are.
const STACK: usize = 64 * 1024;
