//! Why there is no stack to be had.

use std::error::Error;
use std::{fmt, io};

use super::{MAX_SIZE, sys};

/// Why no stack could be had; reaches the caller inside an [`io::Error`].
#[derive(Debug)]
pub(super) enum StackError {
    /// More was asked for than a stack can have.
    TooLarge { asked: usize },
    /// The system gives no address space for another slab, however small.
    NoRoom { bytes: usize, cause: io::Error },
    /// The system makes no guard for another stack; `stacks` have one already.
    NoGuard { stacks: usize, mapping_limit: Option<usize>, cause: io::Error },
}

impl StackError {
    /// A guard could not be made after `stacks` of them.
    pub(super) fn no_guard(stacks: usize, cause: io::Error) -> StackError {
        StackError::NoGuard { stacks, mapping_limit: sys::mapping_limit(), cause }
    }
}

impl fmt::Display for StackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StackError::TooLarge { asked } => {
                write!(f, "a stack of {asked} bytes was asked for, the largest is {MAX_SIZE} bytes (64 GiB)")
            }
            StackError::NoRoom { bytes, cause } => write!(
                f,
                "no address space for another stack of {bytes} bytes ({cause}): run fewer green threads at once, \
                 give them smaller stacks, or raise what limits the process: the address space (`ulimit -v`), the \
                 number of mappings (`sysctl vm.max_map_count`) or strict overcommit (`vm.overcommit_memory = 2`)"
            ),
            StackError::NoGuard { stacks, mapping_limit, cause } => {
                write!(f, "no guard page for another stack after {stacks} of them ({cause}): ")?;
                match mapping_limit {
                    Some(limit) => write!(f, "the process may have {limit} mappings (vm.max_map_count)")?,
                    None => write!(f, "vm.max_map_count limits the mappings of the process")?,
                }
                write!(
                    f,
                    " and without MADV_GUARD_INSTALL (Linux 6.13) a stack takes two: set vm.max_map_count to more \
                     than twice the number of green threads, e.g. `sysctl -w vm.max_map_count=1048576`, or run \
                     fewer of them at once"
                )
            }
        }
    }
}

impl Error for StackError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StackError::TooLarge { .. } => None,
            StackError::NoRoom { cause, .. } | StackError::NoGuard { cause, .. } => Some(cause),
        }
    }
}

impl From<StackError> for io::Error {
    fn from(error: StackError) -> io::Error {
        let kind = match &error {
            StackError::TooLarge { .. } => io::ErrorKind::InvalidInput,
            StackError::NoRoom { cause, .. } | StackError::NoGuard { cause, .. } => cause.kind(),
        };
        io::Error::new(kind, error)
    }
}
