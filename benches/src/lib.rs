//! What the benches share: a load generator ([`load`]), the comparison that it is used for ([`compare`]), and the
//! runtime's micro-benchmarks beside those of other runtimes ([`runtime_marks`]).
//!
//! The programs are in `src/bin/` (`compare`, `million`, `runtime_marks`) and `benches/` (micro-benchmarks). All of them
//! use the crates as a user would, send traffic to loopback only and end by themselves.

pub mod compare;
pub mod load;
pub mod runtime_marks;
