//! Names are resolved off the hub, many at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenlet::net::{Resolver, TcpListener, TcpStream, resolve, set_resolver};
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
            "panics.test" => panic!("a resolver that panics"),
            _ => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
        }
    }
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
