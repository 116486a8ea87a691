//! UDP.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::{Protocol, SockAddr, Type};

use super::addr::{ToSocketAddrs, each};
use super::source::Source;
use super::tcp::{inet, inet_socket, socket, socket_common, socket_timeouts};
use crate::hub::Direction;

/// A UDP socket, with the API of [`std::net::UdpSocket`].
pub struct UdpSocket(Source);

impl UdpSocket {
    /// Binds to the first address that can be bound.
    ///
    /// # Errors
    /// What resolving or binding the last address failed with.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<UdpSocket> {
        each(address, |address| {
            let source = socket(&address, Type::DGRAM, Protocol::UDP)?;
            source.socket()?.bind(&address.into())?;
            Ok(UdpSocket(source))
        })
    }

    /// Fixes the peer: [`send`](Self::send) goes to it, and only its datagrams are received.
    ///
    /// # Errors
    /// What resolving or connect(2) says.
    pub fn connect(&self, address: impl ToSocketAddrs) -> io::Result<()> {
        each(address, |address| self.0.connect(&address.into(), None))
    }

    /// The peer fixed by [`connect`](Self::connect).
    ///
    /// # Errors
    /// `NotConnected` when there is none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        inet(self.0.socket()?.peer_addr()?)
    }

    /// Receives a datagram; what does not fit in `buffer` is lost. Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`; what recvfrom(2) says.
    pub fn recv_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, address) = self.0.recv_from(buffer, 0)?;
        Ok((count, inet(address)?))
    }

    /// As [`recv_from`](Self::recv_from), but leaves the datagram in the queue.
    ///
    /// # Errors
    /// As [`recv_from`](Self::recv_from).
    pub fn peek_from(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (count, address) = self.0.recv_from(buffer, libc::MSG_PEEK)?;
        Ok((count, inet(address)?))
    }

    /// Sends a datagram to the first address of the name. Parks the caller while the send buffer is full.
    ///
    /// # Errors
    /// `TimedOut`; what resolving or sendto(2) says.
    pub fn send_to(&self, buffer: &[u8], address: impl ToSocketAddrs) -> io::Result<usize> {
        match address.to_socket_addrs()?.next() {
            Some(address) => self.0.send_to(buffer, &SockAddr::from(address)),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, "the name has no address to send to")),
        }
    }

    /// Receives a datagram from the peer. Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`; what recv(2) says, among it `ConnectionRefused` when nobody listens there.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer)
    }

    /// As [`recv`](Self::recv), but leaves the datagram in the queue.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.peek(buffer)
    }

    /// Sends a datagram to the peer. Parks the caller while the send buffer is full.
    ///
    /// # Errors
    /// `TimedOut`; what send(2) says.
    pub fn send(&self, buffer: &[u8]) -> io::Result<usize> {
        self.0.send(buffer)
    }

    /// Whether broadcasts may be sent (`SO_BROADCAST`).
    ///
    /// # Errors
    /// What getsockopt(2) says.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.0.socket()?.broadcast()
    }

    /// Allows broadcasts to be sent (`SO_BROADCAST`).
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_broadcast(&self, on: bool) -> io::Result<()> {
        self.0.socket()?.set_broadcast(on)
    }

    /// Joins an IPv4 multicast group on an interface.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.socket()?.join_multicast_v4(group, interface)
    }

    /// Leaves an IPv4 multicast group.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn leave_multicast_v4(&self, group: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> {
        self.0.socket()?.leave_multicast_v4(group, interface)
    }

    /// Joins an IPv6 multicast group on an interface, given by its number.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.socket()?.join_multicast_v6(group, interface)
    }

    /// Leaves an IPv6 multicast group.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.0.socket()?.leave_multicast_v6(group, interface)
    }
}

inet_socket!(UdpSocket, std::net::UdpSocket);
socket_timeouts!(UdpSocket);
