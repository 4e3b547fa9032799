/* qemu-img map. */
#include "base/num.h"
#include "qemuimg/args.h"
#include "qemuimg/output.h"
#include "qemuimg/size.h"
#include "qemuimg/source.h"

typedef struct {
    const char *format, *output, *start, *length;
    gboolean image_opts, share;
} MapArgs;

static gboolean
take_start(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "start offset", 0, NUM_OFFSET_MAX, &bytes);
}

static gboolean
take_length(const char *value)
{
    guint64 bytes;

    return qimg_size_read(value, "max length", 0, NUM_OFFSET_MAX, &bytes);
}

static const QimgOption map_options[] = {
    { QIMG_TEXT, "format", 'f', offsetof(MapArgs, format) },
    { QIMG_TEXT, "output", 0, offsetof(MapArgs, output) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(MapArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(MapArgs, share) },
    { QIMG_TEXT, "start-offset", 's', offsetof(MapArgs, start), take_start },
    { QIMG_TEXT, "max-length", 'l', offsetof(MapArgs, length), take_length },
    { 0 },
};

static const char *
truth(gboolean value)
{
    return value ? "true" : "false";
}

/* Not by jansson: a map may have millions of entries. */
static void
print_json(const KhoMapEntry *e)
{
    gboolean data = e->kind == KHO_MAP_DATA || e->kind == KHO_MAP_COMPRESSED;

    qimg_print("{ \"start\": %" G_GUINT64_FORMAT ", \"length\": %" G_GUINT64_FORMAT
               ", \"depth\": %u, \"present\": %s, "
               "\"zero\": %s, \"data\": %s",
               e->start_bytes, e->length_bytes, e->depth, truth(e->kind != KHO_MAP_HOLE),
               truth(e->reads_zero), truth(data));
    if (e->has_offset)
        qimg_print(", \"offset\": %" G_GUINT64_FORMAT, e->host_offset_bytes);
    qimg_print("}");
}

static gboolean
print_line(const KhoMapEntry *e)
{
    if (e->reads_zero || e->kind == KHO_MAP_HOLE)
        return TRUE;
    if (!e->has_offset) {
        qimg_error("File contains external, encrypted or compressed clusters.");
        return FALSE;
    }
    qimg_print("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x%s\n",
               e->start_bytes, e->length_bytes, e->host_offset_bytes, e->path);
    return TRUE;
}

static gboolean
walk(KhoImage *image, guint64 start, guint64 end, gboolean json)
{
    const KhoJob *job = qimg_job(FALSE);
    KhoMapEntry e;

    for (guint64 at = start; at < end; at += e.length_bytes) {
        g_autoptr(GError) error = NULL;

        if (kho_job_is_cancelled(job))
            return FALSE;
        if (!kho_image_map(image, at, end - at, &e, &error)) {
            qimg_error("%s", error->message);
            return FALSE;
        }
        if (json) {
            qimg_print("%s", at == start ? "" : ",\n");
            print_json(&e);
        } else if (!print_line(&e)) {
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean
print_map(KhoImage *image, const MapArgs *a, gboolean json)
{
    guint64 size = kho_image_size_bytes(image), start = 0, length = size;

    /* Both were looked at when the command line was read. */
    if (a->start)
        qimg_size_parse(a->start, &start);
    if (a->length)
        qimg_size_parse(a->length, &length);
    guint64 end = start >= size ? start : start + MIN(length, size - start);
    if (!json) {
        qimg_print("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
        return walk(image, start, end, FALSE);
    }
    qimg_print("[");
    if (start == end)
        print_json(&(KhoMapEntry){ .start_bytes = start });
    gboolean done = walk(image, start, end, TRUE);
    qimg_print("]\n");
    return done;
}

static int
run_map(const void *p, char *const *names)
{
    const MapArgs *a = p;
    gboolean json;

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_wants_json(a->output, &json))
        return 1;
    KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;
    g_autoptr(KhoImage) image = qimg_open(names[0], a->format, a->image_opts, flags);
    return image && print_map(image, a, json) ? 0 : 1;
}

const QimgVerb qimg_verb_map = {
    .name = "map",
    .synopsis = "[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] "
                "[--output=ofmt] "
                "[-U] filename",
    .options = map_options,
    .args_bytes = sizeof(MapArgs),
    .run = run_map,
};
