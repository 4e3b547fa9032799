#include "host/host.h"

#include <kho/image.h>

KhoHost *
kho_host_open(const char *root, GError **error)
{
    g_autoptr(StoreTree) tree = store_tree_open(root, error);

    if (!tree)
        return NULL;
    KhoHost *host = g_new0(KhoHost, 1);
    host->tree = g_steal_pointer(&tree);
    host->wait.timeout_ms = 30 * 1000;
    return host;
}

void
kho_host_set_wait(KhoHost *host, guint timeout_ms, const volatile gint *cancelled)
{
    host->wait = (StoreWait){ .timeout_ms = timeout_ms, .cancelled = cancelled };
}

void
kho_host_set_warn(KhoHost *host, KhoWarn warn, gpointer data)
{
    host->warn = warn;
    host->warn_data = data;
}

void
host_warn(const KhoHost *host, const char *line)
{
    if (host->warn)
        host->warn(line, host->warn_data);
}

void
host_warn_of_loss(const KhoHost *host, const char *path, const char *format, const char *what)
{
    KhoImageInfo info;

    if (!host->warn || !kho_image_info(path, format, &info, NULL))
        return;
    guint snapshots = info.snapshots->len, bitmaps = info.bitmaps->len;
    if (snapshots + bitmaps > 0) {
        g_autofree char *line = g_strdup_printf(
            "%s has %u internal snapshot%s and %u persistent bitmap%s, which %s does not have", path,
            snapshots, snapshots == 1 ? "" : "s", bitmaps, bitmaps == 1 ? "" : "s", what);
        host_warn(host, line);
    }
    kho_image_info_clear(&info);
}

void
kho_host_free(KhoHost *host)
{
    if (!host)
        return;
    store_tree_free(host->tree);
    g_free(host);
}
