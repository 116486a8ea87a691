//! `tungstenite` on std's sockets: both ends are guests, in greenlets of one thread.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use greenserve_guests::{spawn, together};
use tungstenite::{Message, WebSocket};

/// A client whose server answers slowly.
fn connect(_: usize) -> WebSocket<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("an address");
    spawn(move || {
        let (stream, _) = listener.accept().expect("a client");
        let mut socket = tungstenite::accept(stream).expect("a handshake");
        while let Ok(message) = socket.read() {
            if message.is_text() {
                std::thread::sleep(Duration::from_millis(200));
                socket.send(message).expect("it is still there");
            }
        }
    });
    let stream = TcpStream::connect(addr).expect("a server");
    tungstenite::client(format!("ws://{addr}/"), stream).expect("a handshake").0
}

#[test]
fn echoes_wait_together() {
    together(20, connect, |socket| {
        socket.send(Message::text("echo")).expect("it is still there");
        assert_eq!(socket.read().expect("an answer"), Message::text("echo"));
    });
}

#[test]
fn a_message_larger_than_the_socket_s_buffers_goes_through() {
    let large = "x".repeat(1 << 20);
    together(8, connect, move |socket| {
        socket.send(Message::text(large.as_str())).expect("it is still there");
        assert_eq!(socket.read().expect("an answer").len(), large.len());
    });
}
