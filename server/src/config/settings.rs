//! The table of settings. Names and defaults are gunicorn's where gunicorn has the setting.

use std::path::PathBuf;
use std::time::Duration;

use ::http::HeaderName;
use log::LevelFilter;

use super::value::{Bind, CertReqs, LogTarget, Value, WorkerClass};
use super::value::{
    bind_list, cert_reqs, count, files, header_map, header_names, leaving, level, log_target, networks,
    optional_log, optional_name, optional_path, optional_size, protocol, proxy_protocol, scheme_headers,
    seconds, seconds_or_none, switch, tls_version, worker_class,
};
use crate::Protocol;
use crate::app::{HeaderMapping, Leaving, Networks, TlsVersion};
use crate::http::ProxyProtocol;
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
    /// What the process looks like from outside.
    Process,
    /// How large things may be.
    Limits,
    /// Whom to believe that is between the clients and the server.
    Proxies,
    /// Certificates and keys.
    Tls,
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
            Group::Process => "Process",
            Group::Limits => "Limits",
            Group::Proxies => "Behind proxies",
            Group::Tls => "TLS: all addresses speak it once there is a certificate",
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
    /// Is the flag given without a value?
    pub switch: bool,
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
                flag: $flag:literal $(| $alias:literal)* $(, short: $short:literal)? $(, repeatable: $repeatable:literal)?
                $(, switch: $switch:literal)?,
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
                switch: [$($switch,)? false][0],
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
        /// Whether each worker listens on a socket of its own (SO_REUSEPORT), over which the kernel spreads connections.
        ///
        /// Without it all workers accept on one socket, and whoever is awake takes the next connection. With it a
        /// connection waits for the worker that the kernel has chosen, even while others have nothing to do. The master
        /// keeps all these sockets open while workers are replaced, so that nothing that waits in one of them is lost.
        reuse_port: bool {
            flag: "reuse-port", switch: true, value: "BOOL", default: "false",
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
            flag: "uwsgi-allow-from", value: "ADDRESSES", default: "127.0.0.1,::1",
            parse: networks,
        }
    }
    Workers {
        /// How many worker processes a master keeps running. 0: no master, this process serves by itself.
        ///
        /// The master listens, starts the workers, replaces those that die or hang and those that are to be renewed, and
        /// answers signals as gunicorn's does: HUP loads the settings again and replaces the workers one after the other,
        /// TTIN and TTOU make them more and less by one, USR1 opens the logs again, USR2 starts a new master beside this
        /// one, TERM stops when requests under way are done, INT and QUIT at once.
        workers: usize {
            flag: "workers", short: 'w',
            value: "N", default: "1", env: "WEB_CONCURRENCY" => "{}",
            parse: |text| count(text, 0..=4096),
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
        /// This is about a stuck worker process, not about a slow request (for that see --request-timeout). It gets a
        /// SIGABRT, and a second later a SIGKILL.
        timeout: Option<Duration> {
            flag: "timeout", short: 't', value: "SECONDS", default: "30",
            parse: seconds_or_none,
        }
        /// How long requests in flight may take to finish after SIGTERM.
        graceful_timeout: Duration {
            flag: "graceful-timeout", value: "SECONDS", default: "30",
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
            flag: "forwarded-allow-ips", value: "ADDRESSES", default: "127.0.0.1,::1",
            env: "FORWARDED_ALLOW_IPS" => "{}",
            parse: networks,
        }
        /// By which headers a trusted proxy says that the client speaks TLS: NAME=VALUE with commas between them.
        ///
        /// Another value of such a header means plain http; several that disagree are answered 400 when the application
        /// asks for the scheme. Values are compared exactly, names without regard to case.
        secure_scheme_headers: Vec<(String, String)> {
            flag: "secure-scheme-headers", value: "LIST",
            default: "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on",
            parse: scheme_headers,
        }
        /// Headers with underscores in their names that may become CGI variables if a trusted proxy sends them.
        ///
        /// SCRIPT_NAME says where the application is mounted: the path must begin with it. Others become HTTP_... as
        /// they are named. * stands for all names. Have the proxy remove them from what clients send.
        forwarder_headers: Vec<String> {
            flag: "forwarder-headers", value: "NAMES", default: "SCRIPT_NAME,PATH_INFO",
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
            flag: "proxy-allow-from" | "proxy-allow-ips", value: "ADDRESSES", default: "127.0.0.1,::1",
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
            flag: "certfile", repeatable: true, value: "FILE", default: "",
            parse: files,
        }
        /// The certificate's private key, in PEM and not encrypted. Without it the key lies in the --certfile.
        keyfile: Vec<PathBuf> {
            flag: "keyfile", repeatable: true, value: "FILE", default: "",
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
        /// decimals, %(p)s process id, %({name}i)s a request header, %({name}o)s a response header, %% a percent
        /// sign; and ours: %({route}x)s the pattern of the router's route, %({request_id}x)s the request's id if it has got
        /// one, %({tls_version}x)s and %({tls_cipher}x)s. What the request brought is escaped, so that it cannot forge a line.
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
