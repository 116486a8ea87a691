//! A TCP echo server, one green thread for each connection, in plain blocking code.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin echo -- 127.0.0.1:7000    # try it with: nc 127.0.0.1 7000
//! cargo run -p greenserve-examples --bin echo                      # with a hundred clients of its own
//! ```

use std::env;
use std::io::{self, BufRead, BufReader, Write};

use greenlet::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    match env::args().nth(1) {
        Some(address) => {
            let listener = TcpListener::bind(&address)?;
            println!("listening on {}", listener.local_addr()?);
            serve(&listener)
        }
        None => demonstrate(),
    }
}

/// Accepts connections until that fails. accept() parks the green thread that calls it, not the OS thread.
fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, peer) = listener.accept()?;
        greenlet::spawn(move || {
            if let Err(error) = echo(&stream) {
                eprintln!("{peer}: {error}");
            }
        });
    }
}

/// Sends back what comes, until the client has no more.
fn echo(stream: &TcpStream) -> io::Result<()> {
    // Read and Write are there for &TcpStream, as in std, so one end can be both source and target.
    let (mut from, mut to) = (stream, stream);
    io::copy(&mut from, &mut to).map(drop)
}

/// A hundred clients talk to the server at the same time, all on this one thread.
fn demonstrate() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = greenlet::spawn(move || serve(&listener));

    let clients: Vec<_> = (0..100)
        .map(|n| {
            greenlet::spawn(move || -> io::Result<usize> {
                let stream = TcpStream::connect(address)?;
                let mut lines = BufReader::new(&stream).lines();
                for turn in 0..10 {
                    let line = format!("client {n}, line {turn}");
                    writeln!(&stream, "{line}")?;
                    let answer = lines.next().transpose()?;
                    assert_eq!(answer.as_deref(), Some(&*line));
                }
                Ok(10)
            })
        })
        .collect();

    let mut lines = 0;
    for client in clients {
        lines += client.join().map_err(io::Error::other)??;
    }
    println!("100 clients have got {lines} lines back");

    // The server sits in accept(). kill() unwinds it from there; the listener is closed on the way out.
    server.kill()?;
    Ok(())
}
