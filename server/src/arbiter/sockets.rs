//! The listening sockets, which belong to the master: workers come and go, these stay.

use std::io;

use super::privileges::Identity;
use crate::app::Addr;
use crate::config::Bind;
use crate::serve::Listener;

/// All sockets of a master, by the address that was asked for.
#[derive(Debug)]
pub(super) struct Sockets {
    bound: Vec<Bound>,
    backlog: u32,
    reuse_port: bool,
}

#[derive(Debug)]
struct Bound {
    bind: Bind,
    /// One that all workers accept on; with `reuse_port` one for each seat, whose queue passes on with the seat.
    sockets: Vec<Listener>,
}

impl Bound {
    fn new(bind: &Bind, backlog: u32, reuse_port: bool) -> io::Result<Bound> {
        let socket = Listener::bind_with(&bind.to_string(), backlog, reuse_port)?;
        Ok(Bound { bind: bind.clone(), sockets: vec![socket] })
    }

    /// The kernel spreads connections over sockets, and has no such thing for Unix ones.
    fn is_spread(&self) -> bool {
        matches!(self.bind, Bind::Tcp { .. })
    }
}

impl Sockets {
    /// Listens on all of `binds`. Sockets among `inherited` that listen there are taken over, others are closed.
    pub(super) fn open(
        binds: &[Bind],
        mut inherited: Vec<(Bind, Listener)>,
        backlog: u32,
        reuse_port: bool,
    ) -> io::Result<Sockets> {
        let mut bound = Vec::new();
        for bind in binds {
            let (same, others) = inherited.into_iter().partition(|(known, _)| known == bind);
            inherited = others;
            let sockets: Vec<Listener> = Vec::into_iter(same).map(|(_, socket)| socket).collect();
            if sockets.is_empty() {
                bound.push(Bound::new(bind, backlog, reuse_port)?);
                continue;
            }
            for socket in &sockets {
                socket.set_backlog(backlog)?;
            }
            bound.push(Bound { bind: bind.clone(), sockets });
        }
        Ok(Sockets { bound, backlog, reuse_port })
    }

    /// The sockets that somebody else has opened, all of which are used, and no others.
    pub(super) fn given(given: Vec<Listener>, backlog: u32) -> io::Result<Sockets> {
        let mut bound = Vec::new();
        for socket in given {
            socket.set_backlog(backlog)?;
            let bind = match &socket.addr {
                Addr::Inet(addr) => Bind::Tcp { host: addr.ip().to_string(), port: addr.port() },
                Addr::Unix(path) => Bind::Unix(path.clone().unwrap_or_default()),
            };
            bound.push(Bound { bind, sockets: vec![socket] });
        }
        Ok(Sockets { bound, backlog, reuse_port: false })
    }

    /// Listens on `binds` from now on, and no longer elsewhere. If one of them can't be had nothing has changed.
    pub(super) fn change(&mut self, binds: &[Bind], backlog: u32) -> io::Result<()> {
        let mut new = Vec::new();
        for bind in binds {
            if !self.bound.iter().any(|bound| bound.bind == *bind) {
                new.push(Bound::new(bind, backlog, self.reuse_port)?);
            }
        }
        self.bound.retain(|bound| binds.contains(&bound.bind));
        self.bound.extend(new);
        self.backlog = backlog;
        for socket in self.bound.iter().flat_map(|bound| &bound.sockets) {
            socket.set_backlog(backlog)?;
        }
        Ok(())
    }

    /// Gives Unix sockets to the workers' user.
    pub(super) fn give_to(&self, identity: Option<&Identity>) -> io::Result<()> {
        let Some(identity) = identity else { return Ok(()) };
        for bound in &self.bound {
            if let Bind::Unix(path) = &bound.bind {
                identity.own_socket(path)?;
            }
        }
        Ok(())
    }

    /// All of it; there is nothing left.
    pub(super) fn take(&mut self) -> Sockets {
        let bound = std::mem::take(&mut self.bound);
        Sockets { bound, backlog: self.backlog, reuse_port: self.reuse_port }
    }

    /// Sees to it that there is a socket for that seat.
    pub(super) fn provide(&mut self, seat: usize) -> io::Result<()> {
        if !self.reuse_port {
            return Ok(());
        }
        for bound in self.bound.iter_mut().filter(|bound| bound.is_spread()) {
            while bound.sockets.len() <= seat {
                // Port 0 was taken to mean some port; the others must have the same.
                let address = bound.sockets[0].addr.to_string();
                bound.sockets.push(Listener::bind_with(&address, self.backlog, true)?);
            }
        }
        Ok(())
    }

    /// Whether several workers accept on one socket.
    pub(super) fn are_shared(&self) -> bool {
        !self.reuse_port
    }

    /// Closes what seats from `seats` on would have used.
    pub(super) fn trim(&mut self, seats: usize) {
        for bound in &mut self.bound {
            bound.sockets.truncate(seats.max(1));
        }
    }

    /// In a worker: what it accepts on. The others are closed.
    pub(super) fn into_seat(self, seat: usize) -> Vec<Listener> {
        let of_seat = |mut bound: Bound| {
            let own = if bound.is_spread() && seat < bound.sockets.len() { seat } else { 0 };
            bound.sockets.swap_remove(own)
        };
        self.bound.into_iter().map(of_seat).collect()
    }

    /// The addresses, with the ports that the kernel has chosen.
    pub(super) fn addrs(&self) -> impl Iterator<Item = &Addr> {
        self.bound.iter().map(|bound| &bound.sockets[0].addr)
    }

    /// Everything that a successor takes over.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Bind, &Listener)> {
        self.bound.iter().flat_map(|bound| bound.sockets.iter().map(|socket| (&bound.bind, socket)))
    }

    /// Nobody new finds the Unix sockets from now on; who has found them is served.
    pub(super) fn remove_files(&mut self) {
        for socket in self.bound.iter_mut().flat_map(|bound| &mut bound.sockets) {
            socket.file = None;
        }
    }

    /// A successor or somebody else goes on listening: the files of Unix sockets stay.
    pub(super) fn leave_files(&mut self) {
        for socket in self.bound.iter_mut().flat_map(|bound| &mut bound.sockets) {
            socket.leave_file();
        }
    }
}
