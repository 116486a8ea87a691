//! Things that are costly to make and can be used by one at a time: connections, most of all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Duration;

use super::members::deadline;
use crate::error::WaitError;
use crate::greenlet::WaitsFor;
use crate::hub::{Hub, Moment};
use crate::sync::Semaphore;

/// At most so many resources of a kind, made at need, used by one greenlet at a time and kept for the next. Clones share
/// the pool.
///
/// [`get`](Self::get) hands out an idle resource, the one most recently used first, or makes one while there are fewer than
/// `size`, or waits its turn, first come, first served. The guard it returns gives the resource back when it is dropped.
///
/// **A guard that is dropped by unwinding discards its resource**: whoever panicked, was killed or ran into a timeout in the
/// middle of an exchange leaves a connection in a state that the next one cannot know. [`Resource::discard`] does the same
/// by choice, after an error. Either way the place is free, and the next `get` makes a new one.
///
/// Nothing runs by itself: what has been idle for too long ([`max_idle`](Self::max_idle)) goes when somebody next gets or
/// returns one, or at [`trim`](Self::trim).
///
/// ```
/// use greenlet::ResourcePool;
/// # use greenlet::net::{TcpListener, TcpStream};
/// # let listener = TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
///
/// let connections = ResourcePool::new(10, move || TcpStream::connect(address));
/// let connection = connections.get()?;
/// connection.set_nodelay(true)?;
/// drop(connection);
/// assert_eq!((connections.idle(), connections.in_use()), (1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ResourcePool<T, E = std::io::Error>(Rc<Shared<T, E>>);

struct Shared<T, E> {
    size: usize,
    make: Box<dyn Fn() -> Result<T, E>>,
    check: RefCell<Option<Check<T>>>,
    max_idle: Cell<Option<Duration>>,
    /// One permit for each resource that could be in use.
    free: Semaphore,
    /// Those not in use, the most recently used last.
    idle: RefCell<Vec<Idle<T>>>,
}

type Check<T> = Rc<dyn Fn(&mut T) -> bool>;

struct Idle<T> {
    resource: T,
    since: Moment,
}

impl<T, E> ResourcePool<T, E> {
    /// A pool of at most `size` resources, each made by `make` in the greenlet that asks for it. `make` may park; if it
    /// fails, panics or is killed, its place is free for the next.
    pub fn new(size: usize, make: impl Fn() -> Result<T, E> + 'static) -> ResourcePool<T, E> {
        ResourcePool(Rc::new(Shared {
            size,
            make: Box::new(make),
            check: RefCell::new(None),
            max_idle: Cell::new(None),
            free: Semaphore::new(size),
            idle: RefCell::new(Vec::new()),
        }))
    }

    /// Has `check` look at each idle resource before it is handed out; one for which it says false is dropped, and the next
    /// is looked at, or a new one made. It runs in the greenlet that asks, and may park. Default: no check.
    pub fn check(self, check: impl Fn(&mut T) -> bool + 'static) -> ResourcePool<T, E> {
        self.0.check.replace(Some(Rc::new(check)));
        self
    }

    /// Drops resources that have been idle for longer than this. Default: they are kept.
    pub fn max_idle(self, max_idle: Duration) -> ResourcePool<T, E> {
        self.0.max_idle.set(Some(max_idle));
        self
    }

    /// Takes a resource, waiting for one if `size` are in use, in the order in which they came. Parks the caller, also for
    /// as long as the check and the making of a new one take.
    ///
    /// # Errors
    /// `Make` with the constructor's error; `Wait` with why the wait failed.
    pub fn get(&self) -> Result<Resource<T, E>, ResourceError<E>> {
        self.get_until(None)
    }

    /// As [`get`](Self::get), but waits at most so long for others to return one. What the check and the making take is not
    /// counted: a [`timeout`](crate::timeout()) around the call ends them too.
    ///
    /// # Errors
    /// `Wait` with `TimedOut`, and those of [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<Resource<T, E>, ResourceError<E>> {
        self.get_until(deadline(timeout))
    }

    /// Takes a resource if that needs no waiting for others; `None` when `size` are in use. May make one, and park for that.
    ///
    /// # Errors
    /// The constructor's.
    pub fn try_get(&self) -> Result<Option<Resource<T, E>>, E> {
        if !self.0.free.try_take() {
            return Ok(None);
        }
        self.take().map(Some)
    }

    /// Drops the resources that have been idle for longer than [`max_idle`](Self::max_idle).
    pub fn trim(&self) {
        let Some(max_idle) = self.0.max_idle.get() else { return };
        let now = Hub::get().now();
        let old: Vec<_> = {
            let mut idle = self.0.idle.borrow_mut();
            // The longest idle come first.
            let fresh = idle.partition_point(|idle| now.since(idle.since) > max_idle);
            idle.drain(..fresh).collect()
        };
        drop(old);
    }

    /// Drops all that are idle, as when the other side has been restarted. Those in use are not touched.
    pub fn clear(&self) {
        let idle = self.0.idle.take();
        drop(idle);
    }

    /// How many resources there are at most.
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// How many are made and not in use.
    pub fn idle(&self) -> usize {
        self.0.idle.borrow().len()
    }

    /// How many are in use or being made.
    pub fn in_use(&self) -> usize {
        self.0.size - self.0.free.available()
    }

    fn get_until(&self, deadline: Option<Moment>) -> Result<Resource<T, E>, ResourceError<E>> {
        self.0.free.take(WaitsFor::Resource, deadline).map_err(ResourceError::Wait)?;
        self.take().map_err(ResourceError::Make)
    }

    /// An idle resource or a new one, for a permit that has been taken.
    fn take(&self) -> Result<Resource<T, E>, E> {
        let place = Place(self.0.clone());
        self.trim();
        while let Some(mut resource) = self.pop_idle() {
            // Copied out: it may park.
            let check = self.0.check.borrow().clone();
            if check.is_none_or(|check| check(&mut resource)) {
                return Ok(Resource::new(place, resource));
            }
        }
        let resource = (self.0.make)()?;
        Ok(Resource::new(place, resource))
    }

    fn pop_idle(&self) -> Option<T> {
        self.0.idle.borrow_mut().pop().map(|idle| idle.resource)
    }
}

impl<T, E> Clone for ResourcePool<T, E> {
    fn clone(&self) -> ResourcePool<T, E> {
        ResourcePool(self.0.clone())
    }
}

impl<T, E> fmt::Debug for ResourcePool<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourcePool")
            .field("size", &self.size())
            .field("idle", &self.idle())
            .field("in_use", &self.in_use())
            .finish()
    }
}

/// The right to have one resource in use.
struct Place<T, E>(Rc<Shared<T, E>>);

impl<T, E> Drop for Place<T, E> {
    fn drop(&mut self) {
        self.0.free.give();
    }
}

/// A resource of a [`ResourcePool`] in use. Dropping it gives it back, unless that happens by unwinding: then the resource
/// is dropped, and calls in its destructor that would have to wait fail.
#[must_use = "a resource that is not held is given back at once"]
pub struct Resource<T, E = std::io::Error> {
    /// Taken once, at the end.
    resource: Option<T>,
    /// Given up after the resource has been put back or dropped.
    place: Place<T, E>,
}

impl<T, E> Resource<T, E> {
    fn new(place: Place<T, E>, resource: T) -> Resource<T, E> {
        Resource { resource: Some(resource), place }
    }

    /// Drops the resource instead of giving it back: it is broken, or in an unknown state. Its place is free then.
    pub fn discard(mut self) {
        drop(self.resource.take());
    }

    /// Takes the resource out of the pool for good. Its place is free then.
    pub fn into_inner(mut self) -> T {
        match self.resource.take() {
            Some(resource) => resource,
            None => unreachable!("{TAKEN}"),
        }
    }
}

const TAKEN: &str = "a resource is taken only by what consumes its guard";

impl<T, E> Deref for Resource<T, E> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.resource {
            Some(resource) => resource,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl<T, E> DerefMut for Resource<T, E> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.resource {
            Some(resource) => resource,
            None => unreachable!("{TAKEN}"),
        }
    }
}

impl<T, E> Drop for Resource<T, E> {
    fn drop(&mut self) {
        let Some(resource) = self.resource.take() else { return };
        if std::thread::panicking() {
            drop(resource);
            return;
        }
        let pool = ResourcePool(self.place.0.clone());
        let since = Hub::get().now();
        pool.0.idle.borrow_mut().push(Idle { resource, since });
        pool.trim();
    }
}

impl<T: fmt::Debug, E> fmt::Debug for Resource<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Resource").field(&self.resource).finish()
    }
}

/// Why [`ResourcePool::get`] has no resource to give.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResourceError<E> {
    /// The constructor failed.
    Make(E),
    /// The wait for others to return one failed; the time given may be over.
    Wait(WaitError),
}

impl<E: fmt::Display> fmt::Display for ResourceError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceError::Make(error) => write!(f, "cannot make a new resource for the pool: {error}"),
            ResourceError::Wait(error) => write!(f, "cannot wait for a resource of the pool: {error}"),
        }
    }
}

impl<E: std::error::Error + 'static> std::error::Error for ResourceError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ResourceError::Make(error) => Some(error),
            ResourceError::Wait(error) => Some(error),
        }
    }
}

impl From<ResourceError<std::io::Error>> for std::io::Error {
    fn from(error: ResourceError<std::io::Error>) -> std::io::Error {
        match error {
            ResourceError::Make(error) => error,
            ResourceError::Wait(error) => error.into(),
        }
    }
}
