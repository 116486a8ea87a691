//! hyper on tokio's current-thread runtime: `peer-hyper PORT FILE [pipeline]`. With `pipeline` answers to pipelined requests
//! are gathered, for which hyper copies bodies.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::io::ReaderStream;

/// Both sorts of bodies in one type; the short answers allocate nothing for it.
type Body = http_body_util::Either<Full<Bytes>, UnsyncBoxBody<Bytes, io::Error>>;

struct App {
    body: Bytes,
    file: PathBuf,
    length: u64,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(file)) = (arguments.next().and_then(|port| port.parse().ok()), arguments.next())
    else {
        return Err(io::Error::other("usage: peer-hyper PORT FILE"));
    };
    let length = std::fs::metadata(&file)?.len();
    let app = Rc::new(App { body: vec![b'x'; 100 * 1024].into(), file: file.into(), length });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let pipeline = arguments.next().is_some();
    tokio::task::LocalSet::new().block_on(&runtime, serve(port, app, pipeline))
}

async fn serve(port: u16, app: Rc<App>, pipeline: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(8192)?;
    let listener = tokio::net::TcpListener::from_std(socket.into())?;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        stream.set_nodelay(true)?;
        let app = app.clone();
        tokio::task::spawn_local(async move {
            let service = service_fn(move |req| answer(app.clone(), req));
            let _ = http1::Builder::new()
                .pipeline_flush(pipeline)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(app: Rc<App>, req: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let mut response = match req.uri().path() {
        "/plaintext" => short(Bytes::from_static(b"Hello, World!")),
        "/sleep" => {
            tokio::time::sleep(Duration::from_millis(number(&req, "ms"))).await;
            short(Bytes::from_static(b"Hello, World!"))
        }
        "/fixed" => short(app.body.clone()),
        "/stream" => {
            let (n, size) = (number(&req, "n"), number(&req, "size"));
            let piece = Bytes::from(vec![b'x'; size as usize]);
            let pieces = stream::iter(0..n).map(move |_| Ok(Frame::data(piece.clone())));
            Response::new(Body::Right(StreamBody::new(pieces).boxed_unsync()))
        }
        "/stream-flushed" => {
            // hyper writes out what it has whenever the body is pending
            let (n, size) = (number(&req, "n"), number(&req, "size"));
            let piece = Bytes::from(vec![b'x'; size as usize]);
            let pieces = stream::iter(0..n).then(move |_| {
                let piece = piece.clone();
                async move {
                    tokio::task::yield_now().await;
                    Ok(Frame::data(piece))
                }
            });
            Response::new(Body::Right(StreamBody::new(pieces).boxed_unsync()))
        }
        "/file" => match tokio::fs::File::open(&app.file).await {
            Ok(file) => {
                let pieces = ReaderStream::with_capacity(file, 256 * 1024).map_ok(Frame::data);
                let mut response = Response::new(Body::Right(StreamBody::new(pieces).boxed_unsync()));
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(app.length));
                response
            }
            Err(_) => status(StatusCode::INTERNAL_SERVER_ERROR),
        },
        _ => status(StatusCode::NOT_FOUND),
    };
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("hyper"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn short(body: Bytes) -> Response<Body> {
    Response::new(Body::Left(Full::new(body)))
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = short(Bytes::new());
    *response.status_mut() = status;
    response
}

/// A number in the query; 1 if there is none.
fn number(req: &Request<Incoming>, name: &str) -> u64 {
    let query = req.uri().query().unwrap_or_default();
    let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.and_then(|value| value.parse().ok()).unwrap_or(1)
}
