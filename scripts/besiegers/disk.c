/* A disk that fails, without root and without a device: the writes of one process get the errno
   whose number is in the file $SIEGE_DISK, if that is there.  Only files whose path begins with
   $SIEGE_HOME are on that disk; sockets and logs are not.  For LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int fd) {
    const char *order = getenv("SIEGE_DISK"), *home = getenv("SIEGE_HOME");
    char link[64], path[4096];
    FILE *file;
    int number = 0;
    ssize_t size;

    if (!order || !home || access(order, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    if (strncmp(path, home, strlen(home)) != 0)
        return 0;
    file = fopen(order, "r");
    if (file) {
        if (fscanf(file, "%d", &number) != 1)
            number = 0;
        fclose(file);
    }
    if (number)
        errno = number;
    return number;
}

#define FAILING(type, name, parameters, arguments)                      \
    type name parameters {                                              \
        static type (*real) parameters;                                 \
        if (!real)                                                      \
            real = (type (*) parameters)dlsym(RTLD_NEXT, #name);        \
        return fails(fd) ? -1 : real arguments;                         \
    }

FAILING(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size))
FAILING(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t at), (fd, data, size, at))
FAILING(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t at), (fd, data, size, at))
FAILING(int, fsync, (int fd), (fd))
FAILING(int, fdatasync, (int fd), (fd))
FAILING(int, ftruncate64, (int fd, off64_t size), (fd, size))
