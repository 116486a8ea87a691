//! Random programs of greenlets against a simple model. Each follows from a seed, order and time included, so that one
//! that has failed fails again: `GREENLET_SEED=7 cargo test -p greenserve-tests --test runtime_random`.
//! `RANDOM_PROGRAMS=100000` makes it run so many, from the seed 0 on.
//!
//! The model says what must hold in whatever order things happen: how long a wait lasts (virtual time is exact), who may
//! hold a permit, which value comes out of a queue, how a greenlet may have ended, and that nothing is left at the end.

mod actor;
mod world;

use std::rc::Rc;
use std::time::Duration;

use greenlet::sleep;
use greenlet::testing::{self, Sim};

use world::World;

#[test]
fn random_programs_do_what_the_model_says_and_leave_nothing_behind() {
    let programs = match std::env::var("RANDOM_PROGRAMS") {
        Ok(text) => text.parse().expect("RANDOM_PROGRAMS is a number"),
        Err(_) => 5000,
    };
    // Both ends of every socket are in the run: what is not there at once does not come.
    Sim::new().settle(Duration::ZERO).each_seed(0..programs, program);
}

#[test]
fn the_same_seed_makes_the_same_program_and_runs_it_the_same_way() {
    let trace = |seed| {
        Sim::new().seed(seed).settle(Duration::ZERO).run(|| {
            program();
            testing::trace()
        })
    };
    for seed in 0..20 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
    }
}

fn program() {
    let world = Rc::new(World::new());
    for _ in 0..2 + below(8) {
        world.spawn_actor(0);
    }
    sleep(some_time());
    world.finale.set();
    // More come while these are waited for.
    let mut next = 0;
    while let Some(actor) = world.actor(next) {
        actor.greenlet.wait(None).expect("every wait of an actor comes to an end");
        actor.check_end();
        next += 1;
    }
    world.pool.join(None).expect("what is in the pool comes to an end");
    // Whoever else there is has a limit. Right after the last of them nothing is left: a timer, for instance, that
    // nobody waits for would fire soon and be gone.
    for _ in 0..1000 {
        if greenlet::stats().greenlets == 0 {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    world.check_rest();
}

/// A number below `n`.
fn below(n: u64) -> u64 {
    testing::random() % n
}

fn one_in(n: u64) -> bool {
    below(n) == 0
}

/// Few different ones, so that things happen at the same moment.
fn some_time() -> Duration {
    Duration::from_millis(10 * below(8))
}
