/* qemu-img check. */
#include "base/json.h"
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <string.h>

/* Exit statuses of their own. */
enum { CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_IMPOSSIBLE = 63 };

typedef struct {
    const char *format, *output, *repair;
    gboolean image_opts, quiet, share;
} CheckArgs;

static gboolean
take_repair(const char *value)
{
    if (g_str_equal(value, "leaks") || g_str_equal(value, "all"))
        return TRUE;
    qimg_usage_error("Unknown option value for -r (expecting 'leaks' or 'all'): %s", value);
    return FALSE;
}

static const QimgOption check_options[] = {
    { QIMG_TEXT, "format", 'f', offsetof(CheckArgs, format) },
    { QIMG_TEXT, "repair", 'r', offsetof(CheckArgs, repair), take_repair },
    { QIMG_TEXT, "output", 0, offsetof(CheckArgs, output) },
    { QIMG_IGNORED, NULL, 'T', 0, qimg_take_source_cache },
    { QIMG_FLAG, NULL, 'q', offsetof(CheckArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(CheckArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(CheckArgs, share) },
    { 0 },
};

/* Counts that are 0 are left out, but for the errors. */
static void
print_json(const char *path, const KhoImageCheck *r)
{
    const struct {
        const char *key;
        guint64 value;
    } counts[] = {
        { "image-end-offset", r->image_end_offset_bytes },
        { "total-clusters", r->total_clusters },
        { "allocated-clusters", r->allocated_clusters },
        { "fragmented-clusters", r->fragmented_clusters },
        { "compressed-clusters", r->compressed_clusters },
        { "corruptions", r->corruptions },
        { "leaks", r->leaks },
        { "corruptions-fixed", r->corruptions_fixed },
        { "leaks-fixed", r->leaks_fixed },
    };
    json_t *root = json_pack("{s:o,s:s,s:I}", "filename", json_from_bytes(path), "format", r->format,
                             "check-errors", (json_int_t) r->check_errors);

    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++)
        if (counts[i].value > 0)
            json_object_set_new(root, counts[i].key, json_integer((json_int_t) counts[i].value));
    qimg_print_json(root);
}

static void
print_verdict(const KhoImageCheck *r)
{
    if (!r->corruptions && !r->leaks && !r->check_errors)
        qimg_print("No errors were found on the image.\n");
    if (r->corruptions)
        qimg_print("\n%" G_GUINT64_FORMAT " errors were found on the image.\n"
                   "Data may be corrupted, or further writes to the image may corrupt it.\n",
                   r->corruptions);
    if (r->leaks)
        qimg_print("\n%" G_GUINT64_FORMAT " leaked clusters were found on the image.\n"
                   "This means waste of disk space, but no harm to data.\n",
                   r->leaks);
    if (r->check_errors)
        qimg_print("\n%" G_GUINT64_FORMAT " internal errors have occurred during the check.\n",
                   r->check_errors);
}

static void
print_text(const KhoImageCheck *r)
{
    double allocated = (double) r->allocated_clusters;

    if (r->corruptions_fixed || r->leaks_fixed)
        qimg_print("The following inconsistencies were found and repaired:\n\n    %" G_GUINT64_FORMAT
                   " leaked clusters\n    %" G_GUINT64_FORMAT
                   " corruptions\n\nDouble checking the fixed image now...\n",
                   r->leaks_fixed, r->corruptions_fixed);
    print_verdict(r);
    if (r->total_clusters && r->allocated_clusters)
        qimg_print("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT
                   " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
                   r->allocated_clusters, r->total_clusters, allocated * 100 / (double) r->total_clusters,
                   (double) r->fragmented_clusters * 100 / allocated,
                   (double) r->compressed_clusters * 100 / allocated);
    if (r->image_end_offset_bytes)
        qimg_print("Image end offset: %" G_GUINT64_FORMAT "\n", r->image_end_offset_bytes);
}

/* What was found, a line each; of a repair also what it did about clusters that leaked. */
static void
print_findings(const KhoImageCheck *r)
{
    static const char leaked[] = "Leaked cluster ";

    for (guint i = 0; i < r->messages->len; i++)
        qimg_note("%s\n", (const char *) g_ptr_array_index(r->messages, i));
    for (guint i = 0; r->leaks_fixed > 0 && r->leaks == 0 && i < r->messages->len; i++) {
        const char *message = g_ptr_array_index(r->messages, i);

        if (g_str_has_prefix(message, leaked))
            qimg_note("Repairing cluster %s\n", message + strlen(leaked));
    }
}

static int
tell(const CheckArgs *a, const char *name, gboolean json, const KhoImageCheck *r)
{
    print_findings(r);
    if (json)
        print_json(name, r);
    else if (!a->quiet)
        print_text(r);
    if (r->check_errors)
        return 1;
    return r->corruptions ? CHECK_CORRUPT : r->leaks ? CHECK_LEAKS : 0;
}

/* Whether the image and its chain can be opened as the check will open it, and can be checked; the exit
 * status where not. */
static int
look(const QimgSource *source, KhoImageFlags flags)
{
    if ((flags & KHO_IMAGE_WRITE) && (flags & KHO_IMAGE_NO_LOCK)) {
        qimg_error("Could not open '%s': force-share=on can only be used with read-only images",
                   source->name);
        return 1;
    }
    g_autoptr(KhoImage) image = qimg_source_open(source, flags);
    if (!image)
        return 1;
    if (flags & KHO_IMAGE_WRITE)
        qimg_warn_if_guessed(source, image);
    if (!g_str_equal(kho_image_format(image), "raw") && !g_str_equal(kho_image_format(image), "luks"))
        return 0;
    qimg_error("This image format does not support checks");
    return CHECK_IMPOSSIBLE;
}

static int
run_check(const void *p, char *const *names)
{
    const CheckArgs *a = p;
    KhoRepair repair = !a->repair                      ? KHO_REPAIR_NONE
                       : g_str_equal(a->repair, "all") ? KHO_REPAIR_ALL
                                                       : KHO_REPAIR_LEAKS;
    KhoImageFlags flags =
        (a->share ? KHO_IMAGE_NO_LOCK : 0) | (repair != KHO_REPAIR_NONE ? KHO_IMAGE_WRITE : 0);
    g_auto(QimgSource) source = { 0 };
    g_autoptr(GError) error = NULL;
    KhoImageCheck result;
    gboolean json;

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_wants_json(a->output, &json) || !qimg_source_read(names[0], a->format, a->image_opts, &source))
        return 1;
    int status = look(&source, flags);
    if (status != 0)
        return status;
    if (!kho_image_check(source.path, source.format, repair, flags & KHO_IMAGE_NO_LOCK, &result,
                         qimg_job(FALSE), &error)) {
        /* A format that QEMU reads for kho. */
        gboolean impossible = error->code == KHO_ERROR_UNSUPPORTED && repair == KHO_REPAIR_NONE;
        if (impossible)
            qimg_error("This image format does not support checks");
        else
            qimg_error("Check failed: %s", qimg_reason(error, source.path));
        return impossible ? CHECK_IMPOSSIBLE : 1;
    }
    status = tell(a, names[0], json, &result);
    kho_image_check_clear(&result);
    return status;
}

const QimgVerb qimg_verb_check = {
    .name = "check",
    .synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T "
                "src_cache] [-U] "
                "filename",
    .options = check_options,
    .args_bytes = sizeof(CheckArgs),
    .run = run_check,
};
