/* qemu-img measure. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/create_options.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <jansson.h>
#include <kho/image_compare.h>

typedef struct {
    const char *format, *target_format, *output, *size, *snapshot;
    char *options;
    gboolean image_opts, share;
} MeasureArgs;

static gboolean
take_size(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "image size", 0, NUM_OFFSET_MAX, &bytes);
}

static const QimgOption measure_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(MeasureArgs, format) },
    { QIMG_TEXT, NULL, 'O', offsetof(MeasureArgs, target_format) },
    { QIMG_OPTIONS, NULL, 'o', offsetof(MeasureArgs, options) },
    { QIMG_TEXT, NULL, 'l', offsetof(MeasureArgs, snapshot) },
    { QIMG_TEXT, "size", 0, offsetof(MeasureArgs, size), take_size },
    { QIMG_TEXT, "output", 0, offsetof(MeasureArgs, output) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(MeasureArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(MeasureArgs, share) },
    { 0 },
};

static gboolean
check_arguments(const MeasureArgs *a, guint n_names)
{
    const char *wrong = NULL;

    if (n_names > 1)
        wrong = "At most one filename argument is allowed.";
    else if (n_names == 0 && (a->image_opts || a->format || a->snapshot))
        wrong = "--image-opts, -f, and -l require a filename argument.";
    else if (n_names == 0 && !a->size)
        wrong = "Either --size N or one filename must be specified.";
    else if (n_names == 1 && a->size)
        wrong = "--size N cannot be used together with a filename.";
    if (wrong)
        qimg_error("%s", wrong);
    return !wrong;
}

/* Bitmaps take no space in version 2, which has none. */
static void
print(const KhoImageMeasure *m, gboolean with_bitmaps, gboolean json)
{
    if (json) {
        json_t *root = json_object();

        if (with_bitmaps)
            json_object_set_new(root, "bitmaps", json_integer((json_int_t) m->bitmaps_bytes));
        json_object_set_new(root, "required", json_integer((json_int_t) m->required_bytes));
        json_object_set_new(root, "fully-allocated", json_integer((json_int_t) m->fully_allocated_bytes));
        qimg_print_json(root);
        return;
    }
    qimg_print("required size: %" G_GUINT64_FORMAT "\nfully allocated size: %" G_GUINT64_FORMAT "\n",
               m->required_bytes, m->fully_allocated_bytes);
    if (with_bitmaps)
        qimg_print("bitmaps size: %" G_GUINT64_FORMAT "\n", m->bitmaps_bytes);
}

static gboolean
has_room_for_bitmaps(KhoImage *source, const KhoImageCreate *create)
{
    KhoImageInfo info;

    if (!source || create->qcow2_version < 3 || !kho_image_describe(source, &info, NULL))
        return FALSE;
    gboolean has = info.qcow2_version >= 3;
    kho_image_info_clear(&info);
    return has;
}

static int
measure(const MeasureArgs *a, KhoImage *source, const char *format, gboolean json)
{
    KhoImageCreate create = { .format = g_str_equal(format, "file") ? "raw" : format };
    g_auto(QimgOptions) options = { 0 };
    g_autoptr(GError) error = NULL;
    KhoImageMeasure found;

    if (!qimg_create_options_init(&options, format, TRUE, NULL))
        return 1;
    if (!g_str_equal(create.format, "raw") && !g_str_equal(create.format, "qcow2")
        && !g_str_equal(create.format, "luks")) {
        qimg_error("Block driver '%s' does not support size measurement", format);
        return 1;
    }
    if (!qimg_options_read(&options, a->options, NULL)) {
        qimg_error("Invalid options for file format '%s'", format);
        return 1;
    }
    if (!qimg_create_options_measure(&options, &create))
        return 1;
    if (a->size) /* looked at when the command line was read */
        qimg_size_parse(a->size, &create.size_bytes);
    if (!kho_image_measure(&create, source, &found, qimg_job(FALSE), &error)) {
        KhoImageCreate plain = create;
        plain.encryption = NULL;
        if (error->code == KHO_ERROR_INVALID && !kho_image_measure(&plain, source, &found, NULL, NULL))
            qimg_error("The image size is too large (try using a larger cluster size)");
        else
            qimg_error("%s", error->message);
        return 1;
    }
    print(&found, has_room_for_bitmaps(source, &create), json);
    return 0;
}

static int
run_measure(const void *p, char *const *names)
{
    const MeasureArgs *a = p;
    g_autoptr(KhoImage) source = NULL;
    gboolean json;

    if (!qimg_wants_json(a->output, &json) || !check_arguments(a, qimg_names_count(names)))
        return 1;
    if (names[0]) {
        source = qimg_open(names[0], a->format, a->image_opts, a->share ? KHO_IMAGE_NO_LOCK : 0);
        if (!source || (a->snapshot && !qimg_show_snapshot(source, a->snapshot)))
            return 1;
    }
    return measure(a, source, a->target_format ? a->target_format : "raw", json);
}

const QimgVerb qimg_verb_measure = {
    .name = "measure",
    .synopsis = "[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] "
                "[--image-opts] [-f fmt] "
                "[-l snapshot_param] filename]",
    .options = measure_options,
    .args_bytes = sizeof(MeasureArgs),
    .run = run_measure,
};
