//! The marks: what our server takes and yields beside others, row by row, each with the figure that it has to reach.
//!
//! `rows` says what is measured and `peers` who is; [`Running`] starts and watches a server, [`Results`] keeps what came
//! out and judges it, `report` shows it and records it for the page ([`crate::report`]). The order of events, the command line and the progress are the
//! program's (`src/bin/marks.rs`); requests are sent by [`blast`](crate::blast).

mod counts;
mod figures;
mod peers;
mod process;
mod record;
mod report;
mod rows;

pub use counts::Counts;
pub use figures::{Cell, Generator, Latency, Point, Results, Sample};
pub use peers::{PEERS, Peer, Site};
pub use process::{Running, own_cpu};
pub use record::{Difference, Record};
pub use report::{markdown, record, text};
pub use rows::{CONNECTIONS, HELD, Mark, PEAK, ROWS, Route, Row, SPREAD, WORKERS, Way};
