//! What is said of a blockage: names are looked up here, on a thread that may take its time.

use std::fmt;
use std::time::Duration;

use super::probe::Answer;
use crate::inspect;

/// One greenlet holds a hub for too long.
#[derive(Debug)]
pub(super) struct Blocked {
    /// For how long it has done so up to now.
    pub(super) held: Duration,
    /// `None`: the thread has not answered.
    pub(super) answer: Option<Answer>,
}

impl Blocked {
    pub(super) fn log(&self) {
        log::warn!(target: TARGET, "{self}");
    }
}

/// The target of what is logged.
const TARGET: &str = "greenlet::monitor";

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.as_secs_f64();
        let Some(answer) = &self.answer else {
            return write!(
                f,
                "a greenlet holds the hub for {held:.3} s now; which one cannot be told, for its thread does not answer \
                 SIGURG: has the program a handler of its own for it, or is it blocked?"
            );
        };
        write!(f, "{}", who(answer))?;
        if let Some(place) = answer.spawned {
            write!(f, ", spawned at {place},")?;
        }
        write!(f, " holds the hub for {held:.3} s now; it stands in")?;
        calls(&answer.calls).iter().try_for_each(|call| write!(f, "\n{call}"))
    }
}

/// Says that it is over. What was seen is that it took at least and at most so long.
pub(super) fn log_end(answer: Option<&Answer>, least: Duration, most: Duration) {
    let who = answer.map_or_else(|| "a greenlet".to_owned(), who);
    let (least, most) = (least.as_secs_f64(), most.as_secs_f64());
    log::warn!(target: TARGET, "{who} has held the hub for {least:.3} s to {most:.3} s in all");
}

pub(super) fn who(answer: &Answer) -> String {
    match answer.name.as_str() {
        "" => format!("greenlet 'greenlet-{0}' (#{0})", answer.id),
        name => format!("greenlet '{name}' (#{})", answer.id),
    }
}

/// The calls of the user, innermost first: "name at file:line". `addresses` are where the thread stood, then where each call
/// returns to.
pub(super) fn calls(addresses: &[usize]) -> Vec<String> {
    let mut names = Vec::new();
    let mut lines = Vec::new();
    for (index, address) in addresses.iter().enumerate() {
        // An instruction before the one it is given is looked up, as is right for where a call returns to.
        let looked_up = address.wrapping_add(usize::from(index == 0));
        let known = names.len();
        backtrace::resolve(looked_up as *mut _, |symbol| {
            let name = symbol.name().map_or_else(|| format!("{address:#x}"), |name| format!("{name:#}"));
            let place = symbol.filename().zip(symbol.lineno());
            lines.push(match place {
                Some((file, line)) => format!("{name} at {}:{line}", file.display()),
                None => name.clone(),
            });
            names.push(name);
        });
        if names.len() == known {
            names.push(format!("{address:#x}"));
            lines.push(format!("{address:#x}"));
        }
    }
    lines.truncate(inspect::end_of_users(&names));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_has_no_name_stands_for_itself() {
        assert_eq!(calls(&[0x10]), ["0x10"]);
    }

    #[test]
    fn a_thread_that_does_not_answer_is_told_of() {
        let text = Blocked { held: Duration::from_millis(120), answer: None }.to_string();
        assert!(text.starts_with("a greenlet holds the hub for 0.120 s now"), "{text}");
    }

    #[test]
    fn a_greenlet_is_called_by_its_name_or_its_number() {
        let mut answer =
            Answer { turn: 1, id: 7, name: String::new(), spawned: None, silent: false, calls: Vec::new() };
        assert_eq!(who(&answer), "greenlet 'greenlet-7' (#7)");
        answer.name = "ada".to_owned();
        assert_eq!(who(&answer), "greenlet 'ada' (#7)");
    }
}
