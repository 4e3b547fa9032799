/* kho img map. */
#include "cli/img_options.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include "base/error.h"

#include <jansson.h>

typedef struct {
    const char *path, *format, *output;
    char **allowed, **secrets;
    gboolean share, untrusted;
} MapArgs;

static const CliArg map_args[] = {
    { CLI_STR, "FILE", offsetof(MapArgs, path), NULL, "image to look at", .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(MapArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = IMG_FORMATS },
    IMG_OUTPUT_ARG(MapArgs),
    { CLI_FLAG, "--force-share", offsetof(MapArgs, share), "no", "although another process writes it", 'U' },
    IMG_SECRET_ARG(MapArgs),
    IMG_TRUST_ARGS(MapArgs),
    { 0 },
};

static json_t *
to_json(const KhoMapEntry *e)
{
    gboolean data = e->kind == KHO_MAP_DATA || e->kind == KHO_MAP_COMPRESSED;
    json_t *one = json_object();

    json_object_set_new(one, "start", json_integer((json_int_t) e->start_bytes));
    json_object_set_new(one, "length", json_integer((json_int_t) e->length_bytes));
    json_object_set_new(one, "depth", json_integer(e->depth));
    json_object_set_new(one, "present", json_boolean(e->kind != KHO_MAP_HOLE));
    json_object_set_new(one, "zero", json_boolean(e->reads_zero));
    json_object_set_new(one, "data", json_boolean(data));
    if (e->has_offset)
        json_object_set_new(one, "offset", json_integer((json_int_t) e->host_offset_bytes));
    return one;
}

static void
print_entry(const KhoMapEntry *e)
{
    if (e->reads_zero)
        return;
    out_print("%#-16" G_GINT64_MODIFIER "x%#-16" G_GINT64_MODIFIER "x", e->start_bytes, e->length_bytes);
    if (e->has_offset)
        out_print("%#-16" G_GINT64_MODIFIER "x%s\n", e->host_offset_bytes, e->path);
    else
        out_print("%-16s%s\n", e->kind == KHO_MAP_COMPRESSED ? "compressed" : "encrypted", e->path);
}

/* @list: NULL: for people. */
static gboolean
walk(KhoImage *image, const CliRun *cli, OutList *list, GError **error)
{
    guint64 size = kho_image_size_bytes(image);
    KhoMapEntry e;

    for (guint64 at = 0; at < size; at += e.length_bytes) {
        if (kho_job_is_cancelled(cli->job))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled");
        if (!kho_image_map(image, at, size - at, &e, error))
            return FALSE;
        if (list)
            out_list_add(list, to_json(&e));
        else
            print_entry(&e);
    }
    return TRUE;
}

static gboolean
run_map(CliRun *cli, const void *p, GError **error)
{
    const MapArgs *a = p;
    ImgTrust trust = { a->untrusted, a->allowed, { a->path }, NULL };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    KhoImageSource source = { .path = a->path,
                              .format = a->format,
                              .flags = a->share ? KHO_IMAGE_NO_LOCK : 0,
                              .gate = &trust.gate,
                              .job = cli->job,
                              .secrets = secrets };

    if (!secrets || !img_trust_begin(&trust, &source.flags, error))
        return FALSE;
    g_autoptr(KhoImage) image = kho_image_open_source(&source, error);

    if (!image)
        return FALSE;
    gboolean json = img_wants_json(cli, a->output);
    OutList list = { FALSE };
    if (!json)
        out_print("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    if (!walk(image, cli, json ? &list : NULL, error))
        return FALSE;
    if (json)
        out_list_end(&list);
    return TRUE;
}

const CliVerb verb_img_map = {
    .name = "img-map",
    .noun = "img",
    .summary = "where an image's bytes live, in it and its backing files",
    .description = "The JSON has qemu-img's keys. Without it, stretches that read as zeros are left out.",
    .examples = "kho img map disk.qcow2\nkho img map --output=json overlay.qcow2",
    .args = map_args,
    .args_bytes = sizeof(MapArgs),
    .json = TRUE,
    .run = run_map,
};
