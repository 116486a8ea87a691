//! Finds the published source of crossbeam-channel, as cargo has it, and makes a module of each of its test files, where it is.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=../Cargo.lock");
    let cargo = std::env::var_os("CARGO").expect("cargo says which one it is");
    let said = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .output()
        .expect("cargo runs");
    assert!(said.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&said.stderr));
    let said = String::from_utf8(said.stdout).expect("JSON is UTF-8");
    // The only path that ends so; a parser of JSON would be one dependency more.
    let end = said
        .match_indices("/Cargo.toml\"")
        .map(|(end, _)| end)
        .find(|&end| {
            said[..end].rsplit('/').next().is_some_and(|name| name.starts_with("crossbeam-channel-"))
        })
        .expect("crossbeam-channel is a dependency");
    let start = said[..end].rfind('"').expect("a string begins") + 1;
    let tests = Path::new(&said[start..end]).join("tests");
    let mut files: Vec<_> = tests
        .read_dir()
        .expect("its tests are published")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let mut modules = String::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "rs")) {
        let name = file.file_stem().expect("a name").to_str().expect("a name of ASCII");
        writeln!(modules, "#[path = {file:?}]\nmod {name};").expect("a string takes all");
    }
    let out = std::env::var_os("OUT_DIR").expect("cargo says where to");
    std::fs::write(Path::new(&out).join("suite.rs"), modules).expect("cargo's directory can be written");
}
