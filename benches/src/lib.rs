//! What the benches share: a load generator ([`load`]) and the comparison that it is used for ([`compare`]), a cheaper one
//! ([`blast`]) and the server beside other servers ([`marks`]), and the runtime's micro-benchmarks beside those of other
//! runtimes ([`runtime_marks`]). What those two find is put together in one page with charts ([`report`]).
//!
//! The programs are in `src/bin/` (`compare`, `million`, `marks`, `instructions`, `runtime_marks`, `report`) and `benches/`
//! (micro-benchmarks). All of them use the crates as a user would, send traffic to loopback only and end by themselves.

pub mod blast;
pub mod compare;
pub mod load;
pub mod marks;
mod plot;
pub mod report;
pub mod runtime_marks;
