/* What a storage daemon says over its socket: it has read an image of a format that kho does not know, and
 * may have been taken over by it. The first byte says what is asked; the rest is all that the daemon ever
 * says. */
#include "base/fd.h"
#include "foreign/monitor.h"

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Fits into a socket's buffer. */
#define SAID_MAX 65536

static void
expect(gboolean done, GError *const *error)
{
    g_assert_true(done == (*error == NULL));
    g_assert_true(done || !strchr((*error)->message, '\n'));
}

static void
ask(Monitor *monitor, GError **error)
{
    json_auto json_t *answer = monitor_ask(monitor, "query-named-block-nodes", NULL, error);

    expect(answer != NULL, error);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autoptr(GError) error = NULL;
    int ends[2];

    if (len < 1 || len > SAID_MAX)
        return 0;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), ==, 0);
    g_assert_cmpint(send(ends[1], data + 1, len - 1, 0), ==, (gssize) len - 1);
    g_assert_cmpint(shutdown(ends[1], SHUT_WR), ==, 0);
    g_autoptr(Monitor) monitor = monitor_new(ends[0], "image", NULL);
    switch (data[0]) {
    case 'g': expect(monitor_greet(monitor, &error), &error); break;
    case 'j':
        expect(monitor_run_job(monitor, "blockdev-create", json_object(), "make", &error), &error);
        break;
    case 'e': expect(monitor_end_export(monitor, "disk", &error), &error); break;
    default: ask(monitor, &error); break;
    }
    fd_clear(&ends[1]);
    return 0;
}
