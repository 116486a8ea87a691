//! actix-web with one worker: `peer-actix PORT FILE`.

use std::io;
use std::time::Duration;

use actix_files::NamedFile;
use actix_web::web::{self, Data, Query};
use actix_web::{App, HttpResponse, HttpServer, Responder};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Deserialize;

struct Shared {
    body: Bytes,
    file: String,
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

#[actix_web::main]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(port), Some(file)) =
        (arguments.next().and_then(|port| port.parse::<u16>().ok()), arguments.next())
    else {
        return Err(io::Error::other("usage: peer-actix PORT FILE"));
    };
    let body = Bytes::from(vec![b'x'; 100 * 1024]);
    HttpServer::new(move || {
        App::new()
            .app_data(Data::new(Shared { body: body.clone(), file: file.clone() }))
            .route("/plaintext", web::get().to(|| async { hello() }))
            .route("/sleep", web::get().to(sleep))
            .route("/fixed", web::get().to(fixed))
            .route("/stream", web::get().to(pieces))
            .route("/stream-flushed", web::get().to(pieces_flushed))
            .route("/file", web::get().to(file_of))
    })
    .workers(1)
    .backlog(8192)
    .max_connections(30_000)
    .max_connection_rate(30_000)
    .keep_alive(Duration::from_secs(75))
    .on_connect(|stream, _| {
        if let Some(stream) = stream.downcast_ref::<actix_web::rt::net::TcpStream>() {
            let _ = stream.set_nodelay(true);
        }
    })
    .bind(("127.0.0.1", port))?
    .run()
    .await
}

fn hello() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("server", "actix"))
        .content_type("text/plain")
        .body(Bytes::from_static(b"Hello, World!"))
}

async fn sleep(query: Query<Sleep>) -> HttpResponse {
    actix_web::rt::time::sleep(Duration::from_millis(query.ms)).await;
    hello()
}

async fn fixed(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().insert_header(("server", "actix")).content_type("text/plain").body(shared.body.clone())
}

async fn pieces(query: Query<Pieces>) -> HttpResponse {
    let piece = Bytes::from(vec![b'x'; query.size]);
    let pieces = stream::iter(0..query.n).map(move |_| Ok::<_, io::Error>(piece.clone()));
    HttpResponse::Ok().insert_header(("server", "actix")).content_type("text/plain").streaming(pieces)
}

async fn pieces_flushed(query: Query<Pieces>) -> HttpResponse {
    let piece = Bytes::from(vec![b'x'; query.size]);
    let pieces = stream::iter(0..query.n).then(move |_| {
        let piece = piece.clone();
        async move {
            tokio::task::yield_now().await;
            Ok::<_, io::Error>(piece)
        }
    });
    HttpResponse::Ok().insert_header(("server", "actix")).content_type("text/plain").streaming(pieces)
}

async fn file_of(shared: Data<Shared>) -> impl Responder {
    NamedFile::open_async(&shared.file).await
}
