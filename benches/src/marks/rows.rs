//! What is measured, and the mark that each has to meet.

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `Hello, World!`
    Plaintext,
    /// The same, a while later.
    Sleep,
    /// 100 KiB with `Content-Length`.
    Fixed,
    /// 100 writes of 1 KiB, chunked, gathered as the server likes.
    Stream,
    /// The same, each write sent by itself.
    StreamFlushed,
    /// A file of 10 MB.
    File,
}

impl Route {
    /// Path and query. `ms` is how long to sleep.
    pub fn target(self, ms: u64) -> String {
        match self {
            Route::Plaintext => "/plaintext".to_owned(),
            Route::Sleep => format!("/sleep?ms={ms}"),
            Route::Fixed => "/fixed?n=102400".to_owned(),
            Route::Stream => "/stream?n=100&size=1024".to_owned(),
            Route::StreamFlushed => "/stream-flushed?n=100&size=1024".to_owned(),
            Route::File => "/file".to_owned(),
        }
    }

    /// The body's length.
    pub fn length(self) -> u64 {
        match self {
            Route::Plaintext | Route::Sleep => 13,
            Route::Fixed | Route::Stream | Route::StreamFlushed => 102_400,
            Route::File => 10_000_000,
        }
    }
}

/// How it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Processor time per request, on so many kept connections with so many requests sent at once.
    Keep {
        /// Connections.
        connections: usize,
        /// Requests sent at once.
        depth: usize,
    },
    /// Requests a second and processor time per request on kept connections, for each of [`CONNECTIONS`].
    Connections,
    /// Processor time per request, each on a connection of its own, so many under way.
    Close {
        /// Connections.
        connections: usize,
    },
    /// Latencies at 70 % of the peak rate that the first row has found.
    Latency {
        /// Connections.
        connections: usize,
    },
    /// Resident memory that each kept connection adds after one request; the server is looked at at each of [`HELD`] on the
    /// way.
    Idle {
        /// Connections.
        connections: usize,
    },
    /// Resident memory that each connection adds whose handler sleeps.
    Busy {
        /// Connections.
        connections: usize,
    },
}

/// What has to be reached.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mark {
    /// At most so many times bare's processor time, and below all peers if `lead`.
    Bare {
        /// The most.
        most: f64,
        /// Below all peers.
        lead: bool,
    },
    /// Two workers yield at least so many times what one does, by what the processors take.
    Workers(f64),
    /// No more processor time than this peer.
    Peer(&'static str),
    /// At most so many bytes each.
    Bytes(u64),
    /// Below all peers.
    Lead,
    /// Nothing: it is shown for what it tells.
    None,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is measured.
    pub title: &'static str,
    /// What is asked for.
    pub route: Route,
    /// How.
    pub way: Way,
    /// What has to be reached.
    pub mark: Mark,
}

const fn row(name: &'static str, title: &'static str, route: Route, way: Way, mark: Mark) -> Row {
    Row { name, title, route, way, mark }
}

/// The name of the row that finds the peak rate for [`Way::Latency`].
pub const PEAK: &str = "plaintext";

/// The name of the row whose connections don't go on in step: each wakes by itself.
pub const SPREAD: &str = "sleep-spread";

/// The name of the row that compares two workers with one; only ours is in it.
pub const WORKERS: &str = "workers";

/// Numbers of connections that [`Way::Connections`] goes through.
pub const CONNECTIONS: &[usize] = &[1, 16, 64, 256, 1000, 4000, 10_000];

/// Numbers of connections that are held open on the way to the most that are asked for.
pub const HELD: &[usize] = &[1, 64, 256, 1000, 4000, 10_000];

/// All rows.
pub const ROWS: &[Row] = &[
    row(
        PEAK,
        "/plaintext, 64 kept connections",
        Route::Plaintext,
        Way::Keep { connections: 64, depth: 1 },
        Mark::Bare { most: 1.05, lead: true },
    ),
    row(
        "plaintext-1000",
        "/plaintext, 1,000 kept connections",
        Route::Plaintext,
        Way::Keep { connections: 1000, depth: 1 },
        Mark::Bare { most: 1.1, lead: false },
    ),
    row(
        "pipelined",
        "/plaintext, 64 connections, pipelined by 16",
        Route::Plaintext,
        Way::Keep { connections: 64, depth: 16 },
        Mark::Bare { most: 1.15, lead: false },
    ),
    row(
        "new-connection",
        "/plaintext, a new connection for each request",
        Route::Plaintext,
        Way::Close { connections: 64 },
        Mark::Bare { most: 0.95, lead: false },
    ),
    row(
        "sleep",
        "1,000 connections in /sleep?ms=100",
        Route::Sleep,
        Way::Keep { connections: 1000, depth: 1 },
        Mark::Bare { most: 1.15, lead: false },
    ),
    row(
        SPREAD,
        "the same, begun evenly over the 100 ms and not all at once",
        Route::Sleep,
        Way::Keep { connections: 1000, depth: 1 },
        Mark::None,
    ),
    row(
        "body",
        "a body of 100 KiB",
        Route::Fixed,
        Way::Keep { connections: 64, depth: 1 },
        Mark::Bare { most: 0.98, lead: false },
    ),
    row(
        "stream",
        "a chunked stream of 100 × 1 KiB, not flushed",
        Route::Stream,
        Way::Keep { connections: 64, depth: 1 },
        Mark::Bare { most: 1.02, lead: false },
    ),
    row(
        "stream-flushed",
        "the same, each piece flushed",
        Route::StreamFlushed,
        Way::Keep { connections: 64, depth: 1 },
        Mark::Peer("go"),
    ),
    row(
        WORKERS,
        "/plaintext, 64 kept connections, two workers beside one",
        Route::Plaintext,
        Way::Keep { connections: 64, depth: 1 },
        Mark::Workers(1.9),
    ),
    row("file", "a file of 10 MB", Route::File, Way::Keep { connections: 8, depth: 1 }, Mark::Peer("nginx")),
    row(
        "connections",
        "/plaintext, from 1 to 10,000 kept connections",
        Route::Plaintext,
        Way::Connections,
        Mark::None,
    ),
    row(
        "latency",
        "/plaintext at 70 % of the peak rate, 64 connections",
        Route::Plaintext,
        Way::Latency { connections: 64 },
        Mark::Lead,
    ),
    row(
        "idle-10000",
        "an idle connection, of 10,000",
        Route::Plaintext,
        Way::Idle { connections: 10_000 },
        Mark::Bytes(500),
    ),
    row(
        "idle-19000",
        "an idle connection, of 19,000",
        Route::Plaintext,
        Way::Idle { connections: 19_000 },
        Mark::Bytes(500),
    ),
    row(
        "busy",
        "a connection inside a handler, of 5,000",
        Route::Sleep,
        Way::Busy { connections: 5000 },
        Mark::Bytes(8192),
    ),
];
