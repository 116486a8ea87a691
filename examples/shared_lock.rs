//! A lock for all workers: four processes with twenty green threads each, which take turns at a balance that they all change.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin shared_lock
//! ```
//!
//! With a server the lock is made in the master before it forks, and `pre_request` puts it into each request, or the handler just
//! refers to it. Here the program forks its workers itself; one of them is killed while it holds the lock, and the others go on.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use greenlet::process::{ChildHandle, Fork, fork};
use greenlet::shm;

const WORKERS: usize = 4;
const GREENLETS: usize = 20;
const ROUNDS: usize = 10;

/// What the lock protects: two accounts, of which the sum stays the same.
type Accounts = shm::Mutex<[i64; 2]>;

/// Moves one from the first account to the second, in two steps, between which others run, but nobody else gets at them.
fn transfer(accounts: &Accounts) -> io::Result<()> {
    let mut accounts = match accounts.lock() {
        Ok(accounts) => accounts,
        Err(shm::LockError::OwnerDied(died)) => {
            let mut accounts = died.recover();
            println!("its owner died with {} in the accounts: put right", accounts.iter().sum::<i64>());
            accounts[1] += 1;
            accounts
        }
        Err(shm::LockError::Failed(error)) => return Err(error),
    };
    accounts[0] -= 1;
    greenlet::yield_now();
    accounts[1] += 1;
    Ok(())
}

fn work(accounts: &Rc<Accounts>, done: &Rc<shm::Counter>) -> io::Result<()> {
    let jobs = [(); GREENLETS].map(|()| {
        let (accounts, done) = (Rc::clone(accounts), Rc::clone(done));
        greenlet::spawn(move || {
            (0..ROUNDS).try_for_each(|_| {
                transfer(&accounts)?; // parks while another green thread or process has them
                done.add(1);
                io::Result::Ok(())
            })
        })
    });
    jobs.into_iter().try_for_each(|job| job.join().map_err(io::Error::other)?)
}

/// Takes the lock, gets halfway, and waits to be killed.
fn unlucky(accounts: &Accounts, ready: &shm::Counter) -> io::Result<()> {
    let mut accounts = accounts.lock()?;
    accounts[0] -= 1;
    ready.add(1);
    greenlet::sleep(Duration::from_secs(3600));
    Ok(())
}

fn worker(body: impl FnOnce() -> io::Result<()>) -> io::Result<ChildHandle> {
    // SAFETY: this program has no other thread than the one that listens for the other processes, which shares nothing with the child.
    match unsafe { fork() }? {
        Fork::Parent(worker) => Ok(worker),
        Fork::Child => std::process::exit(i32::from(body().is_err())),
    }
}

fn main() -> io::Result<()> {
    let accounts = Rc::new(Accounts::new([1000, 0])?);
    let (done, ready) = (Rc::new(shm::Counter::new()?), shm::Counter::new()?);

    let doomed = worker(|| unlucky(&accounts, &ready))?;
    while ready.get() == 0 {
        greenlet::sleep(Duration::from_millis(1));
    }
    let workers: Vec<_> =
        (0..WORKERS).map(|_| worker(|| work(&accounts, &done))).collect::<Result<_, _>>()?;
    doomed.kill()?;
    doomed.wait()?;
    shm::recover(doomed.id()); // they would find out by themselves, 20 ms later

    for worker in &workers {
        assert!(worker.wait()?.success());
    }
    let accounts = accounts.lock()?;
    println!("{} transfers: {} and {}", done.get(), accounts[0], accounts[1]);
    Ok(())
}
