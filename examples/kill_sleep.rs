//! A green thread that sleeps for four seconds and is killed long before.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin kill_sleep
//! ```

use std::time::{Duration, Instant};

use greenlet::{Greenlet, JoinError, sleep, spawn};

/// Something that must be put in order in any case.
struct Resource(&'static str);

impl Drop for Resource {
    fn drop(&mut self) {
        println!("  {} is given back", self.0);
    }
}

fn main() {
    let start = Instant::now();

    // the shortest of all: made, started, killed before its first turn
    let g = Greenlet::new(|| sleep(Duration::from_secs(4)));
    g.start();
    g.kill().expect("nobody keeps main from waiting");
    println!("dead: {}", g.is_dead());

    println!("one that sleeps:");
    let sleeper = spawn(|| {
        let _resource = Resource("what the sleeper holds");
        sleep(Duration::from_secs(4));
        println!("this line is never reached");
    });
    sleep(Duration::from_millis(100));
    // The sleep() it is in unwinds: destructors run, nothing behind it does. kill() waits until that is done.
    sleeper.kill().expect("nobody keeps main from waiting");
    assert!(sleeper.is_dead());
    assert!(matches!(sleeper.join(), Err(JoinError::Killed)));

    println!("one that has not started yet:");
    let idle = spawn({
        let resource = Resource("what it was given");
        move || {
            let _resource = resource;
            println!("this line is never reached either");
        }
    });
    idle.kill().expect("nobody keeps main from waiting");

    println!("one that catches panics, as a server does for each request:");
    let server = spawn(|| {
        loop {
            // catch_panic() lets a kill pass; std's catch_unwind() would swallow it, and the loop would go on
            let result = greenlet::catch_panic(|| {
                let _resource = Resource("the request");
                sleep(Duration::from_secs(4));
            });
            println!("this line would be reached only after four seconds: {result:?}");
        }
    });
    sleep(Duration::from_millis(100));
    server.kill().expect("nobody keeps main from waiting");

    println!("all in {:.1} s instead of 4", start.elapsed().as_secs_f64());
}
