/* qemu-img bench. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

#include <kho/image_change.h>

typedef struct {
    const char *format, *count, *depth, *offset, *size, *step, *flush, *pattern, *aio, *cache;
    gboolean write, no_drain, native, quiet, share, image_opts;
} BenchArgs;

static gboolean
is_number(const char *value, const char *what, guint64 most)
{
    guint64 number;

    if (num_parse_uint(value, most, what, &number, NULL))
        return TRUE;
    qimg_error("Invalid %s specified", what);
    return FALSE;
}

static gboolean
take_count(const char *value)
{
    return is_number(value, "request count", G_MAXINT32);
}

static gboolean
take_depth(const char *value)
{
    return is_number(value, "queue depth", G_MAXINT32);
}

static gboolean
take_flush(const char *value)
{
    return is_number(value, "flush interval", G_MAXINT32);
}

static gboolean
take_pattern(const char *value)
{
    return is_number(value, "pattern byte", 255);
}

static gboolean
take_offset(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "offset", 0, G_MAXINT64, &bytes);
}

static gboolean
take_size(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "buffer size", 0, G_MAXINT32, &bytes);
}

static gboolean
take_step(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "step_size", 0, G_MAXINT32, &bytes);
}

static gboolean
take_aio(const char *value)
{
    if (g_str_equal(value, "threads") || g_str_equal(value, "native") || g_str_equal(value, "io_uring"))
        return TRUE;
    qimg_error("Invalid aio option: %s", value);
    return FALSE;
}

static gboolean
take_cache(const char *value)
{
    if (qimg_cache_is_known(value))
        return TRUE;
    qimg_error("Invalid cache mode");
    return FALSE;
}

static const QimgOption bench_options[] = {
    { QIMG_TEXT, NULL, 'c', offsetof(BenchArgs, count), take_count },
    { QIMG_TEXT, NULL, 'd', offsetof(BenchArgs, depth), take_depth },
    { QIMG_TEXT, NULL, 'f', offsetof(BenchArgs, format) },
    { QIMG_TEXT, "flush-interval", 0, offsetof(BenchArgs, flush), take_flush },
    { QIMG_TEXT, NULL, 'i', offsetof(BenchArgs, aio), take_aio },
    { QIMG_FLAG, NULL, 'n', offsetof(BenchArgs, native) },
    { QIMG_FLAG, "no-drain", 0, offsetof(BenchArgs, no_drain) },
    { QIMG_TEXT, NULL, 'o', offsetof(BenchArgs, offset), take_offset },
    { QIMG_TEXT, "pattern", 0, offsetof(BenchArgs, pattern), take_pattern },
    { QIMG_FLAG, NULL, 'q', offsetof(BenchArgs, quiet) },
    { QIMG_TEXT, NULL, 's', offsetof(BenchArgs, size), take_size },
    { QIMG_TEXT, NULL, 'S', offsetof(BenchArgs, step), take_step },
    { QIMG_TEXT, NULL, 't', offsetof(BenchArgs, cache), take_cache },
    { QIMG_FLAG, NULL, 'w', offsetof(BenchArgs, write) },
    { QIMG_FLAG, "image-opts", 0, offsetof(BenchArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(BenchArgs, share) },
    { 0 },
};

/* Each was looked at where it was read. */
static guint64
number(const char *value, guint64 fallback)
{
    guint64 found = fallback;

    if (value)
        num_parse_uint(value, G_MAXUINT64, "", &found, NULL);
    return found;
}

static guint64
size(const char *value, guint64 fallback)
{
    guint64 found = fallback;

    if (value)
        qimg_size_parse(value, &found);
    return found;
}

static void
announce(const KhoImageBench *bench, guint64 step_bytes)
{
    qimg_print("Sending %" G_GUINT64_FORMAT " %s requests, %" G_GUINT64_FORMAT
               " bytes each, %u in parallel (starting at offset %" G_GUINT64_FORMAT
               ", step size %" G_GUINT64_FORMAT ")\n",
               bench->requests, bench->write ? "write" : "read", bench->request_bytes, bench->depth,
               bench->start_bytes, step_bytes);
    if (bench->flush_every > 0)
        qimg_print("Sending flush every %" G_GUINT64_FORMAT " requests\n", bench->flush_every);
}

/* QEMU's aio=native is for files that are opened past the page cache; kho's requests are threads' either way.
 */
static gboolean
check_aio(const BenchArgs *a, const char *name)
{
    gboolean native = a->native || g_strcmp0(a->aio, "native") == 0;
    gboolean direct = a->cache && (*a->cache == 'n' || *a->cache == 'o' || *a->cache == 'd');

    if (native && !direct)
        qimg_error(
            "Could not open '%s': aio=native was specified, but it requires cache.direct=on, which was "
            "not specified.",
            name);
    return !native || direct;
}

static gboolean
check(const KhoImageBench *bench)
{
    if (bench->flush_every > 0 && !bench->write) {
        qimg_error("--flush-interval is only available in write tests");
        return FALSE;
    }
    if (bench->flush_every > 0 && bench->flush_every < bench->depth) {
        qimg_error("Flush interval can't be smaller than depth");
        return FALSE;
    }
    return TRUE;
}

static int
run(const KhoImageSource *source, const KhoImageBench *bench)
{
    g_autoptr(GError) error = NULL;
    double seconds;

    if (!kho_image_bench(source, bench, &seconds, &error)) {
        qimg_error("Failed request: %s", error->code == KHO_ERROR_INVALID ? "Input/output error"
                                                                          : qimg_reason(error, source->path));
        return 1;
    }
    qimg_print("Run completed in %3.3f seconds.\n", seconds);
    return 0;
}

static int
run_bench(const void *p, char *const *names)
{
    const BenchArgs *a = p;
    g_auto(QimgSource) source = { 0 };
    KhoImageBench bench = {
        .write = a->write,
        .pattern = (guint8) number(a->pattern, 0),
        .requests = number(a->count, 75000),
        .request_bytes = size(a->size, 4096),
        .step_bytes = size(a->step, 0),
        .start_bytes = size(a->offset, 0),
        .depth = (guint) CLAMP(number(a->depth, 64), 1, KHO_BENCH_DEPTH_MAX),
        .flush_every = number(a->flush, 0),
        .keep_flying = a->no_drain,
    };

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!check(&bench) || !qimg_source_read(names[0], a->format, a->image_opts, &source)
        || !check_aio(a, names[0]))
        return 1;
    const KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;
    KhoImage *image = qimg_source_open(&source, flags | (a->write ? KHO_IMAGE_WRITE : 0));
    if (!image)
        return 1;
    kho_image_free(image); /* it is opened anew, with its lock */
    announce(&bench, bench.step_bytes ? bench.step_bytes : bench.request_bytes);
    const KhoImageSource open = qimg_source_image(&source, flags, qimg_job(FALSE));
    return run(&open, &bench);
}

const QimgVerb qimg_verb_bench = {
    .name = "bench",
    .synopsis =
        "[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o "
        "offset] [--pattern=pattern] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename",
    .options = bench_options,
    .args_bytes = sizeof(BenchArgs),
    .run = run_bench,
};
