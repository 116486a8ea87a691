//! The macro.

/// Waits until the first of several things is ready, takes it, and runs the arm that asked for it. Parks the caller once
/// for all. crossbeam's `select!`, for greenlets; gevent has none.
///
/// ```
/// use greenlet::select;
/// use greenlet::select::after;
/// use greenlet::sync::{Event, Queue};
/// use std::rc::Rc;
/// use std::time::Duration;
///
/// let (jobs, stop) = (Rc::new(Queue::unbounded()), Rc::new(Event::new()));
/// let worker = greenlet::spawn({
///     let (jobs, stop) = (jobs.clone(), stop.clone());
///     move || {
///         let mut sum = 0;
///         loop {
///             select! {
///                 job = &jobs => match job {
///                     Ok(job) => sum += job,
///                     Err(_) => return Ok(sum), // closed
///                 },
///                 _ = &stop => return Ok(sum),
///                 _ = after(Duration::from_secs(60)) => return Err("nobody wants anything"),
///             }
///             .unwrap(); // it can fail as any wait can
///         }
///     }
/// });
/// (3..=4).for_each(|job| jobs.put(job).unwrap());
/// stop.set();
/// assert_eq!(worker.join().unwrap(), Ok(7));
/// ```
///
/// An arm is `pattern = thing => expression`. All things are evaluated first, once, in the order written. `return`, `break`
/// and `?` in the expression act on the code around the macro.
///
/// | thing | ready when | gives |
/// |---|---|---|
/// | `&`[`Queue`](crate::sync::Queue), `&`[`JoinableQueue`](crate::sync::JoinableQueue) and its kin | a value is there, or never will be | `Result<T, GetError>`, as `get` |
/// | `&`[`Receiver`](crate::sync::channel::Receiver) | a value is there, or never will be | `Result<T, RecvError>`, as `recv` |
/// | `&`[`Event`](crate::sync::Event) | it has been set, even if it is cleared right after | `()` |
/// | `&`[`AsyncResult`](crate::sync::AsyncResult) | it has been set | `Result<&T, ResultError>`, as `get` |
/// | `&`[`Semaphore`](crate::sync::Semaphore), `&`[`BoundedSemaphore`](crate::sync::BoundedSemaphore) | a permit is free | the permit |
/// | `&`[`Mutex`](crate::sync::Mutex), `&`[`RLock`](crate::sync::RLock) | it is free | the guard |
/// | `&`[`Greenlet`](crate::Greenlet) | it has ended | `Result<T, JoinError>`, as `join` |
/// | `&`[`GreenletRef`](crate::GreenletRef) | it has ended | `()` |
/// | [`readable`](crate::select::readable)`(&fd)`, [`writable`](crate::select::writable)`(&fd)` | the descriptor is | `io::Result<()>`, as [`wait_read`](crate::net::wait_read) |
/// | [`after`](crate::select::after)`(duration)`, [`at`](crate::select::at)`(instant)` | the time has come | `()` |
/// | `&` event, result, receiver of [`sync::shared`](crate::sync::shared) | as above | as above |
/// | `&Rc`, `&Arc` of what can be given by `&` | that is | the same |
/// | `Option` of a thing | it is there and ready; `None` never is | the same |
///
/// # Rules
///
/// - **The first ready arm in the order written wins.** So put first what must not be missed. In a loop, an arm that is
///   always ready starves those below it.
/// - **Arms that lose take nothing.** What was handed to one is handed on to who waits next, in its old place. However the
///   wait ends, by a kill or a timeout too, the caller is off all lists.
/// - The caller keeps its place among those who wait for each thing: it is first come, first served between a `select!` and
///   a plain `get` or `acquire`.
/// - As everywhere, `_` takes no hold of what it is given: a permit or guard is given back at once. Bind it (`_permit`) to
///   keep it for the arm.
/// - What cannot be waited for, a descriptor that another greenlet waits for, makes its arm win with the error.
///
/// # Value
///
/// `Ok` with the value of the arm's expression.
///
/// With an arm `default => expression`, which comes last, nothing is waited for: it runs if no other is ready at once. The
/// whole is the expression's value then, with no `Result` around it, for nothing can fail.
///
/// ```
/// # use greenlet::select;
/// let queue = greenlet::sync::Queue::<u32>::unbounded();
/// let waiting = select! {
///     job = &queue => job.ok(),
///     default => None,
/// };
/// assert_eq!(waiting, None);
/// ```
///
/// # Errors
/// [`WaitError`](crate::WaitError): `LoopExit`, `Unwinding`, `NoHub`. What is ready at once is taken even where a wait would
/// fail.
#[macro_export]
macro_rules! select {
    // ---- the arms, one after the other: (pattern) (thing) (expression)
    (@arms ($($arms:tt)*) default => $body:expr $(,)?) => {
        match $crate::select::attempt($crate::select!(@list $($arms)*)) {
            ::core::option::Option::Some(ready) => $crate::select!(@run ready $($arms)*),
            ::core::option::Option::None => $body,
        }
    };
    (@arms ($($arms:tt)*)) => {
        match $crate::select::first($crate::select!(@list $($arms)*)) {
            // all arms may leave
            #[allow(unreachable_code)]
            ::core::result::Result::Ok(ready) => {
                ::core::result::Result::Ok($crate::select!(@run ready $($arms)*))
            }
            ::core::result::Result::Err(error) => {
                ::core::result::Result::<_, $crate::WaitError>::Err(error)
            }
        }
    };
    (@arms ($($arms:tt)*) $pattern:pat = $thing:expr => $body:block $(,)? $($rest:tt)*) => {
        $crate::select!(@arms ($($arms)* [($pattern) ($thing) ($body)]) $($rest)*)
    };
    (@arms ($($arms:tt)*) $pattern:pat = $thing:expr => $body:expr, $($rest:tt)*) => {
        $crate::select!(@arms ($($arms)* [($pattern) ($thing) ($body)]) $($rest)*)
    };
    (@arms ($($arms:tt)*) $pattern:pat = $thing:expr => $body:expr) => {
        $crate::select!(@arms ($($arms)* [($pattern) ($thing) ($body)]))
    };
    // ---- the things, as a nested list
    (@list) => { () };
    (@list [($pattern:pat) ($thing:expr) ($body:expr)] $($rest:tt)*) => {
        $crate::select::First($thing, $crate::select!(@list $($rest)*))
    };
    // ---- the arm that won
    (@run $ready:ident) => { match $ready {} };
    (@run $ready:ident [($pattern:pat) ($thing:expr) ($body:expr)] $($rest:tt)*) => {
        match $ready {
            $crate::select::Either::Left(taken) => {
                // in a block of its own, so that `_` drops it
                let $pattern = { taken };
                $body
            }
            $crate::select::Either::Right(ready) => $crate::select!(@run ready $($rest)*),
        }
    };
    // ---- what users write
    ($pattern:pat = $($rest:tt)+) => {
        $crate::select!(@arms () $pattern = $($rest)+)
    };
    ($($other:tt)*) => {
        ::core::compile_error!(
            "select! needs arms `pattern = thing => expression,` and may end with `default => expression`"
        )
    };
}
