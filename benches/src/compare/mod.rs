//! The comparison: what a server that gives each connection a green thread takes and yields beside one that gives it
//! an OS thread.
//!
//! [`Server`] starts and watches a server process, [`Measurement`] is what came out of driving it, `table` and `page` show
//! many of those. The order of events, the command line and the progress are the program's (`src/bin/compare.rs`).
//! Nothing in here sends a request.

mod machine;
mod measurement;
mod page;
mod server;
mod table;

pub use machine::{Cpus, Machine, raise_descriptor_limit};
pub use measurement::{Figures, Kind, Load, Measurement};
pub use page::page;
pub use server::{Server, Usage, build_server};
pub use table::table;
