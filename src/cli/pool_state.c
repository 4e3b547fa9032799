/* kho pool-build, pool-start, pool-destroy, pool-autostart, pool-refresh. */
#include "cli/output.h"
#include "cli/storage.h"

typedef struct {
    const char *pool;
    gboolean build;   /* pool-start */
    gboolean disable; /* pool-autostart */
} StateArgs;

#define POOL_ARG                                                                                             \
    {                                                                                                        \
        CLI_STR, "POOL", offsetof(StateArgs, pool), NULL, "name or uuid", .object = CLI_POOL                 \
    }

static const CliArg pool_args[] = { POOL_ARG, { 0 } };

static const CliArg start_args[] = {
    POOL_ARG,
    { CLI_FLAG, "--build", offsetof(StateArgs, build), "no",
      "make its folder first, where it does not exist" },
    { 0 },
};

static const CliArg autostart_args[] = {
    POOL_ARG,
    { CLI_FLAG, "--disable", offsetof(StateArgs, disable), "no", "do not start it with the host" },
    { 0 },
};

static gboolean
run_build(CliRun *cli, const void *p, GError **error)
{
    const StateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_build(host, a->pool, error))
        return FALSE;
    out_done(cli, "Pool %s built", a->pool);
    return TRUE;
}

const CliVerb verb_pool_build = {
    .name = "pool-build",
    .noun = "pool",
    .summary = "make the pool's folder, with its parents",
    .description = "A folder that exists is left as it is, with what is in it.",
    .examples = "kho pool-build vmdisks",
    .args = pool_args,
    .args_bytes = sizeof(StateArgs),
    .run = run_build,
};

static gboolean
run_start(CliRun *cli, const void *p, GError **error)
{
    const StateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_start(host, a->pool, a->build, error))
        return FALSE;
    out_done(cli, "Pool %s started", a->pool);
    return TRUE;
}

const CliVerb verb_pool_start = {
    .name = "pool-start",
    .noun = "pool",
    .summary = "make a pool active, so that its volumes can be used",
    .examples = "kho pool-start vmdisks\nkho pool-start --build vmdisks",
    .args = start_args,
    .args_bytes = sizeof(StateArgs),
    .run = run_start,
};

static gboolean
run_destroy(CliRun *cli, const void *p, GError **error)
{
    const StateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_stop(host, a->pool, error))
        return FALSE;
    out_done(cli, "Pool %s destroyed", a->pool);
    return TRUE;
}

const CliVerb verb_pool_destroy = {
    .name = "pool-destroy",
    .noun = "pool",
    .summary = "make a pool inactive; nothing is deleted",
    .description = "The word is virsh's. Folder, volumes and definition stay; machines that run go on using "
                   "their disks.",
    .examples = "kho pool-destroy vmdisks",
    .args = pool_args,
    .args_bytes = sizeof(StateArgs),
    .run = run_destroy,
};

static gboolean
run_autostart(CliRun *cli, const void *p, GError **error)
{
    const StateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_set_autostart(host, a->pool, !a->disable, error))
        return FALSE;
    out_done(cli, "Pool %s %s as autostarted", a->pool, a->disable ? "unmarked" : "marked");
    return TRUE;
}

const CliVerb verb_pool_autostart = {
    .name = "pool-autostart",
    .noun = "pool",
    .summary = "mark a pool to be started with the host",
    .examples = "kho pool-autostart vmdisks\nkho pool-autostart vmdisks --disable",
    .args = autostart_args,
    .args_bytes = sizeof(StateArgs),
    .run = run_autostart,
};

static gboolean
run_refresh(CliRun *cli, const void *p, GError **error)
{
    const StateArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);

    if (!host || !kho_pool_refresh(host, a->pool, error))
        return FALSE;
    out_done(cli, "Pool %s refreshed", a->pool);
    return TRUE;
}

const CliVerb verb_pool_refresh = {
    .name = "pool-refresh",
    .noun = "pool",
    .summary = "look at a pool's folder anew",
    .description = "kho reads the folder whenever it is asked, so that nothing becomes stale: this only "
                   "checks that it can be read.",
    .examples = "kho pool-refresh vmdisks",
    .args = pool_args,
    .args_bytes = sizeof(StateArgs),
    .run = run_refresh,
};
