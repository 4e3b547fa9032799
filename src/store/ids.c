#include "store/ids.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "store/publish.h"

#include <string.h>

gboolean
store_next_id(const StoreTree *tree, const StoreWait *wait, guint *id, GError **error)
{
    g_autofree char *path = g_build_filename(tree->run, "qemu", ".next-id", NULL);
    g_autoptr(StoreLock) lock =
        store_lock_take(tree, STORE_LOCK_DOMAIN, "next-id", "the counter of machine ids", wait, error);
    guint64 next = 1;

    if (!lock)
        return FALSE;
    g_autoptr(GError) absent = NULL;
    g_autofree char *text = fd_read_file(path, 64, NULL, &absent);
    if (!text && !g_error_matches(absent, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&absent));
        return FALSE;
    }
    /* Clients hold ids in a signed int. */
    if (text && (!num_parse_uint(g_strchomp(text), G_MAXINT - 1, "next id", &next, NULL) || next == 0))
        return fail(error, KHO_ERROR_CORRUPT, "%s holds no id: \"%s\"; remove it while no machine runs", path,
                    text);
    g_autofree char *after = g_strdup_printf("%" G_GUINT64_FORMAT "\n", next + 1);
    if (!store_publish(path, after, strlen(after), 0644, error))
        return FALSE;
    *id = (guint) next;
    return TRUE;
}
