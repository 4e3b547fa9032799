/* kho img convert. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/img_trust.h"
#include "cli/output.h"

#include <kho/image_convert.h>

#include "base/error.h"

typedef struct {
    const char *source, *target, *source_format, *format, *backing_file, *backing_format, *level;
    char **options, **secrets, **allowed;
    guint64 workers, sparse_bytes;
    gboolean compress, progress, out_of_order, share, force, untrusted, bitmaps, skip_broken, snapshots, plan;
} ConvertArgs;

static const CliArg convert_args[] = {
    { CLI_STR, "SOURCE", offsetof(ConvertArgs, source), NULL,
      "image to read: a file, a device, or nbd://HOST:PORT/EXPORT, nbd+unix:///EXPORT?socket=PATH",
      .object = CLI_FILE },
    { CLI_STR, "TARGET", offsetof(ConvertArgs, target), NULL, "image to make", .object = CLI_FILE },
    { CLI_CHOICE, "--format", offsetof(ConvertArgs, source_format), CLI_OPTIONAL,
      "the source's format; otherwise it is probed", 'f', .choices = IMG_FORMATS },
    { CLI_CHOICE, "--output-format", offsetof(ConvertArgs, format), "raw", "the target's", 'O',
      .choices = IMG_FORMATS_MADE },
    { CLI_STRV, "--options", offsetof(ConvertArgs, options), CLI_OPTIONAL, "the target's, as for img-create",
      'o' },
    { CLI_STR, "--target-backing", offsetof(ConvertArgs, backing_file), CLI_OPTIONAL,
      "backing file of the target: only what differs from it is copied", 'B', .object = CLI_FILE },
    { CLI_CHOICE, "--backing-format", offsetof(ConvertArgs, backing_format), CLI_OPTIONAL, "its format", 'F',
      .choices = IMG_FORMATS },
    { CLI_FLAG, "--compress", offsetof(ConvertArgs, compress), "no",
      "qcow2: compress it, by zlib or as -o compression_type=zstd says", 'c' },
    { CLI_CHOICE, "--compress-level", offsetof(ConvertArgs, level), CLI_OPTIONAL,
      "with --compress: fast, as zlib does by default here, or best, no larger than qemu-img makes it",
      .choices = "fast|best" },
    { CLI_FLAG, "--bitmaps", offsetof(ConvertArgs, bitmaps), "no",
      "qcow2 to qcow2: the source's own persistent bitmaps too" },
    { CLI_FLAG, "--with-snapshots", offsetof(ConvertArgs, snapshots), "no",
      "qcow2 to qcow2: the source's internal snapshots too, with their VM state; what they share stays "
      "shared" },
    { CLI_FLAG, "--skip-broken-bitmaps", offsetof(ConvertArgs, skip_broken), "no",
      "with --bitmaps: leave out those that are inconsistent" },
    { CLI_UINT, "--workers", offsetof(ConvertArgs, workers), CLI_OPTIONAL,
      "how many copy at the same time; as many as processors, at most 8", 'm', .max = 16 },
    { CLI_SIZE, "--sparse", offsetof(ConvertArgs, sparse_bytes), "4k", "0: do not look for zeros in data",
      'S' },
    { CLI_FLAG, "--force-share", offsetof(ConvertArgs, share), "no",
      "read although another process writes: the copy may be torn", 'U' },
    { CLI_FLAG, "--force", offsetof(ConvertArgs, force), "no",
      "replace the file that stands at TARGET, or write over the disk that an NBD server has there" },
    IMG_SECRET_ARG(ConvertArgs),
    IMG_TRUST_ARGS(ConvertArgs),
    { CLI_FLAG, "--progress", offsetof(ConvertArgs, progress), "no",
      "as qemu-img; it is shown on a terminal anyway", 'p' },
    { CLI_FLAG, "--out-of-order", offsetof(ConvertArgs, out_of_order), "no",
      "as qemu-img; order is never kept, since no reader sees the target before its end", 'W' },
    IMG_PLAN_ARG(ConvertArgs),
    { 0 },
};

static void
tell_skipped(const char *name, gpointer data)
{
    (void) data;
    g_autofree char *shown = error_one_line(name);

    out_warning("left out the inconsistent bitmap '%s'", shown);
}

static void
warn_of(const char *what, const GPtrArray *lost, const char *option, const char *source)
{
    if (lost && lost->len > 0)
        out_warning("%s has %u %s%s, which the copy will not have: %s keeps %s", source, lost->len, what,
                    lost->len == 1 ? "" : "s", option, lost->len == 1 ? "it" : "them");
}

/* What the copy will lack; whatever is wrong with the source is told by the copy itself. */
static void
warn_of_loss(const CliRun *cli, const ConvertArgs *a)
{
    const KhoImageSource source = { .path = a->source,
                                    .format = a->source_format,
                                    .flags = KHO_IMAGE_IDLE_LOCK | KHO_IMAGE_LOCAL,
                                    .job = cli->job };
    KhoImageInfo info;

    if ((a->bitmaps && a->snapshots) || !kho_image_info_source(&source, &info, NULL))
        return;
    if (!a->snapshots)
        warn_of("internal snapshot", info.snapshots, "--with-snapshots", a->source);
    if (!a->bitmaps)
        warn_of("persistent bitmap", info.bitmaps, "--bitmaps", a->source);
    kho_image_info_clear(&info);
}

static KhoCompressLevel
level_of(const char *word)
{
    if (!word)
        return KHO_COMPRESS_DEFAULT;
    return g_str_equal(word, "best") ? KHO_COMPRESS_BEST : KHO_COMPRESS_FAST;
}

static gboolean
run_convert(CliRun *cli, const void *p, GError **error)
{
    const ConvertArgs *a = p;
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    ImgTrust trust = { a->untrusted, a->allowed, { a->source }, a->target };
    KhoImageFlags flags = a->share ? KHO_IMAGE_NO_LOCK : 0;
    g_auto(KhoImagePlan) plan = { 0 };
    ImgOptions options;

    if (!secrets || !img_plan_check(cli, a->plan, error))
        return FALSE;
    if (a->skip_broken && !a->bitmaps)
        return fail(error, KHO_ERROR_INVALID, "--skip-broken-bitmaps goes with --bitmaps");
    if (a->level && !a->compress)
        return fail(error, KHO_ERROR_INVALID, "--compress-level goes with --compress");
    img_options_init(&options, a->format);
    if (a->backing_file)
        options.create.backing_file = a->backing_file;
    if (a->backing_format)
        options.create.backing_format = a->backing_format;
    gboolean done =
        img_options_read(&options, a->options, error)
        && (!a->force || img_check_writable(cli, a->target, error))
        && (a->share || a->untrusted || img_check_readable(cli, a->source, a->source_format, error))
        && img_check_backing(cli, a->target, &options.create, error)
        && img_trust_target(&trust, &options.create, error) && img_trust_begin(&trust, &flags, error);
    if (done) {
        options.create.overwrite = a->force;
        options.create.secrets = secrets;
        KhoImageConvert convert = {
            .source_format = a->source_format,
            .source_flags = flags,
            .secrets = secrets,
            .target = options.create,
            .workers = (guint) a->workers,
            .keep_zeros = a->sparse_bytes == 0,
            .compress = a->compress,
            .level = level_of(a->level),
            .bitmaps = a->bitmaps,
            .snapshots = a->snapshots,
            .plan = a->plan ? &plan : NULL,
            .skip_bitmap = a->skip_broken ? tell_skipped : NULL,
        };
        if (!a->plan)
            warn_of_loss(cli, a);
        done = kho_image_convert(a->source, a->target, &convert, &trust.gate, cli->job, error)
               && (a->plan || img_keep_sound(cli, a->target, &options.create, error));
    }
    if (a->plan)
        img_plan_tell(cli, &plan, done);
    else if (done)
        out_done(cli, "Converted %s to %s, format %s", a->source, a->target, a->format);
    img_options_clear(&options);
    return done;
}

const CliVerb verb_img_convert = {
    .name = "img-convert",
    .noun = "img",
    .summary = "copy an image, its whole chain, into a new one",
    .description =
        "The target appears when it is whole and durable: a failure, a cancel or a kill leaves what stood "
        "there before. Zeros are not written; where the file system shares blocks, data is shared. "
        "A disk of an NBD server is written in place: a mark stands at its beginning until it is whole, so "
        "that "
        "nobody takes a copy that ended early for a disk. Formats other than qcow2 and raw are read and "
        "written by "
        "QEMU's storage daemon, which runs confined: of the files that such an image names it gets those "
        "that "
        "kho opens for it.",
    .examples = "kho img convert -O qcow2 disk.raw disk.qcow2\n"
                "kho img convert -f qcow2 -O raw disk.qcow2 disk.raw\n"
                "kho img convert -c -O qcow2 -o compression_type=zstd disk.raw small.qcow2\n"
                "kho img convert -c --compress-level best -O qcow2 disk.raw smaller.qcow2\n"
                "kho img convert --with-snapshots --bitmaps -O qcow2 disk.qcow2 whole.qcow2\n"
                "kho img convert -O qcow2 -B base.qcow2 -F qcow2 whole.qcow2 overlay.qcow2\n"
                "kho img convert --force -O raw disk.qcow2 nbd://backup.example/disk1\n"
                "kho img convert -O vmdk -o subformat=streamOptimized disk.qcow2 disk.vmdk\n"
                "kho img convert --secret id=key,file=passphrase -O qcow2 encrypted.qcow2 plain.qcow2",
    .args = convert_args,
    .args_bytes = sizeof(ConvertArgs),
    .json = TRUE,
    .run = run_convert,
};
