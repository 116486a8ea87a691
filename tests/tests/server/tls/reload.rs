//! Certificates are read again on SIGHUP.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use greenserve_tests::{PATIENCE, eventually};

use super::pki::curious;
use super::{KINDS, Site, connect};

#[test]
fn renewed_certificates_are_for_new_connections_and_old_ones_live_on() {
    for kind in KINDS {
        let site = Site::new();
        let server = Arc::new(site.serve(&["-k", kind, "--keep-alive", "600"]));
        let mut old = site.connect(&server);
        assert_eq!(old.get("/plaintext").status, 200);
        let shown = || {
            let mut client = connect(&server, curious(), "localhost");
            assert_eq!(client.get("/plaintext").status, 200);
            client.tls_state().peer_certificates().unwrap()[0].clone()
        };
        assert!(shown() == site.identity.certificate);

        // load, of new connections and of old ones
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let load: Vec<_> = (0..3)
            .map(|_| {
                let (stop, served, server) = (stop.clone(), served.clone(), server.clone());
                thread::spawn(move || {
                    let mut kept = connect(&server, curious(), "localhost");
                    while !stop.load(Ordering::SeqCst) {
                        assert_eq!(connect(&server, curious(), "localhost").get("/plaintext").status, 200);
                        assert_eq!(kept.get("/fixed?n=10000").body.len(), 10_000);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        eventually(PATIENCE, || served.load(Ordering::SeqCst) > 10);

        let renewed = site.authority.issue(&["localhost"]);
        assert_eq!(renewed.certfile, site.identity.certfile, "it takes the other's place");
        server.signal(libc::SIGHUP);
        server.wait_for_log("The certificates were read again");
        let before = served.load(Ordering::SeqCst);
        assert!(shown() == renewed.certificate, "{kind}");
        eventually(PATIENCE, || served.load(Ordering::SeqCst) > before + 10);
        stop.store(true, Ordering::SeqCst);
        load.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(old.get("/plaintext").status, 200, "{kind}");
    }
}

#[test]
fn certificates_of_no_use_are_not_taken_and_the_log_says_why() {
    let site = Site::new();
    let server = site.serve(&[]);
    fs::write(&site.identity.certfile, "nonsense").unwrap();
    server.signal(libc::SIGHUP);
    let line = server.wait_for_log("The certificates stay as they are");
    assert!(line.contains("[ERROR]") && line.contains(site.identity.certfile.to_str().unwrap()), "{line}");
    assert_eq!(site.connect(&server).get("/plaintext").status, 200);
}
