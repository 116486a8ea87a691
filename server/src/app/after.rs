//! Work after the response.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

ctxlocal::ctxlocal! {
    static WORK: RefCell<Work> = RefCell::default();
}

thread_local! {
    /// Whether there ever was any in this thread: most programs have none, and most requests shall not look further.
    static EVER: Cell<bool> = const { Cell::new(false) };
}

/// What is to be done after the response, in order.
#[derive(Default)]
struct Work(VecDeque<Box<dyn FnOnce()>>);

/// Has `f` run after the response to the request under way: when its last byte was handed to the kernel and its line stands
/// in the access log, before the connection's next request. May be called from anywhere in a handler, also while a body is
/// streamed, and by work of this kind itself; what was asked for first runs first.
///
/// `f` runs in the connection's green thread (or thread) and sees the request's [`ctxlocal`] values. It counts neither for the
/// request's time nor for `request_timeout`, a graceful stop waits for it, and a panic in it is logged and ends nothing. It
/// runs as well if the answer failed: the client left, the handler panicked or took too long. Only if the connection's green
/// thread is killed, at the end of the graceful timeout, it is dropped with a warning.
///
/// The client need not wait for it, unless it wants its next answer on the same connection, which is held as long. So
/// for work that takes long spawn a green thread: that lives on when request and connection have ended, though a graceful
/// stop does not wait for it.
///
/// Outside of a request (in a green thread that a handler has spawned, in a unit test of a handler) nobody runs it: it is
/// dropped, with a warning, with the other `ctxlocal` values.
///
/// ```
/// use greenserve::{Request, after_response};
///
/// fn app(req: Request) -> &'static str {
///     let path = req.path().to_owned();
///     after_response(move || log::info!("{path} was answered; now tidying up"));
///     "done\n"
/// }
/// ```
pub fn after_response(f: impl FnOnce() + 'static) {
    EVER.set(true);
    WORK.with_borrow_mut(|work| work.0.push_back(Box::new(f)));
}

/// Whether there is work for after the response.
#[inline]
pub(crate) fn has_work_after() -> bool {
    EVER.get() && WORK.peek(|_| ()).is_some()
}

/// Takes out what is to be done next.
pub(crate) fn next_work_after() -> Option<Box<dyn FnOnce()>> {
    WORK.with_borrow_mut(|work| work.0.pop_front())
}

impl Drop for Work {
    fn drop(&mut self) {
        if !self.0.is_empty() {
            log::warn!(
                "work that was to be done after the response is not done ({}): it was asked for outside of a request, or \
                 the request's green thread was killed",
                self.0.len()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn work_is_given_out_in_order_and_belongs_to_its_scope() {
        let done = Rc::new(RefCell::new(Vec::new()));
        ctxlocal::scope(|| {
            assert!(!has_work_after());
            for n in 0..3 {
                let done = Rc::clone(&done);
                after_response(move || {
                    done.borrow_mut().push(n);
                    if n == 0 {
                        after_response(move || done.borrow_mut().push(10));
                    }
                });
            }
            assert!(has_work_after());
            ctxlocal::scope(|| assert!(!has_work_after()));
            while let Some(work) = next_work_after() {
                work();
            }
        });
        assert_eq!(*done.borrow(), [0, 1, 2, 10]);
        let dropped = Rc::clone(&done);
        ctxlocal::scope(|| after_response(move || dropped.borrow_mut().push(11)));
        assert_eq!((done.borrow().len(), Rc::strong_count(&done)), (4, 1));
    }
}
