//! The command line: gunicorn's names, help that lists them, and errors that say what to do.

use std::net::TcpListener;

use greenserve_tests::{Binary, ServerProcess};

fn failing(args: &[&str]) -> String {
    let output = Binary::run(args);
    assert!(!output.status.success() && output.status.code().is_some(), "{args:?}: {}", output.status);
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_lists_every_option() {
    let output = Binary::run(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    let options = [
        "-b",
        "--bind",
        "-w",
        "--workers",
        "--worker-connections",
        "--keep-alive",
        "-t",
        "--timeout",
        "--graceful-timeout",
        "--limit-request-line",
        "--limit-request-fields",
        "--limit-request-field_size",
        "--backlog",
        "--access-logfile",
        "--log-level",
        "--header-timeout",
        "--body-timeout",
        "--request-timeout",
        "-k",
        "demo",
        "static:",
    ];
    for option in options {
        assert!(help.contains(option), "{option} is missing in\n{help}");
    }
}

#[test]
fn version_is_that_of_the_crate() {
    let output = Binary::run(&["--version"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_option_is_accepted() {
    let server = ServerProcess::start([
        "demo",
        "-w",
        "1",
        "--worker-connections",
        "10",
        "--keep-alive",
        "3",
        "-t",
        "30",
        "--graceful-timeout",
        "5",
        "--limit-request-line",
        "2000",
        "--limit-request-fields",
        "50",
        "--limit-request-field_size",
        "2000",
        "--backlog",
        "64",
        "--access-logfile",
        "-",
        "--log-level",
        "debug",
        "--header-timeout",
        "10",
        "--body-timeout",
        "10",
        "--request-timeout",
        "10",
        "-k",
        "green",
    ]);
    assert_eq!(server.get("/plaintext").status, 200);
}

#[test]
fn a_wrong_setting_is_named_with_its_value() {
    let rows: &[(&[&str], &[&str])] = &[
        (&["--no-such-option"], &["--no-such-option"]),
        (&["--worker-connections", "many"], &["worker-connections", "many"]),
        (&["--worker-connections", "0"], &["worker-connections", "0"]),
        (&["--keep-alive", "-1"], &["-1"]),
        (&["--header-timeout", "soon"], &["header-timeout", "soon"]),
        (&["--limit-request-fields", "1e3"], &["limit-request-fields", "1e3"]),
        (&["-k", "fibers"], &["fibers", "green", "threads"]),
        (&["--log-level", "loud"], &["loud"]),
        (&["--bind", "127.0.0.1:port"], &["127.0.0.1:port"]),
        (&["--bind", "127.0.0.1:99999"], &["127.0.0.1:99999"]),
        (&["--bind", "unix:"], &["unix:"]),
        (&["no-such-app"], &["no-such-app", "demo", "static:"]),
        (&["static:/no/such/folder"], &["/no/such/folder"]),
        (&["static:"], &["static:"]),
        (&["--access-logfile", "/no/such/folder/log"], &["/no/such/folder/log"]),
    ];
    for (args, words) in rows {
        let message = failing(args);
        for word in *words {
            assert!(message.contains(word), "{args:?}: {word} is missing in {message}");
        }
        assert!(!message.contains("panicked"), "{args:?}: {message}");
    }
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let message = failing(&["demo", "--bind", &addr]);
    assert!(message.contains(&addr), "{message}");
}

#[test]
fn the_log_is_gunicorns_in_form_and_obeys_its_level() {
    let server = ServerProcess::start(["demo"]);
    let line = server.wait_for_log("Listening at: ");
    let pid = server.pid();
    assert!(
        line.contains(&format!("[{pid}] [INFO] Listening at: http://{} ({pid})", server.addr())),
        "{line}"
    );
    assert!(line.starts_with("[20"), "the time comes first: {line}");
}
