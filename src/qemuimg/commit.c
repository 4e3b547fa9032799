/* qemu-img commit. */
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <kho/image_change.h>

typedef struct {
    const char *format, *base, *rate;
    gboolean drop, progress, quiet, image_opts;
} CommitArgs;

static gboolean
take_rate(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "rate limit", 0, G_MAXINT64, &bytes);
}

static const QimgOption commit_options[] = {
    { QIMG_TEXT, NULL, 'f', offsetof(CommitArgs, format) },
    { QIMG_IGNORED, NULL, 't', 0, qimg_take_cache },
    { QIMG_TEXT, NULL, 'b', offsetof(CommitArgs, base) },
    { QIMG_FLAG, NULL, 'd', offsetof(CommitArgs, drop) },
    { QIMG_FLAG, NULL, 'p', offsetof(CommitArgs, progress) },
    { QIMG_FLAG, NULL, 'q', offsetof(CommitArgs, quiet) },
    { QIMG_TEXT, NULL, 'r', offsetof(CommitArgs, rate), take_rate },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(CommitArgs, image_opts) },
    { 0 },
};

/* Whether the image and its chain can be opened, and there is something below it; FALSE where not, which has
 * been said. */
static gboolean
look(const QimgSource *source)
{
    g_autoptr(KhoImage) image = qimg_source_open(source, KHO_IMAGE_WRITE);

    if (!image)
        return FALSE;
    qimg_warn_if_guessed(source, image);
    if (kho_image_backing(image))
        return TRUE;
    qimg_error("Image does not have a backing file");
    return FALSE;
}

static int
run_commit(const void *p, char *const *names)
{
    const CommitArgs *a = p;
    g_auto(QimgSource) source = { 0 };
    g_autoptr(GError) error = NULL;
    guint64 rate = 0;

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_source_read(names[0], a->format, a->image_opts, &source) || !look(&source))
        return 1;
    if (a->rate)
        qimg_size_parse(a->rate, &rate);
    /* A base of one's own choice implies -d. */
    const KhoImageCommit commit = { .base = a->base, .keep_overlay = a->drop || a->base, .rate_bytes = rate };
    const KhoImageSource overlay = qimg_source_image(&source, 0, qimg_job(a->progress));
    gboolean done = kho_image_commit(&overlay, &commit, &error);
    if (a->progress)
        qimg_progress_end(done);
    if (done && !a->quiet)
        qimg_print("Image committed.\n");
    if (!done && a->base && error->code == KHO_ERROR_NOT_FOUND)
        qimg_error("Did not find '%s' in the backing chain of '%s'", a->base, names[0]);
    else if (!done)
        qimg_error("%s", qimg_reason(error, source.path));
    return done ? 0 : 1;
}

const QimgVerb qimg_verb_commit = {
    .name = "commit",
    .synopsis = "[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] "
                "[-p] filename",
    .options = commit_options,
    .args_bytes = sizeof(CommitArgs),
    .run = run_commit,
};
