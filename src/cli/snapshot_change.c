/* snapshot-revert, snapshot-delete. */
#include "base/error.h"
#include "cli/output.h"
#include "cli/snapshot.h"

typedef struct {
    const char *domain, *snapshot;
    gboolean current, running, paused, force;
} RevertArgs;

static const CliArg revert_args[] = {
    CLI_DOMAIN_ARG(RevertArgs),
    CLI_SNAPSHOT_ARG(RevertArgs),
    CLI_CURRENT_ARG(RevertArgs),
    { CLI_FLAG, "--running", offsetof(RevertArgs, running), "no", "let the machine run afterwards" },
    { CLI_FLAG, "--paused", offsetof(RevertArgs, paused), "no", "start it afterwards, and leave it paused" },
    { CLI_FLAG, "--force", offsetof(RevertArgs, force), "no",
      "also where a file was changed since a snapshot closed it, or the memory's is lost" },
    { 0 },
};

static gboolean
run_revert(CliRun *cli, const void *p, GError **error)
{
    const RevertArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (a->running && a->paused)
        return fail(error, KHO_ERROR_INVALID, "--running and --paused do not go together");
    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    KhoRevertTo to = a->running ? KHO_REVERT_RUNNING : a->paused ? KHO_REVERT_PAUSED : KHO_REVERT_AS_TAKEN;
    g_autofree char *name = cli_snapshot_name(opened.domain, a->snapshot, a->current, error);
    if (!name || !kho_snapshot_revert(opened.domain, name, to, a->force, cli->job, error))
        return FALSE;
    out_done(cli, "Domain snapshot %s reverted", name);
    return TRUE;
}

const CliVerb verb_snapshot_revert = {
    .name = "snapshot-revert",
    .noun = "snapshot",
    .summary = "bring a machine back to a snapshot",
    .description =
        "What the machine did since, and no snapshot keeps, is lost; a machine that runs is ended for it. "
        "Where its memory was kept, it goes on at that instant, as it was: running or paused. Otherwise it "
        "is shut off afterwards, unless --running or --paused starts it.\n\nThe snapshot stays, and can be "
        "gone back to again. The definition is that of the snapshot, too; the files of its disks that were "
        "written until now are removed where kho made them and nothing needs them.\n\nFiles that a snapshot "
        "closed are not written any more; one whose size or time is another since was changed by somebody "
        "else, and is taken as it is only with --force.",
    .examples = "kho snapshot-revert web1 before-upgrade\nkho snapshot-revert web1 --current --running",
    .args = revert_args,
    .args_bytes = sizeof(RevertArgs),
    .run = run_revert,
};

typedef struct {
    const char *domain, *snapshot;
    gboolean current, children, children_only, metadata, force;
} DeleteArgs;

static const CliArg delete_args[] = {
    CLI_DOMAIN_ARG(DeleteArgs),
    CLI_SNAPSHOT_ARG(DeleteArgs),
    CLI_CURRENT_ARG(DeleteArgs),
    { CLI_FLAG, "--children", offsetof(DeleteArgs, children), "no", "and all that came from it" },
    { CLI_FLAG, "--children-only", offsetof(DeleteArgs, children_only), "no",
      "all that came from it, and not itself" },
    { CLI_FLAG, "--metadata", offsetof(DeleteArgs, metadata), "no",
      "forget it, and leave all files as they are" },
    { CLI_FLAG, "--force", offsetof(DeleteArgs, force), "no",
      "merge files as they are now, though somebody changed them since a snapshot closed them: what was "
      "changed stays in all that reads them; and take it that images that cannot be looked at now need none "
      "of these files: those that do are lost" },
    { 0 },
};

static gboolean
run_delete(CliRun *cli, const void *p, GError **error)
{
    const DeleteArgs *a = p;
    KhoSnapshotDeleteFlags flags = (a->children ? KHO_SNAPSHOT_DELETE_CHILDREN : 0)
                                   | (a->children_only ? KHO_SNAPSHOT_DELETE_CHILDREN_ONLY : 0)
                                   | (a->metadata ? KHO_SNAPSHOT_DELETE_METADATA : 0)
                                   | (a->force ? KHO_SNAPSHOT_DELETE_FORCE : 0);
    g_auto(CliDomain) opened = { 0 };

    if (a->children && a->children_only)
        return fail(error, KHO_ERROR_INVALID, "--children and --children-only do not go together");
    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *name = cli_snapshot_name(opened.domain, a->snapshot, a->current, error);
    g_autoptr(GPtrArray) left = NULL;
    if (!name || !kho_snapshot_delete(opened.domain, name, flags, cli->job, &left, error))
        return FALSE;
    out_done(cli, "Domain snapshot %s %sdeleted", name, a->children_only ? "children " : "");
    for (guint i = 0; i < left->len; i++)
        out_done(cli, "%s", (const char *) left->pdata[i]);
    return TRUE;
}

const CliVerb verb_snapshot_delete = {
    .name = "snapshot-delete",
    .noun = "snapshot",
    .summary = "delete a snapshot; the machine and its other snapshots stay as they are",
    .description = "Of each disk two files become one: what the snapshot's file holds goes into the file "
                   "that follows it, "
                   "or the other way round: into the one that kho did not make, else whichever moves less. "
                   "Only files that kho made are removed. A disk that was taken out of the machine keeps its "
                   "files as they are. A delete that is interrupted leaves the "
                   "snapshot as it "
                   "was, or in the state `deleting`: then the machine and all other snapshots are as they "
                   "were, and another "
                   "delete goes on.",
    .examples = "kho snapshot-delete web1 before-upgrade\nkho snapshot-delete web1 first --children",
    .args = delete_args,
    .args_bytes = sizeof(DeleteArgs),
    .run = run_delete,
};
