/* kho img dd. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include <kho/image_convert.h>

#include "base/error.h"

typedef struct {
    const char *source, *target, *source_format, *format, *offset, *length;
    char **options, **secrets, **allowed;
    gboolean share, force, untrusted, plan;
} DdArgs;

static const CliArg dd_args[] = {
    { CLI_STR, "SOURCE", offsetof(DdArgs, source), NULL, "image to read", .object = CLI_FILE },
    { CLI_STR, "TARGET", offsetof(DdArgs, target), NULL, "image to make", .object = CLI_FILE },
    { CLI_STR, "--offset", offsetof(DdArgs, offset), "0", "where on the source's disk it begins" },
    { CLI_STR, "--length", offsetof(DdArgs, length), CLI_OPTIONAL, "how much is copied; up to the end" },
    { CLI_CHOICE, "--format", offsetof(DdArgs, source_format), CLI_OPTIONAL,
      "the source's format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    { CLI_CHOICE, "--output-format", offsetof(DdArgs, format), "raw", "the target's: qcow2 or raw", 'O',
      .choices = "qcow2|raw" },
    { CLI_STRV, "--options", offsetof(DdArgs, options), CLI_OPTIONAL, "the target's, as for img-create",
      'o' },
    { CLI_FLAG, "--force-share", offsetof(DdArgs, share), "no",
      "read although another process writes: the copy may be torn", 'U' },
    { CLI_FLAG, "--force", offsetof(DdArgs, force), "no", "replace the file that stands at TARGET" },
    IMG_SECRET_ARG(DdArgs),
    IMG_TRUST_ARGS(DdArgs),
    IMG_PLAN_ARG(DdArgs),
    { 0 },
};

static gboolean
read_part(const DdArgs *a, KhoImagePart *part, GError **error)
{
    guint64 size = kho_image_size_bytes(part->image), length;

    if (!img_size_parse(a->offset, 0, &part->off_bytes, error))
        return FALSE;
    if (part->off_bytes > size)
        return fail(error, KHO_ERROR_INVALID,
                    "--offset %s lies past the end of %s, which has %" G_GUINT64_FORMAT " bytes", a->offset,
                    a->source, size);
    part->length_bytes = size - part->off_bytes;
    if (!a->length)
        return TRUE;
    if (!img_size_parse(a->length, 0, &length, error))
        return FALSE;
    if (length > part->length_bytes)
        return fail(error, KHO_ERROR_INVALID,
                    "--length %s is more than the %" G_GUINT64_FORMAT " bytes from there on", a->length,
                    part->length_bytes);
    part->length_bytes = length;
    return TRUE;
}

static gboolean
copy(CliRun *cli, const DdArgs *a, const KhoImageCreate *create, KhoImagePlan *plan, GError **error)
{
    ImgTrust trust = { a->untrusted, a->allowed, { a->source }, a->target };
    KhoImageSource from = { .path = a->source,
                            .format = a->source_format,
                            .flags = a->share ? KHO_IMAGE_NO_LOCK : 0,
                            .gate = &trust.gate,
                            .job = cli->job,
                            .secrets = create->secrets };

    if (!img_trust_target(&trust, create, error) || !img_trust_begin(&trust, &from.flags, error))
        return FALSE;
    g_autoptr(KhoImage) source = kho_image_open_source(&from, error);
    KhoImagePart part = { .image = source };
    KhoImageConvert convert = { .secrets = create->secrets, .target = *create, .plan = plan };

    convert.target.overwrite = a->force;
    return source && read_part(a, &part, error)
           && kho_image_convert_parts(&part, 1, a->target, &convert, &trust.gate, cli->job, error);
}

static gboolean
run_dd(CliRun *cli, const void *p, GError **error)
{
    const DdArgs *a = p;
    g_auto(KhoImagePlan) plan = { 0 };
    ImgOptions options;
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);

    if (!secrets)
        return FALSE;
    img_options_init(&options, a->format);
    options.create.secrets = secrets;
    gboolean done =
        img_plan_check(cli, a->plan, error) && img_options_read(&options, a->options, error)
        && (!a->force || img_check_writable(cli, a->target, error))
        && (a->share || a->untrusted || img_check_readable(cli, a->source, a->source_format, error))
        && img_check_backing(cli, a->target, &options.create, error)
        && copy(cli, a, &options.create, a->plan ? &plan : NULL, error)
        && (a->plan || img_keep_sound(cli, a->target, &options.create, error));
    if (a->plan)
        img_plan_tell(cli, &plan, done);
    else if (done)
        out_done(cli, "Copied %s to %s, format %s", a->source, a->target, a->format);
    img_options_clear(&options);
    return done;
}

const CliVerb verb_img_dd = {
    .name = "img-dd",
    .noun = "img",
    .summary = "copy a part of a disk into a new image",
    .description = "The target appears when it is whole and durable, as with img-convert; holes stay holes.",
    .examples = "kho img dd --offset 1M --length 512M disk.qcow2 partition.raw",
    .args = dd_args,
    .args_bytes = sizeof(DdArgs),
    .json = TRUE,
    .run = run_dd,
};
