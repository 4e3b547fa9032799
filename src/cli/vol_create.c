/* kho vol-create-as, vol-create. */
#include "base/error.h"
#include "base/num.h"
#include "cli/output.h"
#include "cli/storage.h"
#include "cli/text.h"

typedef struct {
    const char *pool, *name, *format, *allocation, *backing_vol, *backing_vol_format;
    guint64 capacity_bytes;
    gboolean prealloc_metadata;
} CreateAsArgs;

static const CliArg create_as_args[] = {
    { CLI_STR, "POOL", offsetof(CreateAsArgs, pool), NULL, "name or uuid of an active pool",
      .object = CLI_POOL },
    { CLI_STR, "NAME", offsetof(CreateAsArgs, name), NULL, "the volume's name, which is its file's" },
    { CLI_SIZE, "CAPACITY", offsetof(CreateAsArgs, capacity_bytes), NULL,
      "its virtual size: bytes, or 10G, 512M" },
    { CLI_CHOICE, "--format", offsetof(CreateAsArgs, format), "raw", "its format", .choices = "raw|qcow2" },
    { CLI_STR, "--allocation", offsetof(CreateAsArgs, allocation), CLI_OPTIONAL,
      "space to reserve now; all of a raw volume, none of a qcow2 one unless given" },
    { CLI_STR, "--backing-vol", offsetof(CreateAsArgs, backing_vol), CLI_OPTIONAL,
      "volume of the pool, or path, that it is an overlay of", .object = CLI_VOLUME },
    { CLI_CHOICE, "--backing-vol-format", offsetof(CreateAsArgs, backing_vol_format), CLI_OPTIONAL,
      "the backing volume's format; must be stated", .choices = "raw|qcow2" },
    { CLI_FLAG, "--prealloc-metadata", offsetof(CreateAsArgs, prealloc_metadata), "no",
      "qcow2: make all tables now" },
    { 0 },
};

static gboolean
run_create_as(CliRun *cli, const void *p, GError **error)
{
    const CreateAsArgs *a = p;
    KhoVolumeCreate options = {
        .name = a->name,
        .capacity_bytes = a->capacity_bytes,
        .allocation_bytes = KHO_SIZE_UNSET,
        .format = a->format,
        .backing_volume = a->backing_vol,
        .backing_format = a->backing_vol_format,
        .prealloc_metadata = a->prealloc_metadata,
    };

    if (a->allocation && !num_parse_size(a->allocation, 1, &options.allocation_bytes, error)) {
        g_prefix_error(error, "--allocation: ");
        return FALSE;
    }
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    if (!host || !kho_volume_create(host, a->pool, &options, cli->job, error))
        return FALSE;
    out_done(cli, "Vol %s created", a->name);
    return TRUE;
}

const CliVerb verb_vol_create_as = {
    .name = "vol-create-as",
    .noun = "vol",
    .summary = "make a volume from words",
    .description =
        "A raw volume gets all of its space reserved, and is refused where that does not fit; --allocation 0 "
        "makes it "
        "sparse. A qcow2 volume grows as it is written to.\n\n"
        "The volume appears under its name when it is whole and durable; a failure or Ctrl-C leaves nothing.",
    .examples = "kho vol-create-as vmdisks raw-disk.img 10G --format raw\n"
                "kho vol-create-as vmdisks qcow2-disk.qcow2 10G --format qcow2\n"
                "kho vol-create-as vmdisks web2.qcow2 10G --format qcow2 --backing-vol base.qcow2 "
                "--backing-vol-format qcow2",
    .args = create_as_args,
    .args_bytes = sizeof(CreateAsArgs),
    .run = run_create_as,
};

typedef struct {
    const char *pool, *file;
} CreateArgs;

static const CliArg create_args[] = {
    { CLI_STR, "POOL", offsetof(CreateArgs, pool), NULL, "name or uuid of an active pool",
      .object = CLI_POOL },
    { CLI_STR, "FILE", offsetof(CreateArgs, file), NULL, "the volume's XML; - reads standard input",
      .object = CLI_FILE },
    { 0 },
};

static gboolean
run_create(CliRun *cli, const void *p, GError **error)
{
    const CreateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_auto(CliText) xml = { 0 };
    g_autofree char *name = NULL;

    if (!host || !cli_text_read(cli, a->file, &xml, error))
        return FALSE;
    if (!kho_volume_create_xml(host, a->pool, xml.text, xml.len, cli->job, &name, error))
        return cli_text_blame(&xml, error);
    out_done(cli, "Vol %s created from %s", name, xml.label);
    return TRUE;
}

const CliVerb verb_vol_create = {
    .name = "vol-create",
    .noun = "vol",
    .summary = "make a volume from an XML file",
    .examples = "kho vol-create vmdisks disk.xml",
    .args = create_args,
    .args_bytes = sizeof(CreateArgs),
    .run = run_create,
};
