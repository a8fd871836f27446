/* Loaded into a server before libc: every fdatasync takes as much longer as
   SLOW_FDATASYNC_US says, as it would on a slower disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fdatasync(int fd)
{
    static int (*real)(int);
    static long delay = -1;
    if (real == NULL)
        real = (int (*)(int)) dlsym(RTLD_NEXT, "fdatasync");
    if (delay < 0) {
        const char *given = getenv("SLOW_FDATASYNC_US");
        delay = given == NULL ? 0 : atol(given);
    }
    int result = real(fd);
    struct timespec left = {delay / 1000000, delay % 1000000 * 1000};
    while (nanosleep(&left, &left) != 0)
        ;
    return result;
}
