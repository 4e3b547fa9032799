/* kho restore-backup. */
#include "base/error.h"
#include "cli/backup.h"
#include "cli/domain.h"
#include "cli/output.h"

typedef struct {
    const char *store, *machine, *point, *name, *pool;
    gboolean start;
} RestoreArgs;

static const CliArg restore_args[] = {
    CLI_STORE_ARG(RestoreArgs),
    { CLI_STR, "MACHINE", offsetof(RestoreArgs, machine), NULL, "the machine's name in the store" },
    { CLI_STR, "--point", offsetof(RestoreArgs, point), CLI_OPTIONAL, "which backup; otherwise the latest" },
    { CLI_STR, "--name", offsetof(RestoreArgs, name), CLI_OPTIONAL,
      "restore as another machine, with a uuid and MAC addresses of its own" },
    { CLI_STR, "--pool", offsetof(RestoreArgs, pool), CLI_OPTIONAL,
      "put the disks there; otherwise where they were, or with kho's images", .object = CLI_POOL },
    { CLI_FLAG, "--start", offsetof(RestoreArgs, start), "no", "start it then" },
    { 0 },
};

/* What the machine will look for and was in no backup. */
static void
warn_left_out(const char *name, const KhoBackupPoint *point)
{
    for (guint i = 0; i < point->left_out->len; i++) {
        const KhoBackupLeftOut *left = point->left_out->pdata[i];
        if (left->source && !g_file_test(left->source, G_FILE_TEST_EXISTS))
            out_warning("machine '%s' has the %s %s, which backups do not hold and which is not here", name,
                        left->what, left->source);
    }
}

static gboolean
run_restore(CliRun *cli, const void *p, GError **error)
{
    const RestoreArgs *a = p;
    const KhoBackupRestore options = {
        .store = a->store, .machine = a->machine, .point = a->point, .name = a->name, .pool = a->pool
    };
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(KhoBackupPoint) point = NULL;
    g_autoptr(KhoDomain) domain = host ? kho_backup_restore(host, &options, cli->job, &point, error) : NULL;

    if (!domain)
        return FALSE;
    const char *name = kho_domain_name(domain);
    out_done(cli, "Domain '%s' restored from %s", name, point->path);
    warn_left_out(name, point);
    if (!a->start)
        return TRUE;
    if (!kho_domain_start(domain, FALSE, cli->job, error)) {
        g_prefix_error(error, "restored, and not started: ");
        return FALSE;
    }
    out_done(cli, "Domain '%s' started", name);
    return TRUE;
}

const CliVerb verb_restore_backup = {
    .name = "restore-backup",
    .noun = "backup",
    .summary = "bring a machine back from a backup",
    .description =
        "Disks get the format that the machine's definition says. They go to where they were, when that is "
        "free; otherwise to kho's images, or into the pool given, as MACHINE-TARGET.qcow2. Every file is "
        "compared with the manifest while it is read. The machine appears when all of it is there; a "
        "failure, "
        "Ctrl-C or a kill leaves nothing.",
    .examples = "kho restore-backup /mnt/backups web1\n"
                "kho restore-backup /mnt/backups web1 --name web1-test --pool vmdisks --start",
    .args = restore_args,
    .args_bytes = sizeof(RestoreArgs),
    .run = run_restore,
};
