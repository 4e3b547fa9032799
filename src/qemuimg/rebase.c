/* qemu-img rebase. */
#include "qemuimg/args.h"
#include "qemuimg/object.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <kho/image_change.h>
#include <kho/image_layers.h>

typedef struct {
    const char *format, *backing, *backing_format;
    gboolean unsafe, progress, quiet, image_opts, share;
} RebaseArgs;

static const QimgOption rebase_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(RebaseArgs, format) },
    { QIMG_TEXT, NULL, 'F', offsetof(RebaseArgs, backing_format) },
    { QIMG_TEXT, NULL, 'b', offsetof(RebaseArgs, backing) },
    { QIMG_FLAG, NULL, 'u', offsetof(RebaseArgs, unsafe) },
    { QIMG_FLAG, NULL, 'p', offsetof(RebaseArgs, progress) },
    { QIMG_IGNORED, NULL, 't', 0, qimg_take_cache },
    { QIMG_IGNORED, NULL, 'T', 0, qimg_take_source_cache },
    { QIMG_FLAG, NULL, 'q', offsetof(RebaseArgs, quiet) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(RebaseArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(RebaseArgs, share) },
    { 0 },
};

static gboolean
fails(const RebaseArgs *a, const char *why)
{
    qimg_error("Could not change the backing file to '%s': %s", a->backing ? a->backing : "", why);
    return FALSE;
}

/* What can be told before anything is written; FALSE where it has been. */
static gboolean
look(const RebaseArgs *a, const QimgSource *source, const char *backing, GError **error)
{
    KhoImageFlags flags = KHO_IMAGE_WRITE | (a->unsafe ? KHO_IMAGE_NO_BACKING : 0);
    g_autoptr(KhoImage) image = qimg_source_open(source, flags);

    if (!image)
        return FALSE;
    qimg_warn_if_guessed(source, image);
    if (a->backing_format && !qimg_format_exists(a->backing_format)) {
        qimg_error("Invalid format name: '%s'", a->backing_format);
        return FALSE;
    }
    if (!g_str_equal(kho_image_format(image), "qcow2"))
        return fails(a, "Operation not supported");
    if (!backing || a->unsafe)
        return !backing || a->backing_format || fails(a, "backing format must be specified");
    g_autofree char *folder = g_path_get_dirname(source->path);
    g_autofree char *path =
        g_path_is_absolute(backing) || kho_image_is_remote(backing) || g_str_equal(folder, ".")
            ? g_strdup(backing)
            : g_build_filename(folder, backing, NULL);
    const KhoImageSource open = { .path = path,
                                  .format = a->backing_format,
                                  .gate = &kho_image_gate_open,
                                  .secrets = qimg_object_secrets() };
    g_autoptr(KhoImage) below = kho_image_open_source(&open, error);
    if (!below) {
        g_autofree char *fault = qimg_open_fault(path, a->backing_format, KHO_IMAGE_READ, *error);
        qimg_error("Could not open new backing file '%s': %s", backing, fault);
        return FALSE;
    }
    return a->backing_format || fails(a, "backing format must be specified");
}

static int
run_rebase(const void *p, char *const *names)
{
    const RebaseArgs *a = p;
    g_auto(QimgSource) source = { 0 };
    g_autoptr(GError) error = NULL;
    const char *backing = a->backing && *a->backing ? a->backing : NULL;
    const char *format = backing ? a->backing_format : NULL;

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!a->unsafe && !a->backing) {
        qimg_usage_error("Must specify backing file (-b) or use unsafe mode (-u)");
        return 1;
    }
    if (!qimg_source_read(names[0], a->format, a->image_opts, &source) || !look(a, &source, backing, &error))
        return 1;
    const KhoImageRebase rebase = { .backing_file = backing, .backing_format = format };
    const KhoImageSource image = qimg_source_image(&source, 0, qimg_job(a->progress));
    gboolean done = a->unsafe ? kho_image_set_backing(source.path, backing, format, &error)
                              : kho_image_rebase(&image, &rebase, &error);
    if (a->progress)
        qimg_progress_end(done);
    if (!done)
        fails(a, qimg_reason(error, source.path));
    return done ? 0 : 1;
}

const QimgVerb qimg_verb_rebase = {
    .name = "rebase",
    .synopsis =
        "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] -b "
        "backing_file [-F backing_fmt] filename",
    .options = rebase_options,
    .args_bytes = sizeof(RebaseArgs),
    .run = run_rebase,
};
