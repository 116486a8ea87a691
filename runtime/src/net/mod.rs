//! Cooperative sockets with the API of `std::net` and `std::os::unix::net`.
//!
//! A call that would block parks the greenlet. Sockets stay on the thread that made them; `From` std's types and
//! `into_std` take them in and out. Each operation first tries the system call and parks only on `WouldBlock`. One
//! greenlet may read a socket while another writes it; a second reader or a second writer gets an error
//! (`ResourceBusy`) which names both.
//!
//! What may not enter here: the loop, and protocols above the socket.
//!
//! # From gevent
//!
//! | gevent | here | difference |
//! |---|---|---|
//! | `socket.socket`, `socket.fromfd` | [`TcpStream`], [`TcpListener`], [`UdpSocket`], [`UnixStream`], [`UnixListener`], [`UnixDatagram`]; `From` std's | a type for each kind, as in std; other kinds (raw, netlink): one's own calls and [`wait_read`] |
//! | `socket.settimeout` | `set_read_timeout`, `set_write_timeout`, `set_accept_timeout` | reading and writing apart, as in std |
//! | `socket.makefile` | `BufReader`, `BufWriter` of std | sockets implement `Read` and `Write` |
//! | `socket.close` | `close`, or dropping it | `close` wakes those who wait, as gevent's does |
//! | `socket.sendall`, `socket.sendfile` | `write_all`, `send_file` | a file goes in pieces of 1 MiB a call |
//! | `socket.socketpair` | [`UnixStream::pair`], [`UnixDatagram::pair`] | |
//! | `socket.send_fds`, `socket.recv_fds` | [`UnixStream::send_fds`], [`UnixStream::recv_fds`], also of [`UnixDatagram`] | close-on-exec; what is too much is an error and closed, where Python drops it with a flag |
//! | `socket.create_connection` | [`create_connection`], [`Connector`] | RFC 8305 instead of one address after the other; the timeout is for all of it; the error names every attempt |
//! | `socket.wait_read`, `wait_write` | [`wait_read`], [`wait_write`] | any descriptor; the error of a timeout is `TimedOut` and cannot be chosen |
//! | `socket.wait_readwrite`, `socket.wait` | [`poll`] | tells which of the two it is |
//! | `socket.cancel_wait` | [`cancel_wait`] | |
//! | `socket.getaddrinfo` | [`resolve`], [`resolve_timeout`] | hosts with ports, no service names; all addresses, both families; look-ups of one name at once are one |
//! | `socket.gethostbyname`, `gethostbyname_ex` | [`resolve`] | these are obsolete; IPv4 by a filter |
//! | `socket.getnameinfo`, `gethostbyaddr`, `getfqdn` | [`reverse`], [`reverse_timeout`] | the host name only |
//! | `select.select` | [`select()`] | no limit of 1024; a second waiter for one side is an error |
//! | `select.poll` | [`poll`] with [`PollFd`] | a call with a list, as poll(2), not an object with a registry |
//! | `select.epoll`, `selectors` | none | the hub is one: a greenlet for each descriptor, or [`poll`] |
//! | `resolver.thread` | [`SystemResolver`] | the default in both |
//! | `resolver.ares`, `resolver.dnspython` | none | one's own [`Resolver`] around such a library |
//! | `resolver.blocking` | none | would stop the hub |
//! | `GEVENT_RESOLVER`, `hub.resolver` | [`set_resolver`] | for the process, by a call and not by the environment |

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
pub(crate) use poll::Watch;
pub use poll::{PollFd, Selected, accept_queue, cancel_wait, poll, select, unsent, wait_read, wait_write};
pub(crate) use resolve::BeforeFork;
pub use resolve::{
    Resolver, SystemResolver, resolve, resolve_timeout, reverse, reverse_timeout, set_resolver,
};
pub(crate) use source::Source;
pub use tcp::{Incoming, TcpListener, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixIncoming, UnixListener, UnixStream};

#[cfg(test)]
mod tests;
