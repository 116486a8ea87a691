//! Sockets that a service manager has opened for this process, by systemd's protocol (sd_listen_fds(3)): three variables of the
//! environment, and descriptors from 3 on.

use std::env;
use std::process;

/// The first descriptor that is passed.
const FIRST: i32 = 3;

/// A descriptor that was passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) number: i32,
    /// `FileDescriptorName=` of the socket unit, which is the unit's name if it says nothing. Several can have the same.
    pub(crate) name: String,
}

/// All of them, in the order of the unit's files. None: there are none, or they are for another process.
pub(crate) fn passed() -> Vec<Passed> {
    let var = |name| env::var(name).ok();
    let number = |name| var(name).and_then(|text| text.parse::<u32>().ok());
    match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == process::id() => {
            named(count, &var("LISTEN_FDNAMES").unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

fn named(count: u32, names: &str) -> Vec<Passed> {
    let mut names = names.split(':');
    let numbers = (FIRST..).take(count as usize);
    // As sd_listen_fds_with_names calls those without.
    let name = |name: Option<&str>| name.filter(|name| !name.is_empty()).unwrap_or("unknown").to_owned();
    numbers.map(|number| Passed { number, name: name(names.next()) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_the_order_of_the_descriptors() {
        let passed = |number, name: &str| Passed { number, name: name.to_owned() };
        assert_eq!(named(2, "web:admin"), [passed(3, "web"), passed(4, "admin")]);
        assert_eq!(named(2, "web"), [passed(3, "web"), passed(4, "unknown")]);
        assert_eq!(named(2, ":b"), [passed(3, "unknown"), passed(4, "b")]);
        assert_eq!(named(1, ""), [passed(3, "unknown")]);
        assert_eq!(named(0, "web"), []);
    }
}
