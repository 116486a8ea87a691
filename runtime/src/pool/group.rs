//! Greenlets that are waited for and killed together.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::map::{Crew, Imap, ImapUnordered, apply, map};
use super::members::{Members, deadline};
use crate::error::{JoinError, WaitError};
use crate::greenlet::{Greenlet, GreenletRef, WaitsFor, current, spawn};

/// Keeps track of greenlets while they live (`gevent.pool.Group`). Clones share the group; dropping the last leaves the
/// greenlets running.
///
/// It has no bound: that is what [`Pool`](crate::Pool) is for. Greenlets that borrow from their parent and end before it
/// does are spawned by [`scope`](crate::scope()).
///
/// ```
/// let group = greenlet::Group::new();
/// for name in ["fetch", "parse"] {
///     group.spawn(move || println!("{name}"));
/// }
/// group.join(std::time::Duration::from_secs(2)).unwrap();
/// assert!(group.is_empty());
/// ```
#[derive(Clone)]
pub struct Group(Rc<Shared>);

struct Shared {
    members: Members,
    /// The places of those that were discarded and have not ended.
    discarded: RefCell<Vec<usize>>,
}

impl Group {
    /// A group of none.
    pub fn new() -> Group {
        Group(Rc::new(Shared { members: Members::new(), discarded: RefCell::new(Vec::new()) }))
    }

    /// Spawns a greenlet of the group (`Group.spawn`). Never parks.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let group = self.clone();
        self.enter(move || group.0.members.watch(f))
    }

    /// Takes in a greenlet that was made elsewhere, until it has ended (`Group.add`); it may not have been
    /// [started](GreenletRef::start) yet (`Group.start`). One that is dead, or in the group already, is left alone. Never parks.
    pub fn add(&self, greenlet: &GreenletRef) {
        if greenlet.is_dead() || self.contains(greenlet) {
            return;
        }
        let place = Place::new(self);
        self.0.members.set(place.index, Some(greenlet.clone()));
        // The link owns the place.
        greenlet.add_link(Box::new(move |ended| place.group.members.note_end(&ended)));
    }

    /// Stops keeping track of a greenlet, which lives on (`Group.discard`). Who waits for the group does not wait for it
    /// any more. Returns whether it was in the group.
    pub fn discard(&self, greenlet: &GreenletRef) -> bool {
        let place = self.0.members.discard(greenlet);
        self.0.discarded.borrow_mut().extend(place);
        place.is_some()
    }

    /// Runs `f` in a greenlet of the group and waits for its value (`Group.apply`). Parks the caller. Called by one of the
    /// group's own greenlets it runs `f` in place, as gevent does.
    ///
    /// # Errors
    /// `f`'s panic; `Killed` when its greenlet was; why the wait failed.
    pub fn apply<F, T>(&self, f: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        if self.contains(&current()) { apply(f) } else { self.enter(f).join() }
    }

    /// The same as [`spawn`](Self::spawn), by gevent's other name for it (`Group.apply_async`).
    #[track_caller]
    pub fn apply_async<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        self.spawn(f)
    }

    /// Runs `f` on each item, each in a greenlet of the group, and collects what they return, in the order of the items
    /// (`Group.map`). Parks the caller.
    ///
    /// # Errors
    /// The first failure in the order of the items, as [`imap`](Self::imap) yields it. Those still at work are killed.
    ///
    /// ```
    /// let group = greenlet::Group::new();
    /// assert_eq!(group.map(["a", "bb"], str::len).unwrap(), [1, 2]);
    /// ```
    pub fn map<I, F, R>(&self, items: I, f: F) -> Result<Vec<R>, JoinError>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        map(self.clone(), items, f)
    }

    /// Runs `f` on each item, all at once, each in a greenlet of the group, and yields what they return, in the order of
    /// the items (`Group.imap`). [`Imap::maxsize`] sets a bound. `items` runs in a greenlet of its own.
    pub fn imap<I, F, R>(&self, items: I, f: F) -> Imap<R>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        Imap::new(self.clone(), items, f)
    }

    /// As [`imap`](Self::imap), but yields in the order of completion (`Group.imap_unordered`).
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let group = greenlet::Group::new();
    /// let waits = [30, 10, 20].map(Duration::from_millis);
    /// let woken: Vec<_> = group
    ///     .imap_unordered(waits, |wait| (greenlet::sleep(wait), wait.as_millis()).1)
    ///     .map(Result::unwrap)
    ///     .collect();
    /// assert_eq!(woken, [10, 20, 30]);
    /// ```
    pub fn imap_unordered<I, F, R>(&self, items: I, f: F) -> ImapUnordered<R>
    where
        I: IntoIterator<IntoIter: 'static, Item: 'static>,
        F: Fn(I::Item) -> R + 'static,
        R: 'static,
    {
        ImapUnordered::new(self.clone(), items, f)
    }

    /// How many greenlets are in the group.
    pub fn len(&self) -> usize {
        self.0.members.len()
    }

    /// Whether none is in the group.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The living greenlets of the group.
    pub fn greenlets(&self) -> Vec<GreenletRef> {
        self.0.members.greenlets()
    }

    /// Whether a greenlet is in the group.
    pub fn contains(&self, greenlet: &GreenletRef) -> bool {
        self.0.members.contains(greenlet)
    }

    /// Waits until the group is empty, or `timeout` is over (`Group.join`): for those too that are spawned meanwhile. How
    /// they end does not matter. Parks the caller.
    ///
    /// # Errors
    /// `TimedOut`, and why the wait failed.
    pub fn join(&self, timeout: impl Into<Option<Duration>>) -> Result<(), WaitError> {
        self.0.members.join(WaitsFor::Group, deadline(timeout))
    }

    /// As [`join`](Self::join), and tells of a failure (`Group.join(raise_error=True)`): the first panic of a greenlet that
    /// was [spawned](Self::spawn) here or [added](Self::add), unless an earlier call has told of it. A kill is no failure.
    /// The panic returned has the message; its payload stays with the greenlet's own handle.
    ///
    /// Where gevent forgets those that failed before the call, this tells of them.
    ///
    /// # Errors
    /// `Panicked` with the first panic, also when the time is over; `Wait` with `TimedOut`, and why the wait failed.
    ///
    /// ```
    /// let group = greenlet::Group::new();
    /// group.spawn(|| panic!("no luck"));
    /// assert!(group.join_ok(None).unwrap_err().to_string().ends_with("no luck"));
    /// ```
    #[doc(alias = "raise_error")]
    pub fn join_ok(&self, timeout: impl Into<Option<Duration>>) -> Result<(), JoinError> {
        self.0.members.join_ok(WaitsFor::Group, deadline(timeout))
    }

    /// Kills all greenlets of the group, those too that are spawned meanwhile, and waits until it is empty (`Group.kill`).
    /// A caller that is one of them dies last. To kill one (`killone`), kill it itself.
    ///
    /// # Errors
    /// Why the wait failed; the kills take place all the same.
    pub fn kill(&self) -> Result<(), WaitError> {
        self.0.members.kill(WaitsFor::Group, None)
    }

    /// As [`kill`](Self::kill), but gives up waiting after a while.
    ///
    /// # Errors
    /// `TimedOut` when some have not ended in time; why the wait failed. The kills take place all the same.
    pub fn kill_timeout(&self, timeout: Duration) -> Result<(), WaitError> {
        self.0.members.kill(WaitsFor::Group, deadline(timeout))
    }

    /// Asks for the death of all greenlets of the group and returns at once (`Group.kill(block=False)`).
    pub fn kill_soon(&self) {
        self.0.members.kill_soon();
    }

    /// Spawns a greenlet with a place here.
    #[track_caller]
    fn enter<F, T>(&self, f: F) -> Greenlet<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let place = Place::new(self);
        let index = place.index;
        // The closure owns the place: it is given up when the closure ends or is dropped unstarted.
        let greenlet = spawn(move || {
            let _place = place;
            f()
        });
        self.0.members.set(index, Some((*greenlet).clone()));
        greenlet
    }
}

impl Default for Group {
    fn default() -> Group {
        Group::new()
    }
}

impl Crew for Group {
    fn hire(&self, work: impl FnOnce() + 'static) -> Result<GreenletRef, WaitError> {
        Ok((*self.enter(work)).clone())
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("greenlets", &self.len()).finish()
    }
}

/// A place in a group, given up when it is dropped.
struct Place {
    group: Rc<Shared>,
    index: usize,
}

impl Place {
    fn new(group: &Group) -> Place {
        Place { group: group.0.clone(), index: group.0.members.enter() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Shared { members, discarded } = &*self.group;
        let discarded = {
            let mut discarded = discarded.borrow_mut();
            let found = discarded.iter().position(|index| *index == self.index);
            found.map(|found| discarded.swap_remove(found))
        };
        if discarded.is_some() {
            members.forget();
        }
        if members.leave(self.index) {
            members.wake_joiners();
        }
    }
}
