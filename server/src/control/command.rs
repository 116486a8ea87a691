//! The words of an operator's command.

use log::LevelFilter;

use crate::config;

/// What an operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Show(Show),
    /// The stacks of so many greenlets of each worker, at most.
    Dump(Count),
    /// So many workers more.
    Add(usize),
    /// So many workers less.
    Remove(usize),
    /// One worker is to go; `force`: at once.
    Kill {
        which: Which,
        force: bool,
    },
    Reload,
    Reopen,
    /// Clients are to go elsewhere, and are served until then.
    Drain,
    Undrain,
    Shutdown(Mode),
    LogLevel(LevelFilter),
    Help,
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    All,
    Workers,
    Stats,
    Listeners,
    Config,
    Greenlets(Count),
    Connections(Count),
}

/// How many of each worker's are told of at most.
pub(crate) type Count = usize;

/// How many are, if nobody says otherwise.
const MANY: Count = 1000;

/// A worker. gunicorn's takes a process id; ages are small numbers, so an operator may use those, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Which(pub(crate) u64);

/// How a server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Graceful,
    Quick,
}

/// Every command as it is typed, and what it does.
pub(crate) const COMMANDS: &[(&str, &str)] = &[
    ("show all", "what show stats, show workers and show listeners show"),
    ("show workers", "each worker: process, age, state, last sign of life"),
    (
        "show stats",
        "the master: since when, how many workers it has started, what they have served; each worker's memory",
    ),
    ("show listeners", "the sockets that it listens on"),
    ("show config", "the settings in force"),
    ("show greenlets [N]", "each worker's green threads, and what each waits for"),
    ("show connections [N]", "each worker's connections: client, state, request"),
    ("dump [N]", "each worker's green threads with their stacks: where each stands in its code"),
    ("worker add [N]", "N workers more (1)"),
    ("worker remove [N]", "N workers less (1); one stays"),
    (
        "worker kill PID|AGE [--force]",
        "another worker takes its place, then it goes; with --force it is killed at once",
    ),
    ("reload", "load the settings again, and replace the workers one after the other (as SIGHUP)"),
    ("reopen", "open the log files again (as SIGUSR1)"),
    (
        "drain",
        "have clients go elsewhere: health says 503, responses say Connection: close, and all are served nevertheless; \
         new workers, too",
    ),
    ("undrain", "the end of drain"),
    (
        "shutdown [graceful|quick]",
        "stop when requests under way are done (as SIGTERM), or at once (as SIGINT)",
    ),
    ("set log-level LEVEL", "of master and workers, until the settings are loaded again"),
    ("help", "this list"),
];

impl Command {
    /// Whether nothing is the same after it.
    pub(crate) fn changes(&self) -> bool {
        !matches!(self, Command::Show(_) | Command::Dump(_) | Command::Help)
    }

    /// # Errors
    /// What is wrong with the words, and what would be right.
    pub(crate) fn parse<'w>(words: impl IntoIterator<Item = &'w str>) -> Result<Command, String> {
        let words: Vec<&str> = words.into_iter().collect();
        let command = match words[..] {
            [] => return Err("no command; help lists them".to_owned()),
            ["show"] => {
                return Err(
                    "show what: all, workers, stats, listeners, config, greenlets or connections?".to_owned()
                );
            }
            ["show", "all"] => Command::Show(Show::All),
            ["show", "workers"] => Command::Show(Show::Workers),
            ["show", "stats"] => Command::Show(Show::Stats),
            ["show", "listeners"] => Command::Show(Show::Listeners),
            ["show", "config"] => Command::Show(Show::Config),
            ["show", "greenlets", ref rest @ ..] => Command::Show(Show::Greenlets(count(rest, MANY)?)),
            ["show", "connections", ref rest @ ..] => Command::Show(Show::Connections(count(rest, MANY)?)),
            ["dump", ref rest @ ..] => Command::Dump(count(rest, MANY)?),
            ["worker"] => return Err("worker what: add, remove or kill?".to_owned()),
            ["worker", "add", ref rest @ ..] => Command::Add(count(rest, 1)?),
            ["worker", "remove", ref rest @ ..] => Command::Remove(count(rest, 1)?),
            ["worker", "kill"] => return Err("which worker? Give its process id or its age".to_owned()),
            ["worker", "kill", which] => Command::Kill { which: which.parse()?, force: false },
            ["worker", "kill", which, "--force"] | ["worker", "kill", "--force", which] => {
                Command::Kill { which: which.parse()?, force: true }
            }
            ["reload"] => Command::Reload,
            ["reopen"] => Command::Reopen,
            ["drain"] => Command::Drain,
            ["undrain"] => Command::Undrain,
            ["shutdown"] | ["shutdown", "graceful"] => Command::Shutdown(Mode::Graceful),
            ["shutdown", "quick"] => Command::Shutdown(Mode::Quick),
            ["set", "log-level", level] => Command::LogLevel(config::level(level)?),
            ["help"] => Command::Help,
            _ => return Err(format!("no such command: {}; help lists them", words.join(" "))),
        };
        Ok(command)
    }
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Which, String> {
        text.parse().map(Which).map_err(|_| format!("{text} is neither a worker's process id nor its age"))
    }
}

fn count(words: &[&str], default: usize) -> Result<usize, String> {
    match words {
        [] => Ok(default),
        [word] => match word.parse() {
            Ok(0) | Err(_) => Err(format!("{word} is no number above 0")),
            Ok(count) => Ok(count),
        },
        _ => Err("one number is enough".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Command, String> {
        Command::parse(text.split_whitespace())
    }

    #[test]
    fn every_command_of_the_list_is_understood_with_and_without_what_may_be_left_out() {
        for (usage, _) in COMMANDS {
            let full = usage.replace(['[', ']'], "").replace("PID|AGE", "17").replace("graceful|", "");
            let full = full.replace(" N", " 3").replace("LEVEL", "debug");
            assert!(parse(&full).is_ok(), "{full}");
            let short = usage.split('[').next().unwrap().replace("PID|AGE", "17").replace("LEVEL", "info");
            assert!(parse(&short).is_ok(), "{short}");
        }
    }

    #[test]
    fn what_is_given_is_what_counts() {
        assert_eq!(parse("worker add 3"), Ok(Command::Add(3)));
        assert_eq!(parse("worker remove"), Ok(Command::Remove(1)));
        let killed = Command::Kill { which: Which(7), force: true };
        assert_eq!(parse("worker kill --force 7"), Ok(killed));
        assert_eq!(parse("shutdown quick"), Ok(Command::Shutdown(Mode::Quick)));
        assert_eq!(parse("dump 5"), Ok(Command::Dump(5)));
        assert_eq!(parse("set log-level warning"), Ok(Command::LogLevel(LevelFilter::Warn)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (wrong, expected) in [
            ("", "help"),
            ("dance", "dance"),
            ("show", "workers"),
            ("show dirty", "no such command"),
            ("worker kill", "process id"),
            ("worker kill me", "me is neither"),
            ("worker add 0", "above 0"),
            ("worker add -1", "above 0"),
            ("worker add 1 2", "one number"),
            ("shutdown slowly", "no such command"),
            ("set log-level loud", "trace"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(expected), "{wrong}: {error}");
        }
    }
}
