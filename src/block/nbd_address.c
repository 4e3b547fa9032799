#include "block/nbd_address.h"

#include "base/error.h"

#include <string.h>

#define NBD_PORT "10809"
/* As the protocol bounds the name of an export. */
#define NBD_NAME_MAX 4096

/* The last one is the form that QEMU had before there were addresses. */
static const char *const schemes[] = { "nbd://", "nbd+unix://", "nbds://", "nbds+unix://", "nbd:" };

gboolean
nbd_address_is(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(schemes); i++)
        if (g_str_has_prefix(name, schemes[i]))
            return TRUE;
    return FALSE;
}

void
nbd_address_free(NbdAddress *address)
{
    g_free(address->host);
    g_free(address->port);
    g_free(address->socket);
    g_free(address->export_name);
    g_free(address);
}

/* The value of "socket", the one parameter that there is. */
static gboolean
read_query(const char *query, const char *name, char **socket_path, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autoptr(GHashTable) parameters =
        g_uri_parse_params(query ? query : "", -1, "&;", G_URI_PARAMS_NONE, &cause);
    GHashTableIter iter;
    gpointer key, value;

    if (!parameters)
        return fail(error, KHO_ERROR_INVALID, "%s: %s", name, cause->message);
    g_hash_table_iter_init(&iter, parameters);
    while (g_hash_table_iter_next(&iter, &key, &value)) {
        if (!g_str_equal(key, "socket"))
            return fail(error, KHO_ERROR_UNSUPPORTED, "%s: unknown parameter '%s': there is socket", name,
                        (const char *) key);
        g_free(*socket_path);
        *socket_path = g_strdup(value);
    }
    return TRUE;
}

static gboolean
check_parts(const NbdAddress *address, gboolean is_unix, const char *name, GError **error)
{
    if (is_unix && (!address->socket || !*address->socket))
        return fail(error, KHO_ERROR_INVALID,
                    "%s names no socket: nbd+unix:///EXPORT?socket=PATH is the form", name);
    if (is_unix && address->host && *address->host)
        return fail(error, KHO_ERROR_INVALID, "%s: a unix socket has no host: nbd+unix:///EXPORT?socket=PATH",
                    name);
    if (!is_unix && (!address->host || !*address->host || address->socket))
        return fail(error, KHO_ERROR_INVALID, "%s: nbd://HOST:PORT/EXPORT is the form", name);
    if (strlen(address->export_name) > NBD_NAME_MAX)
        return fail(error, KHO_ERROR_INVALID, "%.40s...: the export's name is longer than %d bytes", name,
                    NBD_NAME_MAX);
    return TRUE;
}

/* "nbd:HOST:PORT" or "nbd:unix:PATH", and ":exportname=NAME" behind it. */
static NbdAddress *
parse_old(const char *name, GError **error)
{
    static const char export_mark[] = ":exportname=", unix_mark[] = "unix:";
    g_autoptr(NbdAddress) address = g_new0(NbdAddress, 1);
    const char *rest = name + strlen("nbd:");
    const char *export_name = strstr(rest, export_mark);
    g_autofree char *where = export_name ? g_strndup(rest, (gsize) (export_name - rest)) : g_strdup(rest);
    gboolean is_unix = g_str_has_prefix(where, unix_mark);
    char *port = is_unix ? NULL : strrchr(where, ':');

    address->export_name = g_strdup(export_name ? export_name + strlen(export_mark) : "");
    if (is_unix)
        address->socket = g_strdup(where + strlen(unix_mark));
    if (port) {
        address->port = g_strdup(port + 1);
        *port = '\0';
        gsize len = strlen(where);
        gboolean is_v6 = len > 2 && where[0] == '[' && where[len - 1] == ']';
        address->host = is_v6 ? g_strndup(where + 1, len - 2) : g_strdup(where);
    }
    if (is_unix ? !*address->socket : !port || !*address->host || !*address->port) {
        fail(error, KHO_ERROR_INVALID,
             "%s: nbd:HOST:PORT:exportname=NAME or nbd://HOST:PORT/NAME is the form", name);
        return NULL;
    }
    return check_parts(address, is_unix, name, error) ? g_steal_pointer(&address) : NULL;
}

NbdAddress *
nbd_address_parse(const char *name, GError **error)
{
    if (g_str_has_prefix(name, "nbd:") && !g_str_has_prefix(name, "nbd://"))
        return parse_old(name, error);

    g_autoptr(NbdAddress) address = g_new0(NbdAddress, 1);
    g_autoptr(GError) cause = NULL;
    g_autoptr(GUri) uri = g_uri_parse(name, G_URI_FLAGS_ENCODED_QUERY, &cause);

    if (!uri) {
        fail(error, KHO_ERROR_INVALID, "%s is not an address: %s", name, cause->message);
        return NULL;
    }
    gboolean is_unix = g_str_has_suffix(g_uri_get_scheme(uri), "+unix");
    const char *path = g_uri_get_path(uri);

    if (g_str_has_prefix(g_uri_get_scheme(uri), "nbds")) {
        fail(error, KHO_ERROR_UNSUPPORTED, "%s: kho speaks NBD without TLS: use a tunnel, or nbd://", name);
        return NULL;
    }
    address->host = g_strdup(g_uri_get_host(uri));
    address->port = g_uri_get_port(uri) > 0 ? g_strdup_printf("%d", g_uri_get_port(uri)) : g_strdup(NBD_PORT);
    address->export_name = g_strdup(*path == '/' ? path + 1 : path);
    if (!read_query(g_uri_get_query(uri), name, &address->socket, error)
        || !check_parts(address, is_unix, name, error))
        return NULL;
    return g_steal_pointer(&address);
}
