/* qemu-img convert. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/create_options.h"
#include "qemuimg/object.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <errno.h>
#include <kho/image_convert.h>
#include <string.h>

#define SPARSE_MAX_BYTES (16 * MIB)
#define WORKERS_MAX      16

typedef struct {
    const char *format, *target_format, *backing_file, *backing_format, *snapshot, *sparse, *workers, *rate;
    char *options;
    gboolean compress, progress, quiet, keep_target, offload, out_of_order, share;
    gboolean image_opts, target_image_opts, target_is_zero, salvage, bitmaps, skip_broken;
} ConvertArgs;

static gboolean
take_sparse(const char *value)
{
    guint64 bytes;

    if (!qimg_size_read(value, "buffer size for sparse output", 0, NUM_OFFSET_MAX, &bytes))
        return FALSE;
    if (bytes % 512 == 0 && bytes <= SPARSE_MAX_BYTES)
        return TRUE;
    qimg_error("Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to %d. "
               "Select 0 "
               "to disable sparse detection (fully allocates output).",
               (int) SPARSE_MAX_BYTES);
    return FALSE;
}

static gboolean
take_workers(const char *value)
{
    guint64 n;

    if (g_ascii_string_to_unsigned(value, 10, 1, WORKERS_MAX, &n, NULL))
        return TRUE;
    qimg_error("Invalid number of coroutines. Allowed number of coroutines is between 1 and %d", WORKERS_MAX);
    return FALSE;
}

static gboolean
take_rate(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "rate limit", 0, NUM_OFFSET_MAX, &bytes);
}

static const QimgOption convert_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(ConvertArgs, format) },
    { QIMG_TEXT, NULL, 'O', offsetof(ConvertArgs, target_format) },
    { QIMG_TEXT, NULL, 'B', offsetof(ConvertArgs, backing_file) },
    { QIMG_TEXT, NULL, 'F', offsetof(ConvertArgs, backing_format) },
    { QIMG_OPTIONS, NULL, 'o', offsetof(ConvertArgs, options) },
    { QIMG_TEXT, NULL, 'l', offsetof(ConvertArgs, snapshot) },
    { QIMG_TEXT, NULL, 'S', offsetof(ConvertArgs, sparse), take_sparse },
    { QIMG_TEXT, NULL, 'm', offsetof(ConvertArgs, workers), take_workers },
    { QIMG_TEXT, NULL, 'r', offsetof(ConvertArgs, rate), take_rate },
    { QIMG_IGNORED, NULL, 't', 0, qimg_take_cache },
    { QIMG_IGNORED, NULL, 'T', 0, qimg_take_source_cache },
    { QIMG_FLAG, NULL, 'c', offsetof(ConvertArgs, compress) },
    { QIMG_FLAG, NULL, 'C', offsetof(ConvertArgs, offload) },
    { QIMG_FLAG, NULL, 'p', offsetof(ConvertArgs, progress) },
    { QIMG_FLAG, NULL, 'q', offsetof(ConvertArgs, quiet) },
    { QIMG_FLAG, NULL, 'n', offsetof(ConvertArgs, keep_target) },
    { QIMG_FLAG, NULL, 'W', offsetof(ConvertArgs, out_of_order) },
    { QIMG_FLAG, "force-share", 'U', offsetof(ConvertArgs, share) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(ConvertArgs, image_opts) },
    { QIMG_FLAG, "target-image-opts", 0, offsetof(ConvertArgs, target_image_opts) },
    { QIMG_FLAG, "target-is-zero", 0, offsetof(ConvertArgs, target_is_zero) },
    { QIMG_FLAG, "salvage", 0, offsetof(ConvertArgs, salvage) },
    { QIMG_FLAG, "bitmaps", 0, offsetof(ConvertArgs, bitmaps) },
    { QIMG_FLAG, "skip-broken-bitmaps", 0, offsetof(ConvertArgs, skip_broken) },
    { 0 },
};

/* What contradicts itself in the command line alone, in the order in which QEMU looks. */
static gboolean
check_arguments(const ConvertArgs *a, guint n_names)
{
    const char *wrong = NULL;

    if (a->target_image_opts && !a->keep_target)
        wrong = "--target-image-opts requires use of -n flag";
    else if (a->offload && a->compress)
        wrong = "Cannot enable copy offloading when -c is used";
    else if (a->offload && a->sparse)
        wrong = "Cannot enable copy offloading when -S is used";
    else if (a->offload && a->salvage)
        wrong = "Cannot use copy offloading in salvaging mode";
    else if (a->target_is_zero && !a->keep_target)
        wrong = "--target-is-zero requires use of -n flag";
    else if (n_names < 2)
        wrong = "Must specify image file name";
    else if (a->options && a->keep_target)
        wrong = "-o has no effect when skipping image creation";
    else if (a->skip_broken && !a->bitmaps)
        wrong = "Use of --skip-broken-bitmaps requires --bitmaps";
    if (wrong)
        qimg_error("%s", wrong);
    return !wrong;
}

/* --- the sources --- */

/* NULL where one of them cannot be opened. */
static GPtrArray *
open_sources(const ConvertArgs *a, char *const *names, guint n)
{
    g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func((GDestroyNotify) kho_image_free);

    for (guint i = 0; i < n; i++) {
        KhoImage *image = qimg_open(names[i], a->format, a->image_opts, a->share ? KHO_IMAGE_NO_LOCK : 0);

        if (!image)
            return NULL;
        g_ptr_array_add(sources, image);
    }
    if (a->snapshot && n > 1) {
        qimg_error("No support for concatenating multiple snapshot");
        return NULL;
    }
    if (a->snapshot && !qimg_show_snapshot(sources->pdata[0], a->snapshot))
        return NULL;
    return g_steal_pointer(&sources);
}

/* --- the target --- */

static gboolean
add_arguments(const ConvertArgs *a, const char *format, QimgOptions *options)
{
    if (a->backing_file && !qimg_options_set(options, "backing_file", a->backing_file)) {
        qimg_error("Backing file not supported for file format '%s'", format);
        return FALSE;
    }
    if (a->backing_format && !qimg_options_set(options, "backing_fmt", a->backing_format)) {
        qimg_error("Backing file format not supported for file format '%s'", format);
        return FALSE;
    }
    return TRUE;
}

/* What has to do with the target's options and is no fault of one of them. */
static gboolean
check_target(const ConvertArgs *a, const char *format, const QimgOptions *options, guint n_sources)
{
    const char *backing = qimg_options_given(options, "backing_file");
    const char *prealloc = qimg_options_given(options, "preallocation"), *wrong = NULL;

    if (n_sources > 1 && backing)
        wrong =
            "Having a backing file for the target makes no sense when concatenating multiple input images";
    else if (backing && !qimg_options_given(options, "backing_fmt"))
        wrong = "Use of backing file requires explicit backing format";
    else if (a->compress && !g_str_equal(format, "qcow2"))
        wrong = "Compression not supported for this file format";
    else if (a->compress && prealloc && !g_str_equal(prealloc, "off"))
        wrong = "Compression and preallocation not supported at the same time";
    if (wrong)
        qimg_error("%s", wrong);
    return !wrong;
}

/* Whether the backing file that the target shall have can be opened, with all that it lies on. */
static gboolean
look_at_backing(const char *path, const KhoImageCreate *create)
{
    g_autofree char *folder = g_path_get_dirname(path);
    const char *name = create->backing_file;
    g_autofree char *where = name && strchr(path, '/') && !g_path_is_absolute(name)
                                 ? g_build_filename(folder, name, NULL)
                                 : g_strdup(name);
    g_autoptr(GError) error = NULL;

    if (!where)
        return TRUE;
    g_autoptr(KhoImage) image =
        kho_image_open(where, create->backing_format, 0, &kho_image_gate_open, &error);
    if (image)
        return TRUE;
    g_autofree char *fault = qimg_open_fault(where, create->backing_format, 0, error);
    qimg_error("Could not open '%s': Could not open backing file: %s", path, fault);
    return FALSE;
}

static void
tell_unreadable(guint64 off, guint64 len, const char *why, gpointer data)
{
    qimg_warning("error while reading offset %" G_GUINT64_FORMAT ": %s", off, g_strerror(EIO));
}

static void
pass_over(const char *name, gpointer data)
{
}

static KhoImageConvert
plan_of(const ConvertArgs *a)
{
    guint64 sparse = 4096, workers = 0, rate = 0;

    /* All were looked at when the command line was read. */
    if (a->sparse)
        qimg_size_parse(a->sparse, &sparse);
    if (a->workers)
        workers = g_ascii_strtoull(a->workers, NULL, 10);
    if (a->rate)
        qimg_size_parse(a->rate, &rate);
    return (KhoImageConvert){
        .workers = (guint) workers,
        .rate_bytes = rate,
        .secrets = qimg_object_secrets(),
        .keep_zeros = sparse == 0,
        .fill_holes = sparse == 0,
        .compress = a->compress,
        .unreadable = a->salvage ? tell_unreadable : NULL,
        .bitmaps = a->bitmaps,
        .skip_bitmap = a->bitmaps ? pass_over : NULL, /* what is to be said was */
    };
}

/* The last one comes first, as in QEMU. */
static gboolean
check_broken(const ConvertArgs *a, const KhoImageInfo *info)
{
    for (guint i = info->bitmaps->len; i-- > 0;) {
        const KhoImageBitmap *b = info->bitmaps->pdata[i];
        if (b->in_use && !a->skip_broken) {
            qimg_error("Cannot copy inconsistent bitmap '%s'", b->name);
            qimg_note("Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it\n");
            return FALSE;
        }
        if (b->in_use)
            qimg_warning("Skipping inconsistent bitmap '%s'", b->name);
    }
    return TRUE;
}

static gboolean
check_bitmaps(const ConvertArgs *a, const GPtrArray *sources)
{
    g_autoptr(GError) error = NULL;
    KhoImageInfo info;

    if (!a->bitmaps)
        return TRUE;
    if (sources->len > 1 || !g_str_equal(kho_image_format(sources->pdata[0]), "qcow2")) {
        qimg_error("%s", sources->len > 1 ? "Copying bitmaps only possible with single source"
                                          : "Source lacks bitmap support");
        return FALSE;
    }
    if (!kho_image_describe(sources->pdata[0], &info, &error)) {
        qimg_error("%s", error->message);
        return FALSE;
    }
    gboolean good = check_broken(a, &info);
    kho_image_info_clear(&info);
    return good;
}

/* What QEMU finds once the target is made. */
static gboolean
check_target_bitmaps(const ConvertArgs *a, const KhoImageCreate *create)
{
    if (!a->bitmaps || (g_str_equal(create->format, "qcow2") && create->qcow2_version != 2))
        return TRUE;
    qimg_error("Format driver '%s' does not support bitmaps", create->format);
    return FALSE;
}

/* Copies, showing how far it is. */
static int
copy(const ConvertArgs *a, const GPtrArray *sources, const char *path, const KhoImageConvert *plan,
     GError **error)
{
    const KhoJob *job = qimg_job(a->progress && !a->quiet);
    g_autofree KhoImagePart *parts = g_new0(KhoImagePart, sources->len);

    for (guint i = 0; i < sources->len; i++)
        parts[i] = (KhoImagePart){ sources->pdata[i], 0, kho_image_size_bytes(sources->pdata[i]) };
    gboolean done =
        kho_image_convert_parts(parts, sources->len, path, plan, &kho_image_gate_open, job, error);

    qimg_progress_end(done);
    return done ? 0 : 1;
}

/* -n: into what stands there. */
static int
convert_into(const ConvertArgs *a, const GPtrArray *sources, const char *name, const char *format)
{
    KhoImageConvert plan = plan_of(a);
    g_auto(QimgSource) target = { 0 };
    g_autoptr(GError) error = NULL;
    guint64 needed = 0;

    if (!qimg_source_read(name, a->target_image_opts ? a->target_format : format, a->target_image_opts,
                          &target))
        return 1;
    KhoImage *into = qimg_source_open(&target, KHO_IMAGE_WRITE);
    if (!into)
        return 1;
    for (guint i = 0; i < sources->len; i++)
        needed += kho_image_size_bytes(sources->pdata[i]);
    int status = 1;
    plan.into = into;
    plan.into_is_zero = a->target_is_zero;
    if (needed > kho_image_size_bytes(into))
        qimg_error("output file is smaller than input file");
    else if (a->target_is_zero && kho_image_backing(into))
        qimg_error("Cannot use --target-is-zero when the destination image has a backing file");
    else
        status = copy(a, sources, target.path, &plan, &error);
    if (error)
        qimg_error("error while writing: %s", qimg_reason(error, target.path));
    if (!kho_image_close(into, status == 0 ? &error : NULL) && status == 0) {
        qimg_error("error while writing: %s", error->message);
        status = 1;
    }
    return status;
}

static int
convert(const ConvertArgs *a, const GPtrArray *sources, const char *path, const char *format)
{
    KhoImageConvert plan = plan_of(a);
    g_auto(QimgOptions) options = { 0 };
    g_autoptr(GError) error = NULL;

    if (!qimg_create_options_init(&options, format, TRUE, NULL)
        || !qimg_options_read(&options, a->options, NULL) || !add_arguments(a, format, &options)
        || !check_target(a, format, &options, sources->len))
        return 1;
    plan.target = (KhoImageCreate){ .format = g_str_equal(format, "file") ? "raw" : format,
                                    .overwrite = TRUE,
                                    .overwrite_data = TRUE };
    g_autofree char *subject = g_strdup_printf("%s: error while converting %s", path, format);
    if (!qimg_create_options_apply(&options, subject, &plan.target)
        || !qimg_create_options_check_folder(&plan.target, path, subject)
        || !look_at_backing(path, &plan.target) || !check_target_bitmaps(a, &plan.target))
        return 1;
    int status = copy(a, sources, path, &plan, &error);
    if (error) {
        g_autofree char *fault = qimg_create_fault(path, &plan.target, error);
        qimg_error("%s: %s", subject, fault);
    }
    return status;
}

static int
run_convert(const void *p, char *const *names)
{
    const ConvertArgs *a = p;
    guint n = qimg_names_count(names);
    const char *target = n > 0 ? names[n - 1] : NULL, *format = a->target_format ? a->target_format : "raw";

    if (qimg_option_list_wants_help(a->options))
        return qimg_create_options_help(format, target) ? 0 : 1;
    if (!check_arguments(a, n))
        return 1;
    g_autoptr(GPtrArray) sources = open_sources(a, names, n - 1);
    if (!sources || !check_bitmaps(a, sources))
        return 1;
    return a->keep_target ? convert_into(a, sources, target, format) : convert(a, sources, target, format);
}

const QimgVerb qimg_verb_convert = {
    .name = "convert",
    .synopsis = "[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] "
                "[-U] [-C] [-c] "
                "[-p] [-q] [-n] [-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F "
                "backing_fmt]] "
                "[-o options] [-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] "
                "[--salvage] "
                "filename [filename2 [...]] output_filename",
    .options = convert_options,
    .args_bytes = sizeof(ConvertArgs),
    .run = run_convert,
};
