/* kho img key-add, kho img key-remove. */
#include "cli/img_options.h"
#include "cli/output.h"

#include "base/num.h"

#include <kho/image_keys.h>

typedef struct {
    const char *path, *secret, *slot;
    char **secrets;
    guint64 iter_time_ms;
    gboolean force;
} KeyArgs;

static const CliArg add_args[] = {
    { CLI_STR, "FILE", offsetof(KeyArgs, path), NULL, "encrypted image, or LUKS volume", .object = CLI_FILE },
    IMG_SECRET_ARG(KeyArgs),
    { CLI_STR, "--new", offsetof(KeyArgs, secret), NULL,
      "NAME of the secret that shall open the image, too" },
    { CLI_STR, "--slot", offsetof(KeyArgs, slot), CLI_OPTIONAL,
      "key slot to use, 0 to 7; otherwise a free one" },
    { CLI_UINT, "--iter-time", offsetof(KeyArgs, iter_time_ms), "2000",
      "how many milliseconds a try of the passphrase takes on this machine", .max = G_MAXUINT32 },
    { CLI_FLAG, "--force", offsetof(KeyArgs, force), "no", "replace the passphrase in the slot" },
    { 0 },
};

static const CliArg remove_args[] = {
    { CLI_STR, "FILE", offsetof(KeyArgs, path), NULL, "encrypted image, or LUKS volume", .object = CLI_FILE },
    IMG_SECRET_ARG(KeyArgs),
    { CLI_STR, "--old", offsetof(KeyArgs, secret), CLI_OPTIONAL,
      "NAME of the secret that shall open the image no more" },
    { CLI_STR, "--slot", offsetof(KeyArgs, slot), CLI_OPTIONAL, "key slot to empty, 0 to 7" },
    { CLI_FLAG, "--force", offsetof(KeyArgs, force), "no",
      "also the last passphrase: nothing will ever read the disk again" },
    { 0 },
};

static gboolean
change(const CliRun *cli, const KeyArgs *a, KhoImageKeyChange *what, GError **error)
{
    g_autoptr(KhoSecrets) secrets = img_secrets_read(a->secrets, error);
    const KhoImageSource source = { .path = a->path, .secrets = secrets };
    guint64 slot;

    if (!secrets || !img_check_writable(cli, a->path, error) || !img_check_unsaved(cli, a->path, error)
        || (a->slot && !num_parse_uint(a->slot, G_MAXINT32, "--slot", &slot, error)))
        return FALSE;
    what->slot = a->slot ? (gint64) slot : KHO_IMAGE_ANY_KEY_SLOT;
    what->force = a->force;
    if (kho_image_change_keys(&source, what, error))
        return TRUE;
    g_prefix_error(error, "%s: ", a->path);
    return FALSE;
}

static gboolean
run_add(CliRun *cli, const void *p, GError **error)
{
    const KeyArgs *a = p;
    KhoImageKeyChange what = { .add = TRUE,
                               .new_secret = a->secret,
                               .iter_time_ms = MAX(a->iter_time_ms, 1) };

    if (!change(cli, a, &what, error))
        return FALSE;
    out_done(cli, "%s opens with the secret %s, too", a->path, a->secret);
    return TRUE;
}

static gboolean
run_remove(CliRun *cli, const void *p, GError **error)
{
    const KeyArgs *a = p;
    KhoImageKeyChange what = { .old_secret = a->secret };

    if (!change(cli, a, &what, error))
        return FALSE;
    out_done(cli, "Removed from %s: %s%s", a->path, a->slot ? "key slot " : "the passphrase ",
             a->slot ? a->slot : a->secret);
    return TRUE;
}

const CliVerb verb_img_key_add = {
    .name = "img-key-add",
    .noun = "img",
    .summary = "give an encrypted image another passphrase",
    .description =
        "One of the secrets must open the image. A crash leaves the image with the new passphrase or "
        "without it; the old ones stay.",
    .examples = "kho img key-add --secret id=old,file=a --secret id=new,file=b --new new disk.qcow2",
    .args = add_args,
    .args_bytes = sizeof(KeyArgs),
    .run = run_add,
};

const CliVerb verb_img_key_remove = {
    .name = "img-key-remove",
    .noun = "img",
    .summary = "take a passphrase away from an encrypted image",
    .description =
        "Every slot that the secret opens is emptied, or the slot that is named. The last one is kept "
        "unless --force says otherwise.",
    .examples = "kho img key-remove --secret id=old,file=a --old old disk.qcow2\n"
                "kho img key-remove --slot 3 disk.qcow2",
    .args = remove_args,
    .args_bytes = sizeof(KeyArgs),
    .run = run_remove,
};
