/* kho backup, kho backup-list. */
#include "cli/backup.h"

#include "base/error.h"
#include "base/json.h"
#include "cli/domain.h"
#include "cli/output.h"
#include "cli/storage.h"

#include <string.h>

guint64
cli_backup_capacity(const KhoBackupPoint *point)
{
    guint64 bytes = 0;

    for (guint i = 0; i < point->disks->len; i++)
        bytes += ((const KhoBackupDisk *) point->disks->pdata[i])->capacity_bytes;
    return bytes;
}

guint64
cli_backup_size(const KhoBackupPoint *point)
{
    guint64 bytes = point->xml_bytes;

    for (guint i = 0; i < point->disks->len; i++)
        bytes += ((const KhoBackupDisk *) point->disks->pdata[i])->size_bytes;
    return bytes;
}

/* A string member that may be unknown. */
static void
set_text(json_t *object, const char *key, const char *value)
{
    json_object_set_new(object, key, json_null());
    json_set_string(object, key, value);
}

static json_t *
json_of_disk(const KhoBackupDisk *disk)
{
    json_t *object = json_object();

    set_text(object, "target", disk->target);
    set_text(object, "file", disk->file);
    set_text(object, "format", disk->format);
    json_object_set_new(object, "capacity-bytes", json_integer((json_int_t) disk->capacity_bytes));
    json_object_set_new(object, "size-bytes", json_integer((json_int_t) disk->size_bytes));
    set_text(object, "sha256", disk->sha256);
    set_text(object, "compression", disk->compression);
    return object;
}

static json_t *
json_of_left_out(const KhoBackupLeftOut *left)
{
    json_t *object = json_object();

    set_text(object, "what", left->what);
    set_text(object, "target", left->target);
    set_text(object, "source", left->source);
    return object;
}

json_t *
cli_backup_json(const KhoBackupPoint *point)
{
    json_t *object = json_object(), *disks = json_array(), *left_out = json_array();

    for (guint i = 0; i < point->disks->len; i++)
        json_array_append_new(disks, json_of_disk(point->disks->pdata[i]));
    for (guint i = 0; i < point->left_out->len; i++)
        json_array_append_new(left_out, json_of_left_out(point->left_out->pdata[i]));
    set_text(object, "machine", point->machine);
    set_text(object, "point", point->point);
    set_text(object, "path", point->path);
    json_object_set_new(object, "unfinished", json_boolean(point->unfinished));
    set_text(object, "problem", point->problem);
    set_text(object, "id", point->id);
    set_text(object, "name", point->name);
    set_text(object, "uuid", point->uuid);
    json_object_set_new(object, "when-ms", point->problem ? json_null() : json_integer(point->when_ms));
    set_text(object, "state", point->state);
    set_text(object, "kho-version", point->kho_version);
    set_text(object, "qemu-version", point->qemu_version);
    json_object_set_new(object, "capacity-bytes", json_integer((json_int_t) cli_backup_capacity(point)));
    json_object_set_new(object, "size-bytes", json_integer((json_int_t) cli_backup_size(point)));
    json_object_set_new(object, "disks", disks);
    json_object_set_new(object, "left-out", left_out);
    return object;
}

/* --- backup ----------------------------------------------------------------------------------------------
 */

typedef struct {
    const char *domain, *store, *point, *compress;
} BackupArgs;

static const CliArg backup_args[] = {
    CLI_DOMAIN_ARG(BackupArgs),
    { CLI_STR, "--to", offsetof(BackupArgs, store), NULL, "folder that holds backups; must exist",
      .object = CLI_FILE },
    { CLI_STR, "--point", offsetof(BackupArgs, point), CLI_OPTIONAL,
      "the backup's name; otherwise the time, as 2026-11-21T07-00-00Z" },
    { CLI_CHOICE, "--compress", offsetof(BackupArgs, compress), "zstd", "how the disks are compressed",
      .choices = "zstd|zlib|none" },
    { 0 },
};

static KhoBackupCompression
compression_of(const char *word)
{
    return strcmp(word, "none") == 0   ? KHO_BACKUP_PLAIN
           : strcmp(word, "zlib") == 0 ? KHO_BACKUP_ZLIB
                                       : KHO_BACKUP_ZSTD;
}

static gboolean
run_backup(CliRun *cli, const void *p, GError **error)
{
    const BackupArgs *a = p;
    const KhoBackupCreate options = { .store = a->store,
                                      .point = a->point,
                                      .compression = compression_of(a->compress) };
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autoptr(KhoBackupPoint) made = kho_backup_create(opened.domain, &options, cli->job, error);
    if (!made)
        return FALSE;
    if (cli->json)
        out_json(cli_backup_json(made));
    out_done(cli, "Domain '%s' backed up to %s", opened.name, made->path);
    for (guint i = 0; i < made->left_out->len; i++) {
        const KhoBackupLeftOut *left = made->left_out->pdata[i];
        gboolean memory = strcmp(left->what, "memory") == 0;
        out_done(cli, "Left out: %s %s%s", left->target ? left->target : left->what, left->source,
                 memory ? " (managed save): the disks are those of a guest in mid-run, as after a power cut"
                        : "");
    }
    return TRUE;
}

const CliVerb verb_backup = {
    .name = "backup",
    .noun = "backup",
    .summary = "copy a machine, its disks and its definition, to a store",
    .description =
        "All disks are copied as they are at one point in time. A running guest goes on meanwhile. The "
        "backup "
        "is a folder STORE/MACHINE/POINT with a qcow2 file for each disk, domain.xml, and manifest.json with "
        "sizes and SHA-256; it appears when it is whole and durable, and a failure, Ctrl-C or a kill leaves "
        "nothing.\n\n"
        "Read-only disks, drives of removable media and boot files are left out, and named in the manifest; "
        "so "
        "is the memory of a managed save: what is restored boots as after a power cut.",
    .examples = "kho backup web1 --to /mnt/backups\n"
                "kho backup web1 --to /mnt/backups --point before-upgrade --compress none",
    .args = backup_args,
    .args_bytes = sizeof(BackupArgs),
    .json = TRUE,
    .run = run_backup,
};

/* --- backup-list -----------------------------------------------------------------------------------------
 */

typedef struct {
    const char *store, *name;
    gboolean bytes;
} ListArgs;

static const CliArg list_args[] = {
    CLI_STORE_ARG(ListArgs),
    { CLI_STR, "NAME", offsetof(ListArgs, name), CLI_OPTIONAL, "only the backups of that machine" },
    { CLI_FLAG, "--bytes", offsetof(ListArgs, bytes), "no", "sizes in bytes" },
    { 0 },
};

static void
add_row(OutTable *table, const KhoBackupPoint *point, gboolean bytes)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_local(point->when_ms / 1000);
    g_autofree char *clock = when && !point->problem ? g_date_time_format(when, "%F %T") : NULL;
    g_autofree char *capacity = point->problem ? NULL : storage_size(cli_backup_capacity(point), bytes);
    g_autofree char *size = point->problem ? NULL : storage_size(cli_backup_size(point), bytes);
    const char *state = point->unfinished ? "unfinished" : point->problem ? "unusable" : point->state;

    out_table_row(table, (const char *[]){ point->machine, point->point, clock, state, capacity, size });
}

static gboolean
run_list(CliRun *cli, const void *p, GError **error)
{
    const ListArgs *a = p;
    g_autoptr(GPtrArray) points = kho_backup_list(a->store, a->name, error);

    if (!points)
        return FALSE;
    if (cli->json) {
        json_t *list = json_array();
        for (guint i = 0; i < points->len; i++)
            json_array_append_new(list, cli_backup_json(points->pdata[i]));
        out_json(list);
        return TRUE;
    }
    g_autoptr(OutTable) table = out_table_new("Machine", "Point", "Time", "State", "Capacity", "Size", NULL);
    for (guint i = 0; i < points->len; i++)
        add_row(table, points->pdata[i], a->bytes);
    out_table_print(table);
    for (guint i = 0; i < points->len; i++) {
        const KhoBackupPoint *point = points->pdata[i];
        if (point->problem)
            out_warning("%s", point->problem);
    }
    return TRUE;
}

const CliVerb verb_backup_list = {
    .name = "backup-list",
    .noun = "backup",
    .summary = "list the backups in a store",
    .description = "Manifests are read, and nothing else: `kho backup-verify` reads all. What an interrupted "
                   "backup left, and what cannot be used, is told as such.",
    .examples = "kho backup-list /mnt/backups\nkho backup-list /mnt/backups web1 --json",
    .args = list_args,
    .args_bytes = sizeof(ListArgs),
    .json = TRUE,
    .run = run_list,
};
