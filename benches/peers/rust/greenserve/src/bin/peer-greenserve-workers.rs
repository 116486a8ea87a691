//! greenserve, with the application that all peers have, as a server program, with a master: its arguments are those of
//! `greenserve::main`, and `PEER_FILE` names the file. A program apart from `peer-greenserve`: with both in one, the compiler makes
//! each path through the server twice, and calls what it would have inlined.

#[path = "../app.rs"]
mod app;

use greenserve::ExitCode;

fn main() -> ExitCode {
    match app::app(std::env::var_os("PEER_FILE").unwrap_or_default()) {
        Ok(app) => greenserve::main(app),
        Err(error) => {
            eprintln!("peer-greenserve-workers: PEER_FILE: {error}");
            ExitCode::FAILURE
        }
    }
}
