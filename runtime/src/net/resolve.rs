//! Name resolution beside the hub.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use super::addr::ToSocketAddrs;
use crate::threadpool::unblock_names;

/// Turns host names into addresses. Called on threads of its own, many at once, so it may block.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there are none.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

static RESOLVER: RwLock<Option<Arc<dyn Resolver>>> = RwLock::new(None);

/// Replaces the resolver for the whole process. The default asks the system (`getaddrinfo(3)`).
pub fn set_resolver(resolver: impl Resolver) {
    *RESOLVER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(resolver));
}

/// Resolves a name to all its addresses (`gevent.socket.getaddrinfo`). Parks the greenlet; up to 32 look-ups of a
/// process run at once, so that ten slow ones take the time of one.
///
/// # Errors
/// As [`ToSocketAddrs::to_socket_addrs`].
pub fn resolve(name: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(name.to_socket_addrs()?.collect())
}

/// The addresses of a host, with the port added.
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    let resolver = RESOLVER.read().unwrap_or_else(PoisonError::into_inner).clone();
    let host = host.to_owned();
    unblock_names(move || match resolver {
        Some(resolver) => {
            Ok(resolver.resolve(&host)?.into_iter().map(|address| (address, port).into()).collect())
        }
        None => std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port)).map(Iterator::collect),
    })
}
