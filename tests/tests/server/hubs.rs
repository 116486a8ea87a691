//! `--threads` without a master, and `Server::serve_hubs`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use greenserve::{Request, Server, ServerHandle};
use greenserve_tests::{Client, Load, PATIENCE, ServerProcess, eventually, in_time, request};

/// A server of so many hubs on a thread of its own, until the handle stops it.
fn serve<A>(hubs: usize, app: A) -> (std::net::SocketAddr, ServerHandle, thread::JoinHandle<()>)
where
    A: greenserve::Handler + Send + Sync,
{
    let server = Server::bind("127.0.0.1:0").unwrap().threads(NonZeroUsize::new(hubs));
    let server = server.keep_alive(Duration::from_secs(60)).graceful_timeout(Duration::from_secs(60));
    let (addr, handle) = (server.local_addrs()[0].as_inet().unwrap(), server.handle());
    (addr, handle, thread::spawn(move || server.serve_hubs(app).unwrap()))
}

/// A connection to each of two hubs, of a server which answers the path `/who` with the number of the thread.
fn one_for_each(addr: std::net::SocketAddr) -> [Client; 2] {
    let (mut clients, mut others) = (BTreeMap::new(), Vec::new());
    eventually(PATIENCE, || {
        let mut client = Client::tcp(addr);
        let hub = client.get("/who").text().to_owned();
        // Those who are not needed stay for the time being, so that others are taken by the other hub.
        others.extend(clients.insert(hub, client));
        clients.len() == 2
    });
    let clients: Vec<Client> = clients.into_values().collect();
    clients.try_into().expect("two")
}

fn who() -> String {
    format!("{:?}", thread::current().id())
}

#[test]
fn hubs_run_at_the_same_time() {
    // Each request blocks its OS thread until another has come.
    let both = Arc::new(Barrier::new(2));
    let (addr, handle, serving) = serve(2, move |req: Request| {
        if req.path() == "/who" {
            return who();
        }
        both.wait();
        "met".to_owned()
    });
    let answers = in_time(move || {
        let mut clients = one_for_each(addr);
        clients.iter_mut().for_each(|client| client.send(request("GET", "/", &[], b"")));
        clients.map(|mut client| client.response().text().to_owned())
    });
    assert_eq!(answers, ["met", "met"]);
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn a_hub_that_is_blocked_holds_up_its_own_connections_only() {
    let args = ["demo", "--threads", "2", "--keep-alive", "60"];
    let server = ServerProcess::start(args);
    let mut clients = BTreeMap::new();
    let mut others = Vec::new();
    eventually(PATIENCE, || {
        let mut client = server.connect();
        let who: serde_json::Value = serde_json::from_str(client.get("/whoami").text()).unwrap();
        let hub = who["thread"].as_str().unwrap().to_owned();
        others.extend(clients.insert(hub, client));
        clients.len() == 2
    });
    clients.get_mut("hub 2").expect("its thread's name").send(request("GET", "/block?ms=600000", &[], b""));
    // Until then it may still accept somebody.
    server.wait_for_log("holds the hub");
    let mut free = clients.remove("main").expect("the first hub's thread");
    for _ in 0..10 {
        assert_eq!(free.get("/plaintext").status, 200);
        assert_eq!(server.get("/plaintext").status, 200);
    }
}

#[test]
fn one_application_is_shared_by_all_and_told_that_threads_are() {
    let (addr, handle, serving) = serve(3, |req: Request| {
        let flags = req.environ().unwrap().flags();
        format!("{:?}", flags.into_iter().find(|(name, _)| *name == "wsgi.multithread"))
    });
    assert_eq!(Client::tcp(addr).get("/").text(), r#"Some(("wsgi.multithread", true))"#);
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn a_stop_waits_for_what_every_hub_has_under_way_and_a_quit_does_not() {
    for quits in [false, true] {
        let begun = Arc::new(AtomicUsize::new(0));
        let (began, goes_on) = (Arc::clone(&begun), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&goes_on);
        let (addr, handle, serving) = serve(2, move |req: Request| {
            if req.path() == "/who" {
                return who();
            }
            began.fetch_add(1, Ordering::SeqCst);
            while !ends.load(Ordering::SeqCst) {
                greenlet::sleep(Duration::from_millis(5));
            }
            "done".to_owned()
        });
        let mut clients = one_for_each(addr);
        clients.iter_mut().for_each(|client| client.send(request("GET", "/", &[], b"")));
        eventually(PATIENCE, || begun.load(Ordering::SeqCst) == 2);
        if quits {
            handle.quit();
        } else {
            handle.stop();
            // Nobody is accepted any more when it ends.
            eventually(PATIENCE, || Client::try_tcp(addr).is_err());
            goes_on.store(true, Ordering::SeqCst);
        }
        let answers = clients.map(|mut client| client.response().status);
        assert_eq!(answers, if quits { [503, 503] } else { [200, 200] });
        serving.join().unwrap();
        assert!(Client::try_tcp(addr).is_err());
    }
}

#[test]
fn a_stop_under_load_loses_nothing() {
    for bind in ["tcp", "unix"] {
        let scratch = greenserve_tests::Scratch::new();
        let path = scratch.join("s");
        let mut server = match bind {
            "tcp" => ServerProcess::start(["demo", "--threads", "3"]),
            _ => ServerProcess::builder()
                .args(["demo", "--threads", "3"])
                .bind(format!("unix:{}", path.display()))
                .start(),
        };
        let loads = match bind {
            "tcp" => Load::both(server.addr(), 6),
            _ => Load::both(path.as_path(), 6),
        };
        loads.iter().for_each(|load| load.wait_for(50));
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit().success());
        for tally in loads.into_iter().map(Load::finish) {
            assert_eq!(tally.lost, Vec::<String>::new(), "{bind}");
        }
    }
}

#[test]
fn the_limit_of_connections_is_for_all_hubs_together() {
    let args = ["demo", "--threads", "3", "--worker-connections", "7", "--metrics-bind", "127.0.0.1:0"];
    let server = ServerProcess::start(args);
    let line = server.wait_for_log("Metrics at: ");
    let metrics = line.rsplit_once(' ').unwrap().1.parse().unwrap();
    let clients: Vec<Client> = (0..9)
        .map(|_| {
            let mut client = server.connect();
            client.send(request("GET", "/sleep?ms=600000", &[], b""));
            client
        })
        .collect();
    let stats = || -> serde_json::Value {
        serde_json::from_str(Client::tcp(metrics).get("/stats").text()).expect("JSON")
    };
    eventually(PATIENCE, || stats()["requests_in_progress"] == 7);
    assert_eq!(stats()["connections_limit"], 7);
    // Whoever is too many is in nobody's pool, however long it takes.
    thread::sleep(Duration::from_millis(200));
    assert_eq!(stats()["requests_in_progress"], 7);
    drop(clients);
}
