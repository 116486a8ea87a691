//! Which figures are shown, and the marks.

/// What a figure ought to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most this.
    AtMost(f64),
    /// Below every peer that was measured in the same run.
    BelowPeers,
    /// No mark: shown for comparison.
    None,
}

/// One figure of one benchmark, for all runtimes.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Name of the benchmark, as the programs know it.
    pub bench: &'static str,
    /// Name of the figure, in what the programs print.
    pub figure: &'static str,
    /// What it says, for readers.
    pub title: &'static str,
    /// The unit that it is shown in.
    pub unit: &'static str,
    /// How many of the program's units make one of the unit shown.
    pub scale: f64,
    /// The mark, in the unit shown.
    pub target: Target,
}

const fn row(bench: &'static str, figure: &'static str, title: &'static str, unit: &'static str) -> Row {
    Row { bench, figure, title, unit, scale: 1.0, target: Target::None }
}

/// All that is measured, in the order in which it is shown.
pub const ROWS: &[Row] = &[
    Row {
        target: Target::AtMost(20.0),
        ..row("switch", "ns", "switch to a ready greenlet through the hub", "ns")
    },
    Row {
        target: Target::AtMost(100.0),
        ..row("spawn_join", "ns", "spawn and join an empty greenlet, warm pool", "ns")
    },
    Row {
        target: Target::AtMost(100.0),
        ..row("ping_pong", "ns", "channel ping-pong, per round trip", "ns")
    },
    Row {
        scale: 1e3,
        target: Target::BelowPeers,
        ..row("echo_1", "ns", "TCP echo round trip, 1 connection", "µs")
    },
    Row {
        scale: 1e3,
        target: Target::BelowPeers,
        ..row("echo_1000", "ns", "TCP echo round trip, 1,000 connections", "µs")
    },
    Row {
        scale: 1e3,
        target: Target::BelowPeers,
        ..row("timers", "ns", "100,000 asleep, all due within a second, each", "µs")
    },
    Row { scale: 1e3, ..row("starts", "ns", "the same as greenlets spawned for later, each", "µs") },
    Row {
        target: Target::AtMost(60.0),
        ..row("timer_cancel", "ns", "set and cancel a timer, 1,000,000 pending", "ns")
    },
    Row {
        target: Target::AtMost(4_500.0),
        ..row("parked", "bytes", "parked greenlets, resident bytes each", "B")
    },
    Row { target: Target::AtMost(4.0), ..row("parked", "seconds", "parked greenlets, until all are", "s") },
    Row {
        target: Target::AtMost(0.0),
        ..row(
            "remote_wake",
            "writes",
            "writes to a descriptor per wake of a busy hub from another thread",
            "",
        )
    },
];
