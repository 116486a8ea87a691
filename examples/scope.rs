//! Green threads that borrow from the one who started them: no Rc, no clone, no 'static.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin scope
//! ```

use std::cell::RefCell;
use std::time::Duration;

const TEXT: &str = "the quick brown fox
jumps over the lazy dog
and the dog sleeps on";

fn main() {
    let text = TEXT.to_owned();
    // All of a scope's green threads run on this thread, one at a time, so a RefCell is lock enough. Just do not hold
    // a borrow of it across a call that waits.
    let seen = RefCell::new(Vec::new());
    let mut counts = vec![0; text.lines().count()];

    greenlet::scope(|s| {
        for ((n, line), count) in text.lines().enumerate().zip(&mut counts) {
            let seen = &seen;
            s.spawn(move || {
                for word in line.split_whitespace() {
                    // stands for something slow, such as asking a dictionary over the network
                    greenlet::sleep(Duration::from_millis(2));
                    seen.borrow_mut().push((n, word));
                    *count += 1;
                }
            });
        }
    }); // returns when all have ended: what they borrowed is free again

    for (n, word) in seen.borrow().iter() {
        println!("line {n}: {word}");
    }
    println!("words a line: {counts:?}");
    assert_eq!(counts, [4, 5, 5]);

    // When the one who holds the scope is stopped, those in it are stopped first: they never outlive what they borrow.
    let late = greenlet::timeout(Duration::from_millis(10), || {
        greenlet::scope(|s| {
            s.spawn(|| greenlet::sleep(Duration::from_secs(3600)));
        });
    });
    println!("a scope that takes an hour, given ten milliseconds: {}", late.unwrap_err());
}
