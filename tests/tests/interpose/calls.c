// Each of libc's calls that receive and send, as C code makes them: one buffer, of which lists have three parts.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// What <bits/*2.h> calls where it knows the size of the buffer.
extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

struct parts { struct iovec list[3]; };

static struct parts parts(char *buffer, size_t length) {
    size_t third = length / 3;
    struct parts it = { { { buffer, third }, { buffer + third, third }, { buffer + 2 * third, length - 2 * third } } };
    return it;
}

static struct msghdr message(struct parts *it) {
    struct msghdr message;
    memset(&message, 0, sizeof message);
    message.msg_iov = it->list;
    message.msg_iovlen = 3;
    return message;
}

ssize_t call_read(int fd, char *b, size_t n) { return read(fd, b, n); }
ssize_t call_read_chk(int fd, char *b, size_t n) { return __read_chk(fd, b, n, n); }
ssize_t call_readv(int fd, char *b, size_t n) { struct parts it = parts(b, n); return readv(fd, it.list, 3); }
ssize_t call_preadv2(int fd, char *b, size_t n) { struct parts it = parts(b, n); return preadv2(fd, it.list, 3, -1, 0); }
ssize_t call_preadv64v2(int fd, char *b, size_t n) { struct parts it = parts(b, n); return preadv64v2(fd, it.list, 3, -1, 0); }
ssize_t call_recv(int fd, char *b, size_t n) { return recv(fd, b, n, 0); }
ssize_t call_recv_chk(int fd, char *b, size_t n) { return __recv_chk(fd, b, n, n, 0); }
ssize_t call_recvfrom(int fd, char *b, size_t n) { return recvfrom(fd, b, n, 0, 0, 0); }
ssize_t call_recvfrom_chk(int fd, char *b, size_t n) { return __recvfrom_chk(fd, b, n, n, 0, 0, 0); }
ssize_t call_recvmsg(int fd, char *b, size_t n) {
    struct parts it = parts(b, n);
    struct msghdr m = message(&it);
    return recvmsg(fd, &m, 0);
}
ssize_t call_recvmmsg(int fd, char *b, size_t n) {
    struct parts it = parts(b, n);
    struct mmsghdr m = { message(&it), 0 };
    int got = recvmmsg(fd, &m, 1, 0, 0);
    return got == 1 ? (ssize_t)m.msg_len : got;
}
ssize_t recv_all(int fd, char *b, size_t n) { return recv(fd, b, n, MSG_WAITALL); }
ssize_t recv_all_peek(int fd, char *b, size_t n) { return recv(fd, b, n, MSG_WAITALL | MSG_PEEK); }
ssize_t recv_all_dont(int fd, char *b, size_t n) { return recv(fd, b, n, MSG_WAITALL | MSG_DONTWAIT); }
ssize_t recvfrom_all(int fd, char *b, size_t n) { return recvfrom(fd, b, n, MSG_WAITALL, 0, 0); }
ssize_t recvmsg_all(int fd, char *b, size_t n) {
    struct parts it = parts(b, n);
    struct msghdr m = message(&it);
    return recvmsg(fd, &m, MSG_WAITALL);
}
ssize_t recv_dont(int fd, char *b, size_t n) { return recv(fd, b, n, MSG_DONTWAIT); }
ssize_t send_dont(int fd, char *b, size_t n) { return send(fd, b, n, MSG_DONTWAIT | MSG_NOSIGNAL); }

ssize_t call_write(int fd, char *b, size_t n) { return write(fd, b, n); }
ssize_t call_writev(int fd, char *b, size_t n) { struct parts it = parts(b, n); return writev(fd, it.list, 3); }
ssize_t call_pwritev2(int fd, char *b, size_t n) { struct parts it = parts(b, n); return pwritev2(fd, it.list, 3, -1, 0); }
ssize_t call_pwritev64v2(int fd, char *b, size_t n) { struct parts it = parts(b, n); return pwritev64v2(fd, it.list, 3, -1, 0); }
ssize_t call_send(int fd, char *b, size_t n) { return send(fd, b, n, 0); }
ssize_t call_sendto(int fd, char *b, size_t n) { return sendto(fd, b, n, 0, 0, 0); }
ssize_t call_sendmsg(int fd, char *b, size_t n) {
    struct parts it = parts(b, n);
    struct msghdr m = message(&it);
    return sendmsg(fd, &m, 0);
}
// Two messages, of which a stream may take parts.
ssize_t call_sendmmsg(int fd, char *b, size_t n) {
    struct parts first = parts(b, n / 2), second = parts(b + n / 2, n - n / 2);
    struct mmsghdr m[2] = { { message(&first), 0 }, { message(&second), 0 } };
    int sent = sendmmsg(fd, m, 2, 0);
    return sent < 0 ? sent : sent == 1 ? m[0].msg_len : (ssize_t)m[0].msg_len + m[1].msg_len;
}
