/* qemu-img bitmap. */
#include "base/error.h"
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <kho/image_bitmap.h>
#include <string.h>

#define GRANULARITY_MIN 512
#define GRANULARITY_MAX (2 * GIB)
#define NAME_BYTES_MAX  1023

typedef struct {
    const char *format, *source_name, *source_format, *granularity;
    GPtrArray *steps; /* pairs: what to do, and --merge's source */
    gboolean image_opts;
} BitmapArgs;

static gboolean
take_granularity(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "granularity", 0, NUM_OFFSET_MAX, &bytes);
}

static const QimgOption bitmap_options[] = {
    { QIMG_TEXT, NULL, 'b', offsetof(BitmapArgs, source_name) },
    { QIMG_TEXT, NULL, 'f', offsetof(BitmapArgs, format) },
    { QIMG_TEXT, NULL, 'F', offsetof(BitmapArgs, source_format) },
    { QIMG_TEXT, NULL, 'g', offsetof(BitmapArgs, granularity), take_granularity },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(BitmapArgs, image_opts) },
    { QIMG_STEP, "add", 0, offsetof(BitmapArgs, steps) },
    { QIMG_STEP, "clear", 0, offsetof(BitmapArgs, steps) },
    { QIMG_STEP, "disable", 0, offsetof(BitmapArgs, steps) },
    { QIMG_STEP, "enable", 0, offsetof(BitmapArgs, steps) },
    { QIMG_STEP_WITH, "merge", 0, offsetof(BitmapArgs, steps) },
    { QIMG_STEP, "remove", 0, offsetof(BitmapArgs, steps) },
    { 0 },
};

static const struct {
    const char *name;
    KhoBitmapAction action;
} actions[] = {
    { "add", KHO_BITMAP_ADD },       { "clear", KHO_BITMAP_CLEAR }, { "disable", KHO_BITMAP_DISABLE },
    { "enable", KHO_BITMAP_ENABLE }, { "merge", KHO_BITMAP_MERGE }, { "remove", KHO_BITMAP_REMOVE },
};

/* The n-th thing to do, in the order of the command line. */
static KhoBitmapStep
nth(const BitmapArgs *a, guint n)
{
    KhoBitmapStep step = { .source = a->steps->pdata[2 * n + 1] };

    for (gsize i = 0; i < G_N_ELEMENTS(actions); i++)
        if (g_str_equal(actions[i].name, a->steps->pdata[2 * n]))
            step.action = actions[i].action;
    return step;
}

static gboolean
has(const BitmapArgs *a, KhoBitmapAction action)
{
    for (guint i = 0; a->steps && i < a->steps->len / 2; i++)
        if (nth(a, i).action == action)
            return TRUE;
    return FALSE;
}

/* In the order in which QEMU looks. */
static gboolean
check_arguments(const BitmapArgs *a, guint n_names)
{
    const char *wrong = NULL;

    if (n_names != 2)
        wrong = "Expecting filename and bitmap name";
    else if (!a->steps)
        wrong = "Need at least one of --add, --remove, --clear, --enable, --disable, or --merge";
    else if (a->granularity && !has(a, KHO_BITMAP_ADD))
        wrong = "granularity only supported with --add";
    else if (a->source_format && !a->source_name)
        wrong = "-F only supported with -b";
    else if (a->source_name && !has(a, KHO_BITMAP_MERGE))
        wrong = "Merge bitmap source file only supported with --merge";
    if (wrong)
        qimg_error("%s", wrong);
    return !wrong;
}

/* --- what QEMU would say --- */

static const KhoImageBitmap *
find(const KhoImageInfo *info, const char *name)
{
    for (guint i = 0; i < info->bitmaps->len; i++) {
        const KhoImageBitmap *b = info->bitmaps->pdata[i];
        if (g_str_equal(b->name, name))
            return b;
    }
    return NULL;
}

static char *
add_fault(const char *name, guint64 granularity, const GError *error, const char *path)
{
    if (!*name)
        return g_strdup("Bitmap name cannot be empty");
    if (error->code == KHO_ERROR_EXISTS)
        return g_strdup_printf("Bitmap already exists: %s", name);
    if (granularity != 0
        && (!num_is_pow2(granularity) || granularity < GRANULARITY_MIN || granularity > GRANULARITY_MAX))
        return g_strdup("Granularity must be power of 2 and at least 512");
    return g_strdup(qimg_reason(error, path));
}

/* Of the two of a merge QEMU looks at the target first. */
static char *
fault_of(const KhoImageBitmapChange *change, const KhoBitmapStep *step, const GError *error)
{
    const char *from = change->source_path ? change->source_path : change->path;
    KhoImageInfo info, other;

    if (step->action == KHO_BITMAP_ADD)
        return add_fault(change->name, change->granularity_bytes, error, change->path);
    if (!kho_image_info(change->path, change->format, &info, NULL))
        return g_strdup(qimg_reason(error, change->path));
    const KhoImageBitmap *b = find(&info, change->name);
    const char *meant = step->source && b && !b->in_use ? step->source : change->name;
    char *fault = NULL;
    if (error->code == KHO_ERROR_NOT_FOUND)
        fault = g_strdup_printf("Dirty bitmap '%s' not found", meant);
    else if (error->code == KHO_ERROR_CORRUPT && b)
        fault = g_strdup_printf("Bitmap '%s' is inconsistent and cannot be used", meant);
    else if (error->code == KHO_ERROR_INVALID && step->action == KHO_BITMAP_MERGE
             && kho_image_info(from, change->source_format, &other, NULL)) {
        fault = g_strdup_printf("Bitmaps are of different sizes (destination size is %" G_GUINT64_FORMAT
                                ", source size is %" G_GUINT64_FORMAT ") and can't be merged",
                                info.virtual_bytes, other.virtual_bytes);
        kho_image_info_clear(&other);
    }
    kho_image_info_clear(&info);
    return fault ? fault : g_strdup(qimg_reason(error, change->path));
}

/* --- the verb --- */

static int
change(const BitmapArgs *a, const QimgSource *target, const QimgSource *source, const char *name)
{
    gsize n = a->steps->len / 2, failed;
    g_autofree KhoBitmapStep *steps = g_new0(KhoBitmapStep, n);
    KhoImageBitmapChange wish = {
        .path = target->path,
        .format = target->format,
        .name = name,
        .steps = steps,
        .n_steps = n,
        .source_path = source->path,
        .source_format = source->format,
    };
    g_autoptr(GError) error = NULL;

    if (a->granularity) /* it was looked at when the command line was read */
        qimg_size_parse(a->granularity, &wish.granularity_bytes);
    for (guint i = 0; i < n; i++)
        steps[i] = nth(a, i);
    if (kho_image_bitmap(&wish, &kho_image_gate_open, &failed, &error))
        return 0;
    if (failed == n) {
        qimg_error("%s", qimg_reason(error, target->path));
        return 1;
    }
    g_autofree char *fault = fault_of(&wish, &steps[failed], error);
    qimg_error("Operation %s on bitmap %s failed: %s", (char *) a->steps->pdata[2 * failed], name, fault);
    if (g_str_has_suffix(fault, "is inconsistent and cannot be used"))
        qimg_note("Try block-dirty-bitmap-remove to delete this bitmap from disk\n");
    return 1;
}

/* Whether it can be opened so, which is said where it cannot. */
static gboolean
look(const QimgSource *source, KhoImageFlags flags)
{
    KhoImage *image = qimg_source_open(source, flags);

    if (!image)
        return FALSE;
    if (flags & KHO_IMAGE_WRITE)
        qimg_warn_if_guessed(source, image);
    kho_image_free(image);
    return TRUE;
}

static int
run_bitmap(const void *p, char *const *names)
{
    const BitmapArgs *a = p;
    g_auto(QimgSource) target = { 0 }, source = { 0 };

    if (!check_arguments(a, qimg_names_count(names))
        || !qimg_source_read(names[0], a->format, a->image_opts, &target)
        || !look(&target, KHO_IMAGE_WRITE | KHO_IMAGE_NO_BACKING))
        return 1;
    if (a->source_name
        && (!qimg_source_read(a->source_name, a->source_format, FALSE, &source)
            || !look(&source, KHO_IMAGE_NO_BACKING)))
        return 1;
    return change(a, &target, &source, names[1]);
}

const QimgVerb qimg_verb_bitmap = {
    .name = "bitmap",
    .synopsis = "(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F "
                "source_fmt]] [-g granularity] [--object objectdef] [--image-opts | -f fmt] filename bitmap",
    .options = bitmap_options,
    .args_bytes = sizeof(BitmapArgs),
    .run = run_bitmap,
};
