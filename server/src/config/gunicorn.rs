//! gunicorn's settings, all of them, and what there is here: the table of docs/gunicorn.md is made from this list and from the
//! definitions (run its test with `UPDATE_README=1` to rewrite it).

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;

use super::SETTINGS;

/// Name, default as it would be typed here, what there is instead of a setting of that name, remark.
type Row = (&'static str, &'static str, &'static str, &'static str);

const NO_PYTHON: &str = "About Python: there is none here.";
const NO_LOGGING: &str =
    "About Python's logging. A program that sets up a logger of the `log` facade keeps it.";
const NO_H2: &str = "HTTP/1.1 only: have a front server speak HTTP/2.";
const NO_DIRTY: &str = "No second kind of worker: long work can be done in green threads, on a thread pool or in processes of \
                        its own (`greenlet::unblock`, `greenlet::process`).";

const GUNICORN: &[Row] = &[
    (
        "config",
        "./gunicorn.conf.py",
        "`-c`, `--config`",
        "TOML, and `greenserve.toml` by default: a file holds values, and no code.",
    ),
    ("wsgi_app", "", "", "The application is a function of the program: [`main`](crate::main())."),
    ("bind", "127.0.0.1:8000", "", ""),
    ("backlog", "2048", "", ""),
    ("workers", "1", "", "`auto` as well: one for each CPU. 0 serves without a master."),
    (
        "worker_class",
        "sync",
        "",
        "The kinds are others: a green thread for each connection is what gunicorn's gevent workers have.",
    ),
    (
        "threads",
        "1",
        "",
        "With green workers so many hubs, 1 if it is not set. With `-k threads` so many requests at once, any number if it is not \
        set: a connection that waits for its next request takes nobody's place, as in gunicorn. `-k sync` with 2 or more \
        is `-k threads`, as in gunicorn; without a `-k` it stays green.",
    ),
    (
        "worker_connections",
        "1000",
        "",
        "A connection takes some 6 KB here, and those above the limit wait in the backlog \
        without being heard: with 1000, clients that keep connections open would soon lock out others.",
    ),
    ("max_requests", "0", "", ""),
    ("max_requests_jitter", "0", "", ""),
    ("timeout", "30", "", "About stuck workers only: a slow request is no reason, see `--request-timeout`."),
    ("graceful_timeout", "30", "", ""),
    ("keepalive", "2", "", "About idle connections only: heads, bodies and writing have times of their own."),
    ("limit_request_line", "4094", "", "0 means 65535: there is always a limit."),
    ("limit_request_fields", "100", "", "0 means 24576: there is always a limit."),
    ("limit_request_field_size", "8190", "", "0 means 1048576: there is always a limit."),
    (
        "reload",
        "false",
        "",
        "A program has to be compiled first: a watcher that does so can send SIGUSR2, or start it again.",
    ),
    ("reload_engine", "auto", "", "See `reload`."),
    ("reload_extra_files", "", "", "See `reload`."),
    ("spew", "false", "", "A debugger or a profiler shows what a compiled program does."),
    (
        "check_config",
        "false",
        "`--check-config`",
        "Makes the application and reads certificates and keys, too.",
    ),
    ("print_config", "false", "`--print-config`", "Prints a settings file, and where each value came from."),
    (
        "preload_app",
        "false",
        "always",
        "The application is made in the master, before workers are forked. What each worker is to have for itself \
        is made in [`Hooks::post_worker_init`](crate::Hooks::post_worker_init).",
    ),
    (
        "sendfile",
        "true",
        "always",
        "Used for files wherever the kernel can send them, and never where it can't; there is nothing to switch off.",
    ),
    (
        "reuse_port",
        "false",
        "",
        "The master keeps the sockets of all workers, so that replacing one loses no connection.",
    ),
    ("chdir", "", "", ""),
    (
        "daemon",
        "false",
        "",
        "The program that is started ends when the server listens, and reports what went wrong before.",
    ),
    ("raw_env", "", "", ""),
    ("pidfile", "", "", ""),
    ("worker_tmp_dir", "", "", "Not needed: a worker's signs of life are in memory, not in a file."),
    ("user", "", "", ""),
    (
        "group",
        "",
        "",
        "Without it the user's own group is taken. gunicorn stays in the master's, which is root's.",
    ),
    ("umask", "0", "", "For the files of Unix sockets, as gunicorn's."),
    (
        "initgroups",
        "false",
        "",
        "Without it no other groups are kept. gunicorn keeps the master's, which are root's.",
    ),
    ("tmp_upload_dir", "", "", "Not needed: bodies are streamed to the application and never laid down."),
    ("secure_scheme_headers", "X-FORWARDED-PROTOCOL=ssl,X-FORWARDED-PROTO=https,X-FORWARDED-SSL=on", "", ""),
    ("forwarded_allow_ips", "127.0.0.1,::1", "", ""),
    ("accesslog", "", "", ""),
    ("disable_redirect_access_to_syslog", "false", "", ""),
    ("access_log_format", r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#, "", ""),
    ("errorlog", "-", "", ""),
    ("loglevel", "info", "", "`trace` as well."),
    ("capture_output", "false", "", ""),
    (
        "logger_class",
        "gunicorn.glogging.Logger",
        "[`AccessLog`](crate::AccessLog), the `log` facade",
        "Of a program of one's own: any logger of the facade, and any access log with [`Server::access_log`](crate::Server::access_log).",
    ),
    ("logconfig", "", "", NO_LOGGING),
    ("logconfig_dict", "", "", NO_LOGGING),
    ("logconfig_json", "", "", NO_LOGGING),
    (
        "syslog_addr",
        "udp://localhost:514",
        "",
        "The local daemon's socket, which is where messages arrive without being set up.",
    ),
    ("syslog", "false", "", ""),
    ("syslog_prefix", "", "", ""),
    ("syslog_facility", "user", "", ""),
    ("enable_stdio_inheritance", "false", "", ""),
    ("statsd_host", "", "", ""),
    ("dogstatsd_tags", "", "", ""),
    ("statsd_prefix", "", "", ""),
    ("enable_backlog_metric", "false", "", ""),
    ("proc_name", "", "", ""),
    (
        "default_proc_name",
        "gunicorn",
        "the application's name",
        "As in gunicorn, where it is not meant to be set: it is what is taken without a `proc_name`.",
    ),
    ("pythonpath", "", "", NO_PYTHON),
    ("paste", "", "", NO_PYTHON),
    ("on_starting", "", "[`Hooks::on_starting`](crate::Hooks::on_starting)", ""),
    ("on_reload", "", "[`Hooks::on_reload`](crate::Hooks::on_reload)", ""),
    ("when_ready", "", "[`Hooks::when_ready`](crate::Hooks::when_ready)", ""),
    ("pre_fork", "", "[`Hooks::pre_fork`](crate::Hooks::pre_fork)", ""),
    ("post_fork", "", "[`Hooks::post_fork`](crate::Hooks::post_fork)", "Before the worker becomes `--user`."),
    ("post_worker_init", "", "[`Hooks::post_worker_init`](crate::Hooks::post_worker_init)", "As `--user`."),
    ("worker_int", "", "[`Hooks::worker_int`](crate::Hooks::worker_int)", ""),
    ("worker_abort", "", "[`Hooks::worker_abort`](crate::Hooks::worker_abort)", ""),
    ("pre_exec", "", "[`Hooks::pre_exec`](crate::Hooks::pre_exec)", ""),
    ("pre_request", "", "[`Hooks::pre_request`](crate::Hooks::pre_request)", ""),
    ("post_request", "", "[`Hooks::post_request`](crate::Hooks::post_request)", ""),
    ("child_exit", "", "[`Hooks::child_exit`](crate::Hooks::child_exit)", ""),
    ("worker_exit", "", "[`Hooks::worker_exit`](crate::Hooks::worker_exit)", ""),
    ("nworkers_changed", "", "[`Hooks::nworkers_changed`](crate::Hooks::nworkers_changed)", ""),
    ("on_exit", "", "[`Hooks::on_exit`](crate::Hooks::on_exit)", ""),
    ("ssl_context", "", "", "TLS is set up by settings; a program of its own has `greenserve::tls`."),
    ("proxy_protocol", "off", "", ""),
    ("proxy_allow_ips", "127.0.0.1,::1", "", ""),
    ("protocol", "http", "", ""),
    ("uwsgi_allow_ips", "127.0.0.1,::1", "", ""),
    ("keyfile", "", "", "Can be given several times, for several names."),
    ("certfile", "", "", "Can be given several times, for several names."),
    ("ssl_version", "", "`--tls-min-version`", "gunicorn does not look at its own any more."),
    ("cert_reqs", "none", "", "gunicorn's numbers 0, 1 and 2 are understood."),
    ("ca_certs", "", "", ""),
    ("suppress_ragged_eofs", "true", "always", "A client that leaves without closing TLS is no error."),
    (
        "do_handshake_on_connect",
        "false",
        "",
        "Not needed: a handshake is its connection's own affair and holds up nobody, within `--handshake-timeout`.",
    ),
    ("ciphers", "", "", "rustls has good ones only."),
    ("http_protocols", "h1", "", NO_H2),
    ("http2_cleartext", "off", "", NO_H2),
    ("http2_max_concurrent_streams", "100", "", NO_H2),
    ("http2_initial_window_size", "65535", "", NO_H2),
    ("http2_max_frame_size", "16384", "", NO_H2),
    ("http2_max_header_list_size", "65536", "", NO_H2),
    ("raw_paste_global_conf", "", "", NO_PYTHON),
    (
        "permit_obsolete_folding",
        "false",
        "",
        "Never: another server may read a folded field otherwise, which is how requests are smuggled.",
    ),
    ("strip_header_spaces", "false", "", "Never: as for `permit_obsolete_folding`."),
    (
        "permit_unconventional_http_method",
        "false",
        "always",
        "A method is any token, and the application decides: a router answers 405.",
    ),
    ("permit_unconventional_http_version", "false", "", "Never: HTTP/1.0 and HTTP/1.1 are all there is."),
    ("casefold_http_method", "false", "", "Never: methods have upper and lower case (RFC 9110, 9.1)."),
    ("forwarder_headers", "SCRIPT_NAME,PATH_INFO", "", ""),
    ("header_map", "drop", "", ""),
    ("asgi_loop", "auto", "", NO_PYTHON),
    ("asgi_lifespan", "auto", "", NO_PYTHON),
    (
        "asgi_disconnect_grace_period",
        "3",
        "`--cancel-on-disconnect`",
        "A request whose client has left is ended at once, if that is wanted.",
    ),
    ("http_parser", "auto", "", NO_PYTHON),
    (
        "root_path",
        "",
        "",
        "For ASGI. A proxy says where the application is mounted by SCRIPT_NAME: `--forwarder-headers`.",
    ),
    ("dirty_apps", "", "", NO_DIRTY),
    ("dirty_workers", "0", "", NO_DIRTY),
    ("dirty_timeout", "300", "", NO_DIRTY),
    ("dirty_threads", "1", "", NO_DIRTY),
    ("dirty_graceful_timeout", "30", "", NO_DIRTY),
    ("on_dirty_starting", "", "", NO_DIRTY),
    ("dirty_post_fork", "", "", NO_DIRTY),
    ("dirty_worker_init", "", "", NO_DIRTY),
    ("dirty_worker_exit", "", "", NO_DIRTY),
    (
        "control_socket",
        "gunicorn.ctl",
        "",
        "By default in the user's own folder for such files, and named after this server.",
    ),
    ("control_socket_mode", "0600", "", ""),
    ("control_socket_disable", "false", "", ""),
];

const BEGIN: &str = "<!-- settings: made from server/src/config/gunicorn.rs -->\n";
const END: &str = "<!-- end of settings -->";

#[test]
fn the_page_has_the_table_that_the_definitions_give() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gunicorn.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the mark where the table begins");
    let (found, after) = rest.split_once(END).expect("the mark where the table ends");
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "UPDATE_README=1 cargo test -p greenserve --lib config:: rewrites it");
}

fn table() -> String {
    let mut table =
        "| gunicorn | its default | here | default | SIGHUP | |\n|---|---|---|---|---|---|\n".to_owned();
    let code =
        |text: &str| if text.is_empty() { String::new() } else { format!("`{}`", text.replace('|', "\\|")) };
    for (name, default, instead, remark) in GUNICORN {
        let setting = SETTINGS.iter().find(|setting| setting.name == *name);
        let (here, own, hup) = match setting {
            Some(setting) => {
                let short = setting.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
                let hup = if setting.restart { "no" } else { "yes" };
                (format!("{short}`--{}`", setting.flag), code(setting.default), hup)
            }
            None if instead.is_empty() => ("none".to_owned(), String::new(), ""),
            None => ((*instead).to_owned(), String::new(), ""),
        };
        writeln!(table, "| `{name}` | {} | {here} | {own} | {hup} | {remark} |", code(default)).unwrap();
    }
    table
}

#[test]
fn every_setting_of_gunicorn_stands_there_once_with_the_same_default_or_a_reason() {
    let mut seen = HashSet::new();
    for (name, default, instead, remark) in GUNICORN {
        assert!(seen.insert(name), "{name} stands there twice");
        match SETTINGS.iter().find(|setting| setting.name == *name) {
            Some(setting) => {
                assert!(instead.is_empty(), "{name} is a setting");
                assert!(
                    !remark.starts_with("Not yet"),
                    "{name} is a setting by now: what is there to say of it?"
                );
                let same = setting.default == *default;
                assert!(
                    same || !remark.is_empty(),
                    "{name}: {default:?} is {:?} here: why?",
                    setting.default
                );
            }
            None => assert!(!instead.is_empty() || !remark.is_empty(), "{name} is no setting: why not?"),
        }
    }
    // gunicorn 26.1.0
    assert_eq!(GUNICORN.len(), 119);
}
