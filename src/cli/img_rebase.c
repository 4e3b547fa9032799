/* kho img rebase. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include "base/error.h"

#include <kho/image_change.h>
#include <kho/image_layers.h>

typedef struct {
    const char *path, *format, *backing, *backing_format;
    char **secrets;
    guint64 workers;
    gboolean unsafe, progress, force, plan;
} RebaseArgs;

static const CliArg rebase_args[] = {
    { CLI_STR, "FILE", offsetof(RebaseArgs, path), NULL, "the image that is to lie on another",
      .object = CLI_FILE },
    { CLI_STR, "--backing", offsetof(RebaseArgs, backing), NULL,
      "its backing file from now on, as seen from its folder; '': none", 'b', .object = CLI_FILE },
    { CLI_CHOICE, "--backing-format", offsetof(RebaseArgs, backing_format), CLI_OPTIONAL,
      "the backing file's format", 'F', .choices = "qcow2|raw" },
    { CLI_CHOICE, "--format", offsetof(RebaseArgs, format), CLI_OPTIONAL,
      "the image's format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    { CLI_FLAG, "--unsafe", offsetof(RebaseArgs, unsafe), "no",
      "change the name alone: for a backing file that was moved, since anything else changes what is read",
      'u' },
    { CLI_UINT, "--workers", offsetof(RebaseArgs, workers), CLI_OPTIONAL,
      "how many copy at the same time; as many as processors, at most 8", 'm', .max = 16 },
    { CLI_FLAG, "--progress", offsetof(RebaseArgs, progress), "no",
      "as qemu-img; it is shown on a terminal anyway", 'p' },
    { CLI_FLAG, "--force", offsetof(RebaseArgs, force), "no",
      "also a disk of a machine that has a managed save, whose memory then does not fit it any more" },
    IMG_SECRET_ARG(RebaseArgs),
    IMG_PLAN_ARG(RebaseArgs),
    { 0 },
};

static gboolean
check(const CliRun *cli, const RebaseArgs *a, const KhoImageCreate *below, GError **error)
{
    if (below->backing_file && !a->backing_format)
        return fail(error, KHO_ERROR_INVALID, "the format of %s must be stated (-F)", a->backing);
    return img_check_writable(cli, a->path, error) && (a->force || img_check_unsaved(cli, a->path, error))
           && (a->unsafe || img_check_backing(cli, a->path, below, error));
}

static gboolean
run_rebase(CliRun *cli, const void *p, GError **error)
{
    const RebaseArgs *a = p;
    const char *backing = *a->backing ? a->backing : NULL;
    const char *format = backing ? a->backing_format : NULL;
    g_auto(KhoImagePlan) plan = { 0 };
    const KhoImageCreate below = { .backing_file = backing, .backing_format = format };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    const KhoImageSource source = { .path = a->path,
                                    .format = a->format,
                                    .gate = &kho_image_gate_open,
                                    .job = cli->job,
                                    .secrets = secrets };
    const KhoImageRebase rebase = { .backing_file = backing,
                                    .backing_format = format,
                                    .workers = (guint) a->workers,
                                    .plan = a->plan ? &plan : NULL };

    if (a->unsafe && a->plan)
        return fail(error, KHO_ERROR_INVALID, "--unsafe writes a name alone: there is nothing to plan");
    if (!secrets || !img_plan_check(cli, a->plan, error) || !check(cli, a, &below, error))
        return FALSE;
    gboolean done = a->unsafe ? kho_image_set_backing(a->path, backing, format, error)
                              : kho_image_rebase(&source, &rebase, error);
    if (a->plan)
        return img_plan_tell(cli, &plan, done);
    if (!done)
        return FALSE;
    if (backing)
        out_done(cli, "%s lies on %s.", a->path, backing);
    else
        out_done(cli, "%s has no backing file.", a->path);
    return TRUE;
}

const CliVerb verb_img_rebase = {
    .name = "img-rebase",
    .noun = "img",
    .summary = "let an image lie on another backing file, or on none",
    .description =
        "What would be read differently there is copied into the image first, so that it reads the same at "
        "every moment, whatever happens. Clusters that are equal below are not copied.",
    .examples = "kho img rebase -b other.qcow2 -F qcow2 overlay.qcow2\nkho img rebase -b '' overlay.qcow2\n"
                "kho img rebase -u -b moved/base.raw -F raw overlay.qcow2",
    .args = rebase_args,
    .args_bytes = sizeof(RebaseArgs),
    .json = TRUE,
    .run = run_rebase,
};
