/* Preloaded into kho, kho-vm and QEMU: writes down every change that they make to files below one folder, in
 * the order in which it was made, with the begin and the end of each fsync. replay.py makes from it what a
 * power failure could have left. KHO_RECORD names the log, KHO_RECORD_ROOT the folder.
 *
 * A record is struct Record, then two byte strings. A change is recorded once it is made; so whatever stands
 * before an fsync's begin was made before it. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    OP_NEW = 1,  /* inode; first: path, or empty for a nameless file */
    OP_WRITE,    /* inode, offset; first: bytes */
    OP_TRUNCATE, /* inode, offset: the new size */
    OP_SPACE,    /* inode, offset, length, mode of fallocate */
    OP_SYNC,     /* inode, offset: 0 begins, 1 ends; length: a number that both have; mode: 1 for fdatasync;
                  * first: path of a folder */
    OP_LINK,     /* inode; first: path */
    OP_UNLINK,   /* first: path */
    OP_RENAME,   /* first: from; second: to */
    OP_MKDIR,    /* first: path */
    OP_SYMLINK,  /* first: target; second: path */
};

struct Record {
    uint32_t op, pid;
    uint64_t inode, offset, length, mtime_ns; /* of the file, after a change of its bytes */
    uint32_t mode, first, second, magic;
};

static int log_fd = -1;
static char root[PATH_MAX];

/* What is written by way of the kernel's own queue goes past what is preloaded: there is none here, and those
 * who would use it go the other way that they have. */
static void
forbid_uring(void)
{
    struct sock_filter lines[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { sizeof lines / sizeof *lines, lines };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
        || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        dprintf(2, "record: io_uring cannot be forbidden: %s\n", strerror(errno));
        abort();
    }
}

__attribute__((constructor)) static void
begin(void)
{
    const char *path = getenv("KHO_RECORD"), *below = getenv("KHO_RECORD_ROOT");

    if (!path || !below || strlen(below) >= sizeof root)
        return;
    strcpy(root, below);
    forbid_uring();
    int fd = (int) syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    /* out of the way of descriptors whose numbers mean something */
    log_fd = fd < 0 ? -1 : (int) syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 900);
    if (fd >= 0)
        syscall(SYS_close, fd);
}

static void
record(struct Record r, const void *first, const void *second)
{
    int saved = errno;

    r.pid = (uint32_t) getpid();
    r.magic = 0x6b686f21;
    struct iovec parts[] = { { &r, sizeof r }, { (void *) first, r.first }, { (void *) second, r.second } };
    if (syscall(SYS_writev, log_fd, parts, 3) != (long) (sizeof r + r.first + r.second)) {
        dprintf(2, "record: the log cannot be written: %s\n", strerror(errno));
        abort();
    }
    errno = saved;
}

/* The path that @path names relative to @dirfd, when it lies below the root. */
static int
resolve(int dirfd, const char *path, char *out)
{
    char link[64], folder[PATH_MAX] = "";

    if (log_fd < 0)
        return 0;
    if (path[0] != '/') {
        if (dirfd == AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/cwd");
        else
            snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
        ssize_t len = readlink(link, folder, sizeof folder - 1);
        if (len < 0)
            return 0;
        folder[len] = '\0';
    }
    if (snprintf(out, PATH_MAX, "%s%s%s", folder, folder[0] && path[0] ? "/" : "", path) >= PATH_MAX)
        return 0;
    return strncmp(out, root, strlen(root)) == 0 && (out[strlen(root)] == '/' || !out[strlen(root)]);
}

/* Whether a descriptor is a file or folder below the root; @path: room for its name, or NULL. */
static int
look_at(int fd, struct stat *st, char *path)
{
    int saved = errno;
    char buffer[PATH_MAX];
    int found = log_fd >= 0 && fd != log_fd && fstat(fd, st) == 0
                && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode)) && resolve(fd, "", path ? path : buffer);

    errno = saved;
    return found;
}

static uint64_t
mtime_of(const struct stat *st)
{
    return (uint64_t) st->st_mtim.tv_sec * 1000000000u + (uint64_t) st->st_mtim.tv_nsec;
}

static void
record_write(int fd, off_t at, const void *bytes, ssize_t done)
{
    struct stat st;

    if (done > 0 && look_at(fd, &st, NULL))
        record((struct Record){ .op = OP_WRITE,
                                .inode = st.st_ino,
                                .offset = (uint64_t) at,
                                .mtime_ns = mtime_of(&st),
                                .first = (uint32_t) done },
               bytes, NULL);
}

static int
open_recorded(int dirfd, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    struct stat st;
    int makes = (flags & O_TMPFILE) == O_TMPFILE || (flags & O_CREAT && fstatat(dirfd, path, &st, 0) != 0);
    int fd = (int) syscall(SYS_openat, dirfd, path, flags, mode);

    if (fd < 0 || log_fd < 0 || !resolve(dirfd, path, full) || fstat(fd, &st) != 0)
        return fd;
    const char *name = (flags & O_TMPFILE) == O_TMPFILE ? "" : full;
    if (makes)
        record((struct Record){ .op = OP_NEW,
                                .inode = st.st_ino,
                                .mtime_ns = mtime_of(&st),
                                .first = (uint32_t) strlen(name) },
               name, NULL);
    else if (flags & O_TRUNC && (flags & O_ACCMODE) != O_RDONLY)
        record((struct Record){ .op = OP_TRUNCATE, .inode = st.st_ino, .mtime_ns = mtime_of(&st) }, NULL,
               NULL);
    return fd;
}

#define MODE_ARGUMENT                                                                                        \
    mode_t mode = 0;                                                                                         \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                                     \
        va_list list;                                                                                        \
        va_start(list, flags);                                                                               \
        mode = va_arg(list, mode_t);                                                                         \
        va_end(list);                                                                                        \
    }

int
open(const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_recorded(AT_FDCWD, path, flags, mode);
}

int
open64(const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_recorded(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}

int
openat(int dirfd, const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_recorded(dirfd, path, flags, mode);
}

int
openat64(int dirfd, const char *path, int flags, ...)
{
    MODE_ARGUMENT
    return open_recorded(dirfd, path, flags | O_LARGEFILE, mode);
}

/* QEMU writes its guest's memory from where it lies, and the guest goes on: what is written and what is
 * recorded are one copy of it. A file that is open without the page cache wants it at a page's start. */
static void *
copy_parts(const struct iovec *parts, int n, struct iovec *copy)
{
    void *bytes;
    size_t len = 0, at = 0;

    for (int i = 0; i < n; i++)
        len += parts[i].iov_len;
    if (posix_memalign(&bytes, 4096, len ? len : 1) != 0)
        abort();
    for (int i = 0; i < n; at += parts[i++].iov_len)
        if (parts[i].iov_len)
            memcpy((char *) bytes + at, parts[i].iov_base, parts[i].iov_len);
    *copy = (struct iovec){ bytes, len };
    return bytes;
}

static ssize_t
write_recorded(int fd, const struct iovec *parts, int n)
{
    struct iovec copy;
    struct stat st;

    if (!look_at(fd, &st, NULL) || !S_ISREG(st.st_mode))
        return syscall(SYS_writev, fd, parts, n);
    void *bytes = copy_parts(parts, n, &copy);
    ssize_t done = syscall(SYS_write, fd, copy.iov_base, copy.iov_len);
    int saved = errno;
    off_t at = done > 0 ? lseek(fd, 0, SEEK_CUR) : -1;
    if (at >= 0)
        record_write(fd, at - done, copy.iov_base, done);
    free(bytes);
    errno = saved;
    return done;
}

ssize_t
write(int fd, const void *bytes, size_t len)
{
    struct iovec part = { (void *) bytes, len };
    return write_recorded(fd, &part, 1);
}

ssize_t
writev(int fd, const struct iovec *parts, int n)
{
    return write_recorded(fd, parts, n);
}

static ssize_t
pwrite_recorded(int fd, const struct iovec *parts, int n, off_t at)
{
    struct iovec copy;
    struct stat st;

    if (!look_at(fd, &st, NULL))
        return syscall(SYS_pwritev, fd, parts, n, at, 0);
    void *bytes = copy_parts(parts, n, &copy);
    ssize_t done = syscall(SYS_pwrite64, fd, copy.iov_base, copy.iov_len, at);
    int saved = errno;
    record_write(fd, at, copy.iov_base, done);
    free(bytes);
    errno = saved;
    return done;
}

ssize_t
pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    struct iovec part = { (void *) bytes, len };
    return pwrite_recorded(fd, &part, 1, at);
}

ssize_t
pwrite64(int fd, const void *bytes, size_t len, off_t at)
{
    struct iovec part = { (void *) bytes, len };
    return pwrite_recorded(fd, &part, 1, at);
}

ssize_t
pwritev(int fd, const struct iovec *parts, int n, off_t at)
{
    return pwrite_recorded(fd, parts, n, at);
}

ssize_t
pwritev64(int fd, const struct iovec *parts, int n, off_t at)
{
    return pwrite_recorded(fd, parts, n, at);
}

/* What the kernel copied or shared is read back: its bytes are what counts. */
static void
record_copied(int fd, off_t at, uint64_t len)
{
    char block[65536];

    for (uint64_t done = 0; done < len;) {
        ssize_t got =
            pread(fd, block, len - done < sizeof block ? len - done : sizeof block, at + (off_t) done);
        if (got <= 0)
            break;
        record_write(fd, at + (off_t) done, block, got);
        done += (uint64_t) got;
    }
}

ssize_t
copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags)
{
    off_t at = out_at ? *out_at : lseek(out, 0, SEEK_CUR);
    ssize_t done = syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);

    if (done > 0)
        record_copied(out, at, (uint64_t) done);
    return done;
}

int
ioctl(int fd, unsigned long request, ...)
{
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    int result = (int) syscall(SYS_ioctl, fd, request, argument);
    struct stat st;

    if (result != 0 || !look_at(fd, &st, NULL))
        return result;
    if (request == FICLONE)
        record_copied(fd, 0, (uint64_t) st.st_size);
    if (request == FICLONERANGE) {
        const struct file_clone_range *range = argument;
        record_copied(fd, (off_t) range->dest_offset,
                      range->src_length ? range->src_length : (uint64_t) st.st_size - range->dest_offset);
    }
    return result;
}

static int
truncate_recorded(int fd, off_t size)
{
    int result = (int) syscall(SYS_ftruncate, fd, size);
    struct stat st;

    if (result == 0 && look_at(fd, &st, NULL))
        record(
            (struct Record){
                .op = OP_TRUNCATE, .inode = st.st_ino, .offset = (uint64_t) size, .mtime_ns = mtime_of(&st) },
            NULL, NULL);
    return result;
}

int
ftruncate(int fd, off_t size)
{
    return truncate_recorded(fd, size);
}

int
ftruncate64(int fd, off64_t size)
{
    return truncate_recorded(fd, size);
}

static int
space_recorded(int fd, int mode, off_t at, off_t len)
{
    int result = (int) syscall(SYS_fallocate, fd, mode, at, len);
    struct stat st;

    if (result == 0 && look_at(fd, &st, NULL))
        record((struct Record){ .op = OP_SPACE,
                                .inode = st.st_ino,
                                .offset = (uint64_t) at,
                                .length = (uint64_t) len,
                                .mtime_ns = mtime_of(&st),
                                .mode = (uint32_t) mode },
               NULL, NULL);
    return result;
}

int
fallocate(int fd, int mode, off_t at, off_t len)
{
    return space_recorded(fd, mode, at, len);
}

int
fallocate64(int fd, int mode, off64_t at, off64_t len)
{
    return space_recorded(fd, mode, at, len);
}

static int
sync_recorded(int fd, long call)
{
    static uint64_t number;
    char path[PATH_MAX];
    struct stat st;
    struct Record r = { .op = OP_SYNC, .mode = call == SYS_fdatasync };
    int found = look_at(fd, &st, path);

    if (found) {
        r.inode = st.st_ino;
        r.length = __atomic_add_fetch(&number, 1, __ATOMIC_RELAXED);
        r.first = S_ISDIR(st.st_mode) ? (uint32_t) strlen(path) : 0;
        record(r, path, NULL);
    }
    int result = (int) syscall(call, fd);
    if (found && result == 0) {
        r.offset = 1;
        record(r, path, NULL);
    }
    return result;
}

int
fsync(int fd)
{
    return sync_recorded(fd, SYS_fsync);
}

int
fdatasync(int fd)
{
    return sync_recorded(fd, SYS_fdatasync);
}

int
renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    char full_from[PATH_MAX], full_to[PATH_MAX];
    int result = (int) syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);

    if (result == 0 && resolve(from_dir, from, full_from) && resolve(to_dir, to, full_to))
        record((struct Record){ .op = OP_RENAME,
                                .first = (uint32_t) strlen(full_from),
                                .second = (uint32_t) strlen(full_to) },
               full_from, full_to);
    return result;
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return renameat2(from_dir, from, to_dir, to, 0);
}

int
rename(const char *from, const char *to)
{
    return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    char full[PATH_MAX];
    struct stat st;
    int result = (int) syscall(SYS_linkat, from_dir, from, to_dir, to, flags);

    if (result == 0 && resolve(to_dir, to, full) && lstat(full, &st) == 0)
        record((struct Record){ .op = OP_LINK, .inode = st.st_ino, .first = (uint32_t) strlen(full) }, full,
               NULL);
    return result;
}

int
link(const char *from, const char *to)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int
unlinkat(int dirfd, const char *path, int flags)
{
    char full[PATH_MAX];
    int result = (int) syscall(SYS_unlinkat, dirfd, path, flags);

    if (result == 0 && resolve(dirfd, path, full))
        record((struct Record){ .op = OP_UNLINK, .first = (uint32_t) strlen(full) }, full, NULL);
    return result;
}

int
unlink(const char *path)
{
    return unlinkat(AT_FDCWD, path, 0);
}

int
rmdir(const char *path)
{
    return unlinkat(AT_FDCWD, path, AT_REMOVEDIR);
}

int
mkdirat(int dirfd, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    int result = (int) syscall(SYS_mkdirat, dirfd, path, mode);

    if (result == 0 && resolve(dirfd, path, full))
        record((struct Record){ .op = OP_MKDIR, .first = (uint32_t) strlen(full) }, full, NULL);
    return result;
}

int
mkdir(const char *path, mode_t mode)
{
    return mkdirat(AT_FDCWD, path, mode);
}

int
symlinkat(const char *target, int dirfd, const char *path)
{
    char full[PATH_MAX];
    int result = (int) syscall(SYS_symlinkat, target, dirfd, path);

    if (result == 0 && resolve(dirfd, path, full))
        record((struct Record){ .op = OP_SYMLINK,
                                .first = (uint32_t) strlen(target),
                                .second = (uint32_t) strlen(full) },
               target, full);
    return result;
}

int
symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}
