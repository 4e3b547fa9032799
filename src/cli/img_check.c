/* kho img check. */
#include "cli/exit.h"
#include "cli/img_options.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/json.h"

typedef struct {
    const char *path, *format, *repair, *output;
    char **allowed;
    gboolean share, force, untrusted;
} CheckArgs;

static const CliArg check_args[] = {
    { CLI_STR, "FILE", offsetof(CheckArgs, path), NULL, "image to check", .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(CheckArgs, format), CLI_OPTIONAL, "its format; otherwise it is probed",
      'f', .choices = IMG_FORMATS },
    { CLI_CHOICE, "--repair", offsetof(CheckArgs, repair), CLI_OPTIONAL,
      "leaks: give back space that nothing names; all: also mend what contradicts itself", 'r',
      .choices = "leaks|all" },
    IMG_OUTPUT_ARG(CheckArgs),
    { CLI_FLAG, "--force-share", offsetof(CheckArgs, share), "no",
      "without the lock: findings may be passing", 'U' },
    { CLI_FLAG, "--force", offsetof(CheckArgs, force), "no",
      "with --repair: also a file that a snapshot closed, which then needs --force itself, and a disk of a "
      "machine that has a managed "
      "save" },
    IMG_TRUST_ARGS(CheckArgs),
    { 0 },
};

static const CliStatus check_statuses[] = {
    { 0, "nothing was found, or everything found was repaired" },
    { 7, "the image is corrupt" },
    { EXIT_FINDINGS, "clusters are leaked: space is wasted, no data is at risk" },
    { 0 },
};

static json_t *
to_json(const CheckArgs *a, const KhoImageCheck *r)
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
        { "check-errors", r->check_errors },
        { "corruptions", r->corruptions },
        { "leaks", r->leaks },
        { "corruptions-fixed", r->corruptions_fixed },
        { "leaks-fixed", r->leaks_fixed },
    };
    json_t *root = json_pack("{s:o,s:s}", "filename", json_from_bytes(a->path), "format", r->format);
    json_t *messages = json_array();

    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++)
        json_object_set_new(root, counts[i].key, json_integer((json_int_t) counts[i].value));
    for (guint i = 0; i < r->messages->len; i++)
        json_array_append_new(messages, json_from_bytes(g_ptr_array_index(r->messages, i)));
    json_object_set_new(root, "messages", messages);
    return root;
}

static void
print_verdict(const KhoImageCheck *r)
{
    if (r->corruptions_fixed || r->leaks_fixed)
        out_print("The following inconsistencies were found and repaired:\n\n    %" G_GUINT64_FORMAT
                  " leaked clusters\n    %" G_GUINT64_FORMAT " corruptions\n\n",
                  r->leaks_fixed, r->corruptions_fixed);
    if (!r->corruptions && !r->leaks && !r->check_errors)
        out_print("No errors were found on the image.\n");
    if (r->corruptions)
        out_print("\n%" G_GUINT64_FORMAT
                  " errors were found on the image.\nData may be corrupted, or further writes to "
                  "the image may corrupt it.\n",
                  r->corruptions);
    if (r->leaks)
        out_print("\n%" G_GUINT64_FORMAT
                  " leaked clusters were found on the image.\nThis means waste of disk space, "
                  "but no harm to data.\n",
                  r->leaks);
    if (r->check_errors)
        out_print("\n%" G_GUINT64_FORMAT " internal errors have occurred during the check.\n",
                  r->check_errors);
}

static void
print_human(const KhoImageCheck *r)
{
    for (guint i = 0; i < r->messages->len; i++)
        out_print("%s\n", (const char *) g_ptr_array_index(r->messages, i));
    print_verdict(r);
    if (r->total_clusters)
        out_print("%" G_GUINT64_FORMAT "/%" G_GUINT64_FORMAT
                  " = %0.2f%% allocated, %0.2f%% fragmented, %0.2f%% compressed clusters\n",
                  r->allocated_clusters, r->total_clusters,
                  (double) r->allocated_clusters * 100.0 / (double) r->total_clusters,
                  (double) r->fragmented_clusters * 100.0 / (double) MAX(r->allocated_clusters, 1),
                  (double) r->compressed_clusters * 100.0 / (double) MAX(r->allocated_clusters, 1));
    if (r->image_end_offset_bytes)
        out_print("Image end offset: %" G_GUINT64_FORMAT "\n", r->image_end_offset_bytes);
}

static gboolean
run_check(CliRun *cli, const void *p, GError **error)
{
    const CheckArgs *a = p;
    KhoRepair repair = !a->repair                        ? KHO_REPAIR_NONE
                       : g_str_equal(a->repair, "leaks") ? KHO_REPAIR_LEAKS
                                                         : KHO_REPAIR_ALL;
    ImgTrust trust = { a->untrusted, a->allowed, { a->path }, repair == KHO_REPAIR_NONE ? NULL : a->path };
    KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;
    KhoImageCheck result;

    if (repair != KHO_REPAIR_NONE && !a->force && !img_check_writable(cli, a->path, error)) {
        g_prefix_error(error, "it is not repaired without --force: ");
        return FALSE;
    }
    if (repair != KHO_REPAIR_NONE && !a->force && !img_check_unsaved(cli, a->path, error))
        return FALSE;
    if (!img_trust_begin(&trust, &flags, error)
        || !kho_image_check(a->path, a->format, repair, flags, &result, cli->job, error))
        return FALSE;
    if (img_wants_json(cli, a->output))
        out_json(to_json(a, &result));
    else if (!cli->quiet)
        print_human(&result);
    if (result.corruptions || result.check_errors)
        cli->status = 7;
    else if (result.leaks)
        cli->status = EXIT_FINDINGS;
    kho_image_check_clear(&result);
    return TRUE;
}

const CliVerb verb_img_check = {
    .name = "img-check",
    .noun = "img",
    .summary = "look for contradictions and leaks in an image, and mend them",
    .examples = "kho img check disk.qcow2\nkho img check -r leaks disk.qcow2",
    .statuses = check_statuses,
    .args = check_args,
    .args_bytes = sizeof(CheckArgs),
    .json = TRUE,
    .run = run_check,
};
