#![no_main]

#[path = "../../tests/tests/fuzz/targets.rs"]
#[allow(dead_code, reason = "each target is a program of its own")]
mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::chunked(data));
