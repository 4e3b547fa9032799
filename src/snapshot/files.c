#include "snapshot/files.h"

#include "base/error.h"
#include "pool/formats.h"
#include "pool/pool.h"
#include "snapshot/folder.h"
#include "store/list.h"
#include "vm/definition.h"
#include "vm/folder.h"
#include "vm/runtime.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <kho/image.h>
#include <string.h>

/* More than kho or QEMU would open. */
#define CHAIN_FILES_MAX 1000

static void
named_file_free(gpointer data)
{
    NamedFile *file = data;

    g_free(file->path);
    g_free(file->format);
    g_free(file->machine);
    g_free(file->snapshot);
    g_free(file->target);
    g_free(file->maker);
    g_free(file->unseen);
    g_free(file->backing);
    g_free(file->backing_format);
    g_free(file);
}

static void
identify(const char *path, guint64 *dev, guint64 *ino)
{
    GStatBuf st;

    *dev = *ino = 0;
    if (path && g_stat(path, &st) == 0) {
        *dev = st.st_dev;
        *ino = st.st_ino;
    }
}

static gboolean
is_twin(const NamedFile *a, const NamedFile *b)
{
    return a->ino != 0 && a->dev == b->dev && a->ino == b->ino && g_strcmp0(a->format, b->format) == 0;
}

/* One that was looked at before, as the same format, and where @machine is given, for that one. */
static const NamedFile *
find_twin(const GPtrArray *files, const NamedFile *file, const char *const *machine)
{
    for (guint i = 0; i < files->len; i++) {
        const NamedFile *other = files->pdata[i];
        if (is_twin(other, file) && (!machine || g_strcmp0(other->machine, *machine) == 0))
            return other;
    }
    return NULL;
}

/* A header may name anything, and opening a device can have effects: only files and disks are looked into. */
static gboolean
check_image(const char *path, GError **error)
{
    GStatBuf st;

    if (g_stat(path, &st) < 0)
        return errno == ENOENT ? fail(error, KHO_ERROR_NOT_FOUND, "it is not there")
                               : fail_errno(error, errno, "cannot look at it");
    return S_ISREG(st.st_mode) || S_ISBLK(st.st_mode)
           || fail(error, KHO_ERROR_IO, "it is no file and no disk");
}

/* Its header, which is read once, says what it lies on. What a raw file lies on needs no look: nothing. */
static void
look_below(const GPtrArray *files, NamedFile *file)
{
    g_autoptr(GError) why = NULL;
    KhoImageInfo info = { 0 };

    identify(file->path, &file->dev, &file->ino);
    const NamedFile *twin = find_twin(files, file, NULL);
    if (twin) {
        file->unseen = g_strdup(twin->unseen);
        file->backing = g_strdup(twin->backing);
        file->backing_format = g_strdup(twin->backing_format);
        file->backing_dev = twin->backing_dev;
        file->backing_ino = twin->backing_ino;
        return;
    }
    if (g_strcmp0(file->format, "raw") == 0)
        return;
    if (!check_image(file->path, &why) || !kho_image_info(file->path, file->format, &info, &why)) {
        file->unseen = g_strdup(why->message);
        return;
    }
    file->backing = g_strdup(info.full_backing_path);
    file->backing_format = g_strdup(info.backing_format);
    identify(file->backing, &file->backing_dev, &file->backing_ino);
    kho_image_info_clear(&info);
}

/* A copy of @names, which is looked at. */
static NamedFile *
file_new(const GPtrArray *files, const NamedFile *names)
{
    NamedFile *file = g_new0(NamedFile, 1);

    *file = (NamedFile){
        .path = g_canonicalize_filename(names->path, "/"),
        .format = g_strdup(names->format),
        .machine = g_strdup(names->machine),
        .snapshot = g_strdup(names->snapshot),
        .target = g_strdup(names->target),
        .maker = g_strdup(names->maker),
        .is_below = names->is_below,
    };
    look_below(files, file);
    return file;
}

/* Adds the file, a copy of @names, and all that it lies on: those too that nobody names but the header above
 * them. Whoever comes to a file where the same machine was before goes no further, so that a chain that loops
 * ends, too. */
static gboolean
add(GPtrArray *files, const NamedFile *names, GError **error)
{
    NamedFile *file = file_new(files, names);

    g_ptr_array_add(files, file);
    for (guint depth = 1; file->backing; depth++) {
        const NamedFile below = { .path = file->backing,
                                  .format = file->backing_format,
                                  .machine = file->machine,
                                  .snapshot = file->snapshot,
                                  .target = file->target,
                                  .maker = file->maker,
                                  .is_below = TRUE };
        if (depth >= CHAIN_FILES_MAX)
            return fail(error, KHO_ERROR_UNSUPPORTED,
                        "the backing chain of %s is longer than %d images: what needs them cannot be told",
                        names->path, CHAIN_FILES_MAX);
        NamedFile *next = file_new(files, &below);
        if (find_twin(files, next, (const char *const *) &next->machine)) {
            named_file_free(next);
            return TRUE;
        }
        g_ptr_array_add(files, next);
        file = next;
    }
    return TRUE;
}

static gboolean
add_disks(GPtrArray *files, const char *machine, const ModelDomain *model, GError **error)
{
    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        const NamedFile names = { .path = disk->source_file,
                                  .format = disk->format,
                                  .machine = (char *) machine,
                                  .target = disk->target };
        if (disk->source_file && !add(files, &names, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
ignore_absent(GError *why, GError **error)
{
    if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, why);
        return FALSE;
    }
    g_error_free(why);
    return TRUE;
}

static gboolean
add_definition(GPtrArray *files, const StoreTree *tree, const char *machine, GError **error)
{
    GError *why = NULL;
    g_autoptr(ModelDomain) model = vm_definition(tree, machine, &why);

    return model ? add_disks(files, machine, model, error) : ignore_absent(why, error);
}

static gboolean
add_live(GPtrArray *files, const StoreTree *tree, const char *machine, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, machine);
    GError *why = NULL;
    gsize len;
    g_autofree char *text = vm_runtime_live_xml(run_path, &len, &why);

    /* while it starts, its definition tells the same */
    if (!text && g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY)) {
        g_error_free(why);
        return TRUE;
    }
    if (!text)
        return ignore_absent(why, error);
    g_autoptr(ModelDomain) model = model_domain_parse(text, len, &why);
    if (!model) {
        fail(error, KHO_ERROR_CORRUPT,
             "the XML of machine '%s' as it runs, %s/" VM_FILE_LIVE_XML
             ", cannot be read: %s: shut it down first",
             machine, run_path, why->message);
        g_error_free(why);
        return FALSE;
    }
    return add_disks(files, machine, model, error);
}

static gboolean
add_snapshots(GPtrArray *files, const StoreTree *tree, const char *machine, GError **error)
{
    g_autoptr(GPtrArray) all = snapshot_read_all(tree, machine, error);

    for (guint i = 0; all && i < all->len; i++) {
        const ModelSnapshot *snapshot = all->pdata[i];
        for (guint n = 0; n < snapshot->files->len; n++) {
            const ModelSnapshotFile *file = snapshot->files->pdata[n];
            const NamedFile names = { .path = file->file,
                                      .format = file->format,
                                      .machine = (char *) machine,
                                      .snapshot = snapshot->name,
                                      .target = file->name };
            if (!add(files, &names, error))
                return FALSE;
        }
    }
    return all != NULL;
}

static gboolean
is_known(const GPtrArray *files, const char *path)
{
    guint64 dev, ino;

    identify(path, &dev, &ino);
    for (guint i = 0; i < files->len; i++) {
        const NamedFile *file = files->pdata[i];
        if (ino != 0 ? file->dev == dev && file->ino == ino : strcmp(file->path, path) == 0)
            return TRUE;
    }
    return FALSE;
}

/* A file that nobody names, if it is there. */
static gboolean
add_unnamed(GPtrArray *files, const char *path, const char *format, GError **error)
{
    const NamedFile names = { .path = (char *) path, .format = (char *) format };

    return is_known(files, path) || !g_file_test(path, G_FILE_TEST_IS_REGULAR) || add(files, &names, error);
}

/* What kho made for the machine stays known where nothing names it any more, wherever it lies; and where its
 * folder cannot be looked at. */
static gboolean
add_overlays(GPtrArray *files, const StoreTree *tree, const char *machine, GError **error)
{
    g_auto(SnapshotOverlays) overlays = { 0 };

    if (!snapshot_overlays(tree, machine, &overlays, error))
        return FALSE;
    for (guint i = 0; i < overlays.paths->len; i++) {
        const NamedFile names = { .path = overlays.paths->pdata[i],
                                  .format = (char *) "qcow2",
                                  .maker = (char *) machine };
        if (!is_known(files, names.path) && !snapshot_overlay_is_gone(names.path)
            && !add(files, &names, error))
            return FALSE;
    }
    return TRUE;
}

typedef GPtrArray *(*ListMachines)(const StoreTree *tree, GError **error);
typedef gboolean (*AddFiles)(GPtrArray *files, const StoreTree *tree, const char *machine, GError **error);

static gboolean
add_all(GPtrArray *files, const StoreTree *tree, ListMachines list, AddFiles add_files, GError **error)
{
    g_autoptr(GPtrArray) names = list(tree, error);

    for (guint i = 0; names && i < names->len; i++)
        if (!add_files(files, tree, names->pdata[i], error))
            return FALSE;
    return names != NULL;
}

/* What lies in a pool and nobody names, as what it is recorded to be: what a guest wrote into a raw volume
 * names nothing. */
static gboolean
add_volumes(GPtrArray *files, const StoreTree *tree, const ModelPool *pool, const GPtrArray *names,
            GError **error)
{
    g_autoptr(PoolFormats) formats = pool_formats_load(tree, pool, error);

    for (guint i = 0; formats && i < names->len; i++) {
        g_autofree char *path = pool_volume_path(pool, names->pdata[i]);
        const char *format = pool_formats_get(formats, names->pdata[i]);
        if (!add_unnamed(files, path, format, error))
            return FALSE;
    }
    return formats != NULL;
}

/* As with vol-delete: the definition of a pool that cannot be read is passed over, and so is the folder of an
 * inactive one that cannot. */
static gboolean
add_pool(GPtrArray *files, const StoreTree *tree, const char *name, GError **error)
{
    g_autofree char *live = store_path_pool_run(tree, name), *defined = store_path_pool(tree, name);
    g_autoptr(ModelPool) pool = NULL;

    pool_read_model(live, &pool, NULL);
    gboolean active = pool != NULL;
    if ((!active && !pool_read_model(defined, &pool, NULL)) || !pool || !pool->uuid
        || !pool_check(pool, NULL))
        return TRUE;
    g_autoptr(GPtrArray) names = pool_list(pool, active ? error : NULL);
    return names ? add_volumes(files, tree, pool, names, error) : !active;
}

GPtrArray *
named_files(const StoreTree *tree, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(named_file_free);

    if (!add_all(files, tree, store_list_domains, add_definition, error)
        || !add_all(files, tree, store_list_domains_run, add_live, error)
        || !add_all(files, tree, store_list_domains_snapshots, add_snapshots, error)
        || !add_all(files, tree, store_list_domains_snapshots, add_overlays, error)
        || !add_all(files, tree, store_list_pools_active, add_pool, error)
        || !add_all(files, tree, store_list_pools, add_pool, error))
        return NULL;
    return g_steal_pointer(&files);
}

GPtrArray *
named_files_chain(const char *path, const char *format, GError **error)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new_with_free_func(named_file_free);
    const NamedFile names = { .path = (char *) path, .format = (char *) format };

    return add(files, &names, error) ? g_steal_pointer(&files) : NULL;
}

gboolean
named_files_add_folder(GPtrArray *files, const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autoptr(GError) why = NULL;
    g_autoptr(GDir) entries = g_dir_open(folder, 0, &why);

    if (!entries)
        return fail(error, KHO_ERROR_IO, "cannot list %s: %s", folder, why->message);
    for (const char *name = g_dir_read_name(entries); name; name = g_dir_read_name(entries)) {
        g_autofree char *there = g_build_filename(folder, name, NULL);
        gboolean unfinished = *name == '.' && g_str_has_suffix(name, ".kho-tmp");
        if (!unfinished && !add_unnamed(files, there, NULL, error))
            return FALSE;
    }
    return TRUE;
}

gboolean
named_file_is(const NamedFile *file, const char *path)
{
    guint64 dev, ino;

    identify(path, &dev, &ino);
    return strcmp(file->path, path) == 0 || (ino != 0 && file->dev == dev && file->ino == ino);
}

gboolean
named_file_lies_on(const NamedFile *file, const char *path)
{
    guint64 dev, ino;

    if (!file->backing)
        return FALSE;
    identify(path, &dev, &ino);
    return strcmp(file->backing, path) == 0
           || (ino != 0 && file->backing_dev == dev && file->backing_ino == ino);
}

char *
named_file_text(const NamedFile *file)
{
    if (!file->machine)
        return g_strdup(file->path);
    if (file->is_below)
        return g_strdup_printf("%s under disk %s of %s%s%smachine '%s'", file->path, file->target,
                               file->snapshot ? "snapshot '" : "", file->snapshot ? file->snapshot : "",
                               file->snapshot ? "' of " : "", file->machine);
    if (file->snapshot)
        return g_strdup_printf("snapshot '%s' of machine '%s'", file->snapshot, file->machine);
    return g_strdup_printf("disk %s of machine '%s'", file->target, file->machine);
}

const NamedFile *
named_files_other_user(const GPtrArray *files, const char *path, const char *machine, const char *snapshot)
{
    for (guint i = 0; i < files->len; i++) {
        const NamedFile *file = files->pdata[i];
        gboolean passed =
            snapshot && g_strcmp0(file->machine, machine) == 0 && g_strcmp0(file->snapshot, snapshot) == 0;
        if (file->machine && !file->is_below && !passed && named_file_is(file, path))
            return file;
    }
    return NULL;
}

const NamedFile *
named_files_above(const GPtrArray *files, const char *path)
{
    for (guint i = 0; i < files->len; i++)
        if (named_file_lies_on(files->pdata[i], path))
            return files->pdata[i];
    return NULL;
}

/* Where the file at @path leads; NULL: nowhere. */
static const char *
backing_of(const GPtrArray *files, const char *path)
{
    for (guint i = 0; i < files->len; i++) {
        const NamedFile *file = files->pdata[i];
        if (file->backing && named_file_is(file, path))
            return file->backing;
    }
    return NULL;
}

/* Whether @file is the one at @path, or the chain of that leads to it. */
static gboolean
is_in_chain(const GPtrArray *files, const NamedFile *file, const char *path)
{
    for (guint depth = 0; path && depth < CHAIN_FILES_MAX; depth++) {
        if (named_file_is(file, path))
            return TRUE;
        path = backing_of(files, path);
    }
    return FALSE;
}

const NamedFile *
named_files_unseen(const GPtrArray *files, const char *path)
{
    const NamedFile *found = NULL;

    for (guint i = 0; i < files->len && (!found || found->is_below); i++) {
        const NamedFile *file = files->pdata[i];
        if (file->unseen && (file->machine || file->maker) && (!found || !file->is_below)
            && !is_in_chain(files, file, path))
            found = file;
    }
    return found;
}

/* Its path, and who names it or what lies on it. */
static char *
whose(const NamedFile *file)
{
    g_autofree char *text = named_file_text(file);

    if (!file->machine)
        return g_strdup_printf("%s, which kho made for machine '%s',", file->path, file->maker);
    return file->is_below ? g_steal_pointer(&text) : g_strdup_printf("%s (%s)", file->path, text);
}

char *
named_file_unseen_text(const NamedFile *file)
{
    g_autofree char *which = whose(file);

    return g_strdup_printf("what %s lies on cannot be told: %s", which, file->unseen);
}

char *
named_file_unseen_cure(const StoreTree *tree, const NamedFile *file)
{
    if (file->machine && file->snapshot)
        return g_strdup_printf(
            "put it back, forget that snapshot with `kho snapshot-delete --metadata %s %s`", file->machine,
            file->snapshot);
    if (file->machine)
        return g_strdup_printf("put it back, take that disk out of machine '%s' with `kho edit`",
                               file->machine);
    g_autofree char *folder = store_path_snapshots(tree, file->maker);
    return g_strdup_printf("put it back, take it out of %s/.overlays", folder);
}
