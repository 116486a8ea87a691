//! The tests that crossbeam-channel is published with, as they are: `#[test]` in them is ours, which comes before the
//! compiler's own since it is a macro of a crate.

#[macro_use]
extern crate green_test;

include!(concat!(env!("OUT_DIR"), "/suite.rs"));
