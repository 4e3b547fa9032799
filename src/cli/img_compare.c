/* kho img compare. */
#include "cli/exit.h"
#include "cli/img_options.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include <jansson.h>
#include <kho/image_compare.h>

typedef struct {
    const char *one, *other, *format, *other_format;
    guint64 workers;
    char **allowed, **secrets;
    gboolean strict, share, untrusted;
} CompareArgs;

static const CliArg compare_args[] = {
    { CLI_STR, "FILE", offsetof(CompareArgs, one), NULL, "an image", .object = CLI_FILE },
    { CLI_STR, "OTHER", offsetof(CompareArgs, other), NULL, "the image to compare it with",
      .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(CompareArgs, format), CLI_OPTIONAL,
      "the first one's format; otherwise it is probed", 'f', .choices = "qcow2|raw" },
    { CLI_CHOICE, "--other-format", offsetof(CompareArgs, other_format), CLI_OPTIONAL, "the second one's",
      'F', .choices = "qcow2|raw" },
    { CLI_FLAG, "--strict", offsetof(CompareArgs, strict), "no", "their sizes and their holes too", 's' },
    { CLI_UINT, "--workers", offsetof(CompareArgs, workers), CLI_OPTIONAL,
      "how many compare at the same time; as many as processors, at most 8", 'm', .max = 16 },
    { CLI_FLAG, "--force-share", offsetof(CompareArgs, share), "no",
      "although another process writes one of them", 'U' },
    IMG_SECRET_ARG(CompareArgs),
    IMG_TRUST_ARGS(CompareArgs),
    { 0 },
};

static const CliStatus compare_statuses[] = {
    { 0, "they read the same" },
    { EXIT_FINDINGS, "they differ" },
    { 0 },
};

static void
print_json(const KhoImageDifference *found)
{
    static const char *const kinds[] = {
        [KHO_COMPARE_SIZE] = "size",
        [KHO_COMPARE_STATUS] = "allocation",
        [KHO_COMPARE_CONTENT] = "content",
    };
    gboolean same = found->kind == KHO_COMPARE_SAME;
    gboolean has_place = !same && found->kind != KHO_COMPARE_SIZE;

    out_json(json_pack("{s:b,s:o,s:o,s:b}", "same", same, "difference",
                       same ? json_null() : json_string(kinds[found->kind]), "offset-bytes",
                       has_place ? json_integer((json_int_t) found->at_bytes) : json_null(), "sizes-differ",
                       found->sizes_differ));
}

static void
print_text(const KhoImageDifference *found)
{
    switch (found->kind) {
    case KHO_COMPARE_SAME:
        out_print(found->sizes_differ ? "They read the same; the longer one goes on with zeros.\n"
                                      : "They read the same.\n");
        break;
    case KHO_COMPARE_SIZE: out_print("Their sizes differ.\n"); break;
    case KHO_COMPARE_STATUS:
        out_print("From byte %" G_GUINT64_FORMAT " on one has space where the other has not.\n",
                  found->at_bytes);
        break;
    case KHO_COMPARE_CONTENT:
        out_print("They differ at byte %" G_GUINT64_FORMAT ".\n", found->at_bytes);
        break;
    }
}

static gboolean
run_compare(CliRun *cli, const void *p, GError **error)
{
    const CompareArgs *a = p;
    ImgTrust trust = { a->untrusted, a->allowed, { a->one, a->other }, NULL };
    KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;
    const KhoImageCompare options = { .strict = a->strict, .workers = (guint) a->workers };
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    KhoImageDifference found;

    if (!secrets || !img_trust_begin(&trust, &flags, error))
        return FALSE;
    KhoImageSource source = { .path = a->one,
                              .format = a->format,
                              .flags = flags,
                              .gate = &trust.gate,
                              .job = cli->job,
                              .secrets = secrets };
    g_autoptr(KhoImage) one = kho_image_open_source(&source, error);
    if (!one)
        return FALSE;
    source.path = a->other;
    source.format = a->other_format;
    g_autoptr(KhoImage) other = kho_image_open_source(&source, error);
    if (!other || !kho_image_compare(one, other, &options, &found, cli->job, error))
        return FALSE;
    if (cli->json)
        print_json(&found);
    else if (!cli->quiet)
        print_text(&found);
    cli->status = found.kind == KHO_COMPARE_SAME ? 0 : EXIT_FINDINGS;
    return TRUE;
}

const CliVerb verb_img_compare = {
    .name = "img-compare",
    .noun = "img",
    .summary = "whether two images read the same",
    .description =
        "Whole chains are compared. Where one is longer, they are the same if it goes on with zeros.",
    .examples = "kho img compare disk.raw disk.qcow2\nkho img compare --strict --json old.qcow2 new.qcow2",
    .statuses = compare_statuses,
    .args = compare_args,
    .args_bytes = sizeof(CompareArgs),
    .json = TRUE,
    .run = run_compare,
};
