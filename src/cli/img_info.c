/* kho img info. */
#include "cli/img_options.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include "qemuimg/image_info.h"

#include <jansson.h>

typedef struct {
    const char *path, *format, *output;
    char **allowed;
    gboolean chain, share, untrusted;
} InfoArgs;

static const CliArg info_args[] = {
    { CLI_STR, "FILE", offsetof(InfoArgs, path), NULL, "image to look at", .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(InfoArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = IMG_FORMATS },
    IMG_OUTPUT_ARG(InfoArgs),
    { CLI_FLAG, "--backing-chain", offsetof(InfoArgs, chain), "no", "its backing files too" },
    { CLI_FLAG, "--force-share", offsetof(InfoArgs, share), "no", "as qemu-img; info never needs the lock",
      'U' },
    IMG_TRUST_ARGS(InfoArgs),
    { 0 },
};

static void
print_human(const KhoImageInfo *info)
{
    g_autofree char *text = qimg_info_text(info);

    out_print("%s", text);
}

/* The images to tell about: opening the chain first finds loops and missing files. */
static gboolean
tell_chain(const KhoImageSource *source, json_t *list, GError **error)
{
    g_autoptr(KhoImage) chain = kho_image_open_source(source, error);

    if (!chain)
        return FALSE;
    for (KhoImage *image = chain; image; image = kho_image_backing(image)) {
        KhoImageSource one = { .path = kho_image_path(image),
                               .format = kho_image_format(image),
                               .flags = source->flags & (KHO_IMAGE_LOCAL | KHO_IMAGE_VOLUMES),
                               .gate = source->gate,
                               .job = source->job };
        KhoImageInfo info;

        if (!kho_image_info_source(&one, &info, error))
            return FALSE;
        if (list)
            json_array_append_new(list, qimg_info_json(&info));
        else {
            out_print("%s", image == chain ? "" : "\n");
            print_human(&info);
        }
        kho_image_info_clear(&info);
    }
    return TRUE;
}

static gboolean
run_info(CliRun *cli, const void *p, GError **error)
{
    const InfoArgs *a = p;
    ImgTrust trust = { a->untrusted, a->allowed, { a->path }, NULL };
    KhoImageSource source = { .path = a->path,
                              .format = a->format,
                              .flags = KHO_IMAGE_IDLE_LOCK,
                              .gate = &trust.gate,
                              .job = cli->job };
    KhoImageInfo info;

    if (!img_trust_begin(&trust, &source.flags, error))
        return FALSE;

    if (a->chain) {
        json_t *list = img_wants_json(cli, a->output) ? json_array() : NULL;
        gboolean done = tell_chain(&source, list, error);
        if (list && done)
            out_json(list);
        else
            json_decref(list);
        return done;
    }
    if (!kho_image_info_source(&source, &info, error))
        return FALSE;
    if (img_wants_json(cli, a->output))
        out_json(qimg_info_json(&info));
    else
        print_human(&info);
    kho_image_info_clear(&info);
    return TRUE;
}

const CliVerb verb_img_info = {
    .name = "img-info",
    .noun = "img",
    .summary = "what an image's headers say",
    .description = "Reads headers only, so it works on an image in use. The JSON has qemu-img's keys.",
    .examples = "kho img info disk.qcow2\nkho img info --backing-chain --json overlay.qcow2",
    .args = info_args,
    .args_bytes = sizeof(InfoArgs),
    .json = TRUE,
    .run = run_info,
};
