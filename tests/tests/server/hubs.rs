//! `--threads` without a master, and `Server::serve_hubs`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
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

#[test]
fn hubs_run_at_the_same_time() {
    // Each request blocks its OS thread until another has come.
    let both = Arc::new(Barrier::new(2));
    let (addr, handle, serving) = serve(2, move |_: Request| {
        both.wait();
        "met"
    });
    let mut idle = Vec::new();
    in_time(PATIENCE, move || {
        // A hub that is blocked accepts nobody, so the second goes to the other.
        let mut clients = [Client::tcp(addr), Client::tcp(addr)];
        clients.iter_mut().for_each(|client| client.send(request("GET", "/", &[], b"")));
        idle.extend(clients.iter_mut().map(|client| client.response().status));
        assert_eq!(idle, [200, 200]);
    });
    handle.stop();
    serving.join().unwrap();
}

#[test]
fn a_hub_that_is_blocked_holds_up_its_own_connections_only() {
    let args = ["demo", "--threads", "2", "--keep-alive", "60", "--blocked-threshold", "0"];
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
        let both = Arc::new(Barrier::new(2));
        let (addr, handle, serving) = serve(2, move |req: Request| {
            both.wait();
            greenlet::sleep(if req.path() == "/short" { Duration::from_millis(300) } else { 100 * PATIENCE });
            "done"
        });
        let path = if quits { "/long" } else { "/short" };
        let mut clients = [Client::tcp(addr), Client::tcp(addr)];
        clients.iter_mut().for_each(|client| client.send(request("GET", path, &[], b"")));
        // They have met when both have begun; a stop before that would be as good, but shows less.
        thread::sleep(Duration::from_millis(100));
        if quits {
            handle.quit()
        } else {
            handle.stop()
        }
        let answers: Vec<u16> = clients.iter_mut().map(|client| client.response().status).collect();
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
