//! HUP and the logs.

use std::fs;

use greenserve_tests::{PATIENCE, Scratch, ServerProcess, eventually};

#[test]
fn hup_makes_new_targets_format_and_level_take_effect_in_master_and_workers() {
    let scratch = Scratch::new();
    let (file, error, access) =
        (scratch.join("settings.toml"), scratch.join("error"), scratch.join("access"));
    fs::write(&file, "workers = 1\n").unwrap();
    let server = ServerProcess::builder()
        .without_worker_count()
        .args(["demo", "--config", file.to_str().unwrap()])
        .start();
    let first = server.wait_for_workers(1);
    server.get("/fixed?n=1");

    let settings = format!(
        "workers = 1\nerrorlog = '{}'\naccesslog = '{}'\naccess_log_format = 'new %(q)s'\n\
         log_format = 'json'\nloglevel = 'debug'\n",
        error.display(),
        access.display()
    );
    fs::write(&file, &settings).unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || server.children().len() == 1 && server.children() != first);
    eventually(PATIENCE, || {
        server.get("/fixed?n=2");
        fs::read_to_string(&access).unwrap().contains("new n=2\n")
    });
    let lines = || -> Vec<serde_json::Value> {
        let text = fs::read_to_string(&error).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };
    eventually(PATIENCE, || lines().iter().any(|line| line["pid"] == server.pid()));
    eventually(PATIENCE, || lines().iter().any(|line| line["level"] == "DEBUG"));
    server.get("/panic");
    eventually(PATIENCE, || lines().iter().any(|line| line["pid"] == server.children()[0]));

    // A file that can't be opened: nothing changes.
    let second = server.children();
    fs::write(&file, format!("{settings}capture_output = true\n").replace("/access'", "/no/access'"))
        .unwrap();
    server.signal(libc::SIGHUP);
    eventually(PATIENCE, || fs::read_to_string(&error).unwrap().contains("not loaded again"));
    assert_eq!(server.children(), second);
    server.get("/fixed?n=3");
    eventually(PATIENCE, || fs::read_to_string(&access).unwrap().contains("new n=3\n"));
}
