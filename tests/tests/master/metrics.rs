//! The metrics' address and StatsD, for all workers together.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use greenserve_tests::{Client, PATIENCE, Scratch, ServerProcess, eventually, request, send_signal};

use crate::control::Master;

/// Where it answers for numbers.
pub(crate) fn metrics_of(server: &ServerProcess) -> SocketAddr {
    let line = server.wait_for_log("Metrics at: ");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

fn start(args: &[&str]) -> (ServerProcess, SocketAddr) {
    let args = ["demo", "--metrics-bind", "127.0.0.1:0"].iter().chain(args).copied();
    let server = ServerProcess::start(args);
    let metrics = metrics_of(&server);
    (server, metrics)
}

pub(crate) fn status(at: SocketAddr, path: &str) -> u16 {
    Client::tcp(at).get(path).status
}

/// All samples, by name and labels as they are written. Panics at what is not in Prometheus's text format 0.0.4.
fn scrape(at: SocketAddr) -> BTreeMap<String, f64> {
    let response = Client::tcp(at).get("/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    assert!(text.ends_with('\n'));
    let (mut samples, mut family, mut kinds) = (BTreeMap::new(), String::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("a help text").0.to_owned();
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family, "the type follows the help");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two groups");
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').expect("a sample");
        let (name, labels) = match sample.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').expect("a closing brace")),
            None => (sample, ""),
        };
        let suffixes: &[&str] = match kinds[&family].as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            "summary" => &["_sum", "_count"],
            _ => &[""],
        };
        let belongs = suffixes.iter().any(|suffix| name.strip_suffix(suffix) == Some(family.as_str()));
        assert!(belongs, "{name} stands under {family}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (name, value) = label.split_once('=').expect("a label");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase()), "{line}");
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quotes");
            assert!(!value.contains(['"', '\\', '\n']), "{line}");
        }
        let value: f64 = value.parse().expect("a number");
        assert!(samples.insert(sample.to_owned(), value).is_none(), "{sample} comes twice");
    }
    let buckets: Vec<f64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("greenserve_request_duration_seconds_bucket"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
        .collect();
    assert!(buckets.len() > 10 && buckets.is_sorted(), "{buckets:?}");
    assert_eq!(buckets.last(), samples.get("greenserve_request_duration_seconds_count"));
    samples
}

#[test]
fn any_worker_answers_with_the_sums_of_all() {
    let (server, metrics) = start(&["-w", "2"]);
    let workers = server.wait_for_workers(2);
    for _ in 0..10 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
    assert_eq!(server.get("/nowhere-at-all").status, 404);
    server.answer_to("nonsense\r\n\r\n");
    eventually(PATIENCE, || {
        let samples = scrape(metrics);
        samples["greenserve_requests_total"] == 12.0 && samples["greenserve_connections"] == 0.0
    });
    let samples = scrape(metrics);
    assert_eq!(samples["greenserve_responses_total{class=\"2xx\"}"], 10.0);
    assert_eq!(samples["greenserve_responses_total{class=\"4xx\"}"], 2.0);
    assert_eq!(samples["greenserve_request_duration_seconds_count"], 11.0, "what is refused takes no time");
    assert_eq!(samples["greenserve_requests_in_progress"], 0.0);
    assert!(samples["greenserve_connections_accepted_total"] >= 12.0);
    assert_eq!(
        samples["greenserve_connection_queue_seconds_count"],
        samples["greenserve_connections_accepted_total"]
    );
    assert_eq!(samples["greenserve_workers{state=\"ready\"}"], 2.0);
    let of = |name: &str| -> Vec<f64> {
        let of_name = samples.iter().filter(|(sample, _)| sample.starts_with(&format!("{name}{{worker=")));
        of_name.map(|(_, value)| *value).collect()
    };
    assert_eq!(of("greenserve_worker_requests_total").iter().sum::<f64>(), 12.0);
    assert!(of("greenserve_worker_resident_memory_bytes").iter().all(|bytes| *bytes > 1e6));
    assert!(of("greenserve_worker_busy_ratio").iter().all(|share| (0.0..=1.0).contains(share)));
    for pid in workers {
        assert!(samples.keys().any(|sample| sample.contains(&format!("pid=\"{pid}\""))), "{pid}");
    }
}

#[test]
fn what_a_killed_worker_has_counted_stays_in_the_sums() {
    let (server, metrics) = start(&["-w", "2"]);
    let workers = server.wait_for_workers(2);
    for _ in 0..10 {
        server.get("/plaintext");
    }
    eventually(PATIENCE, || scrape(metrics)["greenserve_requests_total"] == 10.0);
    for pid in workers {
        send_signal(pid, libc::SIGKILL);
    }
    let mut last = 10.0;
    eventually(PATIENCE, || {
        // A worker that is killed may have been about to answer.
        let Ok(mut client) = Client::try_tcp(metrics) else { return false };
        if client.try_send(&request("GET", "/stats", &[], b"")).is_err() {
            return false;
        }
        let Ok(response) = client.try_response() else { return false };
        let stats: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
        let total = stats["requests_total"].as_f64().unwrap();
        assert!(total >= last, "{total} after {last}");
        last = total;
        stats["worker_losses_total"] == 2 && stats["workers_by_state"]["ready"] == 2
    });
    let samples = scrape(metrics);
    assert_eq!(
        (samples["greenserve_requests_total"], samples["greenserve_worker_starts_total"]),
        (10.0, 4.0)
    );
}

#[test]
fn it_answers_though_the_pool_is_full_and_though_a_handler_blocks() {
    for workers in ["0", "1"] {
        let (server, metrics) = start(&["-w", workers, "--worker-connections", "1"]);
        let mut held = server.connect();
        assert_eq!(held.get("/plaintext").status, 200);
        held.send(request("GET", "/sleep?ms=600000", &[], b""));
        eventually(PATIENCE, || scrape(metrics)["greenserve_requests_in_progress"] == 1.0);
        let samples = scrape(metrics);
        assert_eq!((samples["greenserve_connections"], samples["greenserve_connections_limit"]), (1.0, 1.0));
        assert_eq!((status(metrics, "/health"), status(metrics, "/health/live")), (200, 200));
    }
    let (server, metrics) = start(&["-w", "0"]);
    let mut client = server.connect();
    client.send(request("GET", "/block?ms=600000", &[], b""));
    eventually(PATIENCE, || status(metrics, "/health") == 503 && status(metrics, "/health/live") == 503);
    server.signal(libc::SIGKILL);
}

#[test]
fn health_is_503_while_a_server_that_is_going_to_stop_still_serves() {
    for workers in ["0", "2"] {
        let (mut server, metrics) = start(&["-w", workers, "--drain-delay", "20"]);
        eventually(PATIENCE, || status(metrics, "/health/ready") == 200);
        server.signal(libc::SIGTERM);
        eventually(PATIENCE, || status(metrics, "/health/ready") == 503);
        let answer = server.get("/plaintext");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")), "-w {workers}");
        assert_eq!(status(metrics, "/health/live"), 200);
        server.signal(libc::SIGINT);
        assert!(server.wait_exit().success());
    }
}

#[test]
fn health_is_503_during_a_graceful_stop_and_numbers_go_on() {
    for args in [&["-w", "2"][..], &["-w", "0"], &["-w", "1", "-k", "threads"]] {
        let (mut server, metrics) = start(args);
        eventually(PATIENCE, || status(metrics, "/health/ready") == 200);
        let mut client = server.connect();
        client.send(request("GET", "/sleep?ms=4000", &[], b""));
        eventually(PATIENCE, || scrape(metrics)["greenserve_requests_in_progress"] == 1.0);
        server.signal(libc::SIGTERM);
        let mut refused = false;
        let begun = Instant::now();
        while !refused && begun.elapsed() < PATIENCE {
            refused = status(metrics, "/health") == 503;
        }
        assert!(refused);
        assert_eq!(status(metrics, "/health/live"), 200);
        assert_eq!(client.response().status, 200, "{args:?}");
        assert!(server.wait_exit().success());
    }
}

#[test]
fn a_stalled_hub_is_told_of() {
    let (server, metrics) = start(&["-w", "1"]);
    server.wait_for_workers(1);
    // From the first pulse on.
    let find = |name: &str| {
        let samples = scrape(metrics);
        samples.into_iter().find(|(sample, _)| sample.starts_with(name)).unwrap().1
    };
    eventually(PATIENCE, || find("greenserve_worker_resident_memory_bytes") > 0.0);
    assert_eq!(server.get("/block?ms=300").status, 200);
    eventually(PATIENCE, || find("greenserve_worker_longest_stall_seconds") >= 0.3);
    assert!(find("greenserve_worker_busy_seconds_total") >= 0.3);
}

#[test]
fn it_may_be_a_unix_socket_which_goes_with_the_master() {
    let scratch = Scratch::new();
    let path = scratch.path().join("metrics");
    let bind = format!("unix:{}", path.display());
    let mut server = ServerProcess::start(["demo", "-w", "1", "--metrics-bind", &bind]);
    server.wait_for_workers(1);
    assert_eq!(Client::unix(&path).get("/health").status, 200);
    server.signal(libc::SIGTERM);
    assert!(server.wait_exit().success());
    assert!(!path.exists());
}

#[test]
fn a_successor_takes_the_metrics_address_over() {
    let (server, metrics) = start(&["-w", "1"]);
    server.wait_for_workers(1);
    server.signal(libc::SIGUSR2);
    eventually(PATIENCE, || server.log().matches("Metrics at: ").count() == 2);
    assert_eq!(status(metrics, "/health"), 200);
    let line = server.wait_for_log("Started a new master, process ");
    let new: u32 = line.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its process id");
    server.wait_for_log(&format!("[{new}] [INFO] All 1 workers are ready"));
    send_signal(new, libc::SIGTERM);
    eventually(PATIENCE, || !server.children().contains(&new));
    assert_eq!(status(metrics, "/health"), 200, "the old one goes on");
}

#[test]
fn statsd_gets_gunicorns_metrics_from_workers_and_master() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    let args = [
        "demo",
        "-w",
        "2",
        "--statsd-host",
        &host,
        "--statsd-prefix",
        "shop",
        "--dogstatsd-tags",
        "env:test",
    ];
    let server = ServerProcess::start(args);
    server.wait_for_workers(2);
    for _ in 0..7 {
        server.get("/plaintext");
    }
    server.get("/panic");
    let (mut counts, mut durations) = (BTreeMap::new(), 0);
    let mut buffer = [0; 9000];
    eventually(PATIENCE, || {
        if let Ok(count) = socket.recv(&mut buffer) {
            for line in std::str::from_utf8(&buffer[..count]).unwrap().lines() {
                let line = line.strip_suffix("|#env:test").expect("tags");
                let (name, rest) =
                    line.strip_prefix("shop.gunicorn.").expect("the prefix").split_once(':').unwrap();
                match rest.split_once('|').unwrap() {
                    (value, "c") => {
                        *counts.entry(name.to_owned()).or_insert(0) += value.parse::<u64>().unwrap()
                    }
                    (value, "ms") => {
                        assert!(name == "request.duration" && value.parse::<f64>().unwrap() >= 0.0);
                        durations += 1;
                    }
                    (value, "g") => drop(counts.insert(name.to_owned(), value.parse().unwrap())),
                    _ => panic!("{line}"),
                }
            }
        }
        let has = |name: &str, count| counts.get(name) == Some(&count);
        has("requests", 8)
            && has("request.status.200", 7)
            && has("request.status.500", 1)
            && has("log.exception", 1)
            && has("workers", 2)
            && durations == 8
    });
}

#[test]
fn those_who_wait_to_be_accepted_are_told_of() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let host = socket.local_addr().unwrap().to_string();
    let master = Master::start(1, &["--timeout", "0", "--statsd-host", &host, "--enable-backlog-metric"]);
    let mut blocks = master.server.connect();
    blocks.send(request("GET", "/block?ms=600000", &[], b""));
    let mut waiting = Vec::new();
    let mut buffer = [0; 9000];
    eventually(PATIENCE, || {
        // The first may still be accepted: the worker is not stuck until it has read what was asked.
        let shown = master.ask("show listeners")["listeners"][0]["waiting"].as_u64().expect("a number");
        if shown < 5 {
            waiting.push(master.server.connect());
            return false;
        }
        let expected = format!("gunicorn.backlog:{shown}|ms");
        let count = socket.recv(&mut buffer).unwrap_or(0);
        std::str::from_utf8(&buffer[..count]).unwrap().lines().any(|line| line == expected)
    });
}
