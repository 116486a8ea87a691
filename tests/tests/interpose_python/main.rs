//! CPython as a guest: its blocking calls park the greenlet that runs it. Each test has a process of its own, since there is one
//! interpreter in a process and a call that blocks would hold it for all.

#![cfg(all(target_os = "linux", target_env = "gnu"))]

use greenlet_interpose as _;

mod python;

use std::time::{Duration, Instant};

use greenserve_tests::in_process;

/// Runs three pieces of Python at once, in a greenlet each, after `first`: `waits`, which must wait for what `ends` does, and one that
/// counts the turns it has meanwhile. Each has `log`, to which `waits` appends last.
fn meanwhile(test: &str, first: &'static str, waits: &'static str, ends: &'static str) {
    with_python(test, move || {
        python::define(first);
        let waiting = python::spawn(waits);
        let ending = python::spawn(ends);
        let counting = python::spawn("for turn in range(3):\n    time.sleep(0.001)\n    log.append('turn')");
        waiting.join().unwrap();
        ending.join().unwrap();
        counting.join().unwrap();
        python::run("assert log[0] == 'other' and 'waited' in log and log.count('turn') == 3, log");
    });
}

#[test]
fn time_sleep() {
    meanwhile(
        "time_sleep",
        "",
        "time.sleep(0.05)\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nassert 'waited' not in log",
    );
}

#[test]
fn select_select() {
    meanwhile(
        "select_select",
        "import os, select\nr, w = os.pipe()",
        "assert select.select([r], [], [], None) == ([r], [], [])\nlog.append('waited')",
        "log.append('other')\nos.write(w, b'x')",
    );
}

#[test]
fn select_poll() {
    meanwhile(
        "select_poll",
        "import os, select\nr, w = os.pipe()",
        "p = select.poll()\np.register(r, select.POLLIN)\nassert p.poll() == [(r, select.POLLIN)]\nlog.append('waited')",
        "log.append('other')\nos.write(w, b'x')",
    );
}

#[test]
fn select_epoll() {
    meanwhile(
        "select_epoll",
        "import os, select\nr, w = os.pipe()",
        "p = select.epoll()\np.register(r, select.EPOLLIN)\nassert p.poll() == [(r, select.EPOLLIN)]\nlog.append('waited')",
        "log.append('other')\nos.write(w, b'x')",
    );
}

#[test]
fn selectors_with_a_timeout() {
    meanwhile(
        "selectors_with_a_timeout",
        "import selectors, socket\na, b = socket.socketpair()",
        "s = selectors.DefaultSelector()\ns.register(a, selectors.EVENT_READ)\nassert s.select(0.02) == []\n\
         assert len(s.select(3600)) == 1\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.05)\nb.send(b'x')",
    );
}

/// Sockets with a timeout are in non-blocking mode, and waited for by `poll`.
#[test]
fn sockets_with_a_timeout() {
    meanwhile(
        "sockets_with_a_timeout",
        "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\nlistener.settimeout(3600)",
        "server, _ = listener.accept()\nserver.settimeout(3600)\nassert server.recv(100) == b'question'\n\
         server.sendall(b'a' * 5_000_000)\nserver.close()\nlog.append('waited')",
        "log.append('other')\nclient = socket.create_connection(listener.getsockname(), timeout=3600)\ntime.sleep(0.01)\n\
         client.send(b'question')\ntime.sleep(0.01)\nlength = 0\nwhile part := client.recv(65536):\n    length += len(part)\n\
         assert length == 5_000_000",
    );
}

/// Two event loops on one thread, each in a greenlet of its own.
#[test]
fn two_asyncio_loops() {
    meanwhile(
        "two_asyncio_loops",
        r"
import asyncio, socket
one, other = socket.socketpair()

async def talk(end, first, name):
    reader, writer = await asyncio.open_connection(sock=end)
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1
    ticker = asyncio.ensure_future(tick())
    for number in range(20):
        if first:
            writer.write(b'%d\n' % number)
            await writer.drain()
            assert await reader.readline() == b'%d\n' % number
        else:
            writer.write(await reader.readline())
            await asyncio.sleep(0.002)
    assert ticks > 3, ticks
    ticker.cancel()
    log.append(name)
",
        "asyncio.run(talk(one, True, 'waited'))",
        "log.append('other')\nasyncio.run(talk(other, False, 'ended'))",
    );
}

/// Runs `body` in a process of the test's own, with Python in it.
fn with_python(test: &str, body: impl FnOnce() + Send + 'static) {
    let Some(found) = python::find() else {
        println!("NOT CHECKED: there is no CPython with a shared library here");
        return;
    };
    in_process(test, move || {
        python::start(found);
        python::define("import errno, os, select, time\nlog = []\nr, w = os.pipe()");
        body();
    });
}

#[test]
fn a_kill_is_an_exception_of_python_once() {
    with_python("a_kill_is_an_exception_of_python_once", || {
        let waiting = python::spawn(
            "try:\n    select.select([r], [], [])\nexcept OSError as error:\n    log.append(error.errno)\n\
             finally:\n    time.sleep(0.01)\n    log.append(select.select([r], [], [], 0.01))",
        );
        greenlet::yield_now();
        waiting.kill().unwrap();
        python::run("assert log == [errno.ECANCELED, ([], [], [])], log");
    });
}

#[test]
fn a_hundred_greenlets_of_python_sleep_at_once() {
    with_python("a_hundred_greenlets_of_python_sleep_at_once", || {
        let begin = Instant::now();
        let sleepers: Vec<_> = (0..100)
            .map(|_| {
                python::spawn(
                    "log.append('in')\ntime.sleep(2)\nassert log.count('in') == 100\nlog.append('out')",
                )
            })
            .collect();
        greenlet::join_all(&sleepers, None).unwrap();
        sleepers.iter().for_each(|sleeper| sleeper.join().unwrap());
        python::run("assert log.count('out') == 100");
        assert!(begin.elapsed() < Duration::from_secs(100), "one after the other");
    });
}

/// A lock of Python's is a semaphore; who waits for it lets its holder run.
#[test]
fn threading_lock() {
    meanwhile(
        "threading_lock",
        "import threading\nlock = threading.Lock()\nlock.acquire()",
        "with lock:\n    log.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nassert 'waited' not in log\nlock.release()",
    );
}

#[test]
fn threading_lock_with_a_timeout() {
    meanwhile(
        "threading_lock_with_a_timeout",
        "import threading\nlock = threading.Lock()\nlock.acquire()",
        "assert not lock.acquire(timeout=0.02)\nassert lock.acquire(timeout=3600)\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.05)\nlock.release()",
    );
}

/// One holds a lock while it sleeps, and ten others want it.
#[test]
fn a_lock_held_across_a_sleep() {
    meanwhile(
        "a_lock_held_across_a_sleep",
        "import threading\nlock = threading.Lock()\ncount = [0]",
        "with lock:\n    time.sleep(0.05)\n    count[0] += 1\nlog.append('waited')",
        "log.append('other')\nfor _ in range(10):\n    with lock:\n        time.sleep(0.001)\n        count[0] += 1",
    );
}

#[test]
fn queues_events_and_conditions() {
    meanwhile(
        "queues_events_and_conditions",
        "import queue, threading\nq = queue.Queue()\nevent = threading.Event()\ncondition = threading.Condition(threading.Lock())",
        "assert q.get() == 1\nassert q.get(timeout=3600) == 2\nevent.wait()\n\
         with condition:\n    condition.wait_for(lambda: 'said' in log)\nlog.append('waited')",
        "log.append('other')\nq.put(1)\ntime.sleep(0.01)\nq.put(2)\ntime.sleep(0.01)\nevent.set()\ntime.sleep(0.01)\n\
         with condition:\n    log.append('said')\n    condition.notify_all()",
    );
}

#[test]
fn a_thread_of_python() {
    meanwhile(
        "a_thread_of_python",
        "import threading",
        "t = threading.Thread(target=lambda: time.sleep(0.05))\nt.start()\nt.join()\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nassert 'waited' not in log",
    );
}

#[test]
fn sockets_in_blocking_mode() {
    meanwhile(
        "sockets_in_blocking_mode",
        "import socket\nlistener = socket.create_server(('127.0.0.1', 0))",
        "server, _ = listener.accept()\nassert server.recv(100) == b'question'\n\
         server.sendall(b'a' * 5_000_000)\nserver.close()\nlog.append('waited')",
        "log.append('other')\nclient = socket.create_connection(listener.getsockname())\ntime.sleep(0.01)\n\
         client.send(b'question')\ntime.sleep(0.01)\nlength = 0\nwhile part := client.recv(65536):\n    length += len(part)\n\
         assert length == 5_000_000",
    );
}

#[test]
fn os_read_of_a_pipe() {
    meanwhile(
        "os_read_of_a_pipe",
        "import os\nr, w = os.pipe()",
        "assert os.read(r, 10) == b'x'\nlog.append('waited')",
        "log.append('other')\nos.write(w, b'x')",
    );
}

#[test]
fn os_write_to_a_full_pipe() {
    meanwhile(
        "os_write_to_a_full_pipe",
        "import os\nr, w = os.pipe()",
        "assert os.write(w, b'x' * 1_000_000) == 1_000_000\nlog.append('waited')",
        "log.append('other')\nlength = 0\nwhile length < 1_000_000:\n    length += len(os.read(r, 65536))\n    time.sleep(0.001)",
    );
}

#[test]
fn subprocess_run() {
    meanwhile(
        "subprocess_run",
        "import os, subprocess\nr, w = os.pipe()",
        "done = subprocess.run(['cat'], stdin=r, capture_output=True)\nassert done.stdout == b'x'\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nos.write(w, b'x')\nos.close(w)",
    );
}

#[test]
fn socket_getaddrinfo() {
    meanwhile(
        "socket_getaddrinfo",
        "import encodings.idna, socket",
        // One that is quick may be back before another greenlet has the interpreter: not each time.
        "for _ in range(1000):\n    assert socket.getaddrinfo('localhost', 80)\n    if log:\n        break\nlog.append('waited')",
        "log.append('other')",
    );
}

#[test]
fn os_waitpid() {
    meanwhile(
        "os_waitpid",
        "import os, subprocess\nchild = subprocess.Popen(['cat'], stdin=subprocess.PIPE)",
        "assert os.waitpid(child.pid, 0) == (child.pid, 0)\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nchild.stdin.close()",
    );
}

#[test]
fn fcntl_flock() {
    meanwhile(
        "fcntl_flock",
        "import fcntl, tempfile\na = tempfile.NamedTemporaryFile()\nb = open(a.name)\nfcntl.flock(a, fcntl.LOCK_EX)",
        "fcntl.flock(b, fcntl.LOCK_EX)\nlog.append('waited')",
        "log.append('other')\ntime.sleep(0.01)\nfcntl.flock(a, fcntl.LOCK_UN)",
    );
}
