/* kho vol-list, vol-info, vol-dumpxml, vol-path. */
#include "base/error.h"
#include "base/json.h"
#include "cli/output.h"
#include "cli/storage.h"

/* The keys are documented in docs/json.md. */
static json_t *
json_of(const KhoVolume *v)
{
    return json_pack("{s:o, s:s, s:o, s:o, s:s, s:s, s:I, s:I, s:I, s:o?, s:s?, s:o?}", "name",
                     json_from_bytes(v->name), "pool", v->pool, "path", json_from_bytes(v->path), "key",
                     json_from_bytes(v->key), "type", v->type, "format", v->format, "capacity-bytes",
                     (json_int_t) v->capacity_bytes, "allocation-bytes", (json_int_t) v->allocation_bytes,
                     "physical-bytes", (json_int_t) v->physical_bytes, "backing-path",
                     json_from_bytes(v->backing_path), "backing-format", v->backing_format, "problem",
                     json_from_bytes(v->problem));
}

typedef struct {
    const char *pool;
    gboolean details, bytes;
} ListArgs;

static const CliArg list_args[] = {
    { CLI_STR, "POOL", offsetof(ListArgs, pool), NULL, "name or uuid of an active pool", .object = CLI_POOL },
    { CLI_FLAG, "--details", offsetof(ListArgs, details), "no", "type, format and sizes too" },
    { CLI_FLAG, "--bytes", offsetof(ListArgs, bytes), "no", "sizes in bytes" },
    { 0 },
};

static void
print_table(const ListArgs *a, const GPtrArray *volumes)
{
    g_autoptr(OutTable) table =
        a->details ? out_table_new("Name", "Path", "Type", "Format", "Capacity", "Allocation", NULL)
                   : out_table_new("Name", "Path", NULL);

    for (guint i = 0; i < volumes->len; i++) {
        const KhoVolume *v = volumes->pdata[i];
        g_autofree char *capacity = storage_size(v->capacity_bytes, a->bytes);
        g_autofree char *allocation = storage_size(v->allocation_bytes, a->bytes);
        out_table_row(table, (const char *[]){ v->name, v->path, v->type, v->format, capacity, allocation });
    }
    out_table_print(table);
    for (guint i = 0; i < volumes->len; i++) {
        const KhoVolume *v = volumes->pdata[i];
        if (v->problem)
            out_warning("volume %s cannot be used: %s", v->name, v->problem);
    }
}

static gboolean
run_list(CliRun *cli, const void *p, GError **error)
{
    const ListArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(GPtrArray) volumes = host ? kho_volume_list(host, a->pool, error) : NULL;

    if (!volumes)
        return FALSE;
    if (!cli->json) {
        print_table(a, volumes);
        return TRUE;
    }
    json_t *list = json_array();
    for (guint i = 0; i < volumes->len; i++)
        json_array_append_new(list, json_of(volumes->pdata[i]));
    out_json(list);
    return TRUE;
}

const CliVerb verb_vol_list = {
    .name = "vol-list",
    .noun = "vol",
    .summary = "list the volumes of a pool",
    .description = "A file that cannot be read as an image is listed with format unknown, and a warning says "
                   "why. Folders, "
                   "devices, and files whose name begins with a dot are no volumes.",
    .examples = "kho vol-list vmdisks --details",
    .args = list_args,
    .args_bytes = sizeof(ListArgs),
    .json = TRUE,
    .run = run_list,
};

typedef struct {
    const char *vol, *pool;
    gboolean bytes, physical;
} VolArgs;

#define VOL_ARGS                                                                                             \
    { CLI_STR,                                                                                               \
      "VOL",                                                                                                 \
      offsetof(VolArgs, vol),                                                                                \
      NULL,                                                                                                  \
      "the volume's name with --pool, otherwise its path",                                                   \
      .object = CLI_VOLUME },                                                                                \
    {                                                                                                        \
        CLI_STR, "--pool", offsetof(VolArgs, pool), CLI_OPTIONAL, "the pool it is in", .object = CLI_POOL    \
    }

static const CliArg info_args[] = {
    VOL_ARGS,
    { CLI_FLAG, "--bytes", offsetof(VolArgs, bytes), "no", "sizes in bytes" },
    { CLI_FLAG, "--physical", offsetof(VolArgs, physical), "no",
      "the file's size instead of the space it takes" },
    { 0 },
};

static const CliArg vol_args[] = { VOL_ARGS, { 0 } };

static gboolean
run_info(CliRun *cli, const void *p, GError **error)
{
    const VolArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(KhoVolume) v = host ? kho_volume_info(host, a->pool, a->vol, error) : NULL;

    if (!v)
        return FALSE;
    if (cli->json) {
        out_json(json_of(v));
        return TRUE;
    }
    if (v->problem)
        return fail(error, KHO_ERROR_CORRUPT, "volume %s of pool %s cannot be used: %s", v->name, v->pool,
                    v->problem);
    g_autofree char *capacity = storage_size(v->capacity_bytes, a->bytes);
    g_autofree char *allocation =
        storage_size(a->physical ? v->physical_bytes : v->allocation_bytes, a->bytes);
    out_field("Name", "%s", v->name);
    out_field("Type", "%s", v->type);
    out_field("Format", "%s", v->format);
    out_field("Capacity", "%s", capacity);
    out_field(a->physical ? "Physical" : "Allocation", "%s", allocation);
    if (v->backing_path)
        out_field("Backing file", "%s (%s)", v->backing_path,
                  v->backing_format ? v->backing_format : "format not stated");
    out_print("\n");
    return TRUE;
}

const CliVerb verb_vol_info = {
    .name = "vol-info",
    .noun = "vol",
    .summary = "format, sizes and backing file of a volume",
    .examples = "kho vol-info --pool vmdisks qcow2-disk.qcow2\nkho vol-info /vmdisks/raw-disk.img --bytes",
    .args = info_args,
    .args_bytes = sizeof(VolArgs),
    .json = TRUE,
    .run = run_info,
};

static gboolean
run_dumpxml(CliRun *cli, const void *p, GError **error)
{
    const VolArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autofree char *xml = host ? kho_volume_xml(host, a->pool, a->vol, error) : NULL;

    if (!xml)
        return FALSE;
    out_print("%s", xml);
    return TRUE;
}

const CliVerb verb_vol_dumpxml = {
    .name = "vol-dumpxml",
    .noun = "vol",
    .summary = "print a volume's XML",
    .examples = "kho vol-dumpxml --pool vmdisks raw-disk.img",
    .args = vol_args,
    .args_bytes = sizeof(VolArgs),
    .run = run_dumpxml,
};

static gboolean
run_path(CliRun *cli, const void *p, GError **error)
{
    const VolArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(KhoVolume) v = host ? kho_volume_info(host, a->pool, a->vol, error) : NULL;

    if (!v)
        return FALSE;
    out_print("%s\n", v->path);
    return TRUE;
}

const CliVerb verb_vol_path = {
    .name = "vol-path",
    .noun = "vol",
    .summary = "print the path of a volume",
    .examples = "kho vol-path --pool vmdisks raw-disk.img",
    .args = vol_args,
    .args_bytes = sizeof(VolArgs),
    .run = run_path,
};
