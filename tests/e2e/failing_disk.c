/* A disk that breaks when told to, for LD_PRELOAD.
 *
 * Once the file named by BROKEN_DISK_TRIGGER exists, every write and sync of a file below BROKEN_DISK_FOLDER fails with EIO; when
 * the file says "hang", it does not return until that file is gone, and is done then. For every failure
 * a line "<call> <path>" is added to BROKEN_DISK_LOG: the test reads there whether the program asked a second time. A program that
 * does may be told "fine" by a kernel that has already dropped the pages ("fsyncgate").
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Whether the trigger says so; waits meanwhile. */
static int hung(const char *trigger)
{
    char word[5] = "";
    int fd = open(trigger, O_RDONLY);
    if (fd < 0)
        return 1; /* gone just now */
    ssize_t length = read(fd, word, 4);
    close(fd);
    if (length != 4 || strcmp(word, "hang") != 0)
        return 0;
    struct timespec pause = {0, 20000000};
    while (access(trigger, F_OK) == 0)
        nanosleep(&pause, NULL);
    return 1;
}

static int broken(const char *call, int fd)
{
    const char *trigger = getenv("BROKEN_DISK_TRIGGER"), *folder = getenv("BROKEN_DISK_FOLDER"), *log = getenv("BROKEN_DISK_LOG");
    char link[64], path[PATH_MAX], line[PATH_MAX + 64];
    if (!trigger || !folder || !log || access(trigger, F_OK) != 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) != 0 || hung(trigger))
        return 0;
    int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (out >= 0) {
        int size = snprintf(line, sizeof line, "%s %s\n", call, path);
        ssize_t (*real_write)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
        real_write(out, line, size);
        close(out);
    }
    errno = EIO;
    return 1;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwrite");
    return broken("pwrite", fd) ? -1 : real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "pwrite64");
    return broken("pwrite", fd) ? -1 : real(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = dlsym(RTLD_NEXT, "write");
    return broken("write", fd) ? -1 : real(fd, data, size);
}

int fsync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fsync");
    return broken("fsync", fd) ? -1 : real(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    if (!real)
        real = dlsym(RTLD_NEXT, "fdatasync");
    return broken("fdatasync", fd) ? -1 : real(fd);
}
