/* The least that a server can do: one thread, one epoll, nothing parsed. It counts empty lines ("\r\n\r\n") and answers
 * each with the same bytes. What a server takes more than this it takes for HTTP and for its application.
 *
 *   bare PORT plaintext      13 bytes
 *   bare PORT close          the same, then ends the connection
 *   bare PORT fixed          100 KiB with Content-Length
 *   bare PORT stream         100 chunks of 1 KiB, prepared beforehand, sent in one go
 *   bare PORT sleep          13 bytes, 100 ms later
 *   bare PORT file PATH      a file by sendfile(2)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define HEAD "HTTP/1.1 200 OK\r\nServer: bare\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\nContent-Type: text/plain\r\n"
#define MOST_AT_ONCE 64

struct connection {
    uint8_t matched;  /* how much of "\r\n\r\n" has been seen */
    uint32_t owed;    /* answers not yet begun */
    size_t sent;      /* bytes sent of the answer under way */
};

static struct connection *connections;
static int poller, listener, file = -1, closing, sleeping;
static char *answer, *answers; /* one, and MOST_AT_ONCE of them side by side */
static size_t answer_length, file_length;

/* All sleeps take the same time: they end in the order in which they begin. */
static struct due { int fd; struct timespec at; } *queue;
static size_t queue_first, queue_end, queue_size;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void prepare(const char *mode) {
    static char stream[200 * 1024];
    size_t body_length = strcmp(mode, "fixed") == 0 ? 100 * 1024 : 13;
    size_t at;
    answer = malloc(256 * 1024);
    if (!answer)
        fail("malloc");
    if (strcmp(mode, "stream") == 0) {
        size_t n = 0;
        for (int chunk = 0; chunk < 100; chunk++) {
            n += sprintf(stream + n, "400\r\n");
            memset(stream + n, 'a' + chunk % 26, 1024);
            n += 1024;
            n += sprintf(stream + n, "\r\n");
        }
        n += sprintf(stream + n, "0\r\n\r\n");
        at = sprintf(answer, HEAD "Transfer-Encoding: chunked\r\n\r\n");
        memcpy(answer + at, stream, n);
        answer_length = at + n;
        return;
    }
    if (file >= 0) {
        answer_length = sprintf(answer, HEAD "Content-Length: %zu\r\n\r\n", file_length);
        return;
    }
    at = sprintf(answer, HEAD "%sContent-Length: %zu\r\n\r\n", closing ? "Connection: close\r\n" : "", body_length);
    if (body_length == 13)
        memcpy(answer + at, "Hello, World!", 13);
    else
        memset(answer + at, 'x', body_length);
    answer_length = at + body_length;
}

static void hang_up(int fd) {
    close(fd);
}

/* Sends what is owed. */
static void send_owed(int fd) {
    struct connection *c = &connections[fd];
    size_t whole = answer_length + file_length;
    while (c->owed) {
        ssize_t n;
        if (file >= 0) {
            if (c->sent < answer_length) {
                n = send(fd, answer + c->sent, answer_length - c->sent, MSG_MORE | MSG_NOSIGNAL);
            } else {
                off_t from = c->sent - answer_length;
                n = sendfile(fd, file, &from, file_length - from);
            }
        } else {
            uint32_t now = c->owed < MOST_AT_ONCE ? c->owed : MOST_AT_ONCE;
            n = write(fd, answers + c->sent, now * answer_length - c->sent);
        }
        if (n < 0) {
            if (errno == EAGAIN)
                return; /* edge-triggered for writing: EPOLLOUT will tell */
            hang_up(fd);
            return;
        }
        c->sent += n;
        while (c->owed && c->sent >= whole) {
            c->sent -= whole;
            c->owed--;
        }
    }
    if (closing)
        hang_up(fd);
}

static void put_to_sleep(int fd) {
    if (queue_end == queue_size) {
        memmove(queue, queue + queue_first, (queue_end - queue_first) * sizeof *queue);
        queue_end -= queue_first;
        queue_first = 0;
    }
    struct due *due = &queue[queue_end++];
    clock_gettime(CLOCK_MONOTONIC, &due->at);
    due->fd = fd;
    due->at.tv_nsec += 100000000;
    if (due->at.tv_nsec >= 1000000000) {
        due->at.tv_nsec -= 1000000000;
        due->at.tv_sec++;
    }
}

/* Wakes who has slept enough. Gives the time until the next is due, in milliseconds. */
static int wake(void) {
    struct timespec now;
    if (!sleeping || queue_first == queue_end)
        return -1;
    clock_gettime(CLOCK_MONOTONIC, &now);
    while (queue_first < queue_end) {
        struct due *due = &queue[queue_first];
        long long left = (due->at.tv_sec - now.tv_sec) * 1000000000LL + due->at.tv_nsec - now.tv_nsec;
        if (left > 0)
            return (left + 999999) / 1000000;
        queue_first++;
        connections[due->fd].owed++;
        send_owed(due->fd);
    }
    queue_first = queue_end = 0;
    return -1;
}

static void receive(int fd) {
    static char buffer[16384];
    static const uint8_t end[4] = {'\r', '\n', '\r', '\n'};
    struct connection *c = &connections[fd];
    ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN)
            hang_up(fd);
        return;
    }
    uint32_t asked = 0;
    uint8_t matched = c->matched;
    for (ssize_t i = 0; i < n; i++) {
        if (buffer[i] == end[matched])
            matched++;
        else
            matched = buffer[i] == '\r';
        if (matched == 4) {
            matched = 0;
            asked++;
        }
    }
    c->matched = matched;
    if (sleeping) {
        while (asked--)
            put_to_sleep(fd);
        return;
    }
    c->owed += asked;
    if (asked)
        send_owed(fd);
}

static void accept_all(void) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        memset(&connections[fd], 0, sizeof connections[fd]);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (answer_length + file_length > 16384)
            event.events = EPOLLIN | EPOLLOUT | EPOLLET;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
            fail("epoll_ctl");
    }
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: bare PORT plaintext|close|fixed|stream|sleep|file [PATH]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    closing = strcmp(argv[2], "close") == 0;
    sleeping = strcmp(argv[2], "sleep") == 0;
    if (argc > 3) {
        struct stat st;
        file = open(argv[3], O_RDONLY);
        if (file < 0 || fstat(file, &st) < 0)
            fail(argv[3]);
        file_length = st.st_size;
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        fail("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    connections = calloc(limit.rlim_max, sizeof *connections);
    queue_size = 2 * limit.rlim_max;
    queue = malloc(queue_size * sizeof *queue);
    if (!connections || !queue)
        fail("malloc");
    prepare(argv[2]);
    answers = malloc(answer_length * MOST_AT_ONCE);
    if (!answers)
        fail("malloc");
    for (int i = 0; i < MOST_AT_ONCE; i++)
        memcpy(answers + i * answer_length, answer, answer_length);

    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 8192) < 0)
        fail("listen");
    poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int n = epoll_wait(poller, events, 256, wake());
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all();
            } else {
                if (events[i].events & EPOLLOUT && connections[fd].owed)
                    send_owed(fd);
                if (events[i].events & ~EPOLLOUT)
                    receive(fd);
            }
        }
    }
}
