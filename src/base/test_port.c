/* Finding a free port: taken ones are passed over. */
#include "base/error.h"
#include "base/fd.h"
#include "base/port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* Listens on any port, and says which. */
static int
take_any(guint16 *port)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *) &at, sizeof at), ==, 0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *) &at, &len), ==, 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static void
test_taken(void)
{
    g_autoptr(GError) error = NULL;
    guint16 taken, found = 0;
    fd_auto int fd = take_any(&taken);

    g_assert_false(port_find_free("127.0.0.1", taken, taken, &found, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    g_clear_error(&error);
    g_assert_true(port_find_free("127.0.0.1", taken, 65535, &found, &error) || taken == 65535);
    g_assert_cmpuint(found, !=, taken);
    fd_clear(&fd);
    g_assert_true(port_find_free("127.0.0.1", taken, taken, &found, &error));
    g_assert_cmpuint(found, ==, taken);
}

static void
test_address(void)
{
    g_autoptr(GError) error = NULL;
    guint16 found;

    g_assert_false(port_find_free("localhost", 5900, 5910, &found, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
    g_clear_error(&error);
    /* a host may have no IPv6, which is another fault */
    g_assert_true(port_find_free("::1", 1024, 65535, &found, &error)
                  || !g_error_matches(error, KHO_ERROR, KHO_ERROR_INVALID));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/port/taken", test_taken);
    g_test_add_func("/port/address", test_address);
    return g_test_run();
}
