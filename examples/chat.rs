//! A chat with rooms, over WebSockets. Open it in two windows, or in two hundred.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin chat -- --bind 127.0.0.1:8000
//! ```
//!
//! Each connection's green thread waits for what its client says and hands it to everybody in the room. All of them run on one
//! OS thread, so the rooms need no lock. (`-k threads` has nobody else in a thread: everybody is alone there.)

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;

use greenserve::websocket::{Acceptor, Message, Sender, WebSocket, close};
use greenserve::{IntoResponse, Request, Response, StatusCode};

const PAGE: &str = include_str!("chat.html");

/// What a client may be behind, in bytes, before it is thrown out: nobody waits for the slow.
const PATIENCE: usize = 256 * 1024;

thread_local! {
    /// The members of each room, by their numbers.
    static ROOMS: RefCell<HashMap<String, HashMap<u64, Sender>>> = RefCell::default();
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

fn app(req: Request) -> Response {
    match req.path() {
        "/" => ([("content-type", "text/html; charset=utf-8")], PAGE).into_response(),
        path => match path.strip_prefix("/rooms/") {
            Some(room) => {
                let (room, name) = (room.to_owned(), req.query().unwrap_or("somebody").to_owned());
                Acceptor::new()
                    .max_message_size(64 * 1024)
                    .queue(PATIENCE)
                    .accept(req, move |ws| talk(ws, &room, &name))
            }
            None => StatusCode::NOT_FOUND.into_response(),
        },
    }
}

/// One member's stay.
fn talk(ws: &mut WebSocket, room: &str, name: &str) -> io::Result<()> {
    let _member = Member::join(room, name, ws.sender());
    while let Some(message) = ws.recv()? {
        match message.as_text() {
            Some(text) => say(room, format!("{name}: {text}")),
            None => ws.close(close::UNSUPPORTED, "we speak text here"),
        }
    }
    Ok(())
}

/// Says it to everybody in the room. Nothing in here waits, so each room has one order of all that is said.
fn say(room: &str, line: String) {
    let line = Message::from(line);
    ROOMS.with_borrow(|rooms| {
        for (number, sender) in rooms.get(room).into_iter().flatten() {
            match sender.try_send(line.clone()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    eprintln!("member {number} of {room} is too slow and is thrown out");
                    // Its green thread finds the end, and leaves the room.
                    sender.cut();
                }
                _ => {}
            }
        }
    });
}

/// A place in a room, which is left when it is dropped: at a regular end, after an error, in a panic.
struct Member<'a> {
    room: &'a str,
    name: &'a str,
    number: u64,
}

impl<'a> Member<'a> {
    fn join(room: &'a str, name: &'a str, sender: Sender) -> Member<'a> {
        let number = NEXT.replace(NEXT.get() + 1);
        let here = ROOMS.with_borrow_mut(|rooms| {
            let members = rooms.entry(room.to_owned()).or_default();
            members.insert(number, sender);
            members.len()
        });
        say(room, format!("* {name} came, {here} here"));
        Member { room, name, number }
    }
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        ROOMS.with_borrow_mut(|rooms| {
            if let Some(members) = rooms.get_mut(self.room) {
                members.remove(&self.number);
                if members.is_empty() {
                    rooms.remove(self.room);
                }
            }
        });
        say(self.room, format!("* {} left", self.name));
    }
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app)
}
