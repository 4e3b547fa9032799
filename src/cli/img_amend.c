/* kho img amend. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include "base/error.h"

#include <kho/image_change.h>

typedef struct {
    const char *path, *format;
    char **options, **secrets;
    gboolean shrink, progress, force, plan;
} AmendArgs;

static const CliArg amend_args[] = {
    { CLI_STR, "FILE", offsetof(AmendArgs, path), NULL, "image to change", .object = CLI_FILE },
    { CLI_STRV, "--options", offsetof(AmendArgs, options), NULL,
      "what it is to become: compat, lazy_refcounts, refcount_bits, size", 'o' },
    { CLI_CHOICE, "--format", offsetof(AmendArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = "qcow2|raw" },
    IMG_SECRET_ARG(AmendArgs),
    { CLI_FLAG, "--shrink", offsetof(AmendArgs, shrink), "no", "the data past a smaller size may go" },
    { CLI_FLAG, "--progress", offsetof(AmendArgs, progress), "no",
      "as qemu-img; it is shown on a terminal anyway", 'p' },
    { CLI_FLAG, "--force", offsetof(AmendArgs, force), "no",
      "also a disk of a machine that has a managed save, whose memory then does not fit it any more" },
    IMG_PLAN_ARG(AmendArgs),
    { 0 },
};

/* Those that are for making an image alone. */
static gboolean
check_options(const KhoImageCreate *c, GError **error)
{
    const char *wrong = c->cluster_bytes    ? "cluster_size"
                        : c->prealloc       ? "preallocation"
                        : c->compression    ? "compression_type"
                        : c->extended_l2    ? "extended_l2"
                        : c->data_file_raw  ? "data_file_raw"
                        : c->backing_file   ? "backing_file"
                        : c->backing_format ? "backing_fmt"
                                            : NULL;

    if (wrong && g_str_has_prefix(wrong, "backing"))
        return fail(error, KHO_ERROR_INVALID, "%s: use img rebase", wrong);
    return !wrong || fail(error, KHO_ERROR_INVALID, "%s is for making an image: it stays as it is", wrong);
}

static gboolean
run_amend(CliRun *cli, const void *p, GError **error)
{
    const AmendArgs *a = p;
    g_auto(KhoImagePlan) plan = { 0 };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    ImgOptions options;

    if (!secrets || !img_plan_check(cli, a->plan, error))
        return FALSE;
    img_options_init(&options, "qcow2");
    gboolean done = img_options_read(&options, a->options, error) && check_options(&options.create, error)
                    && img_check_writable(cli, a->path, error)
                    && (a->force || img_check_unsaved(cli, a->path, error));
    if (done) {
        const KhoImageCreate *c = &options.create;
        const KhoImageAmend amend = {
            .path = a->path,
            .format = a->format,
            .qcow2_version = c->qcow2_version,
            .refcount_bits = c->refcount_bits,
            .lazy_refcounts = !options.has_lazy_refcounts ? 0
                              : c->lazy_refcounts         ? 1
                                                          : -1,
            .size_bytes = c->size_bytes,
            .data_file = c->data_file,
            .may_shrink = a->shrink,
            .plan = a->plan ? &plan : NULL,
            .secrets = secrets,
        };
        done = kho_image_amend(&amend, &kho_image_gate_open, cli->job, error);
    }
    img_options_clear(&options);
    if (a->plan)
        return img_plan_tell(cli, &plan, done);
    if (done)
        out_done(cli, "%s amended.", a->path);
    return done;
}

const CliVerb verb_img_amend = {
    .name = "img-amend",
    .noun = "img",
    .summary = "give an image another version, size, or width of its counts",
    .description =
        "What cannot be done is refused before anything is written; a crash leaves the image as it "
        "was or as it was to be (a new size comes last, and by itself).",
    .examples = "kho img amend -o compat=1.1,lazy_refcounts=on disk.qcow2\n"
                "kho img amend -o compat=0.10 disk.qcow2",
    .args = amend_args,
    .args_bytes = sizeof(AmendArgs),
    .json = TRUE,
    .run = run_amend,
};
