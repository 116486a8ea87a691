//! Parks a million green threads in `sleep`, each on a stack of its own with a guard page, and tells what they cost.
//!
//! ```text
//! cargo run --release -p greenserve-benches --bin million
//! cargo run --release -p greenserve-benches --bin million -- 100000
//! ```

use std::cell::Cell;
use std::fs;
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Parser;

/// Park many green threads in sleep at once, on default kernel settings, and report time and memory.
#[derive(Debug, Parser)]
#[command(name = "million")]
struct Options {
    /// How many green threads
    #[arg(default_value_t = 1_000_000)]
    count: usize,
}

fn main() -> ExitCode {
    match million(Options::parse().count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("million: {error}");
            ExitCode::FAILURE
        }
    }
}

fn million(count: usize) -> io::Result<()> {
    let mut greenlets = Vec::with_capacity(count);
    let asleep = Rc::new(Cell::new(0_usize));
    let before = Footprint::now()?;

    let start = Instant::now();
    for number in 0..count {
        let asleep = Rc::clone(&asleep);
        let sleeper = move || {
            asleep.set(asleep.get() + 1);
            greenlet::sleep(Duration::from_secs(24 * 60 * 60));
        };
        let greenlet = greenlet::Builder::new().spawn(sleeper).map_err(|error| {
            io::Error::new(error.kind(), format!("green thread {number} of {count} can't be had: {error}"))
        })?;
        greenlets.push(greenlet);
        if number % 1000 == 999 {
            greenlet::yield_now(); // as a server would: they start as they come
        }
    }
    while asleep.get() < count {
        greenlet::yield_now();
    }
    let parked = start.elapsed();
    let after = Footprint::now()?;

    let start = Instant::now();
    greenlet::kill_all(&greenlets, None)?;
    let ended = start.elapsed();

    let each = |bytes: u64| bytes / count.max(1) as u64;
    println!("green threads asleep at once  {count}");
    println!("until all were asleep         {:.2} s", parked.as_secs_f64());
    println!("resident, each                {} bytes", each(after.resident.saturating_sub(before.resident)));
    println!(
        "resident, all                 {} MB",
        after.resident.saturating_sub(before.resident) / 1_000_000
    );
    println!(
        "address space, all            {} GB",
        after.virtual_size.saturating_sub(before.virtual_size) / 1_000_000_000
    );
    println!(
        "memory mappings               {} more (vm.max_map_count is {})",
        after.mappings.saturating_sub(before.mappings),
        fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default().trim()
    );
    println!("to kill all, with unwinding   {:.2} s", ended.as_secs_f64());
    Ok(())
}

/// What this process occupies.
struct Footprint {
    resident: u64,
    virtual_size: u64,
    mappings: usize,
}

impl Footprint {
    fn now() -> io::Result<Footprint> {
        let statm = fs::read_to_string("/proc/self/statm")?;
        let mut pages = statm.split(' ').map(|field| field.parse::<u64>().unwrap_or(0));
        let page = rustix::param::page_size() as u64;
        Ok(Footprint {
            virtual_size: pages.next().unwrap_or(0) * page,
            resident: pages.next().unwrap_or(0) * page,
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count(),
        })
    }
}
