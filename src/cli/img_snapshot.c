/* kho img snapshot. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include "base/error.h"
#include "qemuimg/image_info.h"

#include <jansson.h>
#include <kho/image_change.h>

typedef struct {
    const char *path, *format, *create, *apply, *delete, *output;
    gboolean list, share, force, plan;
} SnapshotArgs;

static const CliArg snapshot_args[] = {
    { CLI_STR, "FILE", offsetof(SnapshotArgs, path), NULL, "image to change, or to look at",
      .object = CLI_FILE },
    { CLI_STR, "--create", offsetof(SnapshotArgs, create), CLI_OPTIONAL, "take a snapshot of this name",
      'c' },
    { CLI_STR, "--apply", offsetof(SnapshotArgs, apply), CLI_OPTIONAL,
      "the disk becomes what it was in this one (a name or an id), its size too", 'a' },
    { CLI_STR, "--delete", offsetof(SnapshotArgs, delete), CLI_OPTIONAL, "delete this one (a name or an id)",
      'd' },
    { CLI_FLAG, "--list", offsetof(SnapshotArgs, list), "no", "list them: what is done without the others",
      'l' },
    { CLI_CHOICE, "--format", offsetof(SnapshotArgs, format), CLI_OPTIONAL,
      "its format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    IMG_OUTPUT_ARG(SnapshotArgs),
    { CLI_FLAG, "--force-share", offsetof(SnapshotArgs, share), "no",
      "as qemu-img; a list never needs the lock", 'U' },
    { CLI_FLAG, "--force", offsetof(SnapshotArgs, force), "no",
      "also a disk of a machine that has a managed save, whose memory then does not fit it any more" },
    IMG_PLAN_ARG(SnapshotArgs),
    { 0 },
};

static gboolean
print_list(CliRun *cli, const SnapshotArgs *a, GError **error)
{
    const KhoImageSource source = { .path = a->path, .format = a->format, .job = cli->job };
    KhoImageInfo info;

    if (!kho_image_info_source(&source, &info, error))
        return FALSE;
    if (img_wants_json(cli, a->output))
        out_json(qimg_snapshots_json(info.snapshots));
    else if (info.snapshots->len > 0) {
        g_autofree char *table = qimg_snapshots_text(info.snapshots);
        out_print("Snapshot list:\n%s", table);
    }
    kho_image_info_clear(&info);
    return TRUE;
}

static gboolean
change(CliRun *cli, const SnapshotArgs *a, KhoImagePlan *plan, GError **error)
{
    const KhoImageSnapshotNew new = { .name = a->create, .icount = -1, .plan = plan };
    const KhoImageSnapshotPick pick = { .name = a->apply ? a->apply : a->delete, .plan = plan };

    if (!img_check_writable(cli, a->path, error) || (!a->force && !img_check_unsaved(cli, a->path, error)))
        return FALSE;
    if (a->create && !*a->create)
        return fail(error, KHO_ERROR_INVALID, "a snapshot wants a name");
    if (a->create)
        return kho_image_snapshot_create(a->path, a->format, &new, error);
    if (a->apply)
        return kho_image_snapshot_apply(a->path, a->format, &pick, error);
    return kho_image_snapshot_delete(a->path, a->format, &pick, error);
}

static gboolean
run_snapshot(CliRun *cli, const void *p, GError **error)
{
    const SnapshotArgs *a = p;
    guint wishes = (a->create != NULL) + (a->apply != NULL) + (a->delete != NULL);
    g_auto(KhoImagePlan) plan = { 0 };

    if (wishes + a->list > 1)
        return fail(error, KHO_ERROR_INVALID, "one of --create, --apply, --delete and --list is wanted");
    if (wishes == 0)
        return a->plan ? fail(error, KHO_ERROR_INVALID,
                              "--plan is for --create, --apply and --delete: a list changes nothing")
                       : print_list(cli, a, error);
    if (!img_plan_check(cli, a->plan, error))
        return FALSE;
    gboolean done = change(cli, a, a->plan ? &plan : NULL, error);
    if (a->plan)
        return img_plan_tell(cli, &plan, done);
    if (!done)
        return FALSE;
    out_done(cli, "Snapshot '%s' %s.",
             a->create  ? a->create
             : a->apply ? a->apply
                        : a->delete,
             a->create  ? "created"
             : a->apply ? "applied"
                        : "deleted");
    return TRUE;
}

const CliVerb verb_img_snapshot = {
    .name = "img-snapshot",
    .noun = "img",
    .summary = "snapshots inside an image: take, list, go back to, delete",
    .description = "Nobody else may use the image meanwhile. Of a machine, with its memory or without, and "
                   "while it runs: see snapshot-create-as.",
    .examples =
        "kho img snapshot disk.qcow2\nkho img snapshot -c before-upgrade disk.qcow2\n"
        "kho img snapshot -a before-upgrade disk.qcow2\nkho img snapshot -d before-upgrade disk.qcow2",
    .args = snapshot_args,
    .args_bytes = sizeof(SnapshotArgs),
    .json = TRUE,
    .run = run_snapshot,
};
