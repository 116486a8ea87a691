//! What one who waits for several things is told of them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use crate::error::WaitError;
use crate::greenlet::{Core, WaitsFor, Wake};
use crate::hub::{Hub, Moment};

/// The numbers of the things that have come, in the order in which they came; and who is parked until the next does.
pub(crate) struct Gather {
    came: RefCell<VecDeque<usize>>,
    parked: RefCell<Option<Rc<Core>>>,
}

impl Gather {
    /// For so many things, each of which comes once.
    pub(crate) fn new(things: usize) -> Rc<Gather> {
        Rc::new(Gather { came: RefCell::new(VecDeque::with_capacity(things)), parked: RefCell::new(None) })
    }

    /// A thing was there from the beginning.
    pub(crate) fn came(&self, number: usize) {
        self.came.borrow_mut().push_back(number);
    }

    /// The next that came, parking until one does; `None` when the deadline has come first.
    pub(crate) fn next(&self, why: WaitsFor, deadline: Option<Moment>) -> Result<Option<usize>, WaitError> {
        let take = || self.came.borrow_mut().pop_front();
        if let Some(number) = take() {
            return Ok(Some(number));
        }
        let hub = Hub::get();
        self.parked.replace(Some(hub.current()?));
        let _parked = Parked(self);
        loop {
            let wake = hub.park(why, deadline)?;
            // What came in the same moment as the deadline is taken.
            match take() {
                None if wake == Wake::Event => {}
                number => return Ok(number),
            }
        }
    }
}

struct Parked<'a>(&'a Gather);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.parked.take();
    }
}

/// What stands in the list of one thing.
pub(crate) struct Note {
    gather: Rc<Gather>,
    number: usize,
    called: Cell<bool>,
}

impl Note {
    pub(super) fn new(gather: Rc<Gather>, number: usize) -> Note {
        Note { gather, number, called: Cell::new(false) }
    }

    pub(super) fn is_called(&self) -> bool {
        self.called.get()
    }

    /// The thing has come.
    #[cold]
    pub(super) fn call(&self, hub: &Hub) {
        self.called.set(true);
        self.gather.came(self.number);
        if let Some(core) = &*self.gather.parked.borrow() {
            hub.unpark(core);
        }
    }
}
