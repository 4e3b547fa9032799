/* kho vol-resize, vol-clone, vol-delete. */
#include "base/error.h"
#include "base/num.h"
#include "cli/output.h"
#include "cli/storage.h"

typedef struct {
    const char *vol, *capacity, *pool;
    gboolean allocate, delta, shrink;
} ResizeArgs;

static const CliArg resize_args[] = {
    { CLI_STR, "VOL", offsetof(ResizeArgs, vol), NULL, "the volume's name with --pool, otherwise its path",
      .object = CLI_VOLUME },
    { CLI_STR, "CAPACITY", offsetof(ResizeArgs, capacity), NULL, "its new size: bytes, or 20G" },
    { CLI_STR, "--pool", offsetof(ResizeArgs, pool), CLI_OPTIONAL, "the pool it is in", .object = CLI_POOL },
    { CLI_FLAG, "--allocate", offsetof(ResizeArgs, allocate), "no", "reserve the space that it grows by" },
    { CLI_FLAG, "--delta", offsetof(ResizeArgs, delta), "no",
      "by CAPACITY, not to CAPACITY; with --shrink smaller" },
    { CLI_FLAG, "--shrink", offsetof(ResizeArgs, shrink), "no", "what lies past the new end may be lost" },
    { 0 },
};

static gboolean
run_resize(CliRun *cli, const void *p, GError **error)
{
    const ResizeArgs *a = p;
    KhoVolumeResize options = { .flags = (a->allocate ? KHO_RESIZE_ALLOCATE : 0)
                                         | (a->delta ? KHO_RESIZE_DELTA : 0)
                                         | (a->shrink ? KHO_RESIZE_SHRINK : 0) };
    const char *capacity = a->capacity;

    /* virsh's other way to write a decrease. */
    if (*capacity == '-') {
        if (!a->delta || !a->shrink)
            return fail(error, KHO_ERROR_INVALID, "volume %s: a negative size needs --delta and --shrink",
                        a->vol);
        capacity++;
    }
    if (!num_parse_size(capacity, 1, &options.bytes, error))
        return FALSE;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    guint64 now = host ? kho_volume_resize(host, a->pool, a->vol, &options, cli->job, error) : 0;
    if (now == 0)
        return FALSE;
    g_autofree char *shown = num_format_size(now);
    out_done(cli, "Size of volume '%s' successfully changed to %s", a->vol, shown);
    return TRUE;
}

const CliVerb verb_vol_resize = {
    .name = "vol-resize",
    .noun = "vol",
    .summary = "change the capacity of a volume",
    .description = "The volume must not be in use. Shrinking is refused without --shrink, and where the "
                   "volume is another one's "
                   "backing file.",
    .examples =
        "kho vol-resize --pool vmdisks disk.qcow2 20G\nkho vol-resize --pool vmdisks disk.qcow2 5G --delta\n"
        "kho vol-resize /vmdisks/disk.img 1G --delta --shrink",
    .args = resize_args,
    .args_bytes = sizeof(ResizeArgs),
    .run = run_resize,
};

typedef struct {
    const char *vol, *new_name, *pool;
    gboolean prealloc_metadata;
} CloneArgs;

static const CliArg clone_args[] = {
    { CLI_STR, "VOL", offsetof(CloneArgs, vol), NULL, "the volume's name with --pool, otherwise its path",
      .object = CLI_VOLUME },
    { CLI_STR, "NEWNAME", offsetof(CloneArgs, new_name), NULL, "name of the copy" },
    { CLI_STR, "--pool", offsetof(CloneArgs, pool), CLI_OPTIONAL, "the pool it is in", .object = CLI_POOL },
    { CLI_FLAG, "--prealloc-metadata", offsetof(CloneArgs, prealloc_metadata), "no",
      "qcow2: make all tables now" },
    { 0 },
};

static gboolean
run_clone(CliRun *cli, const void *p, GError **error)
{
    const CloneArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_volume_clone(host, a->pool, a->vol, a->new_name, a->prealloc_metadata, cli->job, error))
        return FALSE;
    out_done(cli, "Vol %s cloned from %s", a->new_name, a->vol);
    return TRUE;
}

const CliVerb verb_vol_clone = {
    .name = "vol-clone",
    .noun = "vol",
    .summary = "copy a volume within its pool",
    .description = "The copy has the same format, size and backing file, and is sparse where the volume "
                   "reads as zeros. It appears "
                   "under its name when it is whole; Ctrl-C leaves nothing.",
    .examples = "kho vol-clone --pool vmdisks disk.qcow2 copy.qcow2",
    .args = clone_args,
    .args_bytes = sizeof(CloneArgs),
    .run = run_clone,
};

typedef struct {
    const char *vol, *pool;
} DeleteArgs;

static const CliArg delete_args[] = {
    { CLI_STR, "VOL", offsetof(DeleteArgs, vol), NULL, "the volume's name with --pool, otherwise its path",
      .object = CLI_VOLUME },
    { CLI_STR, "--pool", offsetof(DeleteArgs, pool), CLI_OPTIONAL, "the pool it is in", .object = CLI_POOL },
    { 0 },
};

static gboolean
run_delete(CliRun *cli, const void *p, GError **error)
{
    const DeleteArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_volume_delete(host, a->pool, a->vol, error))
        return FALSE;
    out_done(cli, "Vol %s deleted", a->vol);
    return TRUE;
}

const CliVerb verb_vol_delete = {
    .name = "vol-delete",
    .noun = "vol",
    .summary = "delete a volume and what it holds",
    .description =
        "Refused while a process uses the volume, while a machine or one of its snapshots needs it, also "
        "one that is shut off, and while another volume has it as its backing file.",
    .examples = "kho vol-delete --pool vmdisks disk.qcow2",
    .args = delete_args,
    .args_bytes = sizeof(DeleteArgs),
    .run = run_delete,
};
