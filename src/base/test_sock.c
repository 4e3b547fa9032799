#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <kho/error.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A folder whose path no socket address could hold. */
static char *
deep_folder(char **top)
{
    GString *path = g_string_new(*top = g_dir_make_tmp("kho-sock-XXXXXX", NULL));

    while (path->len < 300)
        g_string_append(path, "/a-folder-of-thirty-characters-");
    g_assert_cmpint(g_mkdir_with_parents(path->str, 0700), ==, 0);
    return g_string_free(path, FALSE);
}

static void
remove_deep(const char *folder, const char *top)
{
    g_autofree char *path = g_strdup(folder);

    while (strlen(path) >= strlen(top)) {
        g_assert_cmpint(g_rmdir(path), ==, 0);
        *strrchr(path, '/') = '\0';
    }
}

static void
test_talks(void)
{
    g_autofree char *top = NULL;
    g_autofree char *path = deep_folder(&top);
    fd_auto int folder = fd_open(path, O_RDONLY | O_DIRECTORY, 0, NULL);
    fd_auto int listener = sock_listen(folder, "s", NULL);
    fd_auto int mine = sock_connect(folder, "s", deadline_in(60000), NULL);
    fd_auto int theirs = sock_accept(listener, NULL);
    struct stat st;
    char byte = 0;
    uid_t uid;
    pid_t pid;

    g_assert_cmpint(theirs, >=, 0);
    g_assert_cmpint(fstatat(folder, "s", &st, 0), ==, 0);
    g_assert_cmpint(st.st_mode & 0777, ==, 0600);
    g_assert_true(sock_peer(theirs, &uid, &pid, NULL));
    g_assert_cmpint(uid, ==, geteuid());
    g_assert_cmpint(pid, ==, getpid());
    g_assert_cmpint(sock_send_some(mine, "x", 1), ==, 1);
    g_assert_true(pipe_wait_readable(theirs, deadline_in(60000), "peer", NULL));
    g_assert_cmpint(pipe_read_some(theirs, &byte, 1), ==, 1);
    g_assert_cmpint(byte, ==, 'x');
    g_assert_cmpint(sock_accept(listener, NULL), ==, -1); /* nobody else: no error either */
    sock_end_sending(mine);
    g_assert_cmpint(pipe_read_some(theirs, &byte, 1), ==, 0);
    fd_clear(&mine);
    while (sock_send_some(theirs, "y", 1) > 0) /* no SIGPIPE, whatever is buffered */
        continue;
    g_assert_cmpint(errno, ==, EPIPE);
    g_assert_cmpint(unlinkat(folder, "s", 0), ==, 0);
    remove_deep(path, top);
}

static void
test_refusals(void)
{
    g_autofree char *top = g_dir_make_tmp("kho-sock-XXXXXX", NULL);
    fd_auto int folder = fd_open(top, O_RDONLY | O_DIRECTORY, 0, NULL);
    g_autoptr(GError) none = NULL;
    g_autoptr(GError) stale = NULL;
    g_autoptr(GError) name = NULL;
    char long_name[120];

    g_assert_cmpint(sock_connect(folder, "s", deadline_in(0), &none), ==, -1);
    g_assert_error(none, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    int listener = sock_listen(folder, "s", NULL);
    fd_clear(&listener);
    g_assert_cmpint(sock_connect(folder, "s", deadline_in(0), &stale), ==, -1);
    g_assert_error(stale, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    listener = sock_listen(folder, "s", NULL); /* in place of the stale one */
    g_assert_cmpint(listener, >=, 0);
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    g_assert_cmpint(sock_connect(folder, long_name, deadline_in(0), &name), ==, -1);
    g_assert_error(name, KHO_ERROR, KHO_ERROR_INVALID);
    fd_clear(&listener);
    g_assert_cmpint(unlinkat(folder, "s", 0), ==, 0);
    g_assert_cmpint(g_rmdir(top), ==, 0);
}

/* A descriptor sent with some bytes is the same open file at the other end. */
static void
test_passes_files(void)
{
    fd_auto int mine = -1;
    fd_auto int theirs = -1;
    fd_auto int file = pipe_memory("text", "abc", 3, NULL);
    char byte = 0;
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };

    g_assert_true(sock_pair(&mine, &theirs, NULL));
    g_assert_true(fd_seek(file, 1, "the memory", NULL));
    g_assert_cmpint(sock_send_some_with(mine, "xy", 2, file), ==, 2);
    g_assert_cmpint(recvmsg(theirs, &message, 0), ==, 1);
    g_assert_cmpint(byte, ==, 'x');
    fd_auto int got = *(int *) (void *) CMSG_DATA(CMSG_FIRSTHDR(&message));
    g_assert_cmpint(pipe_read_some(got, &byte, 1), ==, 1);
    g_assert_cmpint(byte, ==, 'b');
    g_assert_cmpint(pipe_read_some(file, &byte, 1), ==, 1); /* one offset for both */
    g_assert_cmpint(byte, ==, 'c');
    g_assert_cmpint(pipe_read_some(theirs, &byte, 1), ==, 1);
    g_assert_cmpint(byte, ==, 'y');
}

/* A listener that never accepts fills its queue: then a connect ends at its deadline. */
static void
test_full_queue(void)
{
    g_autofree char *top = g_dir_make_tmp("kho-sock-XXXXXX", NULL);
    fd_auto int folder = fd_open(top, O_RDONLY | O_DIRECTORY, 0, NULL);
    fd_auto int listener = sock_listen(folder, "s", NULL);
    g_autoptr(GArray) callers = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GError) error = NULL;

    while (!error) {
        int fd = sock_connect(folder, "s", deadline_in(20), &error);
        g_array_append_val(callers, fd);
    }
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_assert_cmpuint(callers->len, >, 100);
    for (guint i = 0; i < callers->len; i++)
        fd_clear(&g_array_index(callers, int, i));
    g_assert_cmpint(unlinkat(folder, "s", 0), ==, 0);
    g_assert_cmpint(g_rmdir(top), ==, 0);
}

static void
test_waiting(void)
{
    fd_auto int read_end = -1;
    fd_auto int write_end = -1;
    g_autoptr(GError) error = NULL;

    g_assert_true(pipe_make(&read_end, &write_end, NULL));
    g_assert_false(pipe_wait_readable(read_end, deadline_in(10), "the pipe", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_assert_true(pipe_wait_writable(write_end, deadline_in(0), "the pipe", NULL));
    g_assert_true(pipe_set_nonblock(read_end, TRUE, "the pipe", NULL));
    g_assert_cmpint(pipe_read_some(read_end, &(char){ 0 }, 1), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    fd_clear(&write_end);
    g_assert_true(pipe_wait_readable(read_end, DEADLINE_NEVER, "the pipe", NULL)); /* its end counts */
    g_assert_cmpint(deadline_left(DEADLINE_NEVER), ==, -1);
    g_assert_cmpint(deadline_left(clock_now_ms() - 5), ==, 0);
}

/* A descriptor goes over with its byte; a byte without one is told. */
static void
test_receive_fd(void)
{
    g_autoptr(GError) error = NULL;
    fd_auto int one = -1;
    fd_auto int other = -1;
    fd_auto int sent = pipe_memory("sent", "hello", 5, NULL);
    char text[6] = { 0 };

    g_assert_true(sock_pair(&one, &other, NULL));
    g_assert_cmpint(sock_send_some_with(one, "", 1, sent), ==, 1);
    fd_auto int got = sock_receive_fd(other, deadline_in(1000), "the other end", NULL);
    g_assert_cmpint(got, >=, 0);
    g_assert_true(fd_pread_full(got, text, 5, 0, "sent", NULL));
    g_assert_cmpstr(text, ==, "hello");
    g_assert_cmpint(sock_send_some(one, "", 1), ==, 1);
    g_assert_cmpint(sock_receive_fd(other, deadline_in(1000), "the other end", &error), ==, -1);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/sock/talks", test_talks);
    g_test_add_func("/sock/refusals", test_refusals);
    g_test_add_func("/sock/passes-files", test_passes_files);
    g_test_add_func("/sock/full-queue", test_full_queue);
    g_test_add_func("/sock/waiting", test_waiting);
    g_test_add_func("/sock/receive-fd", test_receive_fd);
    return g_test_run();
}
