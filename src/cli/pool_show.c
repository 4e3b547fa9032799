/* kho pool-list, pool-info, pool-dumpxml. */
#include "base/json.h"
#include "cli/output.h"
#include "cli/storage.h"

static const char *
yes_no(gboolean value)
{
    return value ? "yes" : "no";
}

/* The keys are documented in docs/json.md. */
static json_t *
json_of(const KhoPool *pool)
{
    return json_pack("{s:s, s:s?, s:s?, s:o?, s:b, s:b, s:b, s:I, s:I, s:I, s:s?}", "name", pool->name,
                     "uuid", pool->uuid, "type", pool->type, "target-path",
                     json_from_bytes(pool->target_path), "active", pool->active, "autostart", pool->autostart,
                     "persistent", pool->persistent, "capacity-bytes", (json_int_t) pool->capacity_bytes,
                     "allocation-bytes", (json_int_t) pool->allocation_bytes, "available-bytes",
                     (json_int_t) pool->available_bytes, "problem", pool->problem);
}

typedef struct {
    gboolean all, inactive, autostart, no_autostart, details, name, uuid, bytes;
} ListArgs;

static const CliArg list_args[] = {
    { CLI_FLAG, "--all", offsetof(ListArgs, all), "no", "inactive pools too" },
    { CLI_FLAG, "--inactive", offsetof(ListArgs, inactive), "no", "only inactive pools" },
    { CLI_FLAG, "--autostart", offsetof(ListArgs, autostart), "no", "only those marked as autostarted" },
    { CLI_FLAG, "--no-autostart", offsetof(ListArgs, no_autostart), "no", "only those not marked" },
    { CLI_FLAG, "--details", offsetof(ListArgs, details), "no", "sizes too" },
    { CLI_FLAG, "--bytes", offsetof(ListArgs, bytes), "no", "sizes in bytes" },
    { CLI_FLAG, "--name", offsetof(ListArgs, name), "no", "names only, one a line" },
    { CLI_FLAG, "--uuid", offsetof(ListArgs, uuid), "no", "uuids only, one a line" },
    { 0 },
};

static gboolean
is_wanted(const ListArgs *a, const KhoPool *pool)
{
    if (!a->all && pool->active == a->inactive)
        return FALSE;
    return !(a->autostart && !pool->autostart) && !(a->no_autostart && pool->autostart);
}

static void
keep_wanted(const ListArgs *a, GPtrArray *pools)
{
    for (guint i = pools->len; i > 0; i--)
        if (!is_wanted(a, pools->pdata[i - 1]))
            g_ptr_array_remove_index(pools, i - 1);
}

static void
add_row(OutTable *table, const ListArgs *a, const KhoPool *pool)
{
    g_autofree char *capacity = pool->active ? storage_size(pool->capacity_bytes, a->bytes) : NULL;
    g_autofree char *allocation = pool->active ? storage_size(pool->allocation_bytes, a->bytes) : NULL;
    g_autofree char *available = pool->active ? storage_size(pool->available_bytes, a->bytes) : NULL;
    const char *active = pool->active ? "active" : "inactive";
    const char *running = pool->active ? "running" : "inactive";

    if (a->details)
        out_table_row(table, (const char *[]){ pool->name, running, yes_no(pool->autostart),
                                               yes_no(pool->persistent), capacity, allocation, available });
    else
        out_table_row(table, (const char *[]){ pool->name, active, yes_no(pool->autostart) });
}

static void
print_table(const ListArgs *a, const GPtrArray *pools)
{
    g_autoptr(OutTable) table = a->details ? out_table_new("Name", "State", "Autostart", "Persistent",
                                                           "Capacity", "Allocation", "Available", NULL)
                                           : out_table_new("Name", "State", "Autostart", NULL);

    for (guint i = 0; i < pools->len; i++)
        add_row(table, a, pools->pdata[i]);
    out_table_print(table);
}

static void
print_words(const ListArgs *a, const GPtrArray *pools)
{
    for (guint i = 0; i < pools->len; i++) {
        const KhoPool *pool = pools->pdata[i];
        if (a->uuid)
            out_print("%s%s%s\n", pool->uuid ? pool->uuid : "-", a->name ? " " : "",
                      a->name ? pool->name : "");
        else
            out_print("%s\n", pool->name);
    }
}

static gboolean
run_list(CliRun *cli, const void *p, GError **error)
{
    const ListArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(GPtrArray) pools = host ? kho_pool_list(host, error) : NULL;

    if (!pools)
        return FALSE;
    keep_wanted(a, pools);
    if (cli->json) {
        json_t *list = json_array();
        for (guint i = 0; i < pools->len; i++)
            json_array_append_new(list, json_of(pools->pdata[i]));
        out_json(list);
        return TRUE;
    }
    if (a->name || a->uuid)
        print_words(a, pools);
    else
        print_table(a, pools);
    for (guint i = 0; i < pools->len; i++) {
        const KhoPool *pool = pools->pdata[i];
        if (pool->problem)
            out_warning("pool %s cannot be used: %s", pool->name, pool->problem);
    }
    return TRUE;
}

const CliVerb verb_pool_list = {
    .name = "pool-list",
    .noun = "pool",
    .summary = "list the active pools",
    .examples = "kho pool-list --all\nkho pool-list --all --details\nkho pool-list --all --json",
    .args = list_args,
    .args_bytes = sizeof(ListArgs),
    .json = TRUE,
    .run = run_list,
};

typedef struct {
    const char *pool;
    gboolean bytes;
} InfoArgs;

static const CliArg info_args[] = {
    { CLI_STR, "POOL", offsetof(InfoArgs, pool), NULL, "name or uuid", .object = CLI_POOL },
    { CLI_FLAG, "--bytes", offsetof(InfoArgs, bytes), "no", "sizes in bytes" },
    { 0 },
};

static gboolean
run_info(CliRun *cli, const void *p, GError **error)
{
    const InfoArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(KhoPool) pool = host ? kho_pool_info(host, a->pool, error) : NULL;

    if (!pool)
        return FALSE;
    if (cli->json) {
        out_json(json_of(pool));
        return TRUE;
    }
    out_field("Name", "%s", pool->name);
    out_field("UUID", "%s", pool->uuid);
    out_field("State", "%s", pool->active ? "running" : "inactive");
    out_field("Persistent", "%s", yes_no(pool->persistent));
    out_field("Autostart", "%s", yes_no(pool->autostart));
    if (pool->active) {
        g_autofree char *capacity = storage_size(pool->capacity_bytes, a->bytes);
        g_autofree char *allocation = storage_size(pool->allocation_bytes, a->bytes);
        g_autofree char *available = storage_size(pool->available_bytes, a->bytes);
        out_field("Capacity", "%s", capacity);
        out_field("Allocation", "%s", allocation);
        out_field("Available", "%s", available);
    }
    out_print("\n");
    return TRUE;
}

const CliVerb verb_pool_info = {
    .name = "pool-info",
    .noun = "pool",
    .summary = "state and sizes of a pool",
    .examples = "kho pool-info vmdisks\nkho pool-info vmdisks --bytes\nkho pool-info vmdisks --json",
    .args = info_args,
    .args_bytes = sizeof(InfoArgs),
    .json = TRUE,
    .run = run_info,
};

typedef struct {
    const char *pool;
    gboolean inactive;
} DumpArgs;

static const CliArg dump_args[] = {
    { CLI_STR, "POOL", offsetof(DumpArgs, pool), NULL, "name or uuid", .object = CLI_POOL },
    { CLI_FLAG, "--inactive", offsetof(DumpArgs, inactive), "no", "the definition, also of an active pool" },
    { 0 },
};

static gboolean
run_dumpxml(CliRun *cli, const void *p, GError **error)
{
    const DumpArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autofree char *xml = host ? kho_pool_xml(host, a->pool, a->inactive, error) : NULL;

    if (!xml)
        return FALSE;
    out_print("%s", xml);
    return TRUE;
}

const CliVerb verb_pool_dumpxml = {
    .name = "pool-dumpxml",
    .noun = "pool",
    .summary = "print a pool's XML",
    .examples = "kho pool-dumpxml vmdisks > vmdisks.xml",
    .args = dump_args,
    .args_bytes = sizeof(DumpArgs),
    .run = run_dumpxml,
};
