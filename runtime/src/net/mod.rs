//! Cooperative sockets with the API of `std::net` and `std::os::unix::net`.
//!
//! A call that would block parks the greenlet. Sockets stay on the thread that made them; `From` std's types and
//! `into_std` take them in and out. Each operation first tries the system call and parks only on `WouldBlock`. One
//! greenlet may read a socket while another writes it; a second reader or a second writer gets an error
//! (`ResourceBusy`) which names both.
//!
//! What may not enter here: the loop, and protocols above the socket.

mod addr;
mod connect;
mod pass;
mod poll;
mod resolve;
mod source;
mod tcp;
mod udp;
mod unix;

pub use addr::ToSocketAddrs;
pub use connect::{ConnectError, Connector, create_connection};
pub use pass::UCred;
pub use poll::{PollFd, Selected, cancel_wait, poll, select, wait_read, wait_write};
pub use resolve::{
    Resolver, SystemResolver, resolve, resolve_timeout, reverse, reverse_timeout, set_resolver,
};
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixIncoming, UnixListener, UnixStream};

#[cfg(test)]
mod tests;
