#include "block/nbd_address.h"

#include <kho/error.h>

static const struct {
    const char *name, *host, *port, *socket, *export_name;
} good[] = {
    { "nbd://example.org", "example.org", "10809", NULL, "" },
    { "nbd://example.org/", "example.org", "10809", NULL, "" },
    { "nbd://[::1]:1234/a/b%20c", "::1", "1234", NULL, "a/b c" },
    { "nbd://127.0.0.1/disk", "127.0.0.1", "10809", NULL, "disk" },
    { "nbd+unix:///?socket=/run/x", NULL, NULL, "/run/x", "" },
    { "nbd+unix:///disk%3f?socket=/run/a%20b&", NULL, NULL, "/run/a b", "disk?" },
    { "nbd+unix://?socket=s", NULL, NULL, "s", "" },
    { "nbd:localhost:10810:exportname=a:b", "localhost", "10810", NULL, "a:b" },
    { "nbd:[::1]:1", "::1", "1", NULL, "" },
    { "nbd:unix:/run/x:exportname=", NULL, NULL, "/run/x", "" },
    { "nbd:unix:/run/x", NULL, NULL, "/run/x", "" },
};

static void
test_good(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(GError) error = NULL;
    g_autoptr(NbdAddress) address = nbd_address_parse(good[i].name, &error);

    g_assert_no_error(error);
    g_assert_true(nbd_address_is(good[i].name));
    g_assert_cmpstr(address->export_name, ==, good[i].export_name);
    g_assert_cmpstr(address->socket, ==, good[i].socket);
    if (good[i].host) {
        g_assert_cmpstr(address->host, ==, good[i].host);
        g_assert_cmpstr(address->port, ==, good[i].port);
    }
}

static const struct {
    const char *name, *says;
    KhoErrorCode code;
} bad[] = {
    { "nbd://", "is the form", KHO_ERROR_INVALID },
    { "nbd:///export", "is the form", KHO_ERROR_INVALID },
    { "nbd://host:99999/", "is not an address", KHO_ERROR_INVALID },
    { "nbd://host/?socket=/run/x", "is the form", KHO_ERROR_INVALID },
    { "nbd://host/?tls=on", "unknown parameter 'tls'", KHO_ERROR_UNSUPPORTED },
    { "nbd+unix:///export", "names no socket", KHO_ERROR_INVALID },
    { "nbd+unix://host/export?socket=x", "has no host", KHO_ERROR_INVALID },
    { "nbd:host", "is the form", KHO_ERROR_INVALID },
    { "nbd::10809", "is the form", KHO_ERROR_INVALID },
    { "nbd:unix:", "is the form", KHO_ERROR_INVALID },
    { "nbds://host/export", "without TLS", KHO_ERROR_UNSUPPORTED },
};

static void
test_bad(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    g_autoptr(GError) error = NULL;

    g_assert_null(nbd_address_parse(bad[i].name, &error));
    g_assert_error(error, KHO_ERROR, (gint) bad[i].code);
    g_assert_nonnull(strstr(error->message, bad[i].says));
}

static void
test_names(void)
{
    g_assert_false(nbd_address_is("nbd.raw"));
    g_assert_false(nbd_address_is("./nbd://x"));
    g_assert_false(nbd_address_is("/nbd://x"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_autofree char *name = g_strdup_printf("/nbd-address/good/%" G_GSIZE_FORMAT, i);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_good);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autofree char *name = g_strdup_printf("/nbd-address/bad/%" G_GSIZE_FORMAT, i);
        g_test_add_data_func(name, GSIZE_TO_POINTER(i), test_bad);
    }
    g_test_add_func("/nbd-address/names", test_names);
    return g_test_run();
}
