"""The micro-benchmarks for gevent, and the switch for greenlet alone. What each does is told in benches/src/runtime_marks/ours.rs.

    gevent_marks.py gevent|greenlet BENCHMARK [COUNT]
"""

import os
import sys
import time

MESSAGE = 64
BUFFER = 1024
TIMERS = 100_000
PENDING = 1_000_000
DAY = 24 * 60 * 60

cpu = time.process_time


def ns(start, times):
    return {"ns": (cpu() - start) * 1e9 / times}


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def greenlet_switch(_count):
    import greenlet

    times = 1_000_000
    main = greenlet.getcurrent()

    def loop():
        switch = main.switch
        while True:
            switch()

    switch = greenlet.greenlet(loop).switch
    start = cpu()
    for _ in range(times):
        switch()
    return ns(start, 2 * times)  # there and back again


def greenlet_spawn_join(_count):
    import greenlet

    times = 200_000
    start = cpu()
    for _ in range(times):
        greenlet.greenlet(int).switch()
    return ns(start, times)


def switch(_count):
    import gevent

    times = 200_000

    def loop():
        sleep = gevent.sleep
        for _ in range(times):
            sleep(0)

    start = cpu()
    gevent.joinall([gevent.spawn(loop), gevent.spawn(loop)])
    return ns(start, 2 * times)


def spawn_join(_count):
    import gevent

    times = 100_000
    start = cpu()
    for _ in range(times):
        gevent.spawn(int).join()
    return ns(start, times)


def ping_pong(_count):
    import gevent
    from gevent.queue import SimpleQueue

    times = 200_000
    pings, pongs = SimpleQueue(), SimpleQueue()

    def server():
        while True:
            pongs.put(pings.get())

    def client():
        for number in range(times):
            pings.put(number)
            pongs.get()

    start = cpu()
    echo = gevent.spawn(server)
    gevent.spawn(client).get()
    echo.kill()
    return ns(start, times)


def echo(connections, times):
    import gevent
    from gevent import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)

    def server(connection):
        while data := connection.recv(BUFFER):
            connection.sendall(data)

    def client(connection):
        data = b"7" * MESSAGE
        for _ in range(times):
            connection.sendall(data)
            missing = MESSAGE
            while missing:
                missing -= len(connection.recv(BUFFER))

    clients, servers = [], []
    for _ in range(connections):
        near = socket.create_connection(listener.getsockname())
        far, _address = listener.accept()
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        servers.append(gevent.spawn(server, far))
        clients.append(near)
    gevent.sleep(0)
    start = cpu()
    gevent.joinall([gevent.spawn(client, near) for near in clients], raise_error=True)
    return ns(start, connections * times)


def timers(_count):
    import gevent

    start = cpu()
    gevent.joinall([gevent.spawn(gevent.sleep, n * 7_919 % TIMERS / TIMERS) for n in range(TIMERS)])
    return ns(start, TIMERS)


def timer_cancel(_count):
    import gevent

    times = 200_000
    loop = gevent.get_hub().loop

    def start_timer():
        timer = loop.timer(DAY)
        timer.start(int)
        return timer

    kept = [start_timer() for _ in range(PENDING)]
    start = cpu()
    for _ in range(times):
        start_timer().close()
    figures = ns(start, times)
    for timer in kept:
        timer.close()
    return figures


def parked(count):
    import gevent

    before, start = resident(), cpu()
    asleep = 0

    def sleeper():
        nonlocal asleep
        asleep += 1
        gevent.sleep(DAY)

    kept = [gevent.spawn(sleeper) for _ in range(count)]
    while asleep < count:
        gevent.sleep(0)
    seconds = cpu() - start
    return {"bytes": (resident() - before) / len(kept), "seconds": seconds}


BENCHES = {
    "gevent": {
        "switch": switch,
        "spawn_join": spawn_join,
        "ping_pong": ping_pong,
        "echo_1": lambda _count: echo(1, 20_000),
        "echo_1000": lambda _count: echo(1_000, 20),
        "timers": timers,
        "timer_cancel": timer_cancel,
        "parked": parked,
    },
    "greenlet": {"switch": greenlet_switch, "spawn_join": greenlet_spawn_join},
}


def main():
    runtime, bench, *count = sys.argv[1:]
    benches = BENCHES[runtime]
    if bench not in benches:
        print(f"there is no benchmark `{bench}` here", file=sys.stderr)
        sys.exit(2)
    figures = benches[bench](int(count[0]) if count else 1_000_000)
    name = "greenlet (Python)" if runtime == "greenlet" else runtime
    name += " " + __import__(runtime).__version__
    figures = ",".join(f'"{name}":{value:.6f}' for name, value in figures.items())
    print(f'{{"runtime":"{name}","figures":{{{figures}}}}}', flush=True)
    os._exit(0)  # without taking a million greenlets apart


main()
