//! Name resolution beside the hub.
//!
//! A look-up runs on a thread of the pool for names; those who ask for the same meanwhile, on whatever thread, wait for
//! that one. The first to ask hands it in and then waits as the others do.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use super::addr::ToSocketAddrs;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, RemoteWaker};
use crate::sys;
use crate::threadpool::unblock_names;

/// Turns host names into addresses and back. Called on threads of its own, many at once, so it may block.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `host`, in the order in which they should be tried.
    ///
    /// # Errors
    /// Why there are none.
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;

    /// The name of an address. Unless it is overridden the system is asked (getnameinfo(3)).
    ///
    /// # Errors
    /// `NotFound` when it has none; why it could not be found out.
    fn reverse(&self, address: IpAddr) -> io::Result<String> {
        sys::name_of(address)
    }
}

/// The default resolver: asks the system (getaddrinfo(3), getnameinfo(3)), which knows `/etc/hosts`, DNS and whatever else
/// is configured. Something to fall back on for one's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0))?;
        Ok(addresses.map(|address| address.ip()).collect())
    }
}

static RESOLVER: RwLock<Option<Arc<dyn Resolver>>> = RwLock::new(None);

/// Replaces the resolver for the whole process (gevent's `GEVENT_RESOLVER` and `hub.resolver_class`). The default is
/// [`SystemResolver`]. Look-ups under way are finished by the one with which they began.
pub fn set_resolver(resolver: impl Resolver) {
    *RESOLVER.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(resolver));
}

/// Resolves a name to all its addresses (`gevent.socket.getaddrinfo`). Parks the greenlet; up to 32 look-ups of a
/// process run at once, so that ten slow ones take the time of one, and those who ask for the same name at the same time
/// share one. Nothing is cached. Who is killed or runs into a [`timeout`](crate::timeout()) meanwhile is forgotten; a
/// look-up that nobody waits for any more is not begun.
///
/// # Errors
/// As [`ToSocketAddrs::to_socket_addrs`].
#[doc(alias = "getaddrinfo")]
pub fn resolve(name: impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    Ok(name.to_socket_addrs()?.collect())
}

/// As [`resolve`], within a time.
///
/// # Errors
/// `TimedOut`; as [`resolve`].
pub fn resolve_timeout(name: impl ToSocketAddrs, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    crate::timeout(timeout, || resolve(name)).map_err(|_| too_slow("resolve the name", timeout))?
}

/// The name of an address (`gevent.socket.getnameinfo`, `gethostbyaddr`). Parks the greenlet, as [`resolve`] does.
///
/// ```
/// // most machines have a name for this one
/// println!("{:?}", greenlet::net::reverse([127, 0, 0, 1]));
/// ```
///
/// # Errors
/// `NotFound` when it has no name; what the resolver says.
#[doc(alias = "gethostbyaddr")]
#[doc(alias = "getnameinfo")]
pub fn reverse(address: impl Into<IpAddr>) -> io::Result<String> {
    match look_up(Question::Name(address.into()))? {
        Answer::Name(name) => Ok(name),
        Answer::Addresses(_) => unreachable!("a question for a name is answered with one"),
    }
}

/// As [`reverse`], within a time.
///
/// # Errors
/// `TimedOut`; as [`reverse`].
pub fn reverse_timeout(address: impl Into<IpAddr>, timeout: Duration) -> io::Result<String> {
    crate::timeout(timeout, || reverse(address)).map_err(|_| too_slow("find the address's name", timeout))?
}

/// The addresses of a host, with the port added.
pub(super) fn lookup(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![(address, port).into()]);
    }
    match look_up(Question::Addresses(host.to_owned()))? {
        Answer::Addresses(addresses) => {
            Ok(addresses.into_iter().map(|address| (address, port).into()).collect())
        }
        Answer::Name(_) => unreachable!("a question for addresses is answered with some"),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Addresses(String),
    Name(IpAddr),
}

#[derive(Clone)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Name(String),
}

impl Question {
    fn ask(&self, resolver: &dyn Resolver) -> Result<Answer, Failure> {
        let asked = panic::catch_unwind(AssertUnwindSafe(|| match self {
            Question::Addresses(host) => resolver.resolve(host).map(Answer::Addresses),
            Question::Name(address) => resolver.reverse(*address).map(Answer::Name),
        }));
        match asked {
            Ok(answer) => answer.map_err(|error| Failure::Error(Arc::new(error))),
            Err(payload) => Err(Failure::Panic(match payload.downcast::<String>() {
                Ok(text) => *text,
                Err(payload) => {
                    (*payload.downcast_ref::<&str>().unwrap_or(&"the resolver panicked")).to_owned()
                }
            })),
        }
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Question::Addresses(host) => write!(f, "cannot resolve '{host}'"),
            Question::Name(address) => write!(f, "cannot find the name of {address}"),
        }
    }
}

/// Why there is no answer, for as many as have asked.
#[derive(Clone)]
enum Failure {
    Error(Arc<io::Error>),
    Panic(String),
}

/// An error of the resolver's as it reaches one of those who asked.
#[derive(Debug)]
struct LookupError {
    question: Question,
    cause: Arc<io::Error>,
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.question, self.cause)
    }
}

impl std::error::Error for LookupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

/// What is being asked, of which resolver (by its address; the system's is 0).
type Key = (usize, Question);

/// Somebody who waits for an answer. The place for it is filled before the waker is used.
struct Asker {
    answer: Arc<Mutex<Option<Result<Answer, Failure>>>>,
    waker: RemoteWaker,
}

/// Who waits for what. An entry is there from the first question until the answer.
static PENDING: LazyLock<Mutex<HashMap<Key, Vec<Asker>>>> = LazyLock::new(Mutex::default);

/// Asks the resolver, or waits with others for the answer.
fn look_up(question: Question) -> io::Result<Answer> {
    let resolver = RESOLVER.read().unwrap_or_else(PoisonError::into_inner).clone();
    let of = resolver.as_ref().map_or(0, |resolver| Arc::as_ptr(resolver).cast::<()>() as usize);
    let resolver = resolver.unwrap_or_else(|| Arc::new(SystemResolver));
    let hub = Hub::try_get()?;
    let result = match hub.remote_waker() {
        Ok(waker) if !std::thread::panicking() => {
            let answer = Arc::new(Mutex::new(None));
            let key = (of, question.clone());
            let first = {
                let mut pending = lock(&PENDING);
                let first = !pending.contains_key(&key);
                let asker = Asker { answer: answer.clone(), waker };
                pending.entry(key.clone()).or_default().push(asker);
                first
            };
            let asking = Asking { key, answer };
            if first {
                let key = asking.key.clone();
                unblock_names(move || answer_all(&key, &*resolver));
            }
            asking.wait(hub)?
        }
        // Nobody can be parked here: the hub has to stop.
        _ => question.ask(&*resolver),
    };
    result.map_err(|failure| match failure {
        Failure::Error(cause) => io::Error::new(cause.kind(), LookupError { question, cause }),
        Failure::Panic(message) => panic::resume_unwind(Box::new(message)),
    })
}

/// On a thread of the pool: finds the answer and gives it to all who wait for it by then.
fn answer_all(key: &Key, resolver: &dyn Resolver) {
    {
        let mut pending = lock(&PENDING);
        if pending.get(key).is_none_or(Vec::is_empty) {
            pending.remove(key);
            return;
        }
    }
    let answer = key.1.ask(resolver);
    let askers = lock(&PENDING).remove(key).unwrap_or_default();
    for asker in askers {
        *lock(&asker.answer) = Some(answer.clone());
        asker.waker.wake();
    }
}

/// The greenlet that runs, among those who wait. However the wait ends, it is forgotten.
struct Asking {
    key: Key,
    answer: Arc<Mutex<Option<Result<Answer, Failure>>>>,
}

impl Asking {
    fn wait(&self, hub: &Hub) -> Result<Result<Answer, Failure>, WaitError> {
        loop {
            if let Some(answer) = lock(&self.answer).take() {
                return Ok(answer);
            }
            hub.park(WaitsFor::Thread, None)?;
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(askers) = lock(&PENDING).get_mut(&self.key) {
            askers.retain(|asker| !Arc::ptr_eq(&asker.answer, &self.answer));
        }
    }
}

/// What no other thread may hold while the process forks.
pub(crate) struct BeforeFork(MutexGuard<'static, HashMap<Key, Vec<Asker>>>);

impl BeforeFork {
    pub(crate) fn new() -> BeforeFork {
        BeforeFork(lock(&PENDING))
    }

    /// What is being asked is answered in the parent.
    pub(crate) fn in_child(mut self) {
        self.0.clear();
    }
}

fn too_slow(what: &str, timeout: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("could not {what} within {timeout:?}"))
}

/// The lock is held across no code of others: there is nothing a panic could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
