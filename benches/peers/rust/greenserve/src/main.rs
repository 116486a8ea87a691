//! greenserve, with the application that all peers have, in this process and without all that a program has around it:
//! `peer-greenserve PORT FILE`.

mod app;

use std::io;
use std::time::Duration;

use greenserve::Server;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: peer-greenserve PORT FILE"));
    };
    Server::bind(format!("127.0.0.1:{port}"))?
        .backlog(8192)?
        .worker_connections(30_000)
        .keep_alive(Duration::from_secs(75))
        .serve(app::app(path)?)
}
