//! A look at the greenlets of this thread: who there is, what each waits for, and where it stands in its code
//! (`gevent.util.print_run_info`).
//!
//! Nothing is recorded for this while greenlets run, but the time of parking in milliseconds: the stack of a parked
//! greenlet is walked when it is asked for, on that very stack.
//!
//! # Who holds up the others
//! A greenlet that computes for long, or that calls something which blocks the thread, holds up all others. [`watch`] has a
//! monitor name it in the log, with its stack, while it does; [`may_block`](crate::may_block) says that it is meant, and
//! [`assert_yields`](crate::assert_yields) makes it the failure of a test.
//!
//! # On demand
//! By a signal, whose handler is a greenlet as any other; in the same way one prints it for a client of a socket.
//!
//! ```
//! use greenlet::signal::{self, Signal};
//!
//! let handler = signal::on(Signal::USR1, greenlet::inspect::print_run_info)?;
//! // From a shell: kill -USR1 PID
//! # drop(handler);
//! # Ok::<(), std::io::Error>(())
//! ```

use std::backtrace::Backtrace;
use std::fmt::{self, Write};
use std::panic::Location;
use std::rc::Rc;
use std::time::Duration;

use crate::greenlet::{Core, State};
use crate::hub::{Hub, Moment};
pub use crate::monitor::{Freezer, FrozenHub, Monitor, freezer, watch};

/// How busy this thread's hub is; see [`load`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// How long it has waited for descriptors and timers with nobody to run, since it began. The rest it was busy.
    pub idle: Duration,
    /// The longest time for which it has not looked at the descriptors since [`load`] was last called in this thread, that of
    /// the greenlet that calls included. So long did somebody wait who was ready.
    pub longest_stall: Duration,
}

/// How busy this thread's hub is. Costs the hub nothing: it is made of the times it reads anyway.
///
/// ```
/// use std::time::Duration;
///
/// greenlet::spawn(|| std::thread::sleep(Duration::from_millis(20)));
/// greenlet::sleep(Duration::from_millis(1));
/// let load = greenlet::inspect::load();
/// assert!(load.longest_stall >= Duration::from_millis(20), "{load:?}");
/// ```
///
/// # Panics
/// When the kernel gives no poller for this thread's hub.
pub fn load() -> Load {
    let (idle, longest_stall) = Hub::get().take_load();
    Load { idle, longest_stall }
}

/// The greenlets of this thread as a tree, each below the one that spawned it, with what it waits for and since when, where
/// it was spawned, how much of its stack it has used and where it stands (`gevent.util.format_run_info`).
///
/// It takes some hundred microseconds for each greenlet, and more for the first, when the names of functions are looked
/// up. For less, and for locals: [`Report`].
///
/// ```
/// use std::time::Duration;
///
/// let waiting = greenlet::Builder::new().name("patient").spawn(|| greenlet::sleep(Duration::from_secs(3600)))?;
/// greenlet::yield_now();
/// let report = greenlet::inspect::run_info();
/// assert!(report.contains("'patient' (#1) sleeps"), "{report}");
/// # waiting.kill().unwrap();
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn run_info() -> String {
    Report::new().to_string()
}

/// Writes [`run_info`] to the standard error stream (`gevent.util.print_run_info`).
pub fn print_run_info() {
    eprintln!("{}", run_info());
}

/// What is to be told of the greenlets of this thread; formatting it tells.
///
/// ```
/// let short = greenlet::inspect::Report::new().stacks(false).locals(true).to_string();
/// assert!(short.starts_with("'main' (#0) runs"));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a report is made by formatting it"]
pub struct Report {
    stacks: bool,
    locals: bool,
    limit: usize,
}

impl Default for Report {
    fn default() -> Report {
        Report { stacks: true, locals: false, limit: 1000 }
    }
}

impl Report {
    /// Tells of at most 1,000 greenlets, with their stacks and without their locals.
    pub fn new() -> Report {
        Report::default()
    }

    /// Whether to tell where each stands in its code. Default: yes.
    pub fn stacks(mut self, stacks: bool) -> Report {
        self.stacks = stacks;
        self
    }

    /// Whether to tell the names of the values that belong to each (`ctxlocal`). Default: no.
    pub fn locals(mut self, locals: bool) -> Report {
        self.locals = locals;
        self
    }

    /// How many greenlets to tell of at most, in the order in which they were spawned. Default: 1,000.
    pub fn limit(mut self, greenlets: usize) -> Report {
        self.limit = greenlets;
        self
    }

    fn tree(&self, out: &mut String, all: &[Info], of: Option<u64>, depth: usize) -> fmt::Result {
        for info in all.iter().filter(|info| info.parent == of && Some(info.id) != of) {
            let indent = "  ".repeat(depth);
            writeln!(out, "{indent}{info}")?;
            if let Some(locals) = info.locals.as_deref().filter(|_| self.locals) {
                writeln!(out, "{indent}    locals: {locals}")?;
            }
            for line in info.trace.iter().flat_map(|trace| trace.lines()) {
                writeln!(out, "{indent}    {line}")?;
            }
            self.tree(out, all, Some(info.id), depth + 1)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hub = Hub::get();
        let mut all: Vec<_> = hub.all();
        let count = all.len();
        all.sort_by_key(|core| core.id);
        all.truncate(self.limit.max(1));
        let mut infos = infos(hub, &all, self.stacks);
        for index in 0..infos.len() {
            // whose parent is not told of stands at the root
            let known = |id| infos.iter().any(|info| info.id == id);
            infos[index].parent = infos[index].parent.filter(|parent| known(*parent));
        }
        let mut out = String::new();
        self.tree(&mut out, &infos, None, 0)?;
        if count > infos.len() {
            writeln!(out, "and {} more", count - infos.len())?;
        }
        f.write_str(&out)
    }
}

/// What there is to know of one greenlet at this moment; see [`greenlets`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Info {
    /// Its id; 0 for main.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The id of the greenlet that spawned it, if that one has not been forgotten.
    pub parent: Option<u64>,
    /// What it does or waits for, as in "sleeps" or "waits to read from descriptor 7".
    pub what: String,
    /// For how long it has been parked, to some milliseconds. `None` if it is not.
    pub since: Option<Duration>,
    /// Where it was spawned; `None` for main.
    pub spawned_at: Option<&'static Location<'static>>,
    /// How deep its stack has been used, in bytes: see [`GreenletRef::stack_used`](crate::GreenletRef::stack_used).
    pub stack_used: Option<usize>,
    /// How many bytes of stack it has.
    pub stack_size: usize,
    /// The names of the values that belong to it (`ctxlocal`). `None` for the one that runs and for main.
    pub locals: Option<String>,
    /// Where it stands, one call to a line, innermost first. `None` if it was not asked for, if it has not started, and for
    /// one that has less than 16 KiB of stack left.
    pub trace: Option<String>,
}

/// What there is to know of each greenlet of this thread, main first, in the order in which they were spawned; with their
/// stacks if asked.
pub fn greenlets(stacks: bool) -> Vec<Info> {
    let hub = Hub::get();
    let mut all = hub.all();
    all.sort_by_key(|core| core.id);
    infos(hub, &all, stacks)
}

/// All but the one that runs, in the order in which they were spawned. `None` if the hub's table of them is being changed.
pub(crate) fn others(hub: &Hub, limit: usize) -> Option<String> {
    let mut all = hub.try_all()?;
    let runs = hub.with_running(|core| core.id);
    all.retain(|core| Some(core.id) != runs && !core.is_main());
    all.sort_by_key(|core| core.id);
    let count = all.len();
    all.truncate(limit);
    let mut out = String::new();
    for info in infos(hub, &all, true) {
        let _ = writeln!(out, "{info}");
        info.trace.iter().flat_map(|trace| trace.lines()).for_each(|line| {
            let _ = writeln!(out, "    {line}");
        });
    }
    if count > all.len() {
        let _ = writeln!(out, "and {} more", count - all.len());
    }
    Some(out)
}

fn infos(hub: &Hub, all: &[Rc<Core>], stacks: bool) -> Vec<Info> {
    // one moment for all: looking up the first names takes its time
    let now = hub.now();
    all.iter().map(|core| Info::of(hub, now, core, stacks)).collect()
}

impl Info {
    fn of(hub: &Hub, now: Moment, core: &Rc<Core>, stacks: bool) -> Info {
        let running = Rc::ptr_eq(core, &hub.current_or_main());
        let parked = core.state.get() == State::Parked;
        let fiber = core.fiber.get().filter(|_| !core.is_dead());
        Info {
            id: core.id,
            name: core.name().to_owned(),
            parent: core.parent().map(|parent| parent.id),
            what: if running { "runs".to_owned() } else { core.waits_for.get().to_string() },
            since: parked.then(|| parked_for(core, now)),
            spawned_at: core.spawned(),
            stack_used: fiber.and_then(|fiber| fiber.bounds().high_water().ok()),
            stack_size: core.stack_size(),
            locals: fiber.filter(|_| !running).map(|_| {
                let locals = core.locals.take();
                let names = format!("{locals:?}");
                core.locals.set(locals);
                names
            }),
            trace: stacks.then(|| trace(core, running)).flatten(),
        }
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' (#{}) {}", self.name, self.id, self.what)?;
        if let Some(since) = self.since {
            write!(f, " since {:.3} s", since.as_secs_f64())?;
        }
        if let Some(place) = self.spawned_at {
            write!(f, ", spawned at {place}")?;
        }
        if let Some(used) = self.stack_used {
            write!(f, ", stack {} KiB of {}", used / 1024, self.stack_size / 1024)?;
        }
        Ok(())
    }
}

/// For how long a greenlet has been parked.
fn parked_for(core: &Core, now: Moment) -> Duration {
    Duration::from_millis((now.millis() as u32).wrapping_sub(core.parked_at.get()).into())
}

/// Where a greenlet stands.
fn trace(core: &Core, running: bool) -> Option<String> {
    let backtrace = if running { Some(Backtrace::force_capture()) } else { backtrace_of(core) };
    backtrace.map(|backtrace| users_part(&backtrace.to_string()))
}

/// The stack of a parked greenlet, its functions' names not yet looked up.
pub(crate) fn backtrace_of(core: &Core) -> Option<Backtrace> {
    let mut backtrace = None;
    let fiber = core.fiber.get().filter(|_| !core.is_dead())?;
    fiber.visit(&mut || backtrace = Some(Backtrace::force_capture()));
    backtrace
}

/// The calls between the runtime's innermost ones, which park and capture, and its outermost, which started the greenlet.
pub(crate) fn users_part(trace: &str) -> String {
    // Each call is a line "  12: name" with, perhaps, a line "at file:line:column".
    let mut calls: Vec<(&str, Option<&str>)> = Vec::new();
    for line in trace.lines().map(str::trim) {
        match (line.strip_prefix("at "), calls.last_mut()) {
            (Some(place), Some((_, at))) => *at = Some(place),
            _ => calls.push((line.split_once(": ").map_or(line, |(_, name)| name), None)),
        }
    }
    let innermost = |name: &str| {
        within(name, &["greenlet::inspect", "greenlet::switch", "greenlet::hub", "std::backtrace"])
    };
    let names: Vec<_> = calls.iter().map(|(name, _)| *name).collect();
    let end = end_of_users(&names);
    let begin = calls[..end].iter().rposition(|(name, _)| innermost(name)).map_or(0, |last| last + 1);
    let mut out = String::new();
    for (name, place) in &calls[begin..end] {
        let _ = match place {
            Some(place) => writeln!(out, "{name} at {place}"),
            None => writeln!(out, "{name}"),
        };
    }
    out
}

/// How many of these calls, innermost first, are above those of the runtime that started the greenlet.
pub(crate) fn end_of_users(calls: &[impl AsRef<str>]) -> usize {
    let outermost =
        |name: &str| name.contains("greenlet::job") || name.contains("__rust_begin_short_backtrace");
    let starter = |name: &str| {
        within(name, &["greenlet::unwind", "__rust_try", "std::panic", "core::panic", "core::ops::function"])
    };
    // Behind the outermost come those of who asked, for the stacks are linked.
    let end = calls.iter().position(|name| outermost(name.as_ref())).unwrap_or(calls.len());
    end - calls[..end].iter().rev().take_while(|name| starter(name.as_ref())).count()
}

fn within(name: &str, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| name.trim_start_matches('<').starts_with(room))
}
