/* snapshot-create-as. */
#include "base/error.h"
#include "base/xml.h"
#include "cli/output.h"
#include "cli/snapshot.h"

#include <jansson.h>
#include <string.h>

typedef struct {
    const char *domain, *name, *description, *memspec;
    gboolean disk_only, quiesce, atomic, live;
    char **diskspecs;
} CreateArgs;

static const CliArg create_args[] = {
    CLI_DOMAIN_ARG(CreateArgs),
    { CLI_STR, "NAME", offsetof(CreateArgs, name), CLI_OPTIONAL, "its name; the time where none is given" },
    { CLI_STR, "DESCRIPTION", offsetof(CreateArgs, description), CLI_OPTIONAL, "what it is for" },
    { CLI_FLAG, "--disk-only", offsetof(CreateArgs, disk_only), "no",
      "of a machine that runs: without its memory" },
    { CLI_STR, "--memspec", offsetof(CreateArgs, memspec), CLI_OPTIONAL,
      "[file=]PATH[,snapshot=external|no]: where the memory goes" },
    { CLI_STRV, "--diskspec", offsetof(CreateArgs, diskspecs), CLI_OPTIONAL,
      "DISK[,snapshot=external|no][,file=PATH]: where a disk's writes go from now on, or that it is left "
      "out" },
    { CLI_FLAG, "--quiesce", offsetof(CreateArgs, quiesce), "no",
      "have the guest's agent freeze its file systems meanwhile" },
    { CLI_FLAG, "--atomic", offsetof(CreateArgs, atomic), "no", "all disks or none, which is always so" },
    { CLI_FLAG, "--live", offsetof(CreateArgs, live), "no",
      "let the guest run while its memory is saved, which is always so" },
    { 0 },
};

/* A spec's items: libvirt's, divided by commas, of which two in a row stand for one in a value. */
static GPtrArray *
split_spec(const char *spec)
{
    GPtrArray *items = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GString) item = g_string_new(NULL);

    for (const char *c = spec; *c; c++) {
        if (*c != ',') {
            g_string_append_c(item, *c);
        } else if (c[1] == ',') {
            g_string_append_c(item, ',');
            c++;
        } else {
            g_ptr_array_add(items, g_strdup(item->str));
            g_string_truncate(item, 0);
        }
    }
    g_ptr_array_add(items, g_strdup(item->str));
    return items;
}

/* A path as the user typed it, made absolute; NULL with @error where it cannot be one. */
static char *
full_path(const char *path, const char *option, GError **error)
{
    if (!*path || !xml_can_say(path)) {
        fail(error, KHO_ERROR_INVALID, "%s: \"%s\" is no path of a file that XML can hold", option, path);
        return NULL;
    }
    return g_canonicalize_filename(path, NULL);
}

/* *leave_out of "snapshot=KIND". */
static gboolean
parse_kind(const char *kind, const char *option, gboolean *leave_out, GError **error)
{
    *leave_out = strcmp(kind, "no") == 0;
    if (*leave_out || strcmp(kind, "external") == 0)
        return TRUE;
    if (strcmp(kind, "internal") == 0 || strcmp(kind, "manual") == 0)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s: kho makes no %s snapshots: snapshot=external or no",
                    option, kind);
    return fail(error, KHO_ERROR_INVALID, "%s: snapshot=%s: it must be external or no", option, kind);
}

/* One KEY=VALUE of a --diskspec. */
static gboolean
parse_disk_item(const char *item, KhoSnapshotDiskSpec *disk, GPtrArray *owned, GError **error)
{
    if (g_str_has_prefix(item, "snapshot="))
        return parse_kind(item + strlen("snapshot="), "--diskspec", &disk->leave_out, error);
    if (g_str_has_prefix(item, "file=")) {
        char *path = full_path(item + strlen("file="), "--diskspec", error);
        if (path)
            g_ptr_array_add(owned, path);
        disk->file = path;
        return path != NULL;
    }
    if (strcmp(item, "driver=qcow2") == 0 || strcmp(item, "stype=file") == 0)
        return TRUE;
    if (g_str_has_prefix(item, "driver=") || g_str_has_prefix(item, "stype="))
        return fail(error, KHO_ERROR_UNSUPPORTED, "--diskspec: %s: kho makes driver=qcow2, stype=file", item);
    return fail(error, KHO_ERROR_INVALID,
                "--diskspec: '%s' is not snapshot=KIND, file=PATH, driver=qcow2 or stype=file", item);
}

static gboolean
parse_disk(const char *spec, GArray *disks, GPtrArray *owned, GError **error)
{
    GPtrArray *items = split_spec(spec);
    KhoSnapshotDiskSpec disk = { 0 };

    g_ptr_array_add(owned, g_strdup(items->pdata[0]));
    disk.target = owned->pdata[owned->len - 1];
    gboolean good =
        *disk.target != '\0' || fail(error, KHO_ERROR_INVALID, "--diskspec: which disk? \"%s\"", spec);
    for (guint i = 1; good && i < items->len; i++)
        good = parse_disk_item(items->pdata[i], &disk, owned, error);
    if (good && disk.leave_out && disk.file)
        good =
            fail(error, KHO_ERROR_INVALID, "--diskspec: disk %s is left out, and needs no file", disk.target);
    g_array_append_val(disks, disk);
    g_ptr_array_unref(items);
    return good;
}

static gboolean
parse_memory(const char *spec, KhoSnapshotCreate *options, GPtrArray *owned, GError **error)
{
    g_autoptr(GPtrArray) items = split_spec(spec);
    gboolean leave_out = FALSE;

    for (guint i = 0; i < items->len; i++) {
        const char *item = items->pdata[i];
        if (g_str_has_prefix(item, "snapshot=")) {
            if (!parse_kind(item + strlen("snapshot="), "--memspec", &leave_out, error))
                return FALSE;
        } else if (g_str_has_prefix(item, "file=") || (i == 0 && !strchr(item, '='))) {
            char *path = full_path(g_str_has_prefix(item, "file=") ? item + strlen("file=") : item,
                                   "--memspec", error);
            if (!path)
                return FALSE;
            g_ptr_array_add(owned, path);
            options->memory_file = path;
        } else {
            return fail(error, KHO_ERROR_INVALID, "--memspec: '%s' is not file=PATH or snapshot=KIND", item);
        }
    }
    options->disk_only |= leave_out;
    return TRUE;
}

static gboolean
run_create(CliRun *cli, const void *p, GError **error)
{
    const CreateArgs *a = p;
    KhoSnapshotCreate options = {
        .name = a->name, .description = a->description, .disk_only = a->disk_only, .quiesce = a->quiesce
    };
    g_autoptr(GArray) disks = g_array_new(FALSE, TRUE, sizeof(KhoSnapshotDiskSpec));
    g_autoptr(GPtrArray) owned = g_ptr_array_new_with_free_func(g_free);
    g_auto(CliDomain) opened = { 0 };

    for (char **spec = a->diskspecs; spec && *spec; spec++)
        if (!parse_disk(*spec, disks, owned, error))
            return FALSE;
    if (a->memspec && !parse_memory(a->memspec, &options, owned, error))
        return FALSE;
    options.disks = (const KhoSnapshotDiskSpec *) (void *) disks->data;
    options.n_disks = disks->len;
    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *name = kho_snapshot_create(opened.domain, &options, cli->job, error);
    if (!name)
        return FALSE;
    out_done(cli, "Domain snapshot %s created", name);
    return TRUE;
}

const CliVerb verb_snapshot_create_as = {
    .name = "snapshot-create-as",
    .noun = "snapshot",
    .summary = "take a snapshot of a machine",
    .description =
        "The files that the machine's disks are in are closed, all at one moment, and stay as they are; "
        "writes "
        "go to new files beside them, NAME.N.qcow2.\n\nOf a machine that runs the memory is kept, too, "
        "unless "
        "--disk-only: what its disks hold then is what a power cut would have left. Drives that are "
        "removable, read-only or empty take no part; no other may be left out where the memory is kept.",
    .examples = "kho snapshot-create-as web1 before-upgrade\n"
                "kho snapshot-create-as web1 nightly --disk-only --diskspec vdb,snapshot=no",
    .args = create_args,
    .args_bytes = sizeof(CreateArgs),
    .run = run_create,
};
