/* kho img info. */
#include "cli/img_encryption.h"
#include "cli/img_options.h"
#include "cli/img_snapshots.h"
#include "cli/output.h"

#include "base/num.h"

#include <jansson.h>
#include <time.h>

typedef struct {
    const char *path, *format, *output;
    gboolean chain, share;
} InfoArgs;

static const CliArg info_args[] = {
    { CLI_STR, "FILE", offsetof(InfoArgs, path), NULL, "image to look at", .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(InfoArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = IMG_FORMATS },
    IMG_OUTPUT_ARG(InfoArgs),
    { CLI_FLAG, "--backing-chain", offsetof(InfoArgs, chain), "no", "its backing files too" },
    { CLI_FLAG, "--force-share", offsetof(InfoArgs, share), "no", "as qemu-img; info never needs the lock",
      'U' },
    { 0 },
};

static json_t *
qcow2_to_json(const KhoImageInfo *info)
{
    json_t *data = json_object();

    json_object_set_new(data, "compat", json_string(info->qcow2_version == 2 ? "0.10" : "1.1"));
    if (info->compression)
        json_object_set_new(data, "compression-type", json_string(info->compression));
    if (info->qcow2_version >= 3)
        json_object_set_new(data, "lazy-refcounts", json_boolean(info->lazy_refcounts));
    json_object_set_new(data, "refcount-bits", json_integer(info->refcount_bits));
    if (info->data_file)
        json_object_set_new(data, "data-file", json_string(info->data_file));
    if (info->has_data_file)
        json_object_set_new(data, "data-file-raw", json_boolean(info->data_file_raw));
    if (info->encryption)
        json_object_set_new(data, "encrypt", img_encryption_to_json(info->encryption));
    if (info->qcow2_version >= 3) {
        json_object_set_new(data, "corrupt", json_boolean(info->corrupt));
        json_object_set_new(data, "extended-l2", json_boolean(info->extended_l2));
    }
    return json_pack("{s:s,s:o}", "type", "qcow2", "data", data);
}

static json_t *
to_json(const KhoImageInfo *info)
{
    json_t *root = json_object();

    json_object_set_new(root, "filename", json_string(info->path));
    json_object_set_new(root, "format", json_string(info->format));
    json_object_set_new(root, "virtual-size", json_integer((json_int_t) info->virtual_bytes));
    if (!info->actual_unknown)
        json_object_set_new(root, "actual-size", json_integer((json_int_t) info->actual_bytes));
    if (info->cluster_bytes)
        json_object_set_new(root, "cluster-size", json_integer(info->cluster_bytes));
    if (info->encrypted)
        json_object_set_new(root, "encrypted", json_true());
    if (info->backing_file)
        json_object_set_new(root, "backing-filename", json_string(info->backing_file));
    if (info->full_backing_path)
        json_object_set_new(root, "full-backing-filename", json_string(info->full_backing_path));
    if (info->backing_format)
        json_object_set_new(root, "backing-filename-format", json_string(info->backing_format));
    if (info->snapshots->len > 0)
        json_object_set_new(root, "snapshots", img_snapshots_json(info->snapshots));
    if (info->qcow2_version)
        json_object_set_new(root, "format-specific", qcow2_to_json(info));
    json_t *specific = info->specific ? json_loads(info->specific, JSON_DECODE_ANY, NULL) : NULL;
    if (specific)
        json_object_set_new(root, "format-specific", specific);
    json_object_set_new(root, "dirty-flag", json_boolean(info->dirty));
    return root;
}

static void
print_qcow2(const KhoImageInfo *info)
{
    out_print("Format specific information:\n    compat: %s\n", info->qcow2_version == 2 ? "0.10" : "1.1");
    if (info->compression)
        out_print("    compression type: %s\n", info->compression);
    if (info->qcow2_version >= 3)
        out_print("    lazy refcounts: %s\n", info->lazy_refcounts ? "true" : "false");
    out_print("    refcount bits: %u\n", info->refcount_bits);
    if (info->data_file)
        out_print("    data file: %s\n", info->data_file);
    if (info->has_data_file)
        out_print("    data file raw: %s\n", info->data_file_raw ? "true" : "false");
    if (info->encryption)
        img_encryption_print(info->encryption);
    if (info->qcow2_version >= 3)
        out_print("    corrupt: %s\n    extended l2: %s\n", info->corrupt ? "true" : "false",
                  info->extended_l2 ? "true" : "false");
}

/* As qemu-img prints it: a line a member, lists by number, dashes as blanks. */
static void
print_specific(const char *name, json_t *value, int depth)
{
    g_autofree char *shown = g_strdelimit(g_strdup(name), "-", ' ');
    const char *key;
    json_t *member;
    gsize i;

    out_print("%*s%s:", depth * 4, "", shown);
    if (json_is_object(value) || json_is_array(value))
        out_print("\n");
    json_object_foreach (value, key, member)
        print_specific(key, member, depth + 1);
    json_array_foreach (value, i, member) {
        g_autofree char *number = g_strdup_printf("[%" G_GSIZE_FORMAT "]", i);
        print_specific(number, member, depth + 1);
    }
    if (json_is_string(value))
        out_print(" %s\n", json_string_value(value));
    else if (json_is_integer(value))
        out_print(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
    else if (json_is_boolean(value))
        out_print(" %s\n", json_is_true(value) ? "true" : "false");
}

/* What QEMU says of a format of its own: under "data". */
static void
print_foreign(const KhoImageInfo *info)
{
    json_t *specific = info->specific ? json_loads(info->specific, JSON_DECODE_ANY, NULL) : NULL;
    const char *key;
    json_t *member;

    if (json_object_size(json_object_get(specific, "data")) > 0)
        out_print("Format specific information:\n");
    json_object_foreach (json_object_get(specific, "data"), key, member)
        print_specific(key, member, 1);
    json_decref(specific);
}

static void
print_human(const KhoImageInfo *info)
{
    g_autofree char *virtual_size = num_format_size(info->virtual_bytes);
    g_autofree char *disk_size =
        info->actual_unknown ? g_strdup("unavailable") : num_format_size(info->actual_bytes);

    out_print("image: %s\nfile format: %s\nvirtual size: %s (%" G_GUINT64_FORMAT " bytes)\ndisk size: %s\n",
              info->path, info->format, virtual_size, info->virtual_bytes, disk_size);
    if (info->encrypted)
        out_print("encrypted: yes\n");
    if (info->cluster_bytes)
        out_print("cluster_size: %u\n", info->cluster_bytes);
    if (info->dirty)
        out_print("cleanly shut down: no\n");
    if (info->backing_file && info->full_backing_path
        && !g_str_equal(info->backing_file, info->full_backing_path))
        out_print("backing file: %s (actual path: %s)\n", info->backing_file, info->full_backing_path);
    else if (info->backing_file)
        out_print("backing file: %s\n", info->backing_file);
    if (info->backing_format)
        out_print("backing file format: %s\n", info->backing_format);
    if (info->snapshots->len > 0)
        img_print_snapshots(info->snapshots);
    if (info->qcow2_version)
        print_qcow2(info);
    print_foreign(info);
}

/* The images to tell about: opening the chain first finds loops and missing files. */
static gboolean
tell_chain(const KhoImageSource *source, json_t *list, GError **error)
{
    g_autoptr(KhoImage) chain = kho_image_open_source(source, error);

    if (!chain)
        return FALSE;
    for (KhoImage *image = chain; image; image = kho_image_backing(image)) {
        KhoImageSource one = { .path = kho_image_path(image),
                               .format = kho_image_format(image),
                               .gate = source->gate,
                               .job = source->job };
        KhoImageInfo info;

        if (!kho_image_info_source(&one, &info, error))
            return FALSE;
        if (list)
            json_array_append_new(list, to_json(&info));
        else {
            out_print("%s", image == chain ? "" : "\n");
            print_human(&info);
        }
        kho_image_info_clear(&info);
    }
    return TRUE;
}

static gboolean
run_info(CliRun *cli, const void *p, GError **error)
{
    const InfoArgs *a = p;
    KhoImageSource source = { .path = a->path,
                              .format = a->format,
                              .flags = KHO_IMAGE_IDLE_LOCK,
                              .gate = &kho_image_gate_open,
                              .job = cli->job };
    KhoImageInfo info;

    if (a->chain) {
        json_t *list = img_wants_json(cli, a->output) ? json_array() : NULL;
        gboolean done = tell_chain(&source, list, error);
        if (list && done)
            out_json(list);
        else
            json_decref(list);
        return done;
    }
    if (!kho_image_info_source(&source, &info, error))
        return FALSE;
    if (img_wants_json(cli, a->output))
        out_json(to_json(&info));
    else
        print_human(&info);
    kho_image_info_clear(&info);
    return TRUE;
}

const CliVerb verb_img_info = {
    .name = "img-info",
    .noun = "img",
    .summary = "what an image's headers say",
    .description = "Reads headers only, so it works on an image in use. The JSON has qemu-img's keys.",
    .examples = "kho img info disk.qcow2\nkho img info --backing-chain --json overlay.qcow2",
    .args = info_args,
    .args_bytes = sizeof(InfoArgs),
    .json = TRUE,
    .run = run_info,
};
