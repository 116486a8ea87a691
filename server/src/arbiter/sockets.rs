//! The listening sockets, which belong to the master: workers come and go, these stay.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use super::privileges::Identity;
use super::upgrade::Legacy;
use crate::app::Addr;
use crate::config::{Bind, Config};
use crate::serve::{How, Listener, passed};

/// What a server without a master listens on.
///
/// # Errors
/// As [`Sockets::of`].
pub(crate) fn listeners(config: &Config) -> io::Result<Vec<Listener>> {
    // There is one process only, with one socket for each address.
    Ok(Sockets::of(config, None)?.into_seat(0))
}

/// All sockets of a master, by the address that was asked for.
#[derive(Debug)]
pub(super) struct Sockets {
    bound: Vec<Bound>,
    backlog: u32,
    reuse_port: bool,
    /// They are the service manager's, whatever `bind` says.
    given: bool,
}

#[derive(Debug)]
struct Bound {
    bind: Bind,
    /// One that all workers accept on; with `reuse_port` one for each seat, whose queue passes on with the seat.
    sockets: Vec<Listener>,
}

impl Bound {
    /// Opens `bind`, one of `binds`. Sockets that have a name in common are each like an address.
    fn open(bind: &Bind, binds: &[Bind], backlog: u32, reuse_port: bool) -> io::Result<Vec<Bound>> {
        let how = How { backlog, reuse_port, only_v6: is_only_v6(bind, binds) };
        let sockets = Listener::open(&bind.to_string(), how)?;
        Ok(Vec::from_iter(sockets.into_iter().map(|it| Bound { bind: bind.clone(), sockets: vec![it] })))
    }

    /// A socket that somebody else has opened, by its address.
    fn given(socket: Listener) -> Bound {
        let bind = match &socket.addr {
            Addr::Inet(addr) => Bind::Tcp { host: addr.ip().to_string(), port: addr.port() },
            // Shown as it would be typed, or nameless and as good as any.
            Addr::Unix(path) => Bind::Unix(path.clone().unwrap_or_default()),
        };
        Bound { bind, sockets: vec![socket] }
    }

    /// The kernel spreads connections over sockets, and has no such thing for Unix ones.
    fn is_spread(&self) -> bool {
        matches!(self.bind, Bind::Tcp { .. })
    }
}

impl Sockets {
    /// What this process is to listen on. Sockets that systemd has passed replace `bind`, as with gunicorn, unless `bind` itself
    /// chooses among them; sockets of an old master are taken over.
    ///
    /// # Errors
    /// An address can't be had, or a socket does not listen.
    pub(super) fn of(config: &Config, legacy: Option<Legacy>) -> io::Result<Sockets> {
        warn_of_backlog(config.backlog);
        let chooses = config.bind.iter().any(is_kept);
        let open = |inherited| Sockets::open(&config.bind, inherited, config.backlog, config.reuse_port);
        let given = match legacy {
            Some(Legacy { sockets, all: true, .. }) => {
                let given = sockets.into_iter().map(|(_, socket)| Listener { kept: true, ..socket });
                Vec::from_iter(given)
            }
            Some(Legacy { sockets, .. }) => return open(sockets),
            None if chooses => Vec::new(),
            None => {
                let numbers = passed().into_iter().map(|passed| passed.number);
                numbers.map(|number| Listener::given(number, config.backlog)).collect::<Result<_, _>>()?
            }
        };
        if given.is_empty() {
            return open(Vec::new());
        }
        let bound = given.into_iter().map(Bound::given).collect();
        Ok(Sockets { bound, backlog: config.backlog, reuse_port: false, given: true })
    }

    /// Listens on what `bind` says. Sockets among `inherited` that listen there are taken over, others are closed.
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
            let kept = is_kept(bind);
            let sockets: Vec<Listener> =
                Vec::into_iter(same).map(|(_, socket)| Listener { kept, ..socket }).collect();
            for socket in &sockets {
                socket.set_backlog(backlog)?;
            }
            match sockets {
                none if none.is_empty() => bound.extend(Bound::open(bind, binds, backlog, reuse_port)?),
                named if kept => {
                    bound.extend(named.into_iter().map(|it| Bound { bind: bind.clone(), sockets: vec![it] }))
                }
                seats => bound.push(Bound { bind: bind.clone(), sockets: seats }),
            }
        }
        Ok(Sockets { bound, backlog, reuse_port, given: false })
    }

    /// Whether they are the service manager's, whatever `bind` says.
    pub(super) fn are_given(&self) -> bool {
        self.given
    }

    /// Listens on `binds` from now on, and no longer elsewhere. If one of them can't be had nothing has changed.
    pub(super) fn change(&mut self, binds: &[Bind], backlog: u32) -> io::Result<()> {
        let mut new = Vec::new();
        for bind in binds {
            if !self.bound.iter().any(|bound| bound.bind == *bind) {
                new.extend(Bound::open(bind, binds, backlog, self.reuse_port)?);
            }
        }
        if backlog != self.backlog {
            warn_of_backlog(backlog);
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
        let Some(identity) = identity.filter(|_| !self.given) else { return Ok(()) };
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
        Sockets { bound, backlog: self.backlog, reuse_port: self.reuse_port, given: self.given }
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
                let only_v6 = bound.sockets[0].socket.only_v6().unwrap_or(false);
                let how = How { backlog: self.backlog, reuse_port: true, only_v6 };
                bound.sockets.push(Listener::bind(&address, how)?);
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

    /// Nobody else has the Unix sockets any more: their files go with this process.
    pub(super) fn own_files(&mut self) {
        if self.given {
            return;
        }
        for bound in &mut self.bound {
            for socket in &mut bound.sockets {
                if let Bind::Unix(path) = &bound.bind {
                    socket.own_file(path);
                }
            }
        }
    }

    /// A successor or somebody else goes on listening: the files of Unix sockets stay.
    pub(super) fn leave_files(&mut self) {
        for socket in self.bound.iter_mut().flat_map(|bound| &mut bound.sockets) {
            socket.leave_file();
        }
    }
}

/// Whether whoever has opened that socket keeps it.
fn is_kept(bind: &Bind) -> bool {
    matches!(bind, Bind::Fd(_) | Bind::Named(_))
}

/// `[::]` serves IPv4, too, unless something else among `binds` does on the same port.
fn is_only_v6(bind: &Bind, binds: &[Bind]) -> bool {
    let ip = |bind: &Bind| match bind {
        Bind::Tcp { host, port } => host.parse::<IpAddr>().ok().map(|ip| (ip, *port)),
        _ => None,
    };
    let Some((IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)) = ip(bind) else { return false };
    binds.iter().filter_map(ip).any(|(other, at)| other.is_ipv4() && at == port)
}

/// The kernel takes any backlog, and keeps to a lower one without a word.
fn warn_of_backlog(backlog: u32) {
    const LIMIT: &str = "/proc/sys/net/core/somaxconn";
    let most = std::fs::read_to_string(LIMIT).ok().and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(most) = most.filter(|most| *most < backlog) {
        log::warn!(
            "only {most} connections can wait, not {backlog}: the kernel's net.core.somaxconn is lower than --backlog"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ipv6_address_leaves_ipv4_to_an_own_socket_on_the_same_port_only() {
        let only = |all: &str| {
            let binds: Vec<Bind> = all.split(',').map(|bind| bind.parse().unwrap()).collect();
            is_only_v6(&binds[0], &binds)
        };
        assert!(only("[::]:80,0.0.0.0:80"));
        assert!(only("[::]:80,127.0.0.1:80"));
        assert!(!only("[::]:80"));
        assert!(!only("[::]:80,0.0.0.0:81"));
        assert!(!only("[::]:80,unix:/a"));
        assert!(!only("0.0.0.0:80,[::]:80"));
    }
}
