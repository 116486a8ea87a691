//! What the benches share: a load generator ([`load`]), and the comparison that it is used for ([`compare`]).
//!
//! The programs are in `src/bin/` (`compare`, `million`) and `benches/` (micro-benchmarks). All of them use the crates
//! as a user would, send traffic to loopback only and end by themselves.

pub mod blast;
pub mod compare;
pub mod load;
pub mod marks;
