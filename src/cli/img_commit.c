/* kho img commit. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include <kho/image_change.h>

typedef struct {
    const char *path, *format, *base;
    char **secrets;
    guint64 rate_bytes, workers;
    gboolean keep, progress, force, plan;
} CommitArgs;

static const CliArg commit_args[] = {
    { CLI_STR, "FILE", offsetof(CommitArgs, path), NULL, "the overlay, whose data goes down",
      .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(CommitArgs, format), CLI_OPTIONAL,
      "its format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    { CLI_STR, "--base", offsetof(CommitArgs, base), CLI_OPTIONAL,
      "the image of its chain to commit to, with all that lies between; otherwise its backing file. The "
      "overlay keeps its data then",
      'b', .object = CLI_FILE },
    { CLI_FLAG, "--keep", offsetof(CommitArgs, keep), "no", "do not empty the overlay afterwards", 'd' },
    { CLI_SIZE, "--rate", offsetof(CommitArgs, rate_bytes), CLI_OPTIONAL, "copy at most so much a second",
      'r' },
    { CLI_UINT, "--workers", offsetof(CommitArgs, workers), CLI_OPTIONAL,
      "how many copy at the same time; as many as processors, at most 8", 'm', .max = 16 },
    { CLI_FLAG, "--progress", offsetof(CommitArgs, progress), "no",
      "as qemu-img; it is shown on a terminal anyway", 'p' },
    { CLI_FLAG, "--force", offsetof(CommitArgs, force), "no",
      "also disks of a machine that has a managed save, whose memory then does not fit them any more" },
    IMG_SECRET_ARG(CommitArgs),
    IMG_PLAN_ARG(CommitArgs),
    { 0 },
};

typedef struct {
    const CliRun *cli;
    gboolean force;
} Admission;

static gboolean
admit(const char *path, gpointer data, GError **error)
{
    const Admission *admission = data;

    return img_check_writable(admission->cli, path, error)
           && (admission->force || img_check_unsaved(admission->cli, path, error));
}

static gboolean
run_commit(CliRun *cli, const void *p, GError **error)
{
    const CommitArgs *a = p;
    Admission admission = { cli, a->force };
    g_auto(KhoImagePlan) plan = { 0 };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    const KhoImageSource overlay = { .path = a->path,
                                     .format = a->format,
                                     .gate = &kho_image_gate_open,
                                     .job = cli->job,
                                     .secrets = secrets };
    const KhoImageCommit commit = { .base = a->base,
                                    .keep_overlay = a->keep || a->base,
                                    .rate_bytes = a->rate_bytes,
                                    .workers = (guint) a->workers,
                                    .plan = a->plan ? &plan : NULL,
                                    .admit = admit,
                                    .admit_data = &admission };

    if (!secrets || !img_plan_check(cli, a->plan, error))
        return FALSE;
    gboolean done = kho_image_commit(&overlay, &commit, error);
    if (a->plan)
        return img_plan_tell(cli, &plan, done);
    if (!done)
        return FALSE;
    out_done(cli, "Image committed.");
    return TRUE;
}

const CliVerb verb_img_commit = {
    .name = "img-commit",
    .noun = "img",
    .summary = "write what an overlay holds into an image below it, and empty the overlay",
    .description =
        "What is read through the overlay stays the same at every moment, whatever happens; a commit that "
        "ended early may be made again. Other overlays of the base, and images between it and the overlay, "
        "read wrong afterwards: they are of no use any more.",
    .examples = "kho img commit overlay.qcow2\nkho img commit -d overlay.qcow2\n"
                "kho img commit -b base.qcow2 -r 50M top.qcow2",
    .args = commit_args,
    .args_bytes = sizeof(CommitArgs),
    .json = TRUE,
    .run = run_commit,
};
