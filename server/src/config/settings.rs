//! The table of settings. Names and defaults are gunicorn's where gunicorn has the setting.

use std::time::Duration;

use log::LevelFilter;

use super::value::{Bind, LogTarget, Value, WorkerClass};
use super::value::{bind_list, count, level, log_target, optional_log, optional_size, seconds};
use super::value::{seconds_or_none, worker_class};
use crate::log::AccessFormat;

/// Under which heading of `--help` a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Addresses and the kernel's queue of new connections.
    Socket,
    /// How many connections, served by what.
    Workers,
    /// How long things may take.
    Timeouts,
    /// How large things may be.
    Limits,
    /// Error log and access log.
    Logging,
}

impl Group {
    /// The heading, as `--help` prints it.
    pub fn title(self) -> &'static str {
        match self {
            Group::Socket => "Server socket",
            Group::Workers => "Workers",
            Group::Timeouts => "Timeouts, in seconds; fractions are fine",
            Group::Limits => "Limits",
            Group::Logging => "Logging",
        }
    }
}

/// What is known about one setting apart from its value.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name: the field of [`Config`], and what `--print-config` shows.
    pub name: &'static str,
    /// The heading it stands under.
    pub group: Group,
    /// The long flag, without dashes.
    pub flag: &'static str,
    /// Other spellings of the long flag.
    pub aliases: &'static [&'static str],
    /// The short flag.
    pub short: Option<char>,
    /// What to call the value in `--help`.
    pub value: &'static str,
    /// The default, as it would be typed. Empty: not set.
    pub default: &'static str,
    /// An environment variable that gives the default, and the value it stands for (`{}` is the variable's).
    pub env: Option<(&'static str, &'static str)>,
    /// May the flag be given several times?
    pub repeatable: bool,
    help: &'static [&'static str],
    pub(super) check: fn(&str) -> Result<(), String>,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

impl Setting {
    /// What the setting does, in one line.
    pub fn summary(&self) -> String {
        self.paragraphs().next().unwrap_or_default()
    }

    /// The full help text: one string per paragraph, the [summary](Self::summary) first.
    pub fn paragraphs(&self) -> impl Iterator<Item = String> {
        self.help
            .split(|line| line.trim().is_empty())
            .map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "))
    }
}

/// Builds [`Config`], its default and [`SETTINGS`] from one list. The doc comment of an entry is at once the
/// documentation of the field and the help text of the flag.
macro_rules! settings {
    ($(
        $group:ident {$(
            $(#[doc = $help:literal])+
            $name:ident: $ty:ty {
                flag: $flag:literal $(| $alias:literal)* $(, short: $short:literal)? $(, repeatable: $repeatable:literal)?,
                value: $value:literal, default: $default:literal $(, env: $env:literal => $template:literal)?,
                parse: $parse:expr $(,)?
            }
        )+}
    )+) => {
        /// The resolved settings of one server. Made by [`CommandLine::parse`](super::CommandLine::parse) or
        /// [`Config::default`], and not changed afterwards.
        #[derive(Debug, Clone, PartialEq)]
        #[non_exhaustive]
        pub struct Config {$($(
            $(#[doc = $help])+
            pub $name: $ty,
        )+)+}

        impl Default for Config {
            /// The defaults of the table, without a look at the environment.
            fn default() -> Self {
                Self {$($(
                    $name: $parse($default).expect(concat!("the default of ", stringify!($name), " is valid")),
                )+)+}
            }
        }

        /// Every setting, in the order of `--help`.
        pub const SETTINGS: &[Setting] = &[$($(
            Setting {
                name: stringify!($name),
                group: Group::$group,
                flag: $flag,
                aliases: &[$($alias),*],
                short: [$(Some($short),)? None][0],
                value: $value,
                default: $default,
                env: [$(Some(($env, $template)),)? None][0],
                repeatable: [$($repeatable,)? false][0],
                help: &[$($help),+],
                check: |text| $parse(text).map(|_| ()),
                set: |config, text| { config.$name = $parse(text)?; Ok(()) },
                show: |config| Value::show(&config.$name),
            },
        )+)+];
    };
}

settings! {
    Socket {
        /// Where to listen: HOST:PORT, :PORT (every IPv4 address), HOST (port 8000) or unix:PATH; IPv6 in brackets.
        ///
        /// Can be given several times, or several addresses with commas between them. Port 0 takes a free port;
        /// the log says which one.
        bind: Vec<Bind> {
            flag: "bind", short: 'b', repeatable: true,
            value: "ADDRESS", default: "127.0.0.1:8000", env: "PORT" => "0.0.0.0:{}",
            parse: bind_list,
        }
        /// How many connections may wait in the kernel to be accepted.
        ///
        /// The kernel caps it at net.core.somaxconn.
        backlog: u32 {
            flag: "backlog", value: "N", default: "2048",
            parse: |text| count(text, 1..=65_535).map(|n| n as u32),
        }
    }
    Workers {
        /// How many worker processes to run.
        ///
        /// Worker processes come with the master, which this version does not have: the value is checked and
        /// kept, and one process serves.
        workers: usize {
            flag: "workers", short: 'w',
            value: "N", default: "1", env: "WEB_CONCURRENCY" => "{}",
            parse: |text| count(text, 1..=4096),
        }
        /// What serves a connection: green (a green thread) or threads (an OS thread).
        worker_class: WorkerClass {
            flag: "worker-class", short: 'k', value: "KIND", default: "green",
            parse: worker_class,
        }
        /// How many connections are served at the same time; more wait in the backlog. gunicorn's default is 1000; a
        /// green thread is cheaper here.
        worker_connections: usize {
            flag: "worker-connections", value: "N", default: "10000",
            parse: |text| count(text, 1..=10_000_000),
        }
    }
    Timeouts {
        /// How long an idle connection is kept open for its next request. 0 closes after every response.
        keepalive: Duration {
            flag: "keep-alive", value: "SECONDS", default: "2",
            parse: seconds,
        }
        /// After how long a worker that shows no life is replaced. 0 means never.
        ///
        /// This is about a stuck worker process, not about a slow request (for that see --request-timeout). It is
        /// the master that watches, and this version does not have it: the value is checked and kept.
        timeout: Option<Duration> {
            flag: "timeout", short: 't', value: "SECONDS", default: "30",
            parse: seconds_or_none,
        }
        /// How long requests in flight may take to finish after SIGTERM.
        graceful_timeout: Duration {
            flag: "graceful-timeout", value: "SECONDS", default: "30",
            parse: seconds,
        }
        /// How long a client may take to send a request head, and a new connection to say anything. 0 means for ever.
        header_timeout: Option<Duration> {
            flag: "header-timeout", value: "SECONDS", default: "10",
            parse: seconds_or_none,
        }
        /// How long the reading of one request's body may wait for the client, in all. 0 means for ever.
        body_timeout: Option<Duration> {
            flag: "body-timeout", value: "SECONDS", default: "60",
            parse: seconds_or_none,
        }
        /// How many bytes of a body must come in a second, on average; a slower one is answered 408. 0 means any.
        ///
        /// Each of so many bytes gives the client a second more, on top of --min-body-rate-grace. Only the time that the
        /// application spends waiting for the body counts. --body-timeout ends the reading nevertheless: raise it, or set
        /// it to 0, where large bodies come over slow lines.
        min_body_rate: Option<u64> {
            flag: "min-body-rate", value: "BYTES", default: "0",
            parse: optional_size,
        }
        /// How long a body may take before --min-body-rate is asked of it.
        min_body_rate_grace: Duration {
            flag: "min-body-rate-grace", value: "SECONDS", default: "5",
            parse: seconds,
        }
        /// How long a client may take nothing of its response. 0 means for ever.
        write_timeout: Option<Duration> {
            flag: "write-timeout", value: "SECONDS", default: "30",
            parse: seconds_or_none,
        }
        /// How long one request may take from its head to the end of its response. 0 means as long as it likes.
        ///
        /// When it is over, that request's green thread is unwound (destructors run) and nothing else is
        /// disturbed. Has no effect with -k threads, since an OS thread cannot be unwound from outside.
        request_timeout: Option<Duration> {
            flag: "request-timeout", value: "SECONDS", default: "0",
            parse: seconds_or_none,
        }
        /// For how long one green thread may hold up all others before a warning says where it is. 0 means for ever.
        ///
        /// The warning names the green thread, where it was spawned and the calls it is in, once for each blockage, and
        /// a second one says how long it took in all. Costs nothing while nobody blocks. Has no effect with -k threads,
        /// where nobody is held up.
        blocked_threshold: Option<Duration> {
            flag: "blocked-threshold", value: "SECONDS", default: "0.1",
            parse: seconds_or_none,
        }
    }
    Limits {
        /// Longest request line, in bytes; a longer one is answered 414. 0 means the most there is, 65535.
        limit_request_line: usize {
            flag: "limit-request-line", value: "BYTES", default: "4094",
            parse: |text| count(text, 0..=65_535),
        }
        /// Most header fields in a request; more are answered 431. 0 means the most there is, 24576.
        limit_request_fields: usize {
            flag: "limit-request-fields", value: "N", default: "100",
            parse: |text| count(text, 0..=24_576),
        }
        /// Longest header field (name and value), in bytes; a longer one is answered 431. 0 means 1048576.
        limit_request_field_size: usize {
            flag: "limit-request-field_size" | "limit-request-field-size", value: "BYTES", default: "8190",
            parse: |text| count(text, 0..=1_048_576),
        }
        /// Largest request body, in bytes (K, M and G are understood); a larger one is answered 413. 0 means no limit.
        ///
        /// Bodies are streamed: what an application does not keep takes no memory, however large the body is.
        limit_request_body: Option<u64> {
            flag: "limit-request-body", value: "BYTES", default: "0",
            parse: optional_size,
        }
        /// Most bytes of extensions in one chunk of a body; more are answered 400. 0 means 1048576.
        ///
        /// All chunks of a body together may have four times as much, and as much as there is data.
        limit_chunk_extensions: usize {
            flag: "limit-chunk-extensions", value: "BYTES", default: "4096",
            parse: |text| count(text, 0..=1_048_576),
        }
        /// Most bytes of trailer fields behind a chunked body; more are answered 400. 0 means 1048576.
        limit_trailers: usize {
            flag: "limit-trailers", value: "BYTES", default: "8190",
            parse: |text| count(text, 0..=1_048_576),
        }
    }
    Logging {
        /// Where to write the access log: a file, or - for standard output. Without it there is none.
        accesslog: Option<LogTarget> {
            flag: "access-logfile", value: "FILE", default: "",
            parse: optional_log,
        }
        /// What a line of the access log looks like.
        ///
        /// %(h)s remote address, %(l)s -, %(u)s user name, %(t)s time, %(r)s request line, %(m)s method, %(U)s path,
        /// %(q)s query, %(H)s protocol, %(s)s status, %(B)s bytes of the body, %(b)s the same or -, %(f)s referrer,
        /// %(a)s user agent, %(T)s seconds taken, %(M)s milliseconds, %(D)s microseconds, %(L)s seconds with
        /// decimals, %(p)s process id, %({name}i)s a request header, %({name}o)s a response header, %% a percent
        /// sign. What the request brought is escaped, so that it cannot forge a line.
        access_log_format: AccessFormat {
            flag: "access-logformat", value: "FORMAT",
            default: r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#,
            parse: AccessFormat::compile,
        }
        /// Where to write the error log: a file, or - for standard error.
        errorlog: LogTarget {
            flag: "error-logfile" | "log-file", value: "FILE", default: "-",
            parse: log_target,
        }
        /// What to log: critical, error, warning, info, debug or trace.
        ///
        /// critical is the same as error: the levels are those of Rust's log facade.
        loglevel: LevelFilter {
            flag: "log-level", value: "LEVEL", default: "info",
            parse: level,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_of_every_setting_is_one_it_accepts_and_shows() {
        let config = Config::default();
        for setting in SETTINGS {
            assert_eq!((setting.check)(setting.default), Ok(()), "{}", setting.name);
            assert_eq!((setting.show)(&config), setting.default, "{}", setting.name);
        }
    }

    #[test]
    fn a_shown_value_can_be_set_again() {
        let config = Config {
            bind: bind_list("[::1]:9000,unix:/run/x.sock").unwrap(),
            keepalive: Duration::from_millis(1500),
            limit_request_body: Some(3 << 20),
            ..Config::default()
        };
        let mut copy = Config::default();
        for setting in SETTINGS {
            (setting.set)(&mut copy, &(setting.show)(&config)).unwrap();
        }
        assert_eq!(copy, config);
    }

    #[test]
    fn every_flag_has_one_owner_and_a_help_text() {
        let mut seen = std::collections::HashSet::new();
        for setting in SETTINGS {
            for flag in std::iter::once(&setting.flag).chain(setting.aliases) {
                assert!(seen.insert(flag.to_string()), "--{flag} is defined twice");
            }
            if let Some(short) = setting.short {
                assert!(seen.insert(short.to_string()), "-{short} is defined twice");
            }
            assert!(setting.summary().ends_with('.'), "{}: {}", setting.name, setting.summary());
        }
    }
}
