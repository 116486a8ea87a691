//! axum on tokio's current-thread runtime: `peer-axum PORT FILE`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio_util::io::ReaderStream;

struct App {
    body: Bytes,
    file: PathBuf,
    length: u64,
}

#[derive(Deserialize)]
struct Sleep {
    ms: u64,
}

#[derive(Deserialize)]
struct Pieces {
    n: u64,
    size: usize,
}

const SERVER: (HeaderName, HeaderValue) = (header::SERVER, HeaderValue::from_static("axum"));

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(file)) = (arguments.next().and_then(|port| port.parse().ok()), arguments.next())
    else {
        return Err(io::Error::other("usage: peer-axum PORT FILE"));
    };
    let length = std::fs::metadata(&file)?.len();
    let app = Arc::new(App { body: vec![b'x'; 100 * 1024].into(), file: file.into(), length });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(port, app))
}

async fn serve(port: u16, app: Arc<App>) -> io::Result<()> {
    let router = Router::new()
        .route("/plaintext", get(|| async { ([SERVER], "Hello, World!") }))
        .route("/sleep", get(sleep))
        .route("/fixed", get(|State(app): State<Arc<App>>| async move { ([SERVER], app.body.clone()) }))
        .route("/stream", get(pieces))
        .route("/stream-flushed", get(pieces_flushed))
        .route("/file", get(file))
        .with_state(app);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(8192)?;
    let listener = tokio::net::TcpListener::from_std(socket.into())?.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

async fn sleep(Query(Sleep { ms }): Query<Sleep>) -> impl IntoResponse {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    ([SERVER], "Hello, World!")
}

async fn pieces(Query(Pieces { n, size }): Query<Pieces>) -> impl IntoResponse {
    let piece = Bytes::from(vec![b'x'; size]);
    let pieces = stream::iter(0..n).map(move |_| Ok::<_, io::Error>(piece.clone()));
    ([SERVER], Body::from_stream(pieces))
}

async fn pieces_flushed(Query(Pieces { n, size }): Query<Pieces>) -> impl IntoResponse {
    let piece = Bytes::from(vec![b'x'; size]);
    let pieces = stream::iter(0..n).then(move |_| {
        let piece = piece.clone();
        async move {
            tokio::task::yield_now().await;
            Ok::<_, io::Error>(piece)
        }
    });
    ([SERVER], Body::from_stream(pieces))
}

async fn file(State(app): State<Arc<App>>) -> Response {
    match tokio::fs::File::open(&app.file).await {
        Ok(file) => {
            let length = [(header::CONTENT_LENGTH, HeaderValue::from(app.length))];
            (length, [SERVER], Body::from_stream(ReaderStream::with_capacity(file, 256 * 1024)))
                .into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
