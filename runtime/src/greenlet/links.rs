//! What is to be run when a greenlet has ended.

use super::builder::spawn;
use super::handle::GreenletRef;
use crate::unwind::catch_panic;

/// Names a link, for [`GreenletRef::unlink`](crate::GreenletRef::unlink).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(u64);

/// Gets the greenlet when it has ended, and does not hold it before: the greenlet holds its links.
pub(super) type Link = Box<dyn FnOnce(GreenletRef)>;

/// The links of one greenlet, in the order in which they were made.
#[derive(Default)]
pub(super) struct Links {
    next: u64,
    links: Vec<(LinkId, Link)>,
}

impl Links {
    pub(super) fn add(&mut self, f: Link) -> LinkId {
        let id = LinkId(self.next);
        self.next += 1;
        self.links.push((id, f));
        id
    }

    /// Takes a link out. The caller drops it, with no borrow held: it may do anything.
    pub(super) fn remove(&mut self, id: LinkId) -> Option<Link> {
        let index = self.links.iter().position(|(other, _)| *other == id)?;
        Some(self.links.remove(index).1)
    }
}

/// Runs the links of a greenlet that has ended, one after the other, in a greenlet of their own: they are a user's code,
/// which may block and panic. A panic is logged and the next is run.
pub(super) fn follow(ended: GreenletRef, links: Links) {
    if links.links.is_empty() {
        return;
    }
    spawn(move || {
        for (_, link) in links.links {
            if let Err(panic) = catch_panic(|| link(ended.clone())) {
                log::error!("{panic} (in what was linked to the end of a greenlet)");
            }
        }
    });
}
