//! The document in the repository: parts that programs write, between what people write.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use super::recorded::Mark;

/// The document; a heading alone if there is none yet.
///
/// # Errors
///
/// If it is there and can't be read.
pub fn read_document(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok("# Results\n".to_owned()),
        Err(error) => Err(io::Error::new(error.kind(), format!("can't read {}: {error}", path.display()))),
        Ok(document) => Ok(document),
    }
}

/// Puts `part` between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->` of a document, at its end if they aren't
/// there. All else in it stays.
pub fn splice(document: &str, name: &str, part: &str) -> String {
    let (begin, end) = (begin(name), end(name));
    let (before, after) = match document.split_once(&begin) {
        Some((before, rest)) => (before.to_owned(), rest.split_once(&end).map_or("", |(_, after)| after)),
        None if document.is_empty() => (String::new(), ""),
        None => (format!("{}\n\n", document.trim_end()), ""),
    };
    format!("{before}{begin}{}\n{end}{after}", part.trim_end())
}

/// Sees to it that the part `NAME-why` of a document has a place for each mark that is not met, to tell by hand where the
/// time goes. What is told already stays, word by word, also of marks that are met by now; places where nothing is told
/// go when their mark is met.
pub fn explain(document: &str, name: &str, marks: &[Mark]) -> String {
    let name = format!("{name}-why");
    let mut told = sections(part(document, &name));
    let mut text = String::from(
        "### Where the time goes\n\nBy hand, for each mark that is not met; runs keep what is told here.\n",
    );
    let mut section = |title: &str, words: &str| {
        text.push_str(&format!("\n{HEADING}{title}\n\n{words}\n"));
    };
    for mark in marks.iter().filter(|mark| mark.met == Some(false)) {
        let place = told.iter().position(|(title, _)| *title == mark.title);
        let words = place.map(|place| told.remove(place).1);
        section(&mark.title, words.as_deref().unwrap_or(NOTHING));
    }
    told.iter().for_each(|(title, words)| section(title, words));
    splice(document, &name, &text)
}

/// What is told by hand, by the title of the mark.
pub fn explanations(document: &str) -> BTreeMap<String, String> {
    let parts = ["marks-why", "runtime-why"];
    parts.iter().flat_map(|name| sections(part(document, name))).collect()
}

const HEADING: &str = "#### ";
/// Stands where nothing is told.
const NOTHING: &str = "Nothing is told yet.";

fn begin(name: &str) -> String {
    format!("<!-- {name}: begin -->\n")
}

fn end(name: &str) -> String {
    format!("<!-- {name}: end -->\n")
}

fn part<'a>(document: &'a str, name: &str) -> &'a str {
    let rest = document.split_once(&begin(name)).map_or("", |(_, rest)| rest);
    rest.split_once(&end(name)).map_or(rest, |(part, _)| part)
}

/// Titles and what is told beneath them; those with nothing are left out.
fn sections(part: &str) -> Vec<(String, String)> {
    let mut sections: Vec<(String, String)> = Vec::new();
    for line in part.lines() {
        match (line.strip_prefix(HEADING), sections.last_mut()) {
            (Some(title), _) => sections.push((title.trim().to_owned(), String::new())),
            (None, Some((_, words))) => words.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    for (_, words) in &mut sections {
        *words = words.trim().to_owned();
    }
    sections.retain(|(_, words)| !words.is_empty() && words != NOTHING);
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(title: &str, met: Option<bool>) -> Mark {
        Mark { title: title.into(), figure: "1".into(), mark: "at most 2".into(), met }
    }

    #[test]
    fn a_part_is_replaced_and_the_rest_stays() {
        let first = splice("# Results\n\nBy hand.\n", "marks", "one\n");
        assert_eq!(first, "# Results\n\nBy hand.\n\n<!-- marks: begin -->\none\n<!-- marks: end -->\n");
        let more = first.clone() + "More by hand.\n";
        assert_eq!(splice(&more, "marks", "two"), more.replace("one", "two"));
    }

    #[test]
    fn each_mark_that_is_not_met_has_a_place_to_say_why() {
        let marks = [mark("slow", Some(false)), mark("good", Some(true)), mark("unknown", None)];
        let document = explain("# Results\n", "marks", &marks);
        assert!(document.contains("#### slow\n\nNothing is told yet.\n"), "{document}");
        assert!(!document.contains("good") && !document.contains("unknown"), "{document}");
        assert!(explanations(&document).is_empty());
    }

    #[test]
    fn what_is_told_by_hand_stays_for_ever_and_empty_places_do_not() {
        let bad = [mark("one", Some(false)), mark("two", Some(false))];
        let document = explain("# Results\n\nBy hand.\n", "marks", &bad);
        let told = document.replacen(NOTHING, "In the kernel.\n\n- all of it", 1) + "After.\n";
        assert_eq!(explain(&told, "marks", &bad), told);
        let good = [mark("one", Some(true)), mark("two", Some(true))];
        let kept = explain(&told, "marks", &good);
        assert!(
            kept.contains("#### one\n\nIn the kernel.\n\n- all of it\n") && !kept.contains("two"),
            "{kept}"
        );
        assert!(kept.starts_with("# Results\n\nBy hand.\n") && kept.ends_with("After.\n"), "{kept}");
        assert_eq!(explanations(&kept)["one"], "In the kernel.\n\n- all of it");
    }
}
