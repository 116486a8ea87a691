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
    let temporary = |kind| std::env::temp_dir().join(format!("runtime-marks-{}.{kind}", std::process::id()));
    let (json, page) = (temporary("json"), temporary("html"));
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_runtime_marks"))
            .args(["--no-peers", "--runs", "1", "--json"])
            .arg(&json)
            .arg("--report")
            .arg(&page)
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
    let _ = std::fs::remove_file(&page);
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

#[test]
fn report_is_made_from_what_the_programs_have_recorded() {
    let directory = std::env::temp_dir().join(format!("report-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (json, page) = (directory.join("runtime.json"), directory.join("report.html"));
    let report = || {
        let output = Command::new(env!("CARGO_BIN_EXE_report"))
            .arg("--http")
            .arg(directory.join("none.json"))
            .arg("--runtime")
            .arg(&json)
            .arg("--report")
            .arg(&page)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (success, complaint) = report();
    assert!(!success && complaint.contains("nothing is recorded"), "{complaint}");

    let measured = Command::new(env!("CARGO_BIN_EXE_runtime_marks"))
        .args(["--no-peers", "--runs", "1", "--only", "parked", "--parked", "6000", "--json"])
        .arg(&json)
        .arg("--report")
        .arg(directory.join("its-own.html"))
        .output()
        .unwrap();
    assert!(measured.status.success(), "{}", String::from_utf8_lossy(&measured.stderr));
    let (success, complaint) = report();
    assert!(success, "{complaint}");
    let html = std::fs::read_to_string(&page).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    // a point for 1,000, 5,000 and 6,000 in each of the two charts
    assert_eq!(html.matches("class=\"mark green ours\"").count(), 6);
    assert!(html.contains("6000 parked greenlets, resident bytes each"));
}
