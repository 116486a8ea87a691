//! Spawning.

use std::io;
use std::panic::Location;
use std::time::Duration;

use super::handle::Greenlet;
use super::job::job;
use crate::hub::Hub;
use crate::stack;

/// Spawns a greenlet that runs `f` on this thread (`gevent.spawn`). It starts in the hub's next turn, that is when
/// the caller next blocks, and not before.
///
/// The handle may be dropped; the greenlet runs on. Greenlets that have not ended when their thread does are
/// abandoned without running their destructors: join what must be finished.
///
/// # Panics
/// If this is the thread's first use of the runtime and the kernel gives no poller.
///
/// ```
/// let answer = greenlet::spawn(|| 6 * 7);
/// assert_eq!(answer.join().unwrap(), 42);
/// ```
#[track_caller]
pub fn spawn<F, T>(f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    spawn_at(Location::caller(), None, f)
}

/// Spawns a greenlet that starts after a while (`gevent.spawn_later`). Killed before, it never starts.
///
/// # Panics
/// As [`spawn`].
#[track_caller]
pub fn spawn_later<F, T>(after: Duration, f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    spawn_at(Location::caller(), Some(after), f)
}

/// Spawns a greenlet with a name, a stack size or a delay of its own.
///
/// ```
/// let named = greenlet::Builder::new()
///     .name("resolver")
///     .stack_size(64 * 1024)
///     .spawn(|| greenlet::current().name().to_owned())?;
/// assert_eq!(named.join().unwrap(), "resolver");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder spawns nothing until `spawn` is called"]
pub struct Builder {
    name: Option<String>,
    stack_size: Option<usize>,
    after: Option<Duration>,
    locals: Locals,
}

/// What a new greenlet begins with of its parent's [`ctxlocal`] values: see [`Builder::locals`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Locals {
    /// Nothing: each value is initialised afresh (gevent's greenlet-locals).
    #[default]
    Fresh,
    /// The parent's values themselves, and each sees what the other does to them. They are dropped when the last who
    /// shares them ends.
    Shared,
    /// Clones of those of the parent's values that were declared `copied`, as they are when it is spawned (Python's
    /// `contextvars`).
    Copied,
}

impl Builder {
    /// A builder with the defaults: the name `greenlet-N`, a stack of 256 KiB, an immediate start.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// The name, for reports, logs and [`GreenletRef::name`](crate::GreenletRef::name). Needs not be unique.
    pub fn name(mut self, name: impl Into<String>) -> Builder {
        self.name = Some(name.into());
        self
    }

    /// How many bytes of stack the greenlet may use, rounded up to whole pages. Default 256 KiB.
    ///
    /// It is address space: memory is taken page by page as the stack is used. The default was chosen by
    /// measurement, in debug builds: a panic with a full backtrace and a TLS handshake come down 24 KiB each,
    /// formatting a value 50 levels deep 48 KiB, so that there is five times the room. A greenlet that needs more
    /// dies with a report which names it; [`GreenletRef::stack_used`](crate::GreenletRef::stack_used) tells how
    /// much it needs.
    pub fn stack_size(mut self, bytes: usize) -> Builder {
        self.stack_size = Some(bytes);
        self
    }

    /// Starts the greenlet only after a while, as [`spawn_later`] does.
    pub fn start_after(mut self, after: Duration) -> Builder {
        self.after = Some(after);
        self
    }

    /// Which of the [`ctxlocal`] values of the greenlet that spawns it the new one begins with. Default
    /// [`Locals::Fresh`].
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use greenlet::{Builder, Locals};
    ///
    /// ctxlocal::ctxlocal! {
    ///     copied static USER: RefCell<String> = RefCell::new("nobody".to_owned());
    /// }
    ///
    /// fn log(line: &str) -> String {
    ///     USER.with_borrow(|user| format!("[{user}] {line}"))
    /// }
    ///
    /// USER.set("ann".to_owned());
    /// let in_the_background = Builder::new().locals(Locals::Copied).spawn(|| log("mail sent"))?;
    /// USER.set("bob".to_owned());
    /// assert_eq!(in_the_background.join().unwrap(), "[ann] mail sent");
    /// assert_eq!(greenlet::spawn(|| log("swept")).join().unwrap(), "[nobody] swept");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn locals(mut self, locals: Locals) -> Builder {
        self.locals = locals;
        self
    }

    /// Spawns the greenlet.
    ///
    /// # Errors
    /// `InvalidInput` when the stack size cannot be had on this machine; the kernel's error when this is the
    /// thread's first use of the runtime and there is no poller to be had. That memory for a stack is short shows
    /// only when the greenlet starts: [`JoinError::NoStack`](crate::JoinError::NoStack).
    ///
    /// # Panics
    /// With [`Locals::Copied`], if a value's `clone` does: a `RefCell` that is mutably borrowed at that moment.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<Greenlet<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let after = self.after;
        let greenlet = self.build(f)?;
        Hub::get().start_greenlet(&greenlet.0, after);
        Ok(greenlet)
    }

    /// Makes the greenlet and leaves it to [`start`](crate::GreenletRef::start) or
    /// [`start_later`](crate::GreenletRef::start_later) to start it (`gevent.Greenlet(f)`). A delay that the builder was
    /// given is not looked at. Dropped before, it never runs, and its closure goes with the last handle.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// # Panics
    /// As [`spawn`](Self::spawn).
    #[track_caller]
    pub fn build<F, T>(self, f: F) -> io::Result<Greenlet<T>>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let size = self.stack_size.unwrap_or(stack::DEFAULT_SIZE);
        if size > stack::MAX_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a stack of {size} bytes is not to be had: the most is {} bytes", stack::MAX_SIZE),
            ));
        }
        let hub = Hub::try_get()?;
        let locals = match self.locals {
            Locals::Fresh => ctxlocal::Map::new(),
            Locals::Shared => ctxlocal::Map::shared(),
            Locals::Copied => ctxlocal::Map::copied(),
        };
        let greenlet = make(hub, Location::caller(), self.name.map(String::into_boxed_str), size, f);
        greenlet.0.locals.set(locals);
        Ok(greenlet)
    }
}

/// Makes a greenlet and starts it, now or `after` a while.
#[inline]
pub(super) fn spawn_at<F, T>(place: &'static Location<'static>, after: Option<Duration>, f: F) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let hub = Hub::get();
    let greenlet = make(hub, place, None, stack::DEFAULT_SIZE, f);
    hub.start_greenlet(&greenlet.0, after);
    greenlet
}

#[inline]
fn make<F, T>(
    hub: &Hub,
    place: &'static Location<'static>,
    name: Option<Box<str>>,
    stack_size: usize,
    f: F,
) -> Greenlet<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let job = job(f);
    Greenlet::of(hub.make(name, stack_size, place, job.clone()), job)
}
