#include "backup/point.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "store/tree.h"

#include <fcntl.h>
#include <string.h>

#define PART_PREFIX    "."
#define PART_SUFFIX    ".part"
#define MARK_MAX_BYTES 4096

void
kho_backup_point_free(KhoBackupPoint *point)
{
    if (!point)
        return;
    g_free(point->machine);
    g_free(point->point);
    g_free(point->path);
    g_free(point->problem);
    g_free(point->id);
    g_free(point->name);
    g_free(point->uuid);
    g_free(point->state);
    g_free(point->kho_version);
    g_free(point->qemu_version);
    g_ptr_array_unref(point->disks);
    g_ptr_array_unref(point->left_out);
    g_free(point->xml_sha256);
    g_free(point);
}

char *
backup_machine_path(const char *store, const char *machine)
{
    return g_build_filename(store, machine, NULL);
}

char *
backup_point_path(const char *store, const char *machine, const char *point)
{
    return g_build_filename(store, machine, point, NULL);
}

char *
backup_part_path(const char *store, const char *machine, const char *point)
{
    g_autofree char *name = g_strconcat(PART_PREFIX, point, PART_SUFFIX, NULL);

    return g_build_filename(store, machine, name, NULL);
}

char *
backup_store_path(const char *store, GError **error)
{
    if (!*store) {
        fail(error, KHO_ERROR_INVALID, "the store's name is empty: give a folder");
        return NULL;
    }
    g_autofree char *path = g_canonicalize_filename(store, NULL);
    if (!store_path_check(path, "store", error))
        return NULL;
    g_autoptr(GError) why = NULL;
    fd_auto int fd = fd_open(path, O_RDONLY | O_DIRECTORY, 0, &why);

    if (fd >= 0)
        return g_steal_pointer(&path);
    if (g_file_test(path, G_FILE_TEST_EXISTS) && !g_file_test(path, G_FILE_TEST_IS_DIR))
        fail(error, KHO_ERROR_INVALID, "the store %s is no folder: give one", path);
    else if (why->code == KHO_ERROR_NOT_FOUND)
        fail(error, KHO_ERROR_NOT_FOUND, "the store %s does not exist: make that folder first", path);
    else
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "the store: ");
    return NULL;
}

char *
backup_part_id(const char *part_path, gboolean *driven)
{
    g_autofree char *path = g_build_filename(part_path, BACKUP_MARK_FILE, NULL);
    gsize len;
    fd_auto int fd = fd_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, NULL);
    g_autofree char *text = fd < 0 ? NULL : fd_read_all(fd, MARK_MAX_BYTES, &len, path, NULL);
    json_auto json_t *mark = text ? json_parse(text, len, path, NULL) : NULL;
    gboolean held = FALSE;

    if (driven)
        *driven = fd >= 0 && fd_lock_probe(fd, 0, 1, FALSE, &held, path, NULL) && held;
    return mark ? g_strdup(json_string_or(mark, "id", NULL)) : NULL;
}

static gboolean
read_manifest(KhoBackupPoint *point, GError **error)
{
    g_autofree char *path = g_build_filename(point->path, BACKUP_MANIFEST_FILE, NULL);
    g_autoptr(GError) why = NULL;
    gsize len;
    g_autofree char *text = fd_read_file(path, BACKUP_MANIFEST_MAX_BYTES, &len, &why);

    if (text)
        return backup_manifest_parse(text, len, path, point, error);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return fail(error, KHO_ERROR_CORRUPT, "%s is damaged: it has no %s", point->path,
                    BACKUP_MANIFEST_FILE);
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

KhoBackupPoint *
backup_point_read(const char *store, const char *machine, const char *name)
{
    g_autofree char *path = backup_point_path(store, machine, name);
    KhoBackupPoint *point = backup_point_new(machine, name, path);
    g_autoptr(GError) why = NULL;

    if (read_manifest(point, &why))
        return point;
    point->problem = g_strdup(why->message);
    point->problem_code = (KhoErrorCode) why->code;
    return point;
}

/* --- listing ------------------------------------------------------------------------------------------- */

/* "P" of ".P.part"; NULL for another name. */
static char *
part_name(const char *entry)
{
    gsize prefix = strlen(PART_PREFIX), suffix = strlen(PART_SUFFIX), len = strlen(entry);

    if (!g_str_has_prefix(entry, PART_PREFIX) || !g_str_has_suffix(entry, PART_SUFFIX)
        || len <= prefix + suffix)
        return NULL;
    return g_strndup(entry + prefix, len - prefix - suffix);
}

static KhoBackupPoint *
read_part(const char *store, const char *machine, const char *name)
{
    g_autofree char *path = backup_part_path(store, machine, name);
    KhoBackupPoint *point = backup_point_new(machine, name, path);
    gboolean driven;
    g_autofree char *id = backup_part_id(path, &driven);

    point->unfinished = TRUE;
    point->problem_code = KHO_ERROR_INVALID;
    point->problem = g_strdup_printf("%s is %s", path,
                                     driven ? "being made just now"
                                            : "not whole: its backup was interrupted; `kho recover` on the "
                                              "host that made it removes it, or rm -r");
    return point;
}

/* A folder that holds other things is none of ours; one that lost its manifest is told as damaged. */
static gboolean
is_point(const char *path)
{
    g_autofree char *manifest = g_build_filename(path, BACKUP_MANIFEST_FILE, NULL);
    g_autofree char *xml = g_build_filename(path, BACKUP_XML_FILE, NULL);

    return g_file_test(manifest, G_FILE_TEST_EXISTS) || g_file_test(xml, G_FILE_TEST_EXISTS);
}

static gboolean
add_points(const char *store, const char *machine, GPtrArray *points, GError **error)
{
    g_autofree char *folder = backup_machine_path(store, machine);
    g_autoptr(GPtrArray) names = entry_list(folder, error);

    for (guint i = 0; names && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *path = g_build_filename(folder, name, NULL);
        g_autofree char *part = part_name(name);

        if (!g_file_test(path, G_FILE_TEST_IS_DIR))
            continue;
        if (part && store_name_check(part, "point", NULL))
            g_ptr_array_add(points, read_part(store, machine, part));
        else if (store_name_check(name, "point", NULL) && is_point(path))
            g_ptr_array_add(points, backup_point_read(store, machine, name));
    }
    return names != NULL;
}

/* Those that cannot be used last. */
static gint
compare_points(gconstpointer first, gconstpointer second)
{
    const KhoBackupPoint *a = *(const KhoBackupPoint *const *) first;
    const KhoBackupPoint *b = *(const KhoBackupPoint *const *) second;
    int order = strcmp(a->machine, b->machine);

    if (order == 0)
        order = (a->problem != NULL) - (b->problem != NULL);
    if (order == 0)
        order = (a->when_ms > b->when_ms) - (a->when_ms < b->when_ms);
    return order != 0 ? order : strcmp(a->point, b->point);
}

static gboolean
add_machines(const char *store, GPtrArray *points, GError **error)
{
    g_autoptr(GPtrArray) names = entry_list(store, error);

    for (guint i = 0; names && i < names->len; i++) {
        g_autofree char *path = backup_machine_path(store, names->pdata[i]);
        g_autoptr(GError) why = NULL;
        if (!store_name_check(names->pdata[i], "machine", NULL) || !g_file_test(path, G_FILE_TEST_IS_DIR)
            || add_points(store, names->pdata[i], points, &why))
            continue;
        /* A store may be a file system of its own, whose lost+found only root may list. */
        if (strcmp(names->pdata[i], "lost+found") == 0 && why->code == KHO_ERROR_DENIED)
            continue;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    return names != NULL;
}

GPtrArray *
kho_backup_list(const char *store, const char *machine, GError **error)
{
    g_autofree char *path = backup_store_path(store, error);
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func((GDestroyNotify) kho_backup_point_free);
    g_autoptr(GError) why = NULL;

    if (!path || (machine && !store_name_check(machine, "machine", error)))
        return NULL;
    if (machine ? !add_points(path, machine, points, &why) : !add_machines(path, points, &why)) {
        if (machine && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
            fail(error, KHO_ERROR_NOT_FOUND,
                 "the store %s has no backups of a machine '%s': `kho backup-list %s` lists what it has",
                 path, machine, path);
        else
            g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    g_ptr_array_sort(points, compare_points);
    return g_steal_pointer(&points);
}

/* --- finding ------------------------------------------------------------------------------------------- */

static KhoBackupPoint *
find_named(const char *store, const char *machine, const char *name, GError **error)
{
    g_autofree char *path = backup_point_path(store, machine, name);
    g_autofree char *part = backup_part_path(store, machine, name);
    g_autoptr(KhoBackupPoint) point = backup_point_new(machine, name, path);

    if (!store_name_check(name, "point", error))
        return NULL;
    if (g_file_test(path, G_FILE_TEST_IS_DIR))
        return read_manifest(point, error) ? g_steal_pointer(&point) : NULL;
    if (g_file_test(part, G_FILE_TEST_IS_DIR))
        fail(error, KHO_ERROR_INVALID, "point '%s' of machine '%s' is not whole: it is unfinished in %s",
             name, machine, part);
    else
        fail(error, KHO_ERROR_NOT_FOUND,
             "the store %s has no point '%s' of machine '%s': `kho backup-list %s %s` lists what it has",
             store, name, machine, store, machine);
    return NULL;
}

/* Which is the latest cannot be told where one of unknown age may be. */
static gboolean
fail_unusable(const KhoBackupPoint *point, gboolean others, GError **error)
{
    gboolean named = strstr(point->problem, point->path) != NULL;
    g_autofree char *what =
        named ? g_strdup(point->problem)
              : g_strdup_printf("%s/" BACKUP_MANIFEST_FILE ": %s", point->path, point->problem);

    if (others)
        return fail(error, point->problem_code,
                    "which point of machine '%s' is the latest cannot be told: %s: name one with --point",
                    point->machine, what);
    return fail(error, point->problem_code,
                "machine '%s' has no point that can be used: %s: make one with `kho backup`", point->machine,
                what);
}

static KhoBackupPoint *
find_latest(const char *store, const char *machine, GError **error)
{
    g_autoptr(GPtrArray) points = kho_backup_list(store, machine, error);
    const KhoBackupPoint *unusable = NULL;
    guint usable = 0, latest = 0;

    if (!points)
        return NULL;
    for (guint i = 0; i < points->len; i++) {
        const KhoBackupPoint *point = points->pdata[i];
        if (!point->problem) {
            latest = i;
            usable++;
        } else if (!point->unfinished && !unusable) {
            unusable = point;
        }
    }
    if (unusable) {
        fail_unusable(unusable, usable > 0, error);
        return NULL;
    }
    if (usable == 0) {
        fail(error, KHO_ERROR_NOT_FOUND, "the store %s has no whole point of machine '%s'", store, machine);
        return NULL;
    }
    return g_ptr_array_steal_index(points, latest);
}

KhoBackupPoint *
backup_point_find(const char *store, const char *machine, const char *point, GError **error)
{
    if (!store_name_check(machine, "machine", error))
        return NULL;
    return point ? find_named(store, machine, point, error) : find_latest(store, machine, error);
}
