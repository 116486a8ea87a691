//! tokio, on its current-thread runtime.

use std::future::Future;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use micro_peers::{BUFFER, DAY, Figures, Footprint, MESSAGE, PENDING, TIMERS, cpu, due, ns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{spawn, yield_now};
use tokio::time::sleep;

fn main() -> ExitCode {
    micro_peers::main(
        "tokio",
        &[
            ("switch", |_| run(switch())),
            ("spawn_join", |_| run(spawn_join())),
            ("ping_pong", |_| run(ping_pong())),
            ("echo_1", |_| run(echo(1, 50_000))),
            ("echo_1000", |_| run(echo(1_000, 100))),
            ("timers", |_| run(timers())),
            ("timer_cancel", |_| run(timer_cancel())),
            ("parked", |count| run(parked(count))),
        ],
    )
}

fn run(bench: impl Future<Output = Figures> + 'static) -> Figures {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(bench)
}

async fn switch() -> Figures {
    const TIMES: u64 = 1_000_000;
    async fn yields() {
        for _ in 0..TIMES {
            yield_now().await;
        }
    }
    let start = cpu();
    let pair = [spawn(yields()), spawn(yields())];
    for task in pair {
        task.await.expect("it only yields");
    }
    ns(start, 2 * TIMES)
}

async fn spawn_join() -> Figures {
    const TIMES: u64 = 1_000_000;
    let start = cpu();
    for _ in 0..TIMES {
        spawn(async {}).await.expect("it does nothing");
    }
    ns(start, TIMES)
}

async fn ping_pong() -> Figures {
    const TIMES: u64 = 1_000_000;
    let (ping, mut pings) = unbounded_channel();
    let (pong, mut pongs) = unbounded_channel();
    let start = cpu();
    spawn(async move {
        while let Some(value) = pings.recv().await {
            pong.send(value).expect("the other end is there");
        }
    });
    let client = spawn(async move {
        for number in 0..TIMES {
            ping.send(number).expect("the other end is there");
            pongs.recv().await.expect("an answer");
        }
    });
    client.await.expect("it does not panic");
    ns(start, TIMES)
}

async fn echo(connections: u64, times: u64) -> Figures {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
    let address = listener.local_addr().expect("it is bound");
    let mut clients = Vec::new();
    for _ in 0..connections {
        let near = TcpStream::connect(address).await.expect("it listens");
        let (mut far, _) = listener.accept().await.expect("somebody connects");
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).expect("a TCP option");
        spawn(async move {
            let mut buffer = [0; BUFFER];
            while let Ok(length @ 1..) = far.read(&mut buffer).await {
                far.write_all(&buffer[..length]).await.expect("the other end is there");
            }
        });
        clients.push(near);
    }
    let start = cpu();
    let clients: Vec<_> = clients
        .into_iter()
        .map(|mut near| {
            spawn(async move {
                let mut buffer = [7; BUFFER];
                for _ in 0..times {
                    near.write_all(&buffer[..MESSAGE]).await.expect("the other end is there");
                    let mut missing = MESSAGE;
                    while missing > 0 {
                        missing -= near.read(&mut buffer).await.expect("the other end answers");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("it does not panic");
    }
    ns(start, connections * times)
}

async fn timers() -> Figures {
    let start = cpu();
    let sleepers: Vec<_> = (0..TIMERS).map(|number| spawn(sleep(due(number)))).collect();
    for sleeper in sleepers {
        sleeper.await.expect("it does not panic");
    }
    ns(start, TIMERS)
}

/// Polls a future once: a timer is set when it is polled for the first time.
async fn poll_once(future: &mut (impl Future<Output = ()> + Unpin)) {
    std::future::poll_fn(|context| {
        let polled = std::pin::Pin::new(&mut *future).poll(context);
        assert!(polled.is_pending(), "a day is not over yet");
        std::task::Poll::Ready(())
    })
    .await;
}

async fn timer_cancel() -> Figures {
    const TIMES: u64 = 1_000_000;
    let mut pending = Vec::with_capacity(PENDING);
    for _ in 0..PENDING {
        let mut timer = Box::pin(sleep(DAY));
        poll_once(&mut timer).await;
        pending.push(timer);
    }
    let start = cpu();
    for _ in 0..TIMES {
        let mut timer = std::pin::pin!(sleep(DAY));
        poll_once(&mut timer).await;
    }
    let figures = ns(start, TIMES);
    drop(pending);
    figures
}

async fn parked(count: usize) -> Figures {
    let before = Footprint::new();
    let asleep = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::with_capacity(count);
    for _ in 0..count {
        let asleep = asleep.clone();
        tasks.push(spawn(async move {
            asleep.fetch_add(1, Ordering::Relaxed);
            sleep(DAY).await;
        }));
    }
    while asleep.load(Ordering::Relaxed) < count {
        yield_now().await;
    }
    before.of_each(count)
}
