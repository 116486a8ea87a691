//! The fuzz targets without a fuzzer: every input of `fuzz/corpus`, and mutations of them that follow from a seed. libFuzzer
//! goes further (`fuzz/README.md`); this needs nothing but the stable toolchain, and runs with all other tests.
//!
//! `FUZZ_INPUTS` is the number of mutations of each target; put the seed of a failure into `FUZZ_SEED` to run it alone.

mod targets;

use std::fs;
use std::path::Path;

/// An optimised build does 200,000 in the time of these.
const INPUTS: u64 = if cfg!(debug_assertions) { 30_000 } else { 200_000 };

/// What is put into inputs.
const WORDS: [&[u8]; 48] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\"",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\x0b",
    b"\x16",
    b"0",
    b"1",
    b"5",
    b"a",
    b"F",
    b"x",
    b"+",
    b"-",
    b"0x",
    b"_",
    b"%",
    b"#",
    b"?",
    b"*",
    b"/",
    b"//",
    b"http://",
    b"@",
    b"[::1]",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"Host: a\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: ",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: ",
    b"chunked",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound.max(1) as u64) as usize
    }
}

/// An input of the corpus, a little different.
fn mutated(corpus: &[Vec<u8>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = corpus[numbers.below(corpus.len())].clone();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len() + 1);
        let end = (at + numbers.below(24)).min(input.len());
        match numbers.below(8) {
            0 => drop(input.drain(at..end)),
            1 => {
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            2 => {
                let other = &corpus[numbers.below(corpus.len())];
                let from = numbers.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            3 if at < input.len() => input[at] ^= 1 << numbers.below(8),
            4 if at < input.len() => input[at] = numbers.below(256) as u8,
            5 => input.truncate(at),
            _ => {
                let word = WORDS[numbers.below(WORDS.len())];
                input.splice(at..at, word.iter().copied());
            }
        }
    }
    input
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    // So that a seed means the same everywhere.
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn run(target: &str, check: fn(&[u8])) {
    let corpus = corpus(target);
    assert!(corpus.len() >= 10, "the corpus of {target} is gone");
    let seeds = match number("FUZZ_SEED") {
        Some(seed) => seed..seed + 1,
        None => {
            corpus.iter().for_each(|input| check(input));
            0..number("FUZZ_INPUTS").unwrap_or(INPUTS)
        }
    };
    for seed in seeds {
        let input = mutated(&corpus, &mut Numbers(seed));
        let result = std::panic::catch_unwind(|| check(&input));
        assert!(result.is_ok(), "{target}: FUZZ_SEED={seed}: {}", input.escape_ascii());
    }
}

#[test]
fn heads_keep_their_promises() {
    run("head", targets::head);
}

#[test]
fn chunked_bodies_keep_their_promises() {
    run("chunked", targets::chunked);
}

#[test]
fn request_streams_keep_their_promises() {
    run("request_stream", targets::request_stream);
}
