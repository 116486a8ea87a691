//! What the benches share: load generators ([`load`], [`blast`]), the comparison of worker kinds ([`compare`]), the
//! server's marks beside its peers ([`marks`]), and the runtime's beside other runtimes ([`runtime_marks`]).
//!
//! The programs are in `src/bin/` (`compare`, `million`, `marks`, `instructions`, `runtime_marks`) and `benches/`
//! (micro-benchmarks). All of them use the crates as a user would, send traffic to loopback only and end by themselves.

pub mod blast;
pub mod compare;
pub mod load;
pub mod marks;
pub mod runtime_marks;
