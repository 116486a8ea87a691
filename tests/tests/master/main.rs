//! The master and its workers: the real binary, its processes, and gunicorn's promises about them.

mod control;
mod cost;
mod deaths;
mod draining;
mod hubs;
mod identity;
mod logs;
mod metrics;
mod process;
mod renewal;
mod scaling;
mod signals;
mod sockets;
mod spread;
mod stopping;
mod systemd;

use greenserve_tests::{Load, Tally};

/// Ends the loads, none of whose requests may have been lost.
#[track_caller]
fn nothing_was_lost(loads: impl IntoIterator<Item = Load>) {
    for Tally { answered, lost } in loads.into_iter().map(Load::finish) {
        assert!(
            lost.is_empty(),
            "{} lost beside {answered} answered: {:?}",
            lost.len(),
            &lost[..lost.len().min(3)]
        );
        assert!(answered > 0);
    }
}
