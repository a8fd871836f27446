/* slow_link LISTEN CONNECT MICROSECONDS: passes bytes between two unix sockets, each chunk so much
   later than it came, in both directions; order and boundaries in time are kept, bandwidth is not
   limited. It stands in for netem where the kernel has none. Ends with its standard input. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 16, PAIRS = 1 << 16 };

struct chunk {
    struct chunk *next;
    struct timespec due;
    int to;      /* where it goes */
    ssize_t size; /* 0: the other side has closed */
    char bytes[];
};

static int other[PAIRS];                     /* the other end of each connection */
static char ended[PAIRS];                    /* nothing more goes there */
static struct chunk *first, **last = &first; /* one delay for all: due in the order they came */

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address->sun_path) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    strcpy(address->sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || fd >= PAIRS)
        fail("socket");
    return fd;
}

static void watch(int poll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

/* What there is to read, for later. Returns whether there will be more. */
static int take(int from, long delay)
{
    struct chunk *chunk = malloc(sizeof *chunk + CHUNK);
    if (chunk == NULL)
        fail("malloc");
    chunk->size = read(from, chunk->bytes, CHUNK);
    if (chunk->size < 0)
        chunk->size = 0;
    chunk = realloc(chunk, sizeof *chunk + (size_t) chunk->size);
    clock_gettime(CLOCK_MONOTONIC, &chunk->due);
    chunk->due.tv_nsec += delay * 1000;
    chunk->due.tv_sec += chunk->due.tv_nsec / 1000000000;
    chunk->due.tv_nsec %= 1000000000;
    chunk->to = other[from];
    chunk->next = NULL;
    *last = chunk;
    last = &chunk->next;
    return chunk->size > 0;
}

static void give(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    while (first != NULL
           && (first->due.tv_sec < now.tv_sec
               || (first->due.tv_sec == now.tv_sec && first->due.tv_nsec <= now.tv_nsec))) {
        struct chunk *chunk = first;
        if (chunk->size == 0) {
            shutdown(chunk->to, SHUT_WR);
            ended[chunk->to] = 1;
            if (ended[other[chunk->to]]) {
                close(other[chunk->to]);
                close(chunk->to);
            }
        }
        for (ssize_t sent = 0, more; sent < chunk->size; sent += more) {
            more = send(chunk->to, chunk->bytes + sent, (size_t) (chunk->size - sent), MSG_NOSIGNAL);
            if (more <= 0)
                break;
        }
        first = chunk->next;
        if (first == NULL)
            last = &first;
        free(chunk);
    }
}

int main(int count, char **given)
{
    if (count != 4)
        return 2;
    struct sockaddr_un here, there;
    int listener = unix_socket(given[1], &here);
    close(unix_socket(given[2], &there));
    long delay = atol(given[3]);
    prctl(PR_SET_TIMERSLACK, 1);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (bind(listener, (struct sockaddr *) &here, sizeof here) != 0 || listen(listener, 512) != 0)
        fail(given[1]);
    watch(poll, listener);
    watch(poll, timer);
    watch(poll, STDIN_FILENO);
    for (;;) {
        struct itimerspec alarm = {0};
        if (first != NULL)
            alarm.it_value = first->due;
        timerfd_settime(timer, TFD_TIMER_ABSTIME, &alarm, NULL);
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == STDIN_FILENO)
                return 0;
            if (fd == timer) {
                uint64_t times;
                (void) !read(timer, &times, sizeof times);
            } else if (fd == listener) {
                int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                int server = unix_socket(given[2], &there);
                if (client < 0 || client >= PAIRS)
                    fail("accept");
                if (connect(server, (struct sockaddr *) &there, sizeof there) != 0)
                    fail(given[2]);
                other[client] = server;
                other[server] = client;
                ended[client] = ended[server] = 0;
                watch(poll, client);
                watch(poll, server);
            } else if (!take(fd, delay)) {
                epoll_ctl(poll, EPOLL_CTL_DEL, fd, NULL);
            }
        }
        give();
    }
}
