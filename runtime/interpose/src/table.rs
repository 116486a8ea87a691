#![doc = include_str!("../docs/calls.md")]
#![doc = ""]
#![doc = "This module holds nothing but this page."]

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Call;

    const PAGE: &str = include_str!("../docs/calls.md");

    /// The rows of the tables, without their heads.
    fn rows() -> Vec<Vec<&'static str>> {
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        rows.map(|row| row.split(" | ").collect()).filter(|cells: &Vec<_>| cells[0] != "call").collect()
    }

    #[test]
    fn each_call_has_one_row_in_the_order_in_which_they_are_declared() {
        let expected: Vec<_> = Call::ALL.iter().map(|call| format!("`{}`", call.name())).collect();
        let found: Vec<_> = rows().iter().map(|row| row[0]).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_row_has_six_cells_and_none_is_empty() {
        for row in rows() {
            assert_eq!(row.len(), 6, "{row:?}");
            assert!(row.iter().all(|cell| !cell.trim().is_empty()), "{row:?}");
            assert!(row[2].contains(row[0]) || row[0] == "`futex`", "C reaches it by its name: {row:?}");
        }
    }

    #[test]
    fn each_row_names_tests_that_exist() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/tests/interpose");
        for row in rows() {
            for test in row[5].split(", ") {
                let (file, name) = test.trim_matches('`').split_once("::").expect("file::test");
                let path = match file {
                    "python" => tests.join("../interpose_python/main.rs"),
                    _ => tests.join(file).with_extension("rs"),
                };
                let source = std::fs::read_to_string(path);
                let source = source.unwrap_or_else(|error| panic!("{test}: {error}"));
                assert!(source.contains(&format!("#[test]\nfn {name}()")), "{test} is no test");
            }
        }
    }
}
