//! Names are resolved off the hub, many at once.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use greenlet::net::{
    Resolver, SystemResolver, TcpListener, TcpStream, resolve, resolve_timeout, reverse, reverse_timeout,
    set_resolver,
};
use greenlet::{join_all, spawn, timeout};
use greenserve_tests::in_time;

use crate::SHORT;

/// How long a look-up of `slow…` takes.
const SLOW: Duration = Duration::from_millis(200);

static AT_WORK: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct TestResolver;

impl Resolver for TestResolver {
    fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        MOST.fetch_max(AT_WORK.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        if host.starts_with("slow") {
            std::thread::sleep(SLOW);
        }
        AT_WORK.fetch_sub(1, Ordering::SeqCst);
        match host {
            "nowhere.test" => Err(io::Error::new(io::ErrorKind::NotFound, "no such host: nowhere.test")),
            "two.test" => Ok(vec![Ipv4Addr::new(127, 0, 0, 2).into(), Ipv4Addr::LOCALHOST.into()]),
            name if name.contains("counted") => {
                *COUNTS.lock().unwrap().entry(name.to_owned()).or_default() += 1;
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            }
            "panics.test" | "slow-panics.test" => panic!("a resolver that panics"),
            _ => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
        }
    }

    fn reverse(&self, address: IpAddr) -> io::Result<String> {
        std::thread::sleep(SLOW);
        Ok(format!("host-of-{address}.test"))
    }
}

/// How often `…counted…` names were looked up.
static COUNTS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

fn count(name: &str) -> usize {
    COUNTS.lock().unwrap().get(name).copied().unwrap_or(0)
}

/// The resolver is the process's, so all tests here share this one.
fn with_test_resolver(f: impl FnOnce() + Send + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| set_resolver(TestResolver));
    in_time(f);
}

#[test]
fn ten_slow_look_ups_take_the_time_of_one_and_others_run_meanwhile() {
    with_test_resolver(|| {
        let start = Instant::now();
        let jobs: Vec<_> = (0..10).map(|n| spawn(move || resolve(format!("slow-{n}.test:80")))).collect();
        let ticks = spawn(|| (0..5).map(|_| greenlet::sleep(SHORT)).count());
        ticks.join().unwrap();
        assert!(jobs.iter().all(|job| !job.is_dead()), "the hub goes on while names are looked up");
        join_all(&jobs, None).unwrap();
        assert!(
            start.elapsed() < SLOW * 9,
            "one after the other would take ten times as long: {:?}",
            start.elapsed()
        );
        assert!(MOST.load(Ordering::SeqCst) >= 2);
        for job in jobs {
            assert_eq!(job.join().unwrap().unwrap(), [(Ipv4Addr::LOCALHOST, 80).into()]);
        }
    });
}

#[test]
fn sockets_take_names_and_try_all_their_addresses() {
    with_test_resolver(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // nobody listens at the first address of two.test
        let client =
            spawn(move || TcpStream::connect(("two.test", port)).map(|stream| stream.peer_addr().unwrap()));
        listener.accept().unwrap();
        assert_eq!(client.join().unwrap().unwrap(), (Ipv4Addr::LOCALHOST, port).into());
    });
}

#[test]
fn a_failed_look_up_is_an_error_that_says_why() {
    with_test_resolver(|| {
        let error = resolve("nowhere.test:80").unwrap_err();
        assert!(error.to_string().contains("nowhere.test"), "{error}");
        assert!(TcpStream::connect("nowhere.test:80").is_err());
        assert_eq!(resolve("no port").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_look_up_can_be_given_up() {
    with_test_resolver(|| {
        assert!(timeout(SHORT, || resolve("slow.test:80")).is_err());
        let job = spawn(|| resolve("slow.test:80"));
        greenlet::yield_now();
        job.kill().unwrap();
        assert!(resolve("quick.test:80").is_ok());
    });
}

#[test]
fn a_resolver_that_panics_panics_where_it_was_called() {
    with_test_resolver(|| {
        let caught = greenlet::catch_panic(|| resolve("panics.test:80"));
        assert_eq!(caught.unwrap_err().message(), "a resolver that panics");
        assert!(resolve("quick.test:80").is_ok());
    });
}

#[test]
fn those_who_ask_for_the_same_name_at_once_share_one_look_up() {
    with_test_resolver(|| {
        let name = "slow-counted-shared.test";
        let elsewhere = std::thread::spawn(move || resolve((name, 3)).map(|found| found.len()));
        let jobs: Vec<_> = (1..=10).map(|port| spawn(move || resolve((name, port)))).collect();
        join_all(&jobs, None).unwrap();
        for (job, port) in jobs.iter().zip(1..) {
            assert_eq!(job.join().unwrap().unwrap(), [(Ipv4Addr::LOCALHOST, port).into()]);
        }
        assert_eq!(elsewhere.join().unwrap().unwrap(), 1);
        assert!(count(name) <= 2, "the other thread may have been late: {}", count(name));
        // nothing is cached
        let before = count(name);
        resolve((name, 1)).unwrap();
        assert_eq!(count(name), before + 1);
    });
}

#[test]
fn who_shares_a_look_up_shares_its_error_and_its_panic() {
    with_test_resolver(|| {
        let jobs: Vec<_> =
            (0..3).map(|_| spawn(|| greenlet::catch_panic(|| resolve("slow-panics.test:80")))).collect();
        for job in jobs {
            assert_eq!(job.join().unwrap().unwrap_err().message(), "a resolver that panics");
        }
        let jobs: Vec<_> = (0..3).map(|_| spawn(|| resolve("nowhere.test:80"))).collect();
        for job in jobs {
            let error = job.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound);
            assert!(error.to_string().contains("cannot resolve 'nowhere.test'"), "{error}");
        }
    });
}

#[test]
fn the_first_to_ask_may_be_killed_and_the_others_get_their_answer() {
    with_test_resolver(|| {
        let name = "slow-counted-killed.test";
        let ask = || spawn(move || resolve((name, 80)));
        let (first, second, third) = (ask(), ask(), ask());
        greenlet::yield_now();
        first.kill().unwrap();
        third.kill().unwrap();
        assert_eq!(second.join().unwrap().unwrap().len(), 1);
        assert_eq!(count(name), 1);
    });
}

#[test]
fn a_look_up_that_nobody_waits_for_any_more_is_not_begun() {
    with_test_resolver(|| {
        // enough to fill the 32 threads twice over
        let jobs: Vec<_> =
            (0..64).map(|n| spawn(move || resolve(format!("slow-full-{n}.test:80")))).collect();
        let given_up = spawn(|| resolve("counted-given-up.test:80"));
        greenlet::yield_now();
        given_up.kill().unwrap();
        join_all(&jobs, None).unwrap();
        resolve("counted-after.test:80").unwrap();
        assert_eq!((count("counted-given-up.test"), count("counted-after.test")), (0, 1));
        // and it can be asked for again
        resolve("counted-given-up.test:80").unwrap();
        assert_eq!(count("counted-given-up.test"), 1);
    });
}

#[test]
fn the_systems_resolver_knows_this_machine_both_ways() {
    // on a thread of its own, as it is used
    let addresses = SystemResolver.resolve("localhost").unwrap();
    assert!(addresses.iter().all(IpAddr::is_loopback) && !addresses.is_empty(), "{addresses:?}");
    assert!(!SystemResolver.reverse(Ipv4Addr::LOCALHOST.into()).unwrap().is_empty());
}

#[test]
fn addresses_have_names_and_both_look_ups_have_a_deadline() {
    with_test_resolver(|| {
        let jobs: Vec<_> = (0..3).map(|_| spawn(|| reverse([10, 0, 0, 1]))).collect();
        for job in jobs {
            assert_eq!(job.join().unwrap().unwrap(), "host-of-10.0.0.1.test");
        }
        let error = reverse_timeout([10, 0, 0, 2], SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = resolve_timeout("slow-2.test:80", SHORT).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(resolve_timeout("quick.test:80", SLOW * 50).unwrap().len(), 1);
    });
}
