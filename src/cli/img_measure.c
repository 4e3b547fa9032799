/* kho img measure. */
#include "cli/img_options.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/num.h"

#include <jansson.h>
#include <kho/image_compare.h>

typedef struct {
    const char *path, *size, *format, *target_format, *output;
    char **options, **secrets, **allowed;
    gboolean share, untrusted;
} MeasureArgs;

static const CliArg measure_args[] = {
    { CLI_STR, "FILE", offsetof(MeasureArgs, path), CLI_OPTIONAL,
      "image whose contents the new one would have", .object = CLI_FILE },
    { CLI_STR, "--size", offsetof(MeasureArgs, size), CLI_OPTIONAL, "of an empty disk, in place of FILE" },
    { CLI_CHOICE, "--format", offsetof(MeasureArgs, format), CLI_OPTIONAL,
      "FILE's format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    { CLI_CHOICE, "--output-format", offsetof(MeasureArgs, target_format), "raw",
      "the new one's: qcow2 or raw", 'O', .choices = "qcow2|raw" },
    { CLI_STRV, "--options", offsetof(MeasureArgs, options), CLI_OPTIONAL, "the new one's, as for img-create",
      'o' },
    IMG_OUTPUT_ARG(MeasureArgs),
    { CLI_FLAG, "--force-share", offsetof(MeasureArgs, share), "no", "although another process writes FILE",
      'U' },
    IMG_SECRET_ARG(MeasureArgs),
    IMG_TRUST_ARGS(MeasureArgs),
    { 0 },
};

/* What bitmaps take is told where there are any. */
static void
print(const KhoImageMeasure *measure, gboolean json)
{
    if (json) {
        json_t *root = json_pack("{s:I,s:I}", "required", (json_int_t) measure->required_bytes,
                                 "fully-allocated", (json_int_t) measure->fully_allocated_bytes);
        if (measure->bitmaps_bytes > 0)
            json_object_set_new(root, "bitmaps", json_integer((json_int_t) measure->bitmaps_bytes));
        out_json(root);
        return;
    }
    out_print("required size: %" G_GUINT64_FORMAT "\nfully allocated size: %" G_GUINT64_FORMAT "\n",
              measure->required_bytes, measure->fully_allocated_bytes);
    if (measure->bitmaps_bytes > 0)
        out_print("bitmaps size: %" G_GUINT64_FORMAT "\n", measure->bitmaps_bytes);
}

static gboolean
measure(CliRun *cli, const MeasureArgs *a, const KhoImageCreate *create, GError **error)
{
    ImgTrust trust = { a->untrusted, a->allowed, { a->path }, NULL };
    KhoImageSource from = { .path = a->path,
                            .format = a->format,
                            .flags = a->share ? KHO_IMAGE_NO_LOCK : 0,
                            .gate = &trust.gate,
                            .job = cli->job,
                            .secrets = create->secrets };
    g_autoptr(KhoImage) source = NULL;
    KhoImageMeasure found;

    if (!img_trust_begin(&trust, &from.flags, error))
        return FALSE;
    if (a->path) {
        source = kho_image_open_source(&from, error);
        if (!source)
            return FALSE;
    }
    if (!kho_image_measure(create, source, &found, cli->job, error))
        return FALSE;
    print(&found, img_wants_json(cli, a->output));
    return TRUE;
}

static gboolean
run_measure(CliRun *cli, const void *p, GError **error)
{
    const MeasureArgs *a = p;
    ImgOptions options;
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);

    if (!secrets)
        return FALSE;
    if (!a->path == !a->size)
        return fail(error, KHO_ERROR_INVALID, "either an image or --size is wanted");
    img_options_init(&options, a->target_format);
    options.create.secrets = secrets;
    gboolean done = img_options_read(&options, a->options, error)
                    && (!a->size || num_parse_size(a->size, 1, &options.create.size_bytes, error))
                    && measure(cli, a, &options.create, error);
    img_options_clear(&options);
    return done;
}

const CliVerb verb_img_measure = {
    .name = "img-measure",
    .noun = "img",
    .summary = "how much room a new image would take",
    .description = "With what FILE holds now, and once all of the disk has been written.",
    .examples = "kho img measure -O qcow2 disk.raw\nkho img measure -O qcow2 --size 1T -o cluster_size=2M",
    .args = measure_args,
    .args_bytes = sizeof(MeasureArgs),
    .json = TRUE,
    .run = run_measure,
};
