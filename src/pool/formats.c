#include "pool/formats.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "pool/pool.h"
#include "store/publish.h"

#include <string.h>

/* Of the file's layout. */
#define FORMATS_VERSION 1
/* A hundred bytes or so a volume: room for a hundred thousand. */
#define FORMATS_BYTES_MAX ((gsize) 16 << 20)

struct PoolFormats {
    char *folder;
    GHashTable *records; /* name -> Record */
};

typedef struct {
    FdIdentity file;
    char *format;
} Record;

static void
record_free(gpointer data)
{
    Record *record = data;

    g_free(record->format);
    g_free(record);
}

void
pool_formats_free(PoolFormats *formats)
{
    if (!formats)
        return;
    g_free(formats->folder);
    g_hash_table_unref(formats->records);
    g_free(formats);
}

static gboolean
read_record(PoolFormats *formats, const json_t *row, const char *path, GError **error)
{
    g_autofree char *name = NULL;
    g_autofree char *format = NULL;
    gint64 inode, born_ns;

    if (!json_get_string(row, "name", path, &name, error)
        || !json_get_string(row, "format", path, &format, error)
        || !json_get_int(row, "inode", path, &inode, error)
        || !json_get_int(row, "born-ns", path, &born_ns, error))
        return FALSE;
    Record *record = g_new0(Record, 1);
    record->file = (FdIdentity){ .inode = (guint64) inode, .born_ns = born_ns };
    record->format = g_steal_pointer(&format);
    g_hash_table_replace(formats->records, g_steal_pointer(&name), record);
    return TRUE;
}

static gboolean
read_text(PoolFormats *formats, const char *text, gsize len, const char *path, GError **error)
{
    json_auto json_t *root = json_parse(text, len, path, error);
    gint64 version;

    if (!root || !json_get_int(root, "version", path, &version, error))
        return FALSE;
    if (version > FORMATS_VERSION)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s has version %" G_GINT64_FORMAT ": a newer kho wrote it",
                    path, version);
    const json_t *rows = json_object_get(root, "volumes");
    for (gsize i = 0; i < json_array_size(rows); i++)
        if (!read_record(formats, json_array_get(rows, i), path, error))
            return FALSE;
    return TRUE;
}

PoolFormats *
pool_formats_load(const StoreTree *tree, const ModelPool *pool, GError **error)
{
    g_autofree char *path = store_path_pool_formats(tree, pool->uuid);
    g_autoptr(PoolFormats) formats = g_new0(PoolFormats, 1);
    g_autoptr(GError) why = NULL;
    gsize len = 0;

    formats->folder = g_strdup(pool->target_path);
    formats->records = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, record_free);
    g_autofree char *text = fd_read_file(path, FORMATS_BYTES_MAX, &len, &why);
    if (!text && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return g_steal_pointer(&formats);
    if (text && read_text(formats, text, len, path, &why))
        return g_steal_pointer(&formats);
    if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    fail(error, KHO_ERROR_CORRUPT,
         "%s: without this file, formats are told from what the volumes hold, which guests may have written",
         why->message);
    return NULL;
}

static gboolean
is_same_file(const PoolFormats *formats, const char *name, const Record *record)
{
    g_autofree char *path = g_build_filename(formats->folder, name, NULL);
    FdIdentity now;

    return fd_identity(path, &now, NULL) && now.inode == record->file.inode
           && now.born_ns == record->file.born_ns;
}

const char *
pool_formats_get(const PoolFormats *formats, const char *name)
{
    const Record *record = g_hash_table_lookup(formats->records, name);

    return record && is_same_file(formats, name, record) ? record->format : NULL;
}

static gboolean
is_stale(gpointer name, gpointer record, gpointer formats)
{
    return !is_same_file(formats, name, record);
}

static char *
write_text(const PoolFormats *formats)
{
    json_auto json_t *root = json_object();
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(formats->records), (GCompareFunc) strcmp);
    json_t *rows = json_array();

    json_object_set_new(root, "version", json_integer(FORMATS_VERSION));
    json_object_set_new(root, "volumes", rows);
    for (GList *link = names; link; link = link->next) {
        const Record *record = g_hash_table_lookup(formats->records, link->data);
        json_t *row = json_object();

        json_set_string(row, "name", link->data);
        json_set_string(row, "format", record->format);
        json_object_set_new(row, "inode", json_integer((json_int_t) record->file.inode));
        json_object_set_new(row, "born-ns", json_integer(record->file.born_ns));
        json_array_append_new(rows, row);
    }
    return json_line(root);
}

/* Under the lock: without what is stale. */
static gboolean
publish(const StoreTree *tree, const ModelPool *pool, PoolFormats *formats, GError **error)
{
    g_autofree char *path = store_path_pool_formats(tree, pool->uuid);

    g_hash_table_foreach_remove(formats->records, is_stale, formats);
    g_autofree char *text = write_text(formats);
    return store_publish(path, text, strlen(text), 0600, error);
}

gboolean
pool_formats_set(const StoreTree *tree, const ModelPool *pool, const char *name, const char *format,
                 const StoreWait *wait, GError **error)
{
    g_autofree char *file = pool_volume_path(pool, name);
    g_autoptr(StoreLock) lock = store_lock_name(tree, "formats", pool->uuid, wait, error);
    g_autoptr(PoolFormats) formats = lock ? pool_formats_load(tree, pool, error) : NULL;
    FdIdentity identity;

    if (!formats || !fd_identity(file, &identity, error))
        return FALSE;
    Record *record = g_new0(Record, 1);
    *record = (Record){ .file = identity, .format = g_strdup(format) };
    g_hash_table_replace(formats->records, g_strdup(name), record);
    return publish(tree, pool, formats, error);
}

void
pool_formats_forget(const StoreTree *tree, const ModelPool *pool, const char *name, const StoreWait *wait)
{
    g_autoptr(StoreLock) lock = store_lock_name(tree, "formats", pool->uuid, wait, NULL);
    g_autoptr(PoolFormats) formats = lock ? pool_formats_load(tree, pool, NULL) : NULL;

    /* Stale by now; or another volume's, made under the name meanwhile. */
    if (formats && g_hash_table_contains(formats->records, name))
        publish(tree, pool, formats, NULL);
}
