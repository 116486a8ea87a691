//! The README's table of settings is made from the definitions (run its test with `UPDATE_README=1` to rewrite it), and
//! its table of dependencies is complete.

use std::fmt::Write;
use std::fs;

use super::SETTINGS;

const BEGIN: &str = "<!-- settings: made from server/src/config/settings.rs -->\n";
const END: &str = "<!-- end of settings -->";

#[test]
fn the_readme_has_the_table_of_settings_that_the_definitions_give() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("the mark where the table begins");
    let (found, after) = rest.split_once(END).expect("the mark where the table ends");
    if std::env::var_os("UPDATE_README").is_some() {
        fs::write(path, format!("{before}{BEGIN}{}{END}{after}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "UPDATE_README=1 cargo test -p greenserve readme rewrites it");
}

fn table() -> String {
    let mut table = "| Flag | Default | |\n|---|---|---|\n".to_owned();
    for setting in SETTINGS {
        let short = setting.short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
        let default = match setting.default {
            "" => String::new(),
            default => format!("`{}`", default.replace('|', "\\|")),
        };
        let env = setting.env.map(|(name, _)| format!(" Environment: `{name}`.")).unwrap_or_default();
        let (flag, summary) = (setting.flag, setting.summary());
        writeln!(table, "| {short}`--{flag}` | {default} | {summary}{env} |").unwrap();
    }
    table
}

#[test]
fn the_readme_gives_a_reason_for_every_dependency() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let readme = fs::read_to_string(format!("{root}/README.md")).unwrap();
    let manifest = fs::read_to_string(format!("{root}/Cargo.toml")).unwrap();
    let section = manifest.split("[workspace.dependencies]\n").nth(1).expect("the shared versions");
    let section = section.split("\n[").next().unwrap_or_default();
    for line in section.lines().filter(|line| line.contains('=') && !line.contains("path =")) {
        let name = line.split([' ', '=']).next().unwrap_or_default();
        let listed = readme.lines().any(|row| row.starts_with('|') && row.contains(&format!("`{name}`")));
        assert!(
            listed,
            "{name} is not in the README's table of dependencies: add it with the reason in one line"
        );
    }
}
