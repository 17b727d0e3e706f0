/* Preloaded into a child of a test: notes what it does to the files of one directory, and can make it fail.
 *
 * FAULT_DIR is the directory. What happens to its files, the shared memory and the lock file excepted, goes
 * to FAULT_LOG, which has to lie elsewhere: a struct record, the name, and the bytes that were written.
 * FAULT_FAIL, "kinds:nth:times:errno", makes calls fail from the nth on, `times` of them (-1: all);
 * fault_arm() sets the same later. A sync is noted but not made: the disk of the test does not matter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, CUT = 4, UNLINK = 8 };

struct record {
    uint32_t kind, name;
    uint64_t offset, size;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char dir[PATH_MAX];
static size_t dir_length;
static int log_fd = -1;
static int fail_kinds, fail_error;
static long fail_nth, fail_times, fail_hits;

void fault_arm(int kinds, long nth, long times, int error)
{
    pthread_mutex_lock(&mutex);
    fail_kinds = kinds, fail_nth = nth, fail_times = times, fail_error = error, fail_hits = 0;
    pthread_mutex_unlock(&mutex);
}

/* How many calls have failed since fault_arm(). */
long fault_hits(void)
{
    pthread_mutex_lock(&mutex);
    long hits = fail_hits;
    pthread_mutex_unlock(&mutex);
    return hits;
}

__attribute__((constructor)) static void begin(void)
{
    const char *where = getenv("FAULT_DIR"), *log = getenv("FAULT_LOG"), *fail = getenv("FAULT_FAIL");
    if (where == NULL || realpath(where, dir) == NULL)
        return;
    dir_length = strlen(dir);
    if (log != NULL)
        log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fail != NULL)
        sscanf(fail, "%d:%ld:%ld:%d", &fail_kinds, &fail_nth, &fail_times, &fail_error);
}

static int ends(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* The name inside the directory, "" for the directory itself, NULL for what is of no interest. */
static const char *inside(const char *path)
{
    if (dir_length == 0 || strncmp(path, dir, dir_length) != 0)
        return NULL;
    path += dir_length;
    if (*path == '\0')
        return path;
    if (*path != '/' || ends(path, "-shm") || ends(path, ".wlock"))
        return NULL;
    return path + 1;
}

static const char *name_of(int fd, char *buffer)
{
    char link[64];
    if (dir_length == 0)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    ssize_t length = readlink(link, buffer, PATH_MAX - 1);
    errno = kept;
    if (length < 0)
        return NULL;
    buffer[length] = '\0';
    return inside(buffer);
}

/* Whether this call is one to fail; what is no file of a database never does. Under the mutex. */
static int fails(int kind, const char *name)
{
    if (!(kind & fail_kinds) || *name == '\0' || strstr(name, ".db") == NULL)
        return 0;
    if (fail_nth > 1) {
        fail_nth--;
        return 0;
    }
    if (fail_times == 0)
        return 0;
    if (fail_times > 0)
        fail_times--;
    fail_hits++;
    errno = fail_error;
    return 1;
}

static void note(int kind, const char *name, uint64_t offset, const void *data, size_t size)
{
    int kept = errno;
    struct record head = {kind, strlen(name), offset, size};
    struct iovec parts[] = {{&head, sizeof head}, {(void *)name, head.name}, {(void *)data, data ? size : 0}};
    if (log_fd >= 0 && writev(log_fd, parts, 3) < 0)
        abort();
    errno = kept;
}

static ssize_t put(int fd, const void *data, size_t size, off_t offset, int placed)
{
    char buffer[PATH_MAX];
    const char *name = name_of(fd, buffer);
    if (name == NULL)
        return placed ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
    pthread_mutex_lock(&mutex);
    ssize_t done = -1;
    if (!fails(WRITE, name)) {
        if (!placed)
            offset = lseek(fd, 0, SEEK_CUR);
        done = placed ? syscall(SYS_pwrite64, fd, data, size, offset) : syscall(SYS_write, fd, data, size);
        if (done > 0)
            note(WRITE, name, offset, data, done);
    }
    pthread_mutex_unlock(&mutex);
    return done;
}

ssize_t write(int fd, const void *data, size_t size) { return put(fd, data, size, 0, 0); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return put(fd, data, size, offset, 1); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return put(fd, data, size, offset, 1); }

static int settle(int fd, int number)
{
    char buffer[PATH_MAX];
    const char *name = name_of(fd, buffer);
    if (name == NULL)
        return syscall(number, fd);
    pthread_mutex_lock(&mutex);
    int done = fails(SYNC, name) ? -1 : 0;
    if (done == 0)
        note(SYNC, name, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return done;
}

int fsync(int fd) { return settle(fd, SYS_fsync); }
int fdatasync(int fd) { return settle(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size)
{
    char buffer[PATH_MAX];
    const char *name = name_of(fd, buffer);
    if (name == NULL)
        return syscall(SYS_ftruncate, fd, size);
    pthread_mutex_lock(&mutex);
    int done = fails(CUT, name) ? -1 : syscall(SYS_ftruncate, fd, size);
    if (done == 0)
        note(CUT, name, size, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return done;
}

int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int unlink(const char *path)
{
    const char *name = inside(path);
    if (name == NULL)
        return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&mutex);
    int done = fails(UNLINK, name) ? -1 : syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (done == 0)
        note(UNLINK, name, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return done;
}
