/* qemu-img resize. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/create_options.h"
#include "qemuimg/object.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <string.h>

#define SECTOR_BYTES 512

typedef struct {
    const char *format, *prealloc;
    gboolean image_opts, quiet, shrink;
} ResizeArgs;

static gboolean
take_prealloc(const char *value)
{
    KhoPrealloc prealloc;

    if (qimg_prealloc_parse(value, &prealloc))
        return TRUE;
    qimg_error("Invalid preallocation mode '%s'", value);
    return FALSE;
}

static const QimgOption resize_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(ResizeArgs, format) },
    { QIMG_FLAG, NULL, 'q', offsetof(ResizeArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(ResizeArgs, image_opts) },
    { QIMG_TEXT, "preallocation", 0, offsetof(ResizeArgs, prealloc), take_prealloc },
    { QIMG_FLAG, "shrink", 0, offsetof(ResizeArgs, shrink) },
    { 0 },
};

/* "+1G", "-1G", "10G". */
static gboolean
read_size(const char *text, char *sign, guint64 *bytes)
{
    *sign = *text == '+' || *text == '-' ? *text++ : '\0';
    switch (qimg_size_parse(text, bytes)) {
    case QIMG_SIZE_GOOD: return TRUE;
    case QIMG_SIZE_TOO_LARGE:
        qimg_error("Value '%s' is out of range for parameter 'size'", text);
        return FALSE;
    case QIMG_SIZE_MALFORMED: break;
    }
    qimg_error("Parameter 'size' expects a non-negative number below 2^64\n"
               "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
               "and exabytes, respectively.");
    return FALSE;
}

/* What the disk's size is to be; FALSE where it cannot be that, which has been said. */
static gboolean
new_size(const ResizeArgs *a, guint64 now, char sign, guint64 bytes, guint64 *wanted)
{
    gboolean fits = sign == '+' ? num_add(now, bytes, wanted) : TRUE;

    if (sign != '+')
        *wanted = sign != '-' ? bytes : bytes < now ? now - bytes : 0;
    if (!fits || *wanted == 0 || *wanted > NUM_OFFSET_MAX) {
        qimg_error("New image size must be positive");
        return FALSE;
    }
    if (*wanted <= now && a->prealloc && !g_str_equal(a->prealloc, "off")) {
        qimg_error("Preallocation can only be used for growing images");
        return FALSE;
    }
    if (*wanted < now && !a->shrink) {
        qimg_error("Use the --shrink option to perform a shrink operation.");
        qimg_warning(
            "Shrinking an image will delete all data beyond the shrunken image's end. Before performing such "
            "an operation, make sure there is no important data there.");
        return FALSE;
    }
    return TRUE;
}

static gboolean
resize(const ResizeArgs *a, const QimgSource *source, guint64 bytes, gboolean is_plain)
{
    KhoImageResize options = { .size_bytes = bytes,
                               .may_shrink = a->shrink,
                               .secrets = qimg_object_secrets() };
    g_autoptr(GError) error = NULL;

    if (a->prealloc)
        qimg_prealloc_parse(a->prealloc, &options.prealloc);
    if (!is_plain && bytes % SECTOR_BYTES != 0) {
        qimg_error("The new size must be a multiple of %d", SECTOR_BYTES);
        return FALSE;
    }
    if (is_plain && options.prealloc == KHO_PREALLOC_METADATA) {
        qimg_error("Unsupported preallocation mode: metadata");
        return FALSE;
    }
    if (kho_image_resize(source->path, source->format, &options, &kho_image_gate_open, qimg_job(FALSE),
                         &error))
        return TRUE;
    g_autofree char *broken = error->code == KHO_ERROR_UNSUPPORTED ? qimg_find_bitmap(source, FALSE) : NULL;
    if (broken) {
        qimg_error("Bitmap '%s' is inconsistent and cannot be used", broken);
        qimg_note("Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
    } else {
        qimg_error("%s", qimg_reason(error, source->path));
    }
    return FALSE;
}

static int
run_resize(const void *p, char *const *names)
{
    const ResizeArgs *a = p;
    g_auto(QimgSource) source = { 0 };
    guint64 bytes, wanted;
    char sign;

    if (qimg_names_count(names) != 2) {
        qimg_usage_error("Expecting image file name and size");
        return 1;
    }
    if (!read_size(names[1], &sign, &bytes) || !qimg_source_read(names[0], a->format, a->image_opts, &source))
        return 1;
    KhoImage *image = qimg_source_open(&source, KHO_IMAGE_WRITE);
    if (!image)
        return 1;
    qimg_warn_if_guessed(&source, image);
    const char *format = kho_image_format(image);
    gboolean is_plain = g_str_equal(format, "raw") || g_str_equal(format, "luks");
    gboolean good = new_size(a, kho_image_size_bytes(image), sign, bytes, &wanted);
    kho_image_free(image); /* resizing opens it anew, with its lock */
    if (!good || !resize(a, &source, wanted, is_plain))
        return 1;
    if (!a->quiet)
        qimg_print("Image resized.\n");
    return 0;
}

const QimgVerb qimg_verb_resize = {
    .name = "resize",
    .synopsis =
        "[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename "
        "[+ | -]size",
    .last_is_size = TRUE,
    .options = resize_options,
    .args_bytes = sizeof(ResizeArgs),
    .run = run_resize,
};
