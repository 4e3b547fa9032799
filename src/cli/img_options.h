/* What the verbs on images share: qemu-img's -o lists, sizes with a sign, and its choice of output. */
#ifndef KHO_CLI_IMG_OPTIONS_H
#define KHO_CLI_IMG_OPTIONS_H

#include "cli/verb.h"

#include <kho/image.h>

/* Holds the strings that a KhoImageCreate points to. */
typedef struct {
    KhoImageCreate create;
    gboolean has_lazy_refcounts;   /* it was said */
    KhoImageEncryption encryption; /* create's, where the lists ask for it */
    GPtrArray *texts;              /* owned */
    GPtrArray *foreign;            /* owned, NULL-terminated: create.foreign_options */
} ImgOptions;

void img_options_init(ImgOptions *options, const char *format);
void img_options_clear(ImgOptions *options);

/* Reads -o lists ("cluster_size=64k,compat=1.1"; a comma within a value is doubled) into options->create.
 * KHO_ERROR_INVALID names the option or value that is wrong. */
gboolean img_options_read(ImgOptions *options, char *const *lists, GError **error);

/* Whether no snapshot of a machine of --root needs the file at @path as it is: for who is about to write it.
 * Where that tree cannot be had, no machine of it can have one. */
gboolean img_check_writable(const CliRun *cli, const char *path, GError **error);

/* Whether no machine of --root has saved its memory and goes on from it with the file at @path as it is: for
 * who is about to write it. The error says that --force does it all the same. */
gboolean img_check_unsaved(const CliRun *cli, const char *path, GError **error);

/* Whether what is read through the image at @path stays what it is: no delete of a snapshot changes it. */
gboolean img_check_readable(const CliRun *cli, const char *path, const char *format, GError **error);
/* The same for the backing file that an image at @path shall name; TRUE where it shall name none. */
gboolean img_check_backing(const CliRun *cli, const char *path, const KhoImageCreate *create, GError **error);
/* Asks again now that the image stands at @path, where a delete that begins later sees it: it is removed
 * where one that began before changes or removed what is under it. */
gboolean img_keep_sound(const CliRun *cli, const char *path, const KhoImageCreate *create, GError **error);

/* "off", "metadata", "falloc", "full". */
gboolean img_prealloc_parse(const char *text, KhoPrealloc *prealloc, GError **error);

/* "10G", "+1G", "-1G" over @now_bytes. */
gboolean img_size_parse(const char *text, guint64 now_bytes, guint64 *bytes, GError **error);

/* What images may be of, and may be made of, beside whatever QEMU tells by itself. */
#define IMG_FORMATS      "qcow2|raw|luks|vmdk|vdi|vhdx|vpc|qed|parallels|qcow|bochs|cloop|dmg"
#define IMG_FORMATS_MADE "qcow2|raw|luks|vmdk|vdi|vhdx|vpc|qed|parallels|qcow"

#define IMG_OUTPUT_ARG(type)                                                                                 \
    {                                                                                                        \
        CLI_CHOICE, "--output", offsetof(type, output), "human", "human or json", .choices = "human|json"    \
    }

#define IMG_SECRET_ARG(type)                                                                                 \
    {                                                                                                        \
        CLI_STRV, "--secret", offsetof(type, secrets), CLI_OPTIONAL,                                         \
            "id=NAME,file=PATH: the passphrase of an encrypted image, as it stands in that file"             \
    }

/* What the --secret options give; NULL with the error. */
KhoSecrets *img_secrets_read(char *const *lists, GError **error);

static inline gboolean
img_wants_json(const CliRun *cli, const char *output)
{
    return cli->json || g_str_equal(output, "json");
}

#endif
