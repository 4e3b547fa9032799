/* qemu-img dd. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/create_options.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <kho/image_convert.h>
#include <string.h>

#define BLOCK_BYTES 512

typedef struct {
    const char *format, *target_format;
    gboolean image_opts, share;
} DdArgs;

static const QimgOption dd_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(DdArgs, format) },
    { QIMG_TEXT, NULL, 'O', offsetof(DdArgs, target_format) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(DdArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(DdArgs, share) },
    { 0 },
};

/* "if=a.raw bs=1M": what the names say. */
typedef struct {
    const char *in, *out;
    guint64 block_bytes, blocks, skip_blocks;
    gboolean counted;
} Operands;

static gboolean
read_operand(const char *word, Operands *to)
{
    const char *equals = strchr(word, '=');
    g_autofree char *name = equals ? g_strndup(word, (gsize) (equals - word)) : g_strdup(word);

    if (equals && g_str_equal(name, "if")) {
        to->in = equals + 1;
    } else if (equals && g_str_equal(name, "of")) {
        to->out = equals + 1;
    } else if (equals && g_str_equal(name, "bs")) {
        return qimg_size_read(equals + 1, "bs", 1, G_MAXINT32, &to->block_bytes);
    } else if (equals && g_str_equal(name, "count")) {
        to->counted = TRUE;
        return qimg_size_read(equals + 1, "count", 0, NUM_OFFSET_MAX, &to->blocks);
    } else if (equals && g_str_equal(name, "skip")) {
        return qimg_size_read(equals + 1, "skip", 0, NUM_OFFSET_MAX, &to->skip_blocks);
    } else {
        qimg_error("unrecognized operand %s", name);
        return FALSE;
    }
    return TRUE;
}

/* What of the source is meant. Where it ends before the first block of it, QEMU says so, makes an empty
 * image, and takes that for a success. */
static KhoImagePart
part_of(KhoImage *source, const Operands *o)
{
    KhoImagePart part = { .image = source };
    guint64 size = kho_image_size_bytes(source), most = size;

    if (!num_mul(o->skip_blocks, o->block_bytes, &part.off_bytes) || part.off_bytes > size) {
        qimg_error("%s: cannot skip to specified offset", o->in);
        part.off_bytes = 0;
        return part;
    }
    if (o->counted && !num_mul(o->blocks, o->block_bytes, &most))
        most = size;
    part.length_bytes = MIN(most, size - part.off_bytes);
    return part;
}

static int
copy(const Operands *o, KhoImage *source, const char *format)
{
    const KhoImagePart part = part_of(source, o);
    g_auto(QimgOptions) options = { 0 };
    g_autofree char *subject = g_strdup_printf("%s: error while creating output image", o->out);
    g_autoptr(GError) error = NULL;
    KhoImageConvert convert = {
        .target = { .format = g_str_equal(format, "file") ? "raw" : format,
                    .overwrite = TRUE,
                    .overwrite_data = TRUE },
        .keep_zeros = TRUE,
        .fill_holes = TRUE,
    };

    if (!qimg_create_options_init(&options, format, TRUE, NULL)
        || !qimg_create_options_apply(&options, subject, &convert.target))
        return 1;
    if (kho_image_convert_parts(&part, 1, o->out, &convert, &kho_image_gate_open, qimg_job(FALSE), &error))
        return 0;
    g_autofree char *fault = qimg_create_fault(o->out, &convert.target, error);
    qimg_error("%s: %s", subject, fault);
    return 1;
}

static int
run_dd(const void *p, char *const *names)
{
    const DdArgs *a = p;
    const char *format = a->target_format ? a->target_format : "raw";
    Operands operands = { .block_bytes = BLOCK_BYTES };

    for (guint i = 0; names[i]; i++)
        if (!read_operand(names[i], &operands))
            return 1;
    if (!operands.in || !operands.out) {
        qimg_error("Must specify both input and output files");
        return 1;
    }
    g_autoptr(KhoImage) source =
        qimg_open(operands.in, a->format, a->image_opts, a->share ? KHO_IMAGE_NO_LOCK : 0);
    if (!source)
        return 1;
    if (!qimg_format_exists(format)) {
        qimg_error("Unknown file format");
        return 1;
    }
    return copy(&operands, source, format);
}

const QimgVerb qimg_verb_dd = {
    .name = "dd",
    .synopsis =
        "[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input "
        "of=output",
    .options = dd_options,
    .args_bytes = sizeof(DdArgs),
    .run = run_dd,
};
