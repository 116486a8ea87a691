//! More and more greenlets parked at once, until a runtime can have no more.

use std::time::Duration;

use super::program::{Failure, Figures, Program};
use crate::report::{Broken, Growth, Spread, Stage};

/// Numbers of greenlets on the way to the most that are asked for.
const STAGES: &[usize] = &[1_000, 5_000, 10_000, 50_000, 100_000, 500_000];

/// Parks more and more greenlets, below `most`, in each program; once for each number. One that fails is asked no further.
/// The programs come out in the order in which they are given; a runtime that parks nothing, or isn't there, has no stage and
/// is not broken.
pub fn growth(programs: &mut [Program], most: usize, limit: Duration) -> Vec<Growth> {
    let mut all: Vec<Growth> = programs.iter().map(|_| Growth::default()).collect();
    for &count in STAGES.iter().filter(|&&count| count < most) {
        for (program, growth) in programs.iter_mut().zip(&mut all) {
            if growth.broken.is_none() {
                let outcome = program.run(BENCH, count, limit);
                add(growth, count, outcome);
            }
        }
    }
    for (program, growth) in programs.iter().zip(&mut all) {
        (growth.runtime, growth.ours) = (program.name.clone(), program.ours);
    }
    all
}

/// Adds the medians of several runs with one number of greenlets.
pub fn add_runs(growth: &mut Growth, count: usize, runs: &Result<Vec<Figures>, Failure>) {
    let medians = |runs: &Vec<Figures>| {
        let names = runs.first().map(|figures| figures.keys().cloned()).into_iter().flatten();
        let median = |name: String| {
            let spread = Spread::of(runs.iter().filter_map(|figures| figures.get(&name).copied()))?;
            Some((name, spread.median))
        };
        names.filter_map(median).collect()
    };
    add(growth, count, runs.as_ref().map(medians).map_err(Clone::clone));
}

fn add(growth: &mut Growth, count: usize, outcome: Result<Figures, Failure>) {
    let figures = match outcome {
        Ok(figures) => figures,
        Err(Failure::NotInstalled(_) | Failure::NoSuchBenchmark) => return,
        Err(failure) => {
            let why = match failure {
                Failure::Failed(why) => why,
                other => other.to_string(),
            };
            growth.broken.get_or_insert(Broken { count, why });
            return;
        }
    };
    if let (Some(&seconds), Some(&bytes)) = (figures.get("seconds"), figures.get("bytes")) {
        growth.stages.push(Stage { count, seconds, bytes });
    }
}

/// The name of the benchmark that parks.
pub const BENCH: &str = "parked";

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(seconds: f64) -> Figures {
        Figures::from([("seconds".to_owned(), seconds), ("bytes".to_owned(), 4000.0)])
    }

    #[test]
    fn a_runtime_grows_until_it_fails() {
        let mut growth = Growth::default();
        add(&mut growth, 1_000, Ok(figures(0.1)));
        add(&mut growth, 5_000, Err(Failure::Failed("no stack".into())));
        add(&mut growth, 10_000, Err(Failure::Failed("again".into())));
        assert_eq!(growth.stages, [Stage { count: 1_000, seconds: 0.1, bytes: 4000.0 }]);
        assert_eq!(growth.broken, Some(Broken { count: 5_000, why: "no stack".into() }));
    }

    #[test]
    fn several_runs_are_one_stage() {
        let mut growth = Growth::default();
        add_runs(&mut growth, 1_000, &Ok([0.1, 0.9, 0.2].map(figures).into()));
        assert_eq!(growth.stages, [Stage { count: 1_000, seconds: 0.2, bytes: 4000.0 }]);
        add_runs(&mut growth, 5_000, &Err(Failure::TookTooLong(Duration::from_secs(9))));
        assert_eq!(growth.broken.unwrap().why, "not done after 9 s");
    }

    #[test]
    fn who_parks_nothing_has_not_failed() {
        for failure in [Failure::NoSuchBenchmark, Failure::NotInstalled("no compiler".into())] {
            let mut growth = Growth::default();
            add(&mut growth, 1_000, Err(failure));
            assert_eq!(growth, Growth::default());
        }
    }
}
