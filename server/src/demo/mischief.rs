//! What a server has to survive.

use std::hint::black_box;
use std::io::{self, Write};

use super::query::{BadQuery, Query};
use super::{Answer, Demo};
use crate::{Body, IntoResponse, Request};

/// `/panic-mid`: panics when the client has the first chunk.
pub(super) fn panic_mid(_: &Demo, _: Request) -> Answer {
    let body = Body::stream(|out| {
        out.write_all(b"this much, and then a panic\n")?;
        out.flush()?;
        panic!("the demo panics in the middle of a body, as it was asked to");
    });
    Ok(([("content-type", "text/plain; charset=utf-8")], body).into_response())
}

/// `/leak?mib=`: takes so many MiB of memory, up to 1024, and never gives them back.
pub(super) fn leak(_: &Demo, req: Request) -> Answer {
    let mib = Query::of(&req).number("mib", 1, 0..=1024)?;
    // Written to, or it would be memory in name only.
    let leaked = vec![1_u8; (mib as usize) << 20].leak();
    Ok(format!("leaked {} bytes\n", black_box(leaked).len()).into_response())
}

/// `/overflow`: recurses until the stack is used up, which ends the process with a report.
pub(super) fn overflow(_: &Demo, _: Request) -> Answer {
    Ok(format!("{}\n", recurse(1)).into_response())
}

/// The optimiser can neither turn it into a loop, for the frame is used after the call, nor find that it has no end.
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if black_box(depth) == 0 {
        return 0;
    }
    recurse(black_box(depth) + 1) + frame[(depth % 64) as usize]
}

/// `/bad-header?where=`: tries to inject a header. The `http` crate refuses to make it, and the error is let through.
pub(super) fn bad_header(_: &Demo, req: Request) -> Answer {
    let (name, value): (&str, &[u8]) = match Query::of(&req).text("where").unwrap_or("value-crlf") {
        "value-crlf" => ("x-probe", b"a\r\nX-Injected: 1"),
        "value-lf" => ("x-probe", b"a\nX-Injected: 1"),
        "value-cr" => ("x-probe", b"a\rX-Injected: 1"),
        "value-nul" => ("x-probe", b"a\0b"),
        "name-crlf" => ("x-probe: a\r\nX-Injected", b"1"),
        other => {
            let known = "value-crlf, value-lf, value-cr, value-nul or name-crlf";
            return Err(BadQuery(format!("the query value where={other} is not {known}")).into());
        }
    };
    let response =
        ::http::Response::builder().header(name, value).body(Body::from("the header went through\n"));
    Ok(response.map_err(io::Error::other)?.into())
}
