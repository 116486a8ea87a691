//! A property: any valid stream of requests, cut anywhere, gives the same requests with the same bodies (RFC 9112, 9.3.2).
//!
//! Streams are made from a seed, together with what must come of them. A failure names its seed and the cuts; put the seed
//! into `RFC_STREAM_SEED` to run that stream alone, with ever fewer requests.

use crate::app::{Mode, Running, plain};
use crate::table::Client;

/// So many streams.
const STREAMS: u64 = 400;

/// Numbers that follow from a seed (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

/// A request as bytes, and the text of its answer.
struct Made {
    bytes: Vec<u8>,
    text: String,
    old: bool,
}

fn made(numbers: &mut Numbers) -> Made {
    let method = numbers.pick(&["GET", "POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "!odd~", "OPTIONS"]);
    let target = match method {
        "OPTIONS" if numbers.one_in(2) => "*",
        _ => numbers.pick(&[
            "/",
            "/a",
            "/a?b=c&d",
            "//x",
            "/%20;p=q?r/?",
            "http://b:81/c?d",
            "HTTP://b",
            "/long/long/long/long/path",
        ]),
    };
    let old = numbers.one_in(6);
    let version = if old { "HTTP/1.0" } else { numbers.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.7"]) };
    let mut fields: Vec<String> = Vec::new();
    if !old || numbers.one_in(2) {
        fields.push(format!(
            "{}:{}h:8{}",
            numbers.pick(&["Host", "host", "hOST"]),
            space(numbers),
            space(numbers)
        ));
    }
    let host = if fields.is_empty() { "-" } else { "h:8" };
    let authority = if target.len() > 7 && target[..4].eq_ignore_ascii_case("http") {
        target[7..].split('/').next().unwrap_or_default()
    } else {
        host
    };
    let body = body(numbers);
    let framed = match numbers.below(4) {
        0 if !old => {
            fields.push(format!(
                "{}: {}",
                numbers.pick(&["Transfer-Encoding", "transfer-encoding"]),
                numbers.pick(&["chunked", "Chunked "])
            ));
            chunks(numbers, &body)
        }
        _ if body.is_empty() && numbers.one_in(2) => Vec::new(),
        _ => {
            let zeros = "0".repeat(numbers.below(3));
            (0..=usize::from(numbers.one_in(8)))
                .for_each(|_| fields.push(format!("Content-Length: {zeros}{}", body.len())));
            body.clone()
        }
    };
    if numbers.one_in(6) {
        fields.push("Expect: 100-continue".into());
    }
    if old {
        fields.push("Connection: x, Keep-Alive".into());
    } else if numbers.one_in(6) {
        fields.push("Connection: keep-alive".into());
    }
    for n in 0..numbers.below(4) {
        fields.push(format!(
            "X-{n}:{}{}{}",
            space(numbers),
            numbers.pick(&["", "y", "y\tz : , \u{e9}", "close", "chunked"]),
            space(numbers)
        ));
    }
    // The order of fields says nothing.
    for n in (1..fields.len()).rev() {
        fields.swap(n, numbers.below(n + 1));
    }
    let empty = if numbers.one_in(5) { "\r\n" } else { "" };
    let mut bytes = format!("{empty}{method} {target} {version}\r\n").into_bytes();
    for field in fields {
        bytes.extend_from_slice(field.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&framed);
    let seen = if old { "1.0" } else { "1.1" };
    let text = match target {
        "*" => format!("{method} * {seen} {authority} [{}]", body.escape_ascii()),
        _ => format!("{method} {target} {seen} {authority} [{}]", body.escape_ascii()),
    };
    Made { bytes, text, old }
}

fn space(numbers: &mut Numbers) -> &'static str {
    [" ", "", "\t ", "  "][numbers.below(4)]
}

/// Bytes of all sorts, often such as mean something elsewhere.
fn body(numbers: &mut Numbers) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..numbers.below(4) {
        match numbers.below(4) {
            0 => body.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => body.extend_from_slice(b"0\r\n\r\n"),
            2 => (0..numbers.below(40)).for_each(|_| body.push(numbers.next() as u8)),
            _ => body.extend(std::iter::repeat_n(b'x', numbers.below(3000))),
        }
    }
    body
}

fn chunks(numbers: &mut Numbers, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut left = body;
    let extension = |numbers: &mut Numbers| {
        numbers.pick(&["", "", "", ";a", " ;a=b", "\t; a = \"b;c\";d", ";"]).to_owned()
    };
    while !left.is_empty() {
        let (chunk, rest) = left.split_at(1 + numbers.below(left.len().min(700)));
        let zeros = "0".repeat(numbers.below(3));
        let size =
            if numbers.one_in(2) { format!("{:x}", chunk.len()) } else { format!("{:X}", chunk.len()) };
        out.extend_from_slice(format!("{zeros}{size}{}\r\n", extension(numbers)).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        left = rest;
    }
    out.extend_from_slice(
        format!("{}{}\r\n", "0".repeat(1 + numbers.below(2)), extension(numbers)).as_bytes(),
    );
    for n in 0..numbers.below(3) {
        out.extend_from_slice(format!("X-T{n}:{}v\r\n", space(numbers)).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// The stream of a seed, and exactly what comes back for it but for dates and interim answers.
fn stream(seed: u64, most: usize) -> (Vec<u8>, Vec<u8>) {
    let mut numbers = Numbers(seed);
    let requests: Vec<Made> = (0..1 + numbers.below(6)).map(|_| made(&mut numbers)).collect();
    let (mut bytes, mut answers) = (Vec::new(), Vec::new());
    for request in requests.into_iter().take(most) {
        bytes.extend_from_slice(&request.bytes);
        let lives = if request.old { "connection: keep-alive\r\n" } else { "" };
        answers.extend_from_slice(
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n{lives}\r\n{}",
                request.text.len(),
                request.text
            )
            .as_bytes(),
        );
    }
    (bytes, answers)
}

/// What comes back for `bytes`, sent in pieces that end at `cuts`.
fn sent(server: &Running, bytes: &[u8], cuts: &[usize]) -> Result<Vec<u8>, String> {
    let mut client = Client::new(server.addr);
    let mut from = 0;
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        client.send(&bytes[from..cut]);
        from = cut;
        // Not long, but the server may look now.
        std::thread::yield_now();
    }
    client.finish();
    client.answers()
}

#[test]
fn any_cut_of_any_stream_gives_the_same_requests() {
    let alone = std::env::var("RFC_STREAM_SEED").ok().map(|seed| seed.parse().expect("a number"));
    let seeds = alone.map_or(0..STREAMS, |seed| seed..seed + 1);
    for mode in [Mode::Green, Mode::Threads] {
        let server = Running::start(mode, plain);
        for seed in seeds.clone() {
            let (bytes, expected) = stream(seed, usize::MAX);
            let mut numbers = Numbers(!seed);
            for way in 0..4 {
                // In one piece, and then in ever more.
                let mut cuts: Vec<usize> =
                    (0..way * way * 3).map(|_| numbers.below(bytes.len() + 1)).collect();
                cuts.sort_unstable();
                let got = sent(&server, &bytes, &cuts);
                if got.as_ref() != Ok(&expected) {
                    // The least number of its requests that fails alike.
                    let (bytes, expected, got) = (1..)
                        .map(|most| {
                            let (bytes, expected) = stream(seed, most);
                            let cuts: Vec<usize> = cuts.iter().map(|cut| *cut.min(&bytes.len())).collect();
                            let got = sent(&server, &bytes, &cuts);
                            (bytes, expected, got)
                        })
                        .take(6)
                        .find(|(_, expected, got)| got.as_ref() != Ok(expected))
                        .unwrap_or((bytes, expected, got));
                    panic!(
                        "seed {seed}, {mode:?}, cut at {cuts:?}\n  sent     {}\n  got      {}\n  expected {}",
                        bytes.escape_ascii(),
                        got.map_or_else(|fault| fault, |got| got.escape_ascii().to_string()),
                        expected.escape_ascii()
                    );
                }
            }
        }
    }
}
