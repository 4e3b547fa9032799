/* qemu-img compare. */
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <kho/image_compare.h>

/* Exit statuses of their own: 1 is that they differ. */
enum { COMPARE_CANNOT_OPEN = 2, COMPARE_CANNOT_READ = 4 };

typedef struct {
    const char *format, *second_format, *cache;
    gboolean image_opts, progress, quiet, strict, share;
} CompareArgs;

static const QimgOption compare_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(CompareArgs, format) },
    { QIMG_TEXT, NULL, 'F', offsetof(CompareArgs, second_format) },
    { QIMG_TEXT, NULL, 'T', offsetof(CompareArgs, cache) },
    { QIMG_FLAG, NULL, 'p', offsetof(CompareArgs, progress) },
    { QIMG_FLAG, NULL, 'q', offsetof(CompareArgs, quiet) },
    { QIMG_FLAG, NULL, 's', offsetof(CompareArgs, strict) },
    { QIMG_FLAG, "force-share", 'U', offsetof(CompareArgs, share) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(CompareArgs, image_opts) },
    { 0 },
};

static void
print_verdict(const KhoImageDifference *found)
{
    if (found->kind == KHO_COMPARE_SIZE) {
        qimg_print("Strict mode: Image size mismatch!\n");
        return;
    }
    if (found->sizes_differ && found->kind != KHO_COMPARE_CONTENT)
        qimg_print("Warning: Image size mismatch!\n");
    if (found->kind == KHO_COMPARE_SAME)
        qimg_print("Images are identical.\n");
    else if (found->kind == KHO_COMPARE_STATUS)
        qimg_print("Strict mode: Offset %" G_GUINT64_FORMAT " block status mismatch!\n", found->at_bytes);
    else
        qimg_print("Content mismatch at offset %" G_GUINT64_FORMAT "!\n", found->at_bytes);
}

static int
compare(const CompareArgs *a, KhoImage *one, KhoImage *other)
{
    const KhoImageCompare options = { .strict = a->strict };
    const KhoJob *job = qimg_job(a->progress && !a->quiet);
    guint64 common = MIN(kho_image_size_bytes(one), kho_image_size_bytes(other));
    g_autoptr(GError) error = NULL;
    KhoImageDifference found;

    if (!kho_image_compare(one, other, &options, &found, job, &error)) {
        qimg_error("Error while reading: %s", error->message);
        qimg_progress_end(FALSE);
        return COMPARE_CANNOT_READ;
    }
    /* The sizes are told of before what lies behind the end of the shorter one. */
    if (!a->quiet && found.kind == KHO_COMPARE_CONTENT && found.sizes_differ && found.at_bytes >= common)
        qimg_print("Warning: Image size mismatch!\n");
    if (!a->quiet)
        print_verdict(&found);
    qimg_progress_end(FALSE);
    return found.kind == KHO_COMPARE_SAME ? 0 : 1;
}

static int
run_compare(const void *p, char *const *names)
{
    const CompareArgs *a = p;
    KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;

    if (qimg_names_count(names) != 2) {
        qimg_usage_error("Expecting two image file names");
        return 1;
    }
    if (a->cache && !qimg_take_source_cache(a->cache))
        return COMPARE_CANNOT_OPEN;
    g_autoptr(KhoImage) one = qimg_open(names[0], a->format, a->image_opts, flags);
    g_autoptr(KhoImage) other = one ? qimg_open(names[1], a->second_format, a->image_opts, flags) : NULL;
    return one && other ? compare(a, one, other) : COMPARE_CANNOT_OPEN;
}

const QimgVerb qimg_verb_compare = {
    .name = "compare",
    .synopsis =
        "[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 "
        "filename2",
    .options = compare_options,
    .args_bytes = sizeof(CompareArgs),
    .run = run_compare,
};
