/* kho img create. */
#include "cli/img_options.h"
#include "cli/img_plan.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/num.h"

typedef struct {
    const char *path, *size, *format, *backing_file, *backing_format;
    char **options, **secrets;
    gboolean force, plan;
} CreateArgs;

static const CliArg create_args[] = {
    { CLI_STR, "FILE", offsetof(CreateArgs, path), NULL, "image to create", .object = CLI_FILE },
    { CLI_STR, "SIZE", offsetof(CreateArgs, size), CLI_OPTIONAL,
      "virtual size: bytes, or 10G, 512M; the backing file's where there is one" },
    { CLI_CHOICE, "--format", offsetof(CreateArgs, format), "raw", "its format", 'f',
      .choices = IMG_FORMATS_MADE },
    { CLI_STRV, "--options", offsetof(CreateArgs, options), CLI_OPTIONAL,
      "NAME=VALUE[,NAME=VALUE...]: cluster_size, refcount_bits, compat, lazy_refcounts, extended_l2, "
      "data_file, data_file_raw, preallocation, compression_type, backing_file, backing_fmt, size; "
      "encrypt.format=luks with encrypt.key-secret, cipher-alg, "
      "cipher-mode, ivgen-alg, ivgen-hash-alg, hash-alg, iter-time (of the format luks without encrypt.); "
      "those of a format that QEMU writes for kho are qemu-img's",
      'o' },
    { CLI_STR, "--backing", offsetof(CreateArgs, backing_file), CLI_OPTIONAL,
      "backing file, as the header shall name it: relative to the image's folder", 'b', .object = CLI_FILE },
    { CLI_CHOICE, "--backing-format", offsetof(CreateArgs, backing_format), CLI_OPTIONAL, "its format", 'F',
      .choices = IMG_FORMATS },
    IMG_SECRET_ARG(CreateArgs),
    { CLI_FLAG, "--force", offsetof(CreateArgs, force), "no", "replace the file that stands there" },
    IMG_PLAN_ARG(CreateArgs),
    { 0 },
};

static gboolean
read_args(const CreateArgs *a, ImgOptions *options, GError **error)
{
    KhoImageCreate *create = &options->create;

    if (!img_options_read(options, a->options, error)
        || (a->size && !num_parse_size(a->size, 1, &create->size_bytes, error)))
        return FALSE;
    if (a->backing_file)
        create->backing_file = a->backing_file;
    if (a->backing_format)
        create->backing_format = a->backing_format;
    create->overwrite = a->force;
    if (!a->size && create->size_bytes == 0 && !create->backing_file)
        return fail(error, KHO_ERROR_INVALID, "%s needs a size", a->path);
    return TRUE;
}

static gboolean
run_create(CliRun *cli, const void *p, GError **error)
{
    const CreateArgs *a = p;
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    g_auto(KhoImagePlan) plan = { 0 };
    ImgOptions options;

    if (!secrets || !img_plan_check(cli, a->plan, error))
        return FALSE;
    img_options_init(&options, a->format);
    options.create.secrets = secrets;
    options.create.plan = a->plan ? &plan : NULL;
    gboolean done = read_args(a, &options, error) && (!a->force || img_check_writable(cli, a->path, error))
                    && img_check_backing(cli, a->path, &options.create, error)
                    && kho_image_create(a->path, &options.create, &kho_image_gate_open, cli->job, error)
                    && (a->plan || img_keep_sound(cli, a->path, &options.create, error));
    if (a->plan)
        img_plan_tell(cli, &plan, done);
    else if (done)
        out_done(cli, "Created %s, format %s", a->path, a->format);
    img_options_clear(&options);
    return done;
}

const CliVerb verb_img_create = {
    .name = "img-create",
    .noun = "img",
    .summary = "make an empty disk image",
    .description =
        "The image is made beside its place and appears there when it is whole: a failure, a cancel or a "
        "kill leaves nothing. With falloc or full preallocation, space that is not there is refused first.",
    .examples = "kho img create -f qcow2 disk.qcow2 10G\n"
                "kho img create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2\n"
                "kho img create -f raw -o preallocation=falloc disk.raw 10G\n"
                "kho img create --secret id=key,file=passphrase -f qcow2 -o "
                "encrypt.format=luks,encrypt.key-secret=key "
                "safe.qcow2 10G\n"
                "kho img create --secret id=key,file=passphrase -f luks -o key-secret=key volume.luks 10G",
    .args = create_args,
    .args_bytes = sizeof(CreateArgs),
    .json = TRUE,
    .run = run_create,
};
