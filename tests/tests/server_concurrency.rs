//! Thousands of slow requests on one OS thread: what the server is for. In a process of its own, because the client
//! needs thousands of descriptors.

use std::time::{Duration, Instant};

use greenserve_tests::{Client, PATIENCE, ServerProcess, eventually, raise_open_files_limit, request};

const CLIENTS: usize = 2000;

#[test]
fn two_thousand_sleeping_requests_are_all_in_flight_at_once_on_one_thread() {
    let limit = raise_open_files_limit();
    assert!(limit > CLIENTS as u64 + 100, "this test needs {CLIENTS} descriptors, the hard limit is {limit}");
    let server = ServerProcess::start(["demo", "--worker-connections", "2500", "--keep-alive", "600"]);
    let threads_when_idle = server.proc().threads();
    let idle = server.proc().open_files();

    let start = Instant::now();
    assert_eq!(server.get("/sleep?ms=1000").status, 200);
    let one_request = start.elapsed();

    // all at once: not one answer has come when the last request has been taken up
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/sleep?ms=10000", &[], b""));
    }
    eventually(PATIENCE, || server.proc().open_files() >= idle + CLIENTS);
    clients[0].expect_silence(Duration::from_millis(1));
    assert!(server.proc().threads() <= threads_when_idle + 2, "{} threads", server.proc().threads());
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }

    // and together they take little more than one of them: certainly not a twentieth of one after the other
    let start = Instant::now();
    for client in &mut clients {
        client.send(request("GET", "/sleep?ms=1000", &[], b""));
    }
    for client in &mut clients {
        let response = client.response();
        assert!(response.status == 200 && response.from_app());
    }
    let all_requests = start.elapsed();
    assert!(
        all_requests < one_request * (CLIENTS as u32) / 100,
        "{CLIENTS} requests took {all_requests:?}, one took {one_request:?}"
    );

    let mut by_thread = server.proc().cpu_time_by_thread();
    by_thread.sort();
    let busiest = by_thread.pop().unwrap_or_default();
    let others: Duration = by_thread.iter().sum();
    assert!(busiest >= others * 4, "one thread does the work: {busiest:?} against {others:?} of all others");
}
