/* qemu-img info. */
#include "qemuimg/args.h"
#include "qemuimg/image_info.h"
#include "qemuimg/output.h"
#include "qemuimg/source.h"

#include <jansson.h>

typedef struct {
    const char *format, *output;
    gboolean chain, image_opts, share;
} InfoArgs;

static const QimgOption info_options[] = {
    { QIMG_TEXT, "format", 'f', offsetof(InfoArgs, format) },
    { QIMG_TEXT, "output", 0, offsetof(InfoArgs, output) },
    { QIMG_FLAG, "backing-chain", 0, offsetof(InfoArgs, chain) },
    { QIMG_OBJECT, "object", 0 },
    { QIMG_FLAG, "image-opts", 0, offsetof(InfoArgs, image_opts) },
    { QIMG_FLAG, "force-share", 'U', offsetof(InfoArgs, share) },
    { 0 },
};

/* What is told, collected, since a chain that is broken somewhere is told nothing of. */
typedef struct {
    json_t *list; /* NULL: text */
    GString *text;
} Told;

/* One image. *next: what is to be looked at after it. */
static gboolean
tell(const QimgSource *source, KhoImageFlags flags, Told *told, QimgSource *next)
{
    g_autoptr(KhoImage) image = qimg_source_open(source, flags | KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA);
    g_autoptr(GError) error = NULL;
    KhoImageInfo info;

    if (!image)
        return FALSE;
    if (!kho_image_describe(image, &info, &error)) {
        qimg_error("Could not open '%s': %s", source->name, qimg_reason(error, source->path));
        return FALSE;
    }
    if (told->list) {
        json_array_append_new(told->list, qimg_info_json(&info));
    } else {
        g_autofree char *text = qimg_info_text(&info);
        g_string_append_printf(told->text, "%s%s", told->text->len > 0 ? "\n" : "", text);
    }
    next->path = g_strdup(info.full_backing_path);
    next->name = g_strdup(info.full_backing_path);
    next->format = g_strdup(info.backing_format);
    kho_image_info_clear(&info);
    return TRUE;
}

/* The image and, with @chain, those below it. */
static gboolean
tell_all(const QimgSource *first, KhoImageFlags flags, gboolean chain, Told *told)
{
    g_auto(QimgSource) at = { g_strdup(first->name), g_strdup(first->path), g_strdup(first->format) };
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    do {
        g_auto(QimgSource) next = { 0 };

        if (!g_hash_table_add(seen, g_strdup(at.path))) {
            qimg_error("Backing file '%s' creates an infinite loop.", at.path);
            return FALSE;
        }
        if (!tell(&at, flags, told, &next))
            return FALSE;
        qimg_source_clear(&at);
        at = next;
        next = (QimgSource){ 0 };
    } while (chain && at.path);
    return TRUE;
}

static int
run_info(const void *p, char *const *names)
{
    const InfoArgs *a = p;
    g_auto(QimgSource) source = { 0 };
    gboolean json;

    if (qimg_names_count(names) != 1) {
        qimg_usage_error("Expecting one image file name");
        return 1;
    }
    if (!qimg_wants_json(a->output, &json) || !qimg_source_read(names[0], a->format, a->image_opts, &source))
        return 1;
    Told told = { json ? json_array() : NULL, g_string_new(NULL) };
    gboolean done = tell_all(&source, a->share ? KHO_IMAGE_NO_LOCK : 0, a->chain, &told);
    if (done && json)
        qimg_print_json(json_incref(a->chain ? told.list : json_array_get(told.list, 0)));
    else if (done)
        qimg_print("%s", told.text->str);
    json_decref(told.list);
    g_string_free(told.text, TRUE);
    return done ? 0 : 1;
}

const QimgVerb qimg_verb_info = {
    .name = "info",
    .synopsis =
        "[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename",
    .options = info_options,
    .args_bytes = sizeof(InfoArgs),
    .run = run_info,
};
