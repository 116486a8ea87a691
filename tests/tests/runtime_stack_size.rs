//! The default stack is large enough for the deepest things that ordinary code does, in debug builds as well: each
//! test does one of them on a default stack and looks how far down it came. A stack that is too small dies here.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use greenlet::net::{TcpListener, TcpStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const LONG: Duration = Duration::from_secs(30);
/// Of 256 KiB, so that twice as much would do.
const HALF: usize = 128 * 1024;

fn depth() -> usize {
    greenlet::current().stack_used().expect("a running greenlet has a stack")
}

fn tls_configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = CertificateDer::from(key.cert.der().to_vec());
    let private = PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], private).unwrap();
    (Arc::new(client), Arc::new(server))
}

#[test]
fn tls_handshakes_run_unchanged_over_our_streams_in_half_a_default_stack() {
    let (client, server) = tls_configs();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = greenlet::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut tls = StreamOwned::new(ServerConnection::new(server).unwrap(), stream);
        let mut request = [0; 5];
        tls.read_exact(&mut request).unwrap();
        tls.write_all(&request).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
        depth()
    });
    let asking = greenlet::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(client, name).unwrap(), stream);
        tls.write_all(b"hello").unwrap();
        let mut answer = String::new();
        tls.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "hello");
        depth()
    });
    let deepest = asking.join_timeout(LONG).unwrap().max(serving.join_timeout(LONG).unwrap());
    println!("TLS handshake: {deepest} bytes");
    assert!(deepest <= HALF, "{deepest} bytes of stack");
}

#[test]
fn a_panic_with_a_full_backtrace_fits_in_half_a_default_stack() {
    let depth_seen = Rc::new(RefCell::new(0));
    struct Look(Rc<RefCell<usize>>);
    impl Drop for Look {
        fn drop(&mut self) {
            *self.0.borrow_mut() = depth();
        }
    }
    let look = Look(depth_seen.clone());
    let failing = greenlet::spawn(move || {
        let _look = look;
        // What the panic hook does with RUST_BACKTRACE=full.
        let backtrace = std::backtrace::Backtrace::force_capture().to_string();
        assert!(backtrace.is_empty(), "{backtrace}");
    });
    let error = failing.join_timeout(LONG).unwrap_err();
    assert!(matches!(error, greenlet::JoinError::Panicked(_)), "{error}");
    let deepest = *depth_seen.borrow();
    println!("panic with a backtrace: {deepest} bytes");
    assert!(deepest <= HALF, "{deepest} bytes of stack");
}

#[test]
fn deeply_nested_formatting_fits_in_half_a_default_stack() {
    #[derive(Debug)]
    #[expect(dead_code, reason = "its fields are read by its Debug form, which is the point")]
    struct Node {
        name: String,
        weight: f64,
        child: Option<Box<Node>>,
    }
    let tree = (0..50).fold(None, |child, n| {
        Some(Box::new(Node { name: format!("node {n}"), weight: f64::from(n) / 3.0, child }))
    });
    let formatting = greenlet::spawn(move || {
        let mut text = String::new();
        write!(text, "{tree:#?}").unwrap();
        assert!(text.contains("node 49"));
        depth()
    });
    let deepest = formatting.join_timeout(LONG).unwrap();
    println!("formatting 50 levels: {deepest} bytes");
    assert!(deepest <= HALF, "{deepest} bytes of stack");
}
