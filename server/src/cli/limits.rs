//! The number of descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one (a connection is a descriptor, and the soft limit is often 1024), and says
/// so if the result is small for that many connections.
pub(super) fn raise_open_files(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
    {
        log::warn!("cannot raise the limit of open files to {:?}: {error}", limit.maximum);
    }
    let current = getrlimit(Resource::Nofile).current;
    let wanted = connections as u64 + SPARE;
    if let Some(current) = current.filter(|&current| current < wanted) {
        log::warn!(
            "{connections} connections need some {wanted} open files, but the limit is {current}: \
             raise it (ulimit -Hn, LimitNOFILE=) or lower --worker-connections"
        );
    }
}

/// Listeners, logs, the hub's own descriptors and files that are being sent.
const SPARE: u64 = 64;
