//! Looks several names up at once: the slowest one sets the pace, not their sum.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin resolve -- localhost:80 example.org:443
//! ```

use std::env;
use std::time::Duration;

fn main() {
    let mut names: Vec<String> = env::args().skip(1).collect();
    if names.is_empty() {
        names = ["localhost:80", "127.0.0.1:443", "[::1]:8000"].map(String::from).into();
    }

    // No run(), no runtime object. spawn() makes a green thread, which starts when this one first waits for something.
    let jobs: Vec<_> =
        names.iter().cloned().map(|name| greenlet::spawn(move || greenlet::net::resolve(name))).collect();

    // Here main waits, and while it does it runs the others. Whoever is late is left behind.
    let in_time = greenlet::join_all(&jobs, Duration::from_secs(2));

    for (name, job) in names.iter().zip(&jobs) {
        match job.value().as_deref() {
            Some(Ok(addresses)) => println!("{name} = {addresses:?}"),
            Some(Err(error)) => println!("{name}: {error}"),
            None => println!("{name}: no answer in time"),
        }
    }
    if let Err(error) = in_time {
        println!("gave up: {error}");
    }
}
