/* What pool and vol verbs share. */
#include "cli/storage.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/xml.h"

#include <string.h>

#define LOCK_WAIT_MS (30 * 1000)

KhoHost *
storage_host(const CliRun *cli, GError **error)
{
    KhoHost *host = kho_host_open(cli->root, error);

    if (host)
        kho_host_set_wait(host, LOCK_WAIT_MS, cli->job ? cli->job->cancelled : NULL);
    return host;
}

char *
storage_size(guint64 bytes, gboolean as_bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    gdouble value = (gdouble) bytes;
    gsize unit = 0;

    if (as_bytes)
        return g_strdup_printf("%" G_GUINT64_FORMAT, bytes);
    while (value >= 1024 && unit + 1 < G_N_ELEMENTS(units)) {
        value /= 1024;
        unit++;
    }
    return g_strdup_printf("%.2f %s", value, units[unit]);
}

char *
storage_read_xml(const char *path, gsize *len, GError **error)
{
    return fd_read_file(path, XML_TEXT_MAX, len, error);
}

void
storage_blame(const char *path, GError **error)
{
    if (error && *error && g_str_has_prefix((*error)->message, "line "))
        g_prefix_error(error, "%s: ", path);
}
