//! The record of what a request takes, kept in the repository: written, read and compared with.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::counts::Counts;

/// What is in `benches/instructions.toml`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// The compiler it was made with, which alone can change the figures.
    pub rustc: String,
    /// Share by which a figure may be larger than recorded.
    pub tolerance: f64,
    servers: BTreeMap<String, BTreeMap<String, f64>>,
}

/// One figure compared with the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which figure.
    pub name: String,
    /// What was recorded.
    pub recorded: f64,
    /// What was counted.
    pub counted: f64,
    /// It is more than recorded, beyond the tolerance.
    pub worse: bool,
    /// It is less, beyond the tolerance: worth recording.
    pub better: bool,
}

const TOLERANCE: f64 = 0.03;
/// Less than this is no difference: how many requests share a wait depends on the clock.
const LEAST: f64 = 0.25;

impl Record {
    /// Of what was counted.
    pub fn new(counted: &[(String, Counts)], rustc: String) -> Record {
        let servers = counted.iter().map(|(name, counts)| (name.clone(), figures(counts))).collect();
        Record { rustc, tolerance: TOLERANCE, servers }
    }

    /// Compares what was counted with what is recorded of that server. Nothing recorded: nothing to say.
    pub fn check(&self, server: &str, counts: &Counts) -> Vec<Difference> {
        let Some(recorded) = self.servers.get(server) else { return Vec::new() };
        let counted = figures(counts);
        recorded
            .iter()
            .filter_map(|(name, &recorded)| {
                let counted = *counted.get(name)?;
                let margin = (recorded * self.tolerance).max(LEAST);
                Some(Difference {
                    name: name.clone(),
                    recorded,
                    counted,
                    worse: counted > recorded + margin,
                    better: counted < recorded - margin,
                })
            })
            .collect()
    }
}

fn figures(counts: &Counts) -> BTreeMap<String, f64> {
    BTreeMap::from([
        ("instructions".to_owned(), counts.instructions),
        ("allocations".to_owned(), counts.allocations),
        ("system_calls".to_owned(), counts.all_system_calls()),
    ])
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# What a keep-alive request to /plaintext takes. Made by:\n\
             #   cargo run --release -p greenserve-benches --bin instructions -- --record\n\
             # and checked by the same without --record: more than `tolerance` above is a regression.\n\
             rustc = \"{}\"\ntolerance = {}",
            self.rustc, self.tolerance
        )?;
        for (server, figures) in &self.servers {
            writeln!(f, "\n[{server}]")?;
            for (name, figure) in figures {
                writeln!(f, "{name} = {figure:.2}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Record {
    /// The line that is not understood.
    type Err = String;

    fn from_str(text: &str) -> Result<Record, String> {
        let mut record = Record::default();
        let mut server = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                server = Some(record.servers.entry(name.to_owned()).or_default());
                continue;
            }
            let (name, value) = line.split_once(" = ").ok_or(line)?;
            match (name, &mut server) {
                ("rustc", None) => record.rustc = value.trim_matches('"').to_owned(),
                ("tolerance", None) => record.tolerance = value.parse().map_err(|_| line)?,
                (_, Some(server)) => {
                    server.insert(name.to_owned(), value.parse().map_err(|_| line)?);
                }
                _ => return Err(line.to_owned()),
            }
        }
        Ok(record)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.worse, self.better) {
            (true, _) => "WORSE than recorded",
            (_, true) => "better than recorded: --record it",
            _ => "as recorded",
        };
        write!(f, "{} {:.2}, recorded {:.2}: {verdict}", self.name, self.counted, self.recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: f64, calls: f64) -> Counts {
        Counts { instructions, allocations: 3.0, system_calls: BTreeMap::from([("read".into(), calls)]) }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record::new(&[("greenserve".into(), counts(4000.0, 2.25))], "rustc 1.88".into());
        assert_eq!(record.to_string().parse(), Ok(record));
        assert_eq!("tolerance = x".parse::<Record>(), Err("tolerance = x".into()));
    }

    #[test]
    fn only_what_leaves_the_tolerance_is_worse_or_better() {
        let record = Record::new(&[("greenserve".into(), counts(4000.0, 2.0))], String::new());
        let judged = |instructions, calls| {
            let verdicts = record.check("greenserve", &counts(instructions, calls));
            let of = |name: &str| {
                verdicts.iter().find(|it| it.name == name).map(|it| (it.worse, it.better)).unwrap()
            };
            (of("instructions"), of("system_calls"))
        };
        assert_eq!(judged(4119.0, 2.24), ((false, false), (false, false)));
        assert_eq!(judged(4121.0, 2.3), ((true, false), (true, false)));
        assert_eq!(judged(3800.0, 1.7), ((false, true), (false, true)));
        assert!(record.check("hyper", &counts(1.0, 1.0)).is_empty());
    }
}
