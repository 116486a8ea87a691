//! The runtime's micro-benchmarks beside those of other runtimes, and the marks that they are held to.
//!
//! [`ours`] has the benchmarks; `benches/peers/micro` has the same ones for the peers. Each is a process of its own that
//! prints one line of JSON ([`Program`] runs it), so that no benchmark meets what another one left behind. `rows` says
//! which figures are shown and what they ought to be, `report` shows them. Time is processor time: it holds still on a
//! machine that does other things too. What may not enter here: traffic beyond loopback, and benchmarks of the server.

mod growth;
pub mod ours;
mod program;
mod report;
mod rows;

pub use growth::{BENCH as PARKED, add_runs, growth};
pub use program::{Failure, Figures, Program, peers};
pub use report::{Found, Report};
pub use rows::{ROWS, Row, Target};
