//! What is asked of the parsers for any bytes whatever. `fuzz/` has these functions run by libFuzzer, the test beside this
//! file by itself. Each panics when a promise is broken.
//!
//! The promises: nothing panics; nothing is used that did not come; what comes of a stream does not depend on how it was cut;
//! a head that is accepted, written anew, is accepted and means the same; and a chunked body is decoded as a much simpler
//! reader, written for this purpose, decodes it.

use bytes::Bytes;
use greenserve::HeaderMap;
use greenserve::http::chunked::{Decoder, Next};
use greenserve::http::framing::RequestBody;
use greenserve::http::{Head, HeadReader, KnownFields, Limits};

/// Longer inputs find nothing more.
const LONGEST: usize = 4000;

/// Heads one after another, without regard to bodies.
pub(crate) fn head(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let tight = Limits { request_line: 30, request_fields: 3, request_field_size: 24, ..Limits::default() };
    for limits in [Limits::default(), tight] {
        every_way(data, |cuts| heads(data, cuts, &limits));
    }
}

/// A chunked body.
pub(crate) fn chunked(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let outcome = every_way(data, |cuts| body(data, cuts, &Limits::default()));
    match (simply_decoded(data), outcome) {
        (Some(expected), got) => assert_eq!(got, Ok(Some(expected))),
        (None, got) => assert!(!matches!(got, Ok(Some(_))), "more is taken than should be: {got:?}"),
    }
    let tight = Limits { request_body: 8, chunk_extensions: 6, trailers: 10, ..Limits::default() };
    let _ = every_way(data, |cuts| body(data, cuts, &tight));
}

/// Requests with their bodies.
pub(crate) fn request_stream(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let _ = every_way(data, |cuts| requests(data, cuts));
}

/// What `run` makes of the input whole, byte by byte, and cut at a few places that follow from the input: always the same.
fn every_way<T: PartialEq + std::fmt::Debug>(data: &[u8], mut run: impl FnMut(&[usize]) -> T) -> T {
    let whole = run(&[]);
    let bytewise: Vec<usize> = (1..data.len()).collect();
    assert_eq!(run(&bytewise), whole, "byte by byte: {}", data.escape_ascii());
    let mut hash = data.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    for count in 1..=3 {
        let mut cuts = [0; 3];
        for cut in &mut cuts[..count] {
            hash = hash.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            *cut = (hash >> 33) as usize % (data.len() + 1);
        }
        let cuts = &mut cuts[..count];
        cuts.sort_unstable();
        assert_eq!(run(cuts), whole, "cut at {cuts:?}: {}", data.escape_ascii());
    }
    whole
}

/// Each head in words, and then the error, if any.
fn heads(data: &[u8], cuts: &[usize], limits: &Limits) -> (Vec<String>, Option<String>) {
    let (mut reader, mut known) = (HeadReader::default(), KnownFields::default());
    let (mut at, mut seen) = (0, Vec::new());
    for shown in cuts.iter().copied().chain([data.len()]) {
        let mut end = shown.max(at);
        loop {
            match reader.read(&data[at..end], limits, &mut known) {
                Ok(None) => break,
                Err(error) => return (seen, Some(error.to_string())),
                Ok(Some(found)) => {
                    assert!(found.extent.end <= end - at, "more than came was used");
                    let bytes = Bytes::copy_from_slice(&data[at..end][found.extent.clone()]);
                    assert!(bytes.ends_with(b"\r\n\r\n") && found.extent.start <= 2);
                    at += found.extent.end;
                    end = shown.max(at);
                    match found.head {
                        Ok(head) => seen.push(accepted(&head, &bytes)),
                        Err(error) => return (seen, Some(error.to_string())),
                    }
                }
            }
        }
    }
    (seen, None)
}

/// Checks a head that was accepted, and gives it in words.
fn accepted(head: &Head, bytes: &Bytes) -> String {
    let words = in_words(head, bytes);
    let mut fields = HeaderMap::new();
    head.headers(bytes, &mut fields);
    let method = head.method.as_str();
    let version = if head.line.old { "1.0" } else { "1.1" };
    let target = &bytes[head.target()];
    let mut again = [method.as_bytes(), b" ", target, b" HTTP/", version.as_bytes(), b"\r\n"].concat();
    for (name, value) in &fields {
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)), "{words}");
        again.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    again.extend_from_slice(b"\r\n");
    let limits = Limits { request_line: 0, request_field_size: 0, request_fields: 0, ..Limits::default() };
    let found = HeadReader::default().read(&again, &limits, &mut KnownFields::default());
    let found = found.expect("an accepted head is accepted again").expect("it is whole");
    assert_eq!(found.extent, 0..again.len());
    let again = Bytes::from(again);
    assert_eq!(in_words(&found.head.expect("it is as right as before"), &again), words);
    words
}

fn in_words(head: &Head, bytes: &Bytes) -> String {
    let mut fields = HeaderMap::new();
    head.headers(bytes, &mut fields);
    assert!(head.target().end <= bytes.len() && head.line.path_end as usize <= head.target().end);
    let Head { method, version, body, keep_alive, expect_continue, .. } = head;
    let uri = head.uri(bytes);
    format!("{method} {uri} {version:?} {body:?} {keep_alive} {expect_continue} {fields:?}")
}

/// The data and how much of the input it took; `None` if it is not complete; the error in words.
type Decoded = Result<Option<(Vec<u8>, usize)>, String>;

fn body(data: &[u8], cuts: &[usize], limits: &Limits) -> Decoded {
    let (mut decoder, mut at, mut out) = (Decoder::new(), 0, Vec::new());
    for shown in cuts.iter().copied().chain([data.len()]) {
        if step(&mut decoder, &data[..shown.max(at)], &mut at, &mut out, limits)? {
            return Ok(Some((out, at)));
        }
    }
    Ok(None)
}

/// Decodes all that is shown; whether that was the end.
fn step(
    decoder: &mut Decoder,
    shown: &[u8],
    at: &mut usize,
    out: &mut Vec<u8>,
    limits: &Limits,
) -> Result<bool, String> {
    loop {
        let (eaten, next) = decoder.advance(&shown[*at..], limits).map_err(|error| error.to_string())?;
        *at += eaten;
        match next {
            Next::More => {
                assert_eq!(*at, shown.len(), "all was eaten");
                return Ok(false);
            }
            Next::End => {
                assert!(decoder.is_done() && decoder.total() == out.len() as u64);
                return Ok(true);
            }
            Next::Data(count) => {
                assert!(count > 0 && count as u64 <= decoder.data_left());
                out.extend_from_slice(&shown[*at..*at + count]);
                decoder.took(count);
                *at += count;
                // The limit is the connection's to keep.
                if limits.request_body > 0 && decoder.total() > limits.request_body {
                    return Err("too large".into());
                }
            }
        }
    }
}

/// The chunked coding as RFC 9112, 7.1 has it, of an input that is there as a whole.
fn simply_decoded(data: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut rest = data;
    let line = |rest: &mut &[u8]| -> Option<Vec<u8>> {
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        let line = rest[..end].to_vec();
        *rest = &rest[end + 2..];
        (!line.contains(&b'\r') && !line.contains(&b'\n')).then_some(line)
    };
    let visible = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let mut out = Vec::new();
    loop {
        let size_line = line(&mut rest)?;
        let digits = size_line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extension) = size_line.split_at(digits);
        let after_space = extension.iter().position(|byte| !matches!(byte, b' ' | b'\t'));
        let extended = after_space.is_some_and(|at| extension[at] == b';') && extension.iter().all(visible);
        if !(1..=16).contains(&digits) || !(extension.is_empty() || extended) {
            return None;
        }
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        out.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let trailer = line(&mut rest)?;
        if trailer.is_empty() {
            return Some((out, data.len() - rest.len()));
        }
        let colon = trailer.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&trailer[..colon]).ok()?.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let forbidden = "content-length transfer-encoding host connection keep-alive te trailer upgrade expect content-encoding";
        let fits = !name.is_empty() && name.bytes().all(token) && trailer[colon..].iter().all(visible);
        if !fits || forbidden.split(' ').any(|other| other == name) {
            return None;
        }
    }
}

/// Each request in words with its body, and how the stream ended.
fn requests(data: &[u8], cuts: &[usize]) -> (Vec<String>, String) {
    enum State {
        Head,
        Length(u64),
        Chunked(Box<Decoder>),
    }
    let limits = Limits::default();
    let (mut reader, mut known) = (HeadReader::default(), KnownFields::default());
    let (mut at, mut seen, mut state) = (0, Vec::new(), State::Head);
    let (mut words, mut content) = (String::new(), Vec::new());
    for shown in cuts.iter().copied().chain([data.len()]) {
        loop {
            let here = &data[..shown.max(at)];
            let is_whole = match &mut state {
                State::Head => match reader.read(&here[at..], &limits, &mut known) {
                    Ok(None) => break,
                    Err(error) => return (seen, error.to_string()),
                    Ok(Some(found)) => {
                        let bytes = Bytes::copy_from_slice(&here[at..][found.extent.clone()]);
                        at += found.extent.end;
                        let head = match found.head {
                            Ok(head) => head,
                            Err(error) => return (seen, error.to_string()),
                        };
                        words = in_words(&head, &bytes);
                        state = match head.body {
                            RequestBody::Length(length) => State::Length(length),
                            RequestBody::Chunked => State::Chunked(Box::default()),
                        };
                        continue;
                    }
                },
                State::Length(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(here.len() - at);
                    content.extend_from_slice(&here[at..at + count]);
                    at += count;
                    *left -= count as u64;
                    *left == 0
                }
                State::Chunked(decoder) => match step(decoder, here, &mut at, &mut content, &limits) {
                    Ok(is_whole) => is_whole,
                    Err(error) => return (seen, error),
                },
            };
            if !is_whole {
                break;
            }
            seen.push(format!("{words} [{}]", content.escape_ascii()));
            content.clear();
            state = State::Head;
        }
    }
    let end = match state {
        State::Head if at == data.len() => "regular".to_owned(),
        State::Head => "inside a head".to_owned(),
        _ => format!("inside the body of {words}, behind {}", content.escape_ascii()),
    };
    (seen, end)
}
