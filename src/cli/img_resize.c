/* kho img resize. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include "base/error.h"

typedef struct {
    const char *path, *size, *format, *prealloc;
    char **secrets;
    gboolean shrink, force, plan;
} ResizeArgs;

static const CliArg resize_args[] = {
    { CLI_STR, "FILE", offsetof(ResizeArgs, path), NULL, "image to resize", .object = CLI_FILE },
    { CLI_STR, "SIZE", offsetof(ResizeArgs, size), NULL,
      "new virtual size: 10G, or by how much it changes: +1G, -1G" },
    { CLI_CHOICE, "--format", offsetof(ResizeArgs, format), CLI_OPTIONAL,
      "its format; otherwise it is probed", 'f', .choices = IMG_FORMATS },
    { CLI_CHOICE, "--preallocation", offsetof(ResizeArgs, prealloc), "off", "of what is added",
      .choices = "off|metadata|falloc|full" },
    IMG_SECRET_ARG(ResizeArgs),
    { CLI_FLAG, "--shrink", offsetof(ResizeArgs, shrink), "no", "the data past the new end may go" },
    { CLI_FLAG, "--force", offsetof(ResizeArgs, force), "no",
      "also a disk of a machine that has a managed save, whose memory then does not fit it any more" },
    IMG_PLAN_ARG(ResizeArgs),
    { 0 },
};

static gboolean
new_size(const ResizeArgs *a, guint64 *bytes, GError **error)
{
    const KhoImageSource source = { .path = a->path, .format = a->format, .gate = &kho_image_gate_open };
    KhoImageInfo info;

    if (!kho_image_info_source(&source, &info, error))
        return FALSE;
    gboolean good = img_size_parse(a->size, info.virtual_bytes, bytes, error);
    kho_image_info_clear(&info);
    return good;
}

static gboolean
run_resize(CliRun *cli, const void *p, GError **error)
{
    const ResizeArgs *a = p;
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    g_auto(KhoImagePlan) plan = { 0 };
    KhoImageResize options = { .may_shrink = a->shrink, .secrets = secrets, .plan = a->plan ? &plan : NULL };

    if (!secrets || !img_plan_check(cli, a->plan, error)
        || !img_prealloc_parse(a->prealloc, &options.prealloc, error)
        || !new_size(a, &options.size_bytes, error) || !img_check_writable(cli, a->path, error)
        || (!a->force && !img_check_unsaved(cli, a->path, error)))
        return FALSE;
    gboolean done = kho_image_resize(a->path, a->format, &options, &kho_image_gate_open, cli->job, error);
    if (a->plan)
        return img_plan_tell(cli, &plan, done);
    if (!done)
        return FALSE;
    out_done(cli, "Image resized.");
    return TRUE;
}

const CliVerb verb_img_resize = {
    .name = "img-resize",
    .noun = "img",
    .summary = "grow an image, or shrink it",
    .examples = "kho img resize disk.qcow2 +10G\nkho img resize --shrink disk.raw 5G",
    .args = resize_args,
    .args_bytes = sizeof(ResizeArgs),
    .json = TRUE,
    .run = run_resize,
};
