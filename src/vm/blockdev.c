#include "vm/blockdev.h"

#include "base/error.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000
/* QEMU reads the number in "/dev/fdset/N" as an int, and who asks for a free one counts on from it. */
#define FDSET_MAX (G_MAXINT - 65536)

static json_t *
query_fdsets(VmClient *client, GError **error)
{
    return vm_client_call(client, "query-fdsets", NULL, CALL_TIMEOUT_MS, error);
}

/* Borrowed from @sets. */
static const json_t *
find_set(const json_t *sets, gint64 number)
{
    gsize i;
    json_t *set;

    json_array_foreach ((json_t *) sets, i, set)
        if (json_int_or(set, "fdset-id", -1) == number)
            return set;
    return NULL;
}

gboolean
vm_fdset_free_number(VmClient *client, gint64 *number, GError **error)
{
    json_auto json_t *sets = query_fdsets(client, error);
    gint64 highest = -1;
    gsize i;
    json_t *set;

    if (!sets)
        return FALSE;
    json_array_foreach (sets, i, set)
        highest = MAX(highest, json_int_or(set, "fdset-id", -1));
    if (highest >= FDSET_MAX)
        return fail(error, KHO_ERROR_INVALID,
                    "somebody gave QEMU an fdset of the number %" G_GINT64_FORMAT
                    ", so that none above is left: take it back (remove-fd)",
                    highest);
    *number = highest + 1;
    return TRUE;
}

gboolean
vm_fdset_open(VmClient *client, gint64 number, const char *path, gboolean read_only, GError **error)
{
    json_auto json_t *sets = query_fdsets(client, error);

    if (!sets)
        return FALSE;
    return find_set(sets, number)
           || vm_client_tell(
               client, "kho-open",
               json_pack("{s:s,s:b,s:I}", "path", path, "read-only", read_only, "fdset", (json_int_t) number),
               CALL_TIMEOUT_MS, error);
}

gboolean
vm_fdset_close(VmClient *client, gint64 number, GError **error)
{
    json_auto json_t *sets = query_fdsets(client, error);

    if (!sets)
        return FALSE;
    return !find_set(sets, number)
           || vm_client_tell(client, "kho-close", json_pack("{s:I}", "fdset", (json_int_t) number),
                             CALL_TIMEOUT_MS, error);
}

gboolean
vm_fdset_close_each(VmClient *client, gint64 number, GError **error)
{
    json_auto json_t *sets = query_fdsets(client, error);
    gsize i;
    json_t *descriptor;

    json_array_foreach (json_object_get(find_set(sets, number), "fds"), i, descriptor)
        if (!vm_client_tell(client, "kho-close",
                            json_pack("{s:I,s:I}", "fdset", (json_int_t) number, "fd",
                                      (json_int_t) json_int_or(descriptor, "fd", -1)),
                            CALL_TIMEOUT_MS, error))
            return FALSE;
    return sets != NULL;
}

static gboolean
has_node(VmClient *client, const char *name, gboolean *has, GError **error)
{
    json_auto json_t *named = vm_client_call(client, "query-named-block-nodes",
                                             json_pack("{s:b}", "flat", TRUE), CALL_TIMEOUT_MS, error);
    gsize i;
    json_t *entry;

    *has = FALSE;
    json_array_foreach (named, i, entry)
        *has |= strcmp(json_string_or(entry, "node-name", ""), name) == 0;
    return named != NULL;
}

gboolean
vm_blockdev_add(VmClient *client, const json_t *node, GError **error)
{
    gboolean has;

    return has_node(client, json_string_or(node, "node-name", ""), &has, error)
           && (has || vm_client_tell(client, "blockdev-add", json_deep_copy(node), CALL_TIMEOUT_MS, error));
}

gboolean
vm_blockdev_drop(VmClient *client, const char *name, GError **error)
{
    gboolean has;

    return has_node(client, name, &has, error)
           && (!has
               || vm_client_tell(client, "blockdev-del", json_pack("{s:s}", "node-name", name),
                                 CALL_TIMEOUT_MS, error));
}
