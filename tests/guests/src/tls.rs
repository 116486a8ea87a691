//! An HTTPS server of our own for the clients, with a certificate made for the test.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Duration;

use greenserve::tls::TlsFiles;
use greenserve::{Request, Server};
use greenserve_tests::Scratch;

/// How long `/slow` takes.
pub const SLOW: Duration = Duration::from_millis(200);

/// A server on a thread of its own for as long as the process lives.
pub struct Https {
    pub addr: SocketAddr,
    /// The certificate, as PEM.
    pub certificate: String,
    /// The same in a file.
    pub file: std::path::PathBuf,
    _scratch: Scratch,
}

/// Starts it on first use: `/slow` answers after [`SLOW`], everything else at once.
pub fn https() -> &'static Https {
    static SERVER: OnceLock<Https> = OnceLock::new();
    SERVER.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("a certificate");
        let certificate = made.cert.pem();
        let scratch = Scratch::new();
        let file = scratch.write("cert.pem", &certificate);
        let key = scratch.write("key.pem", made.signing_key.serialize_pem());
        let config = TlsFiles::new(&file, key).load().expect("its own certificate");
        let server = Server::bind("127.0.0.1:0").expect("a free port").tls(&config);
        let addr = server.local_addrs()[0].as_inet().expect("a TCP address");
        let slow = |request: Request| {
            if request.path() == "/slow" {
                greenlet::sleep(SLOW);
            }
            "done"
        };
        std::thread::spawn(move || server.serve(slow));
        Https { addr, certificate, file, _scratch: scratch }
    })
}
