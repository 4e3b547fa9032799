/* Reading points again: every file against its manifest. */
#include "backup/copy.h"
#include "backup/hash.h"
#include "backup/point.h"
#include "backup/restore.h"
#include "base/error.h"
#include "base/job_parts.h"
#include "store/tree.h"

#include <string.h>

static void
file_free(gpointer data)
{
    KhoBackupFile *file = data;

    g_free(file->file);
    g_free(file->expected);
    g_free(file->got);
    g_free(file->problem);
    g_free(file);
}

static void
verdict_free(gpointer data)
{
    KhoBackupVerdict *verdict = data;

    kho_backup_point_free(verdict->point);
    g_ptr_array_unref(verdict->files);
    g_free(verdict);
}

static KhoBackupVerdict *
verdict_new(KhoBackupPoint *point)
{
    KhoBackupVerdict *verdict = g_new0(KhoBackupVerdict, 1);

    verdict->point = point;
    verdict->files = g_ptr_array_new_with_free_func(file_free);
    verdict->damaged = point->problem != NULL;
    return verdict;
}

static void
add_file(KhoBackupVerdict *verdict, const char *name, const char *expected)
{
    KhoBackupFile *file = g_new0(KhoBackupFile, 1);

    file->file = g_strdup(name);
    file->expected = g_strdup(expected);
    g_ptr_array_add(verdict->files, file);
}

static void
judge(KhoBackupFile *file, HashFile *hash)
{
    file->got = g_steal_pointer(&hash->sha256);
    if (!file->got)
        file->problem = g_strdup(hash->error->message);
    else if (strcmp(file->got, file->expected) != 0)
        file->problem = g_strdup_printf("%s is damaged: its SHA-256 was %s, and is %s", hash->path,
                                        file->expected, file->got);
}

/* A manifest may have been written anew with hashes that are right: what it says of the files must be so. */
static void
judge_meaning(KhoBackupFile *file, const KhoBackupPoint *point, const KhoBackupDisk *disk, const char *path)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(ModelDomain) model = disk ? NULL : restore_read_model(point, &why);
    g_autoptr(KhoImage) image = disk ? backup_open_disk(path, disk->capacity_bytes, &why) : NULL;

    if (!model && !image)
        file->problem = g_strdup(why->message);
}

static gboolean
verify_one(KhoBackupVerdict *verdict, const KhoJob *job, GError **error)
{
    const KhoBackupPoint *point = verdict->point;

    add_file(verdict, BACKUP_XML_FILE, point->xml_sha256);
    for (guint i = 0; i < point->disks->len; i++) {
        const KhoBackupDisk *disk = point->disks->pdata[i];
        add_file(verdict, disk->file, disk->sha256);
    }
    guint n = verdict->files->len;
    g_autofree HashFile *hashes = g_new0(HashFile, n);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < n; i++) {
        const KhoBackupFile *file = verdict->files->pdata[i];
        g_ptr_array_add(paths, g_build_filename(point->path, file->file, NULL));
        hashes[i].path = paths->pdata[i];
    }
    gboolean read = hash_files(hashes, n, job, error);
    for (guint i = 0; i < n; i++) {
        KhoBackupFile *file = verdict->files->pdata[i];
        if (read)
            judge(file, &hashes[i]);
        if (read && !file->problem)
            judge_meaning(file, point, i == 0 ? NULL : point->disks->pdata[i - 1], hashes[i].path);
        verdict->damaged += file->problem != NULL;
        hash_file_clear(&hashes[i]);
    }
    return read;
}

/* The points asked for; an unfinished one is none unless it is named. */
static GPtrArray *
find_points(const char *store, const char *machine, const char *name, GError **error)
{
    g_autoptr(GPtrArray) points = kho_backup_list(store, machine, error);

    if (!points || (name && !store_name_check(name, "point", error)))
        return NULL;
    for (guint i = points->len; i-- > 0;) {
        const KhoBackupPoint *point = points->pdata[i];
        if (name ? strcmp(point->point, name) != 0 : point->unfinished)
            g_ptr_array_remove_index(points, i);
    }
    if (name && points->len == 0) {
        fail(error, KHO_ERROR_NOT_FOUND,
             "the store %s has no point '%s' of machine '%s': `kho backup-list %s %s` lists what it has",
             store, name, machine, store, machine);
        return NULL;
    }
    return g_steal_pointer(&points);
}

static guint64
bytes_of(const KhoBackupPoint *point)
{
    guint64 bytes = point->xml_bytes;

    for (guint i = 0; i < point->disks->len; i++)
        bytes += ((const KhoBackupDisk *) point->disks->pdata[i])->size_bytes;
    return bytes;
}

GPtrArray *
kho_backup_verify(const char *store, const char *machine, const char *name, const KhoJob *job, GError **error)
{
    g_autofree char *path = backup_store_path(store, error);
    g_autoptr(GPtrArray) points = path ? find_points(path, machine, name, error) : NULL;
    g_autoptr(GPtrArray) verdicts = g_ptr_array_new_with_free_func(verdict_free);
    JobParts told; /* in bytes of the files */

    job_parts_init(&told, job);
    for (guint i = 0; points && i < points->len; i++)
        told.total_bytes += bytes_of(points->pdata[i]);
    while (points && points->len > 0) {
        KhoBackupVerdict *verdict = verdict_new(g_ptr_array_steal_index(points, 0));
        g_ptr_array_add(verdicts, verdict);
        if (!verdict->point->problem && !verify_one(verdict, &told.part, error))
            return NULL;
        told.before_bytes += bytes_of(verdict->point);
    }
    return points ? g_steal_pointer(&verdicts) : NULL;
}
