//! The load generator against small servers of known behaviour, which are OS threads with std's sockets. The clients are
//! OS threads too, where it makes no difference: so a failure here is not the runtime's.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use greenserve_benches::load::{Failure, Green, Mode, Moment, Plan, Tally, Threads, run};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that calls `serve` on a new thread for each connection.
fn server(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

/// Calls `answer` with the number of the request on its connection, for each head that comes.
fn each_request(stream: TcpStream, mut answer: impl FnMut(&mut TcpStream, u64) -> std::io::Result<()>) {
    let mut writer = stream.try_clone().unwrap();
    writer.set_nodelay(true).unwrap();
    let (mut lines, mut number) = (BufReader::new(stream).lines(), 0);
    while let Some(Ok(line)) = lines.next() {
        if line.is_empty() {
            if answer(&mut writer, number).is_err() {
                return;
            }
            number += 1;
        }
    }
}

fn quick(plan: Plan) -> Plan {
    Plan {
        warmup: Duration::ZERO,
        duration: Duration::from_millis(300),
        timeout: Duration::from_secs(5),
        ..plan
    }
}

fn failures(tally: &Tally) -> Vec<&Failure> {
    tally.failures().map(|(failure, _)| failure).collect()
}

#[test]
fn closed_loop_counts_the_answers_that_the_server_gave() {
    let served = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&served);
    let address = server(move |stream| {
        each_request(stream, |out, _| {
            count.fetch_add(1, Relaxed);
            out.write_all(OK)
        })
    });
    let mut plan = quick(Plan::get(address, "/", 4));
    plan.expect.length = Some(2);
    let mut moments = Vec::new();
    let tally = run(Threads, plan, |moment| {
        moments.push(moment);
        Ok(())
    })
    .unwrap();

    assert_eq!(failures(&tally), [&Failure::Status(0); 0]);
    // those in flight at the end are answered but not counted
    assert!(tally.successes() > 0 && tally.successes() <= served.load(Relaxed));
    assert_eq!(tally.body_bytes, 2 * tally.successes());
    assert_eq!(tally.measured, Duration::from_millis(300));
    moments.retain(|moment| !matches!(moment, Moment::Measuring(_) | Moment::Connecting(_)));
    assert_eq!(moments, [Moment::Begin, Moment::End]);
}

#[test]
fn a_run_ends_after_max_requests() {
    let address = server(|stream| each_request(stream, |out, _| out.write_all(OK)));
    for mode in [Mode::Closed, Mode::Open { rate: 10_000.0 }] {
        let plan = Plan {
            max_requests: Some(50),
            duration: Duration::from_secs(20),
            mode,
            ..quick(Plan::get(address, "/", 3))
        };
        let tally = run(Threads, plan, |_| Ok(())).unwrap();
        assert_eq!((tally.successes(), tally.failed()), (50, 0), "{mode:?}");
        assert!(tally.measured < Duration::from_secs(20));
    }
}

#[test]
fn pipelined_requests_are_sent_together() {
    let address = server(|stream| {
        let mut held = Vec::new();
        each_request(stream, move |out, _| {
            held.extend_from_slice(OK);
            // answers only once four have come: would hang with one at a time
            if held.len() < 4 * OK.len() { Ok(()) } else { out.write_all(&std::mem::take(&mut held)) }
        })
    });
    let tally = run(Threads, Plan { depth: 4, ..quick(Plan::get(address, "/", 2)) }, |_| Ok(())).unwrap();
    assert!(tally.successes() >= 4);
    assert_eq!(tally.failed(), 0);
}

#[test]
fn a_connection_per_request_when_asked() {
    let connections = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&connections);
    let address = server(move |stream| {
        count.fetch_add(1, Relaxed);
        each_request(stream, |out, number| {
            assert_eq!(number, 0);
            out.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
            Err(std::io::ErrorKind::NotConnected.into())
        })
    });
    let tally = run(Threads, quick(Plan::get_closing(address, "/", 2)), |_| Ok(())).unwrap();
    assert!(tally.successes() > 0 && tally.successes() <= connections.load(Relaxed));
    assert_eq!(tally.failed(), 0);
}

#[test]
fn wrong_answers_are_failures_of_their_kind() {
    let table: &[(&[u8], Failure)] = &[
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Failure::Status(503)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Failure::Length(3)),
    ];
    for (answer, expected) in table {
        let address = server(move |stream| each_request(stream, |out, _| out.write_all(answer)));
        let mut plan = quick(Plan::get(address, "/", 1));
        plan.expect.length = Some(2);
        let tally = run(Threads, plan, |_| Ok(())).unwrap();
        assert_eq!(failures(&tally), [expected]);
        assert_eq!((tally.successes(), tally.percentiles()), (0, None));
    }
}

#[test]
fn a_connection_that_is_cut_is_a_failure_and_is_made_anew() {
    let address = server(|stream| {
        each_request(stream, |out, number| {
            if number == 0 { out.write_all(OK) } else { Err(std::io::ErrorKind::NotConnected.into()) }
        })
    });
    let tally = run(Threads, quick(Plan::get(address, "/", 1)), |_| Ok(())).unwrap();
    assert!(tally.successes() > 1);
    assert_eq!(failures(&tally), [&Failure::ClosedBefore]);
}

#[test]
fn a_server_that_never_answers_is_a_timeout_even_after_the_measured_time() {
    let address = server(|stream| each_request(stream, |_, _| Ok(())));
    let plan = Plan { timeout: Duration::from_millis(400), ..quick(Plan::get(address, "/", 2)) };
    let tally = run(Threads, plan, |_| Ok(())).unwrap();
    assert_eq!(tally.failures().collect::<Vec<_>>(), [(&Failure::TimedOut, 2)]);
}

#[test]
fn a_connection_that_is_starved_all_the_time_does_not_go_unnoticed() {
    let served = Arc::new(AtomicU64::new(0));
    let address = server(move |stream| {
        // one connection is served at once, the other one only after the end
        let first = served.fetch_add(1, Relaxed) == 0;
        each_request(stream, |out, _| {
            if !first {
                std::thread::sleep(Duration::from_millis(600));
            }
            out.write_all(OK)
        })
    });
    let plan = Plan { warmup: Duration::from_millis(50), ..quick(Plan::get(address, "/", 2)) };
    let tally = run(Threads, plan, |_| Ok(())).unwrap();
    assert!(tally.successes() > 0);
    assert_eq!(tally.failures().collect::<Vec<_>>(), [(&Failure::Starved, 1)]);
}

#[test]
fn nobody_there_is_an_error_that_names_the_address() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = run(Threads, quick(Plan::get(gone, "/", 2)), |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains(&gone.to_string()), "{error}");
}

#[test]
fn an_error_of_the_observer_ends_the_run() {
    let address = server(|stream| each_request(stream, |out, _| out.write_all(OK)));
    let plan = Plan { duration: Duration::from_secs(60), ..quick(Plan::get(address, "/", 2)) };
    let started = Instant::now();
    let error = run(Threads, plan, |moment| match moment {
        Moment::Measuring(_) => Err(std::io::Error::other("seen enough")),
        _ => Ok(()),
    });
    assert_eq!(error.unwrap_err().to_string(), "seen enough");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn open_loop_charges_a_stall_to_all_who_were_due_meanwhile() {
    const STALL: Duration = Duration::from_millis(200);
    // One stall, before the first answer. In closed loop on one connection it would be one slow answer of many.
    let stalled = Arc::new(Mutex::new(None));
    let once = Arc::clone(&stalled);
    let address = server(move |stream| {
        each_request(stream, |out, _| {
            once.lock().unwrap().get_or_insert_with(|| {
                std::thread::sleep(STALL);
                Instant::now()
            });
            out.write_all(OK)
        })
    });
    let plan = Plan {
        mode: Mode::Open { rate: 500.0 },
        duration: Duration::from_millis(400),
        ..quick(Plan::get(address, "/", 1))
    };
    let tally = run(Threads, plan, |_| Ok(())).unwrap();
    // 400 ms at 500 a second, each due one counted once, whether sent in time or late
    assert_eq!(tally.successes() + tally.failed(), 200);
    // due while it stalled: 100 of 200, spread evenly over latencies from 200 ms down to none
    let p = tally.percentiles().expect("answers");
    assert!(p.p99 >= STALL / 2, "{p:?}");
}

#[test]
fn open_loop_says_what_it_could_never_send() {
    // 50 a second is what one connection can do here; 1,000 are due
    let address = server(|stream| {
        each_request(stream, |out, _| {
            std::thread::sleep(Duration::from_millis(20));
            out.write_all(OK)
        })
    });
    let plan = Plan { mode: Mode::Open { rate: 1000.0 }, ..quick(Plan::get(address, "/", 1)) };
    let tally = run(Threads, plan, |_| Ok(())).unwrap();
    assert_eq!(failures(&tally), [&Failure::NeverSent]);
    assert_eq!(tally.successes() + tally.failed(), 300);
}

#[test]
fn green_clients_keep_all_their_connections_busy_at_once() {
    const CLIENTS: usize = 50;
    // answers only when all clients have asked: one client waiting must not keep the others from sending
    let asked = Arc::new((Mutex::new(0), Condvar::new()));
    let address = server(move |stream| {
        each_request(stream, |out, _| {
            let (count, all) = &*asked;
            let mut count = count.lock().unwrap();
            *count += 1;
            all.notify_all();
            drop(all.wait_while(count, |count| *count < CLIENTS).unwrap());
            out.write_all(OK)
        })
    });
    for mode in [Mode::Closed, Mode::Open { rate: 1000.0 }] {
        let plan = Plan { mode, ..quick(Plan::get(address, "/", CLIENTS)) };
        let tally = run(Green, plan, |_| Ok(())).unwrap();
        assert!(tally.successes() >= CLIENTS as u64, "{mode:?}: {tally:?}");
        assert_eq!(tally.failed(), 0);
    }
}

#[test]
fn green_clients_that_never_get_an_answer_time_out_and_end() {
    let address = server(|stream| each_request(stream, |_, _| Ok(())));
    let plan = Plan { timeout: Duration::from_millis(400), ..quick(Plan::get(address, "/", 3)) };
    let tally = run(Green, plan, |_| Ok(())).unwrap();
    assert_eq!(tally.failures().collect::<Vec<_>>(), [(&Failure::TimedOut, 3)]);
    assert_eq!(greenlet::stats().greenlets, 0);
}
