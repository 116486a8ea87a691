//! The programs, run small.

use std::process::Command;

#[test]
fn million_parks_as_many_as_asked_for() {
    let output = Command::new(env!("CARGO_BIN_EXE_million")).arg("2000").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("asleep at once  2000\n") && text.contains("resident, each"), "{text}");
}

#[test]
fn compare_refuses_what_it_cannot_measure() {
    for (arguments, complaint) in [
        (&["--connections", "4000000000"][..], "no number of connections is left"),
        (&["--seconds", "0"], "must be more than 0"),
        (&["--connections", "1", "--server", "/nonexistent"], "not measured: can't start /nonexistent"),
    ] {
        let report = std::env::temp_dir().join(format!("compare-{}.html", std::process::id()));
        let output =
            Command::new(env!("CARGO_BIN_EXE_compare")).args(arguments).arg("--report").arg(&report).output();
        let _ = std::fs::remove_file(&report);
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(complaint), "{arguments:?}: {text}");
    }
}

#[test]
fn runtime_marks_measures_what_is_asked_for_and_judges_it() {
    let json = std::env::temp_dir().join(format!("runtime-marks-{}.json", std::process::id()));
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_runtime_marks"))
            .args(["--no-peers", "--runs", "1", "--json"])
            .arg(&json)
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.into_owned())
    };
    let (success, text) = run(&["--only", "remote_wake"]);
    let figures = std::fs::read_to_string(&json);
    let _ = std::fs::remove_file(&json);
    assert!(success && text.contains("(mark: at most 0: met)"), "{text}");
    assert!(figures.unwrap().contains("\"met\": true"));
    let (success, text) = run(&["--only", "nonsense"]);
    assert!(!success && text.contains("no benchmark `nonsense`"), "{text}");
}

#[test]
fn marks_refuses_what_it_does_not_know() {
    for (arguments, complaint) in [
        (&["--only", "nothing"][..], "there is no row `nothing`"),
        (&["--peers", "nobody"], "there is no peer `nobody`"),
        (&["--seconds", "0"], "must be more than 0"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_marks"))
            .args(["--no-setup", "--installed", "."])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(complaint), "{arguments:?}: {text}");
    }
}
