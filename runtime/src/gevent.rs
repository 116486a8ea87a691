#![doc = include_str!("../docs/gevent.md")]
#![doc = ""]
#![doc = "This module holds nothing but this page."]

#[cfg(test)]
mod tests {
    const PAGE: &str = include_str!("../docs/gevent.md");

    /// The rows of the tables, without their heads.
    fn rows() -> Vec<Vec<&'static str>> {
        let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        rows.map(|row| row.split(" | ").collect()).filter(|cells: &Vec<_>| cells[0] != "gevent").collect()
    }

    #[test]
    fn every_row_has_three_cells_and_none_is_empty() {
        assert!(rows().len() > 200, "{} rows", rows().len());
        for row in rows() {
            assert_eq!(row.len(), 3, "{row:?}");
            assert!(row.iter().all(|cell| !cell.trim().is_empty()), "{row:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_explained() {
        for row in rows().iter().filter(|row| row[1].contains("none")) {
            assert_ne!(row[2], "The same.", "{row:?}");
        }
    }

    #[test]
    fn every_module_of_gevent_has_its_place() {
        let modules = "Greenlet Timeout pool threadpool queue event lock local contextvars socket ssl select selectors server \
                       baseserver pywsgi subprocess os signal fileobject resolver backdoor monkey util events config hub core \
                       libev libuv exceptions time thread threading";
        for module in modules.split_whitespace() {
            let heading = PAGE
                .lines()
                .any(|line| line.starts_with("# ") && line.contains(&format!("`gevent.{module}`")));
            assert!(heading, "gevent.{module}");
        }
    }
}
