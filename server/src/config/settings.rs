//! The table of settings. Names and defaults are gunicorn's where gunicorn has the setting.

use std::path::PathBuf;
use std::time::Duration;

use ::http::HeaderName;
use log::LevelFilter;

use super::process::{Account, Environment, Umask, account, environment, optional_text, umask, workers};
use super::value::{Bind, CertReqs, FileMode, LogTarget, StatsdHost, Value, WorkerClass};
use super::value::{
    bind_list, bind_list_or_none, cert_reqs, count, file_mode, files, header_map, header_names, leaving,
    level, log_format, log_target, networks, optional_count, optional_log, optional_name, optional_path,
    optional_size, protocol, proxy_protocol, scheme_headers, seconds, seconds_or_none, statsd_host,
    statsd_text, switch, tls_version, worker_class,
};
use crate::Protocol;
use crate::app::{HeaderMapping, Leaving, Networks, TlsVersion};
use crate::http::ProxyProtocol;
use crate::log::{AccessFormat, Facility, LogFormat, SyslogAddress};

/// Under which heading of `--help` a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Addresses and the kernel's queue of new connections.
    Socket,
    /// How many connections, served by what.
    Workers,
    /// How long things may take.
    Timeouts,
    /// What the process looks like from outside.
    Process,
    /// How operators reach the master.
    Control,
    /// How large things may be.
    Limits,
    /// Whom to believe that is between the clients and the server.
    Proxies,
    /// Certificates and keys.
    Tls,
    /// Error log and access log.
    Logging,
    /// Numbers for whoever watches the server.
    Metrics,
}

impl Group {
    /// The heading, as `--help` prints it.
    pub fn title(self) -> &'static str {
        match self {
            Group::Socket => "Server socket",
            Group::Workers => "Workers",
            Group::Timeouts => "Timeouts, in seconds; fractions are fine",
            Group::Process => "Process",
            Group::Control => "Control socket",
            Group::Limits => "Limits",
            Group::Proxies => "Behind proxies",
            Group::Tls => "TLS: all addresses speak it once there is a certificate",
            Group::Logging => "Logging",
            Group::Metrics => "Metrics",
        }
    }
}

/// More worker processes nobody may ask for.
pub(crate) const MOST_WORKERS: usize = 4096;

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
    /// Is the flag given without a value?
    pub switch: bool,
    /// What stands between the values, if it can have several: in the file they may be a list, or a table of NAME = "VALUE".
    pub list: Option<&'static str>,
    /// Does a new value wait for a restart or SIGUSR2? All others take effect at SIGHUP, too.
    pub restart: bool,
    help: &'static [&'static str],
    pub(super) check: fn(&str) -> Result<(), String>,
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) show: fn(&Config) -> String,
}

impl Setting {
    /// Its value in a configuration, as it would be typed.
    pub fn value(&self, config: &Config) -> String {
        (self.show)(config)
    }

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
                flag: $flag:literal $(| $alias:literal)* $(, short: $short:literal)? $(, repeatable: $repeatable:literal)?
                $(, switch: $switch:literal)? $(, list: $list:literal)? $(, restart: $restart:literal)?,
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

        impl Config {
            /// Takes from `old` what only a restart changes. Returns the names of settings that were to be changed so.
            pub(crate) fn keep_until_restart(&mut self, old: &Config) -> Vec<&'static str> {
                let mut kept = Vec::new();
                $($(
                    if [$($restart,)? false][0] && self.$name != old.$name {
                        self.$name = old.$name.clone();
                        kept.push(stringify!($name));
                    }
                )+)+
                kept
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
                switch: [$($switch,)? false][0],
                list: [$(Some($list),)? None][0],
                restart: [$($restart,)? false][0],
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
        /// Where to listen: HOST:PORT, :PORT (every IPv4 address), HOST (port 8000), unix:PATH, unix:@NAME (an abstract
        /// name) or fd://NUMBER; IPv6 in brackets.
        ///
        /// Can be given several times, or several addresses with commas between them. Port 0 takes a free port;
        /// the log says which one. The IPv6 address :: is for IPv4, too, unless an IPv4 address with the same port is given besides.
        /// The file of a Unix socket has the permissions that the umask of the process leaves.
        ///
        /// Sockets that systemd has opened (LISTEN_FDS) take the place of all these addresses, unless one of them is
        /// fd://NAME, which chooses the sockets with that FileDescriptorName, or fd://NUMBER, a socket that whoever starts
        /// the program has left open. They are not closed for others: what waits there when the server stops is left to
        /// whoever comes next.
        bind: Vec<Bind> {
            flag: "bind", short: 'b', repeatable: true, list: ",",
            value: "ADDRESS", default: "127.0.0.1:8000", env: "PORT" => "0.0.0.0:{}",
            parse: bind_list,
        }
        /// How many connections may wait in the kernel to be accepted.
        ///
        /// The kernel caps it at net.core.somaxconn; the log warns of that.
        backlog: u32 {
            flag: "backlog", value: "N", default: "2048",
            parse: |text| count(text, 1..=65_535).map(|n| n as u32),
        }
        /// Whether each worker listens on a socket of its own (SO_REUSEPORT), over which the kernel spreads connections.
        ///
        /// Without it all workers accept on one socket: whoever is awake takes the next connection, and who has clearly more than
        /// the average lets others go first for a millisecond. With it a connection waits for the worker that the kernel has
        /// chosen, even while others have nothing to do. Over 4 workers 200 connections were spread by 41 to 57 without it and
        /// by 38 to 63 with it.
        ///
        /// All servers on the port must say so and belong to the same user. The master keeps all these sockets open
        /// while workers are replaced, so that nothing that waits in one of them is lost.
        reuse_port: bool {
            flag: "reuse-port", switch: true, restart: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// What connections speak: http, or uwsgi (nginx's uwsgi_pass) from a front server.
        ///
        /// By uwsgi the front server says who its client is and which request it made, so it must be one that is
        /// trusted: see --uwsgi-allow-from. A connection serves one request, and a response of unknown length ends
        /// with it. Over a Unix socket such a response that breaks off cannot be told from a whole one.
        protocol: Protocol {
            flag: "protocol", value: "NAME", default: "http",
            parse: protocol,
        }
        /// From which addresses uwsgi is taken, with commas between them; networks as 10.0.0.0/8, * for all. Others are
        /// answered 403. Over a Unix socket everybody may who can open it.
        uwsgi_allow_ips: Networks {
            flag: "uwsgi-allow-from", list: ",", value: "ADDRESSES", default: "127.0.0.1,::1",
            parse: networks,
        }
    }
    Workers {
        /// How many worker processes a master keeps running. 0: no master, this process serves by itself. auto: one for each CPU.
        ///
        /// With auto as many as there are CPUs that this process may use: its affinity and the quota of its cgroup count.
        ///
        /// The master listens, starts the workers, replaces those that die or hang and those that are to be renewed, and
        /// answers signals as gunicorn's does: HUP loads the settings again and replaces the workers one after the other,
        /// TTIN and TTOU make them more and less by one, USR1 opens the logs again, USR2 starts a new master beside this
        /// one, TERM stops when requests under way are done, INT and QUIT at once.
        workers: usize {
            flag: "workers", short: 'w',
            value: "N", default: "1", env: "WEB_CONCURRENCY" => "{}",
            parse: workers,
        }
        /// How many workers are kept when there is little to do. 0: always all of --workers.
        ///
        /// The master begins with so many. It starts one more, up to --workers, when they have been busy for more than 80 %
        /// of their time for two seconds, and stops one when it was less than 30 % for a minute. TTIN and TTOU change the
        /// number for the time being.
        min_workers: usize {
            flag: "min-workers", value: "N", default: "0",
            parse: |text| count(text, 0..=4096),
        }
        /// What serves a connection: green (a green thread), threads (an OS thread; gunicorn's gthread is the same) or sync.
        ///
        /// A sync worker serves one request after the other, each on a connection of its own, as gunicorn's: for what must
        /// never run beside itself. Put a proxy before it that reads requests and responses whole, for a slow client holds
        /// up all others, and one that takes longer than --timeout costs the worker. What is said of -k threads below
        /// is true of it, too.
        worker_class: WorkerClass {
            flag: "worker-class", short: 'k', value: "KIND", default: "green",
            parse: worker_class,
        }
        /// How many OS threads serve in each worker. Not set: 1, but for -k threads.
        ///
        /// With -k green each has a hub: it accepts, and the green threads of its connections stay there. One that a handler blocks
        /// or that computes holds up its own connections only, and --timeout is for each of them. The application is
        /// shared by all, as are --worker-connections and --max-requests.
        ///
        /// With -k threads so many requests are handled at once (not set: any number), and more wait for one of those to end. A connection
        /// has a thread of its own all the same, and waits for its next request at nobody's cost. -k sync with 2 or more is the
        /// same as -k threads, as in gunicorn.
        threads: Option<usize> {
            flag: "threads", value: "N", default: "",
            parse: optional_count,
        }
        /// How many connections are served at the same time in each worker; more wait in the backlog. gunicorn's default is 1000; a
        /// green thread is cheaper here.
        worker_connections: usize {
            flag: "worker-connections", value: "N", default: "10000",
            parse: |text| count(text, 1..=10_000_000),
        }
        /// After how many requests a worker is replaced, against leaks of memory. 0 means never.
        ///
        /// Its successor serves before it stops, so it serves a few more, and nothing is lost. Requests that are refused
        /// before the application sees them don't count. This and the next four need a master (-w 1 or more).
        max_requests: usize {
            flag: "max-requests", value: "N", default: "0",
            parse: |text| count(text, 0..=1_000_000_000_000),
        }
        /// Up to how many requests more --max-requests is for each worker, by chance, so that not all are replaced at once.
        max_requests_jitter: usize {
            flag: "max-requests-jitter", value: "N", default: "0",
            parse: |text| count(text, 0..=1_000_000_000_000),
        }
        /// With how much memory a worker is replaced, in bytes (K, M and G are understood). 0 means never.
        ///
        /// Looked at once a second, as the resident set of /proc/self/statm, in which what workers share counts for each of
        /// them. A limit that a worker is above from its beginning is not kept, for its successor would be, too: the log
        /// says so. Linux only.
        max_worker_memory: Option<u64> {
            flag: "max-worker-memory", value: "BYTES", default: "0",
            parse: optional_size,
        }
        /// For how many seconds a worker serves until it is replaced. 0 means for ever.
        max_worker_lifetime: Option<Duration> {
            flag: "max-worker-lifetime", value: "SECONDS", default: "0",
            parse: seconds_or_none,
        }
        /// Up to how many seconds more --max-worker-lifetime is for each worker, by chance.
        max_worker_lifetime_jitter: Duration {
            flag: "max-worker-lifetime-jitter", value: "SECONDS", default: "0",
            parse: seconds,
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
        /// This is about a stuck worker process, not about a slow request (for that see --request-timeout). It gets a
        /// SIGABRT, upon which it logs where it stands and where its other green threads wait, and ends; if it has not
        /// after five seconds it gets a SIGKILL.
        timeout: Option<Duration> {
            flag: "timeout", short: 't', value: "SECONDS", default: "30",
            parse: seconds_or_none,
        }
        /// How long requests in flight may take to finish after SIGTERM.
        graceful_timeout: Duration {
            flag: "graceful-timeout", value: "SECONDS", default: "30",
            parse: seconds,
        }
        /// How long the server serves on after SIGTERM, new connections too, before it stops accepting.
        ///
        /// Meanwhile each response says Connection: close and ServerHandle::is_ready() is false, for a health check to tell:
        /// set it to how long a load balancer takes to send nothing here any more. --graceful-timeout begins after it.
        /// SIGINT and SIGQUIT don't wait.
        drain_delay: Duration {
            flag: "drain-delay", value: "SECONDS", default: "0",
            parse: seconds,
        }
        /// How long a TLS handshake may take. 0 means for ever.
        handshake_timeout: Option<Duration> {
            flag: "handshake-timeout", value: "SECONDS", default: "10",
            parse: seconds_or_none,
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
        /// What counts as a client's leaving, upon which its request is cancelled: never, reset or close.
        ///
        /// The handler is unwound where it waits (destructors run), and the access log has the status 499, as nginx's. With
        /// close a client that closes its sending half is taken to be gone, too: most are, but it is legal to do so and wait
        /// for the answer. Has no effect with -k threads, since an OS thread cannot be unwound from outside.
        cancel_on_disconnect: Option<Leaving> {
            flag: "cancel-on-disconnect", value: "WHEN", default: "never",
            parse: leaving,
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
    Process {
        /// Where the master writes its process id. While a new master runs beside an old one (SIGUSR2), `.2` is added.
        pidfile: Option<PathBuf> {
            flag: "pid", short: 'p', value: "FILE", default: "",
            parse: optional_path,
        }
        /// As which user the workers serve: a name or a number. Empty: as who started the server.
        ///
        /// The master stays who it was (root, most likely), so that it can listen, load certificates and open logs again. It
        /// gives Unix sockets and log files to that user. Without a master the process changes once it listens.
        user: Option<Account> {
            flag: "user", short: 'u', value: "USER", default: "",
            parse: account,
        }
        /// As which group the workers serve: a name or a number. Empty: the --user's own group.
        ///
        /// No other groups of the master's are kept: see --initgroups.
        group: Option<Account> {
            flag: "group", short: 'g', value: "GROUP", default: "",
            parse: account,
        }
        /// Whether the workers are also in all other groups in which --user is a member.
        initgroups: bool {
            flag: "initgroups", switch: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// Which permissions the files of Unix sockets don't have: octal if it begins with 0, such as 007.
        ///
        /// With 0 everybody on this machine may connect. What the application writes goes by the umask that the server was
        /// started with.
        umask: Umask {
            flag: "umask", short: 'm', value: "MASK", default: "0",
            parse: umask,
        }
        /// The folder to change to before anything but the settings file is opened. Empty: where the server was started.
        chdir: Option<PathBuf> {
            flag: "chdir", restart: true, value: "FOLDER", default: "",
            parse: optional_path,
        }
        /// A variable for the environment of the application, as NAME=VALUE. Can be given several times.
        ///
        /// It is there before the application is made. It is no source of settings.
        raw_env: Environment {
            flag: "env", short: 'e', repeatable: true, list: "\n", restart: true, value: "NAME=VALUE", default: "",
            parse: environment,
        }
        /// Whether to serve in the background, detached from the terminal.
        ///
        /// The program that was started ends once the server listens, or with an error's code and message if it can't. From
        /// then on standard input, output and error lead nowhere: name an --error-logfile, or see --enable-stdio-inheritance.
        daemon: bool {
            flag: "daemon", short: 'D', switch: true, restart: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// Whether a daemon keeps standard output and error, unless they are a terminal.
        ///
        /// For --daemon: they lead to where the shell has led them, and what is written there arrives. Standard input leads nowhere.
        enable_stdio_inheritance: bool {
            flag: "enable-stdio-inheritance", short: 'R', switch: true, restart: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// What to call the server in the list of processes. Empty: the application's name, and only for a master and its workers.
        ///
        /// ps shows `greenserve: master [NAME]` and `greenserve: worker [NAME]`; a process that serves without a master is
        /// `greenserve: NAME`. Where the kernel does not allow it the names stay as they were.
        proc_name: Option<String> {
            flag: "name", short: 'n', value: "NAME", default: "",
            parse: optional_text,
        }
    }
    Control {
        /// The Unix socket at which the master takes the operator's commands, see `greenserve ctl --help`.
        ///
        /// Without it `$XDG_RUNTIME_DIR/greenserve.ctl`, or `~/.greenserve/greenserve.ctl` if there is no such folder. If another
        /// master listens there already, `.` and the process id are added to the name; while a new master runs beside an
        /// old one (SIGUSR2), `.2`. A server whose socket can't be made says so in the log and serves without.
        control_socket: Option<PathBuf> {
            flag: "control-socket", value: "PATH", default: "",
            parse: optional_path,
        }
        /// Who may use the control socket: the mode of its file, in octal. 0660 is for the group as well.
        control_socket_mode: FileMode {
            flag: "control-socket-mode", value: "MODE", default: "0600",
            parse: file_mode,
        }
        /// Whether there is to be no control socket.
        control_socket_disable: bool {
            flag: "no-control-socket", switch: true, value: "BOOL", default: "false",
            parse: switch,
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
    Proxies {
        /// Whose X-Forwarded-... and Forwarded headers to believe: addresses, networks such as 10.0.0.0/8, or * for
        /// everybody's. Empty: nobody's.
        ///
        /// Name the proxies that connect to this server, and have them remove what clients send under those names. With *
        /// every client can choose its address, host and scheme, unless nobody but your proxy can connect. Peers on Unix
        /// sockets are always believed. With --proxy-protocol it is the address in the PROXY header that must be listed.
        forwarded_allow_ips: Networks {
            flag: "forwarded-allow-ips", list: ",", value: "ADDRESSES", default: "127.0.0.1,::1",
            env: "FORWARDED_ALLOW_IPS" => "{}",
            parse: networks,
        }
        /// By which headers a trusted proxy says that the client speaks TLS: NAME=VALUE with commas between them.
        ///
        /// Another value of such a header means plain http; several that disagree are answered 400 when the application
        /// asks for the scheme. Values are compared exactly, names without regard to case.
        secure_scheme_headers: Vec<(String, String)> {
            flag: "secure-scheme-headers", list: ",", value: "LIST",
            default: "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on",
            parse: scheme_headers,
        }
        /// Headers with underscores in their names that may become CGI variables if a trusted proxy sends them.
        ///
        /// SCRIPT_NAME says where the application is mounted: the path must begin with it. Others become HTTP_... as
        /// they are named. * stands for all names. Have the proxy remove them from what clients send.
        forwarder_headers: Vec<String> {
            flag: "forwarder-headers", list: ",", value: "NAMES", default: "SCRIPT_NAME,PATH_INFO",
            parse: header_names,
        }
        /// What becomes of other headers with underscores, whose CGI variables could be those of other headers: drop
        /// (there is no variable), refuse (the request is answered 400) or dangerous (there is one).
        ///
        /// Even with dangerous X_Real never replaces or joins X-Real: if both came, that with hyphens is the variable.
        header_map: HeaderMapping {
            flag: "header-map", value: "WHAT", default: "drop",
            parse: header_map,
        }
        /// With which PROXY header each connection has to begin: off (none), v1 (a line), v2 (a binary block) or auto.
        ///
        /// For a proxy that passes on bytes, such as HAProxy in TCP mode (send-proxy, send-proxy-v2), stunnel or a load
        /// balancer. The client's address in it takes the place of the proxy's, in the access log too. A connection
        /// without it is closed, so nobody else can be served: health checks have to send it, too.
        proxy_protocol: ProxyProtocol {
            flag: "proxy-protocol", value: "MODE", default: "off",
            parse: proxy_protocol,
        }
        /// Who may send a PROXY header: addresses, networks or *. Connections of others are closed, and the log says so.
        ///
        /// Peers on Unix sockets always may.
        proxy_allow_ips: Networks {
            flag: "proxy-allow-from" | "proxy-allow-ips", list: ",", value: "ADDRESSES", default: "127.0.0.1,::1",
            parse: networks,
        }
    }
    Tls {
        /// The server's certificate and those that lead to its root, in PEM. With it all addresses speak HTTPS.
        ///
        /// Can be given several times (or with commas), each with its --keyfile in the same order: a client gets the
        /// first certificate that holds for the name it asks for (SNI), and for any other name the first of all.
        /// SIGHUP has certificates and keys read again; connections that exist are not touched.
        certfile: Vec<PathBuf> {
            flag: "certfile", repeatable: true, list: ",", value: "FILE", default: "",
            parse: files,
        }
        /// The certificate's private key, in PEM and not encrypted. Without it the key lies in the --certfile.
        keyfile: Vec<PathBuf> {
            flag: "keyfile", repeatable: true, list: ",", value: "FILE", default: "",
            parse: files,
        }
        /// The roots that clients' certificates must lead to, in PEM.
        ca_certs: Option<PathBuf> {
            flag: "ca-certs", value: "FILE", default: "",
            parse: optional_path,
        }
        /// Whether clients are asked for a certificate: none, optional or required. gunicorn's 0, 1 and 2 are the same.
        cert_reqs: CertReqs {
            flag: "cert-reqs", value: "KIND", default: "none",
            parse: cert_reqs,
        }
        /// The oldest version of TLS that is spoken: 1.2 or 1.3.
        ///
        /// The cipher suites are rustls's choice: all that it has are good ones.
        tls_min_version: TlsVersion {
            flag: "tls-min-version", value: "VERSION", default: "1.2",
            parse: tls_version,
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
        /// decimals, %(p)s process id, %({name}i)s a request header, %({name}o)s a response header, %({NAME}e)s a variable
        /// of WSGI (REMOTE_PORT, HTTP_HOST), %% a percent sign; and ours: %({route}x)s the pattern of the router's route,
        /// %({request_id}x)s the request's id if it has got one, %({tls_version}x)s and %({tls_cipher}x)s. What there is not
        /// is -. What the request brought is escaped, so that it cannot forge a line. The word json stands for an object of
        /// JSON per line.
        /// A header is written as it came, whatever it holds: think before you log {authorization}i or {cookie}i.
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
        /// What a line of the error log looks like: text, as gunicorn has it, or json, an object per line.
        log_format: LogFormat {
            flag: "log-format", value: "FORMAT", default: "text",
            parse: log_format,
        }
        /// Whether standard output and standard error of what serves go to the file of the error log.
        capture_output: bool {
            flag: "capture-output", switch: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// Whether both logs go to a syslog daemon, too; the access log even if there is no file for it.
        syslog: bool {
            flag: "log-syslog", switch: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// Where the syslog daemon listens: udp://HOST:PORT, tcp://HOST:PORT or unix://PATH, with #dgram or #stream at the end.
        ///
        /// Messages have the form of syslog(3) in a unix socket, and that of RFC 5424 over the network. Those that a daemon
        /// doesn't take are dropped and counted.
        syslog_addr: SyslogAddress {
            flag: "log-syslog-to", value: "ADDRESS", default: "unix:///dev/log",
            parse: str::parse::<SyslogAddress>,
        }
        /// What stands in the middle of the name of a message's program: greenserve.PREFIX.error and greenserve.PREFIX.access.
        syslog_prefix: String {
            flag: "log-syslog-prefix", value: "PREFIX", default: "",
            parse: |text: &str| Ok::<_, String>(text.to_owned()),
        }
        /// The facility of messages to the syslog daemon, by name (user, daemon, local0) or number.
        syslog_facility: Facility {
            flag: "log-syslog-facility", value: "NAME", default: "user",
            parse: str::parse::<Facility>,
        }
        /// Whether the access log is left out of what goes to the syslog daemon.
        disable_redirect_access_to_syslog: bool {
            flag: "disable-redirect-access-to-syslog", switch: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// The request header whose value is the request's id in the error log, such as X-Request-Id. Without it an id is made
        /// when an application asks for it.
        ///
        /// Name one that your proxy sets: of others, a client chooses the value. One that is not well-formed (1 to 128 letters,
        /// digits and -_.:/+=~@) is not looked at.
        request_id_header: Option<HeaderName> {
            flag: "request-id-header", value: "NAME", default: "",
            parse: optional_name,
        }
        /// What to log: critical, error, warning, info, debug or trace.
        ///
        /// critical is the same as error: the levels are those of Rust's log facade.
        loglevel: LevelFilter {
            flag: "log-level", value: "LEVEL", default: "info",
            parse: level,
        }
    }
    Metrics {
        /// Where to answer for numbers and health, as --bind takes it: /metrics (Prometheus), /stats (JSON), /health. Nowhere if
        /// it is not given.
        ///
        /// The numbers are those of all workers. It is answered by a thread of its own in each worker: though all connections
        /// of --worker-connections are taken, and though a handler blocks the worker. Anybody may ask who can connect, so
        /// do not bind it where clients are.
        metrics_bind: Vec<Bind> {
            flag: "metrics-bind", repeatable: true, value: "ADDRESS", default: "",
            parse: bind_list_or_none,
        }
        /// Where StatsD listens: HOST:PORT or unix://PATH. It is sent gunicorn's metrics, about once a second.
        ///
        /// gunicorn.requests, gunicorn.request.duration (ms), gunicorn.request.status.200 and so on, gunicorn.workers,
        /// gunicorn.log.error, .warning and .exception. What can't be sent at once is dropped.
        statsd_host: Option<StatsdHost> {
            flag: "statsd-host", value: "ADDRESS", default: "",
            parse: statsd_host,
        }
        /// What StatsD's names begin with; a dot is put behind it.
        statsd_prefix: String {
            flag: "statsd-prefix", value: "PREFIX", default: "",
            parse: statsd_text,
        }
        /// Whether StatsD gets gunicorn.backlog, too: how many connections wait to be accepted.
        ///
        /// Once a second, of all TCP addresses together, as a timer, which is what gunicorn sends. Linux only, and from a master
        /// (-w 1 or more). `greenserve ctl show listeners` shows it at any time.
        enable_backlog_metric: bool {
            flag: "enable-backlog-metric", switch: true, value: "BOOL", default: "false",
            parse: switch,
        }
        /// Tags of DogStatsD for all of StatsD's metrics, with commas between them: name:value,name.
        dogstatsd_tags: String {
            flag: "dogstatsd-tags", value: "TAGS", default: "",
            parse: statsd_text,
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
            forwarded_allow_ips: networks("10.0.0.0/8,*").unwrap(),
            forwarder_headers: header_names("*").unwrap(),
            header_map: HeaderMapping::Dangerous,
            proxy_protocol: ProxyProtocol::Auto,
            certfile: vec!["/a.pem".into(), "b c.pem".into()],
            ca_certs: Some("roots.pem".into()),
            cert_reqs: CertReqs::Optional,
            tls_min_version: TlsVersion::V1_3,
            user: account("nobody").unwrap(),
            umask: umask("027").unwrap(),
            raw_env: environment("A=1,2\nB=x=y").unwrap(),
            metrics_bind: bind_list("127.0.0.1:9100,unix:/run/m").unwrap(),
            statsd_host: statsd_host("[::1]:8125").unwrap(),
            statsd_prefix: "shop".to_owned(),
            ..Config::default()
        };
        let mut copy = Config::default();
        for setting in SETTINGS {
            (setting.set)(&mut copy, &(setting.show)(&config)).unwrap();
        }
        assert_eq!(copy, config);
    }

    #[test]
    fn what_waits_for_a_restart_stays_as_it_was_and_is_named() {
        let old = Config::default();
        let mut new = Config { daemon: true, backlog: 7, reuse_port: true, ..Config::default() };
        assert_eq!(new.keep_until_restart(&old), ["reuse_port", "daemon"]);
        assert_eq!(new, Config { backlog: 7, ..old });
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
