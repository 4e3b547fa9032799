/* attach-disk, detach-disk. */
#include "base/error.h"
#include "base/xml.h"
#include "cli/domain.h"
#include "cli/output.h"

#include <kho/image.h>
#include <string.h>

/* Where the change is to be made, as virsh words it. */
typedef struct {
    gboolean live, config, persistent, current;
} Where;

#define WHERE_ARGS(Args)                                                                                     \
    { CLI_FLAG, "--live", offsetof(Args, where.live), "no", "change the machine that runs" },                \
        { CLI_FLAG, "--config", offsetof(Args, where.config), "no",                                          \
          "change the definition: from the next start on" },                                                 \
        { CLI_FLAG, "--persistent", offsetof(Args, where.persistent), "no",                                  \
          "--config, and --live where it runs" },                                                            \
    {                                                                                                        \
        CLI_FLAG, "--current", offsetof(Args, where.current), "no",                                          \
            "the machine that runs, or else the definition (without any of these, too)"                      \
    }

typedef struct {
    const char *domain, *source, *target, *bus, *driver, *subdriver, *cache, *io, *serial, *wwn, *type, *mode;
    gboolean print_xml;
    Where where;
} AttachArgs;

static const CliArg attach_args[] = {
    CLI_DOMAIN_ARG(AttachArgs),
    { CLI_STR, "SOURCE", offsetof(AttachArgs, source), NULL, "the image", .object = CLI_FILE },
    { CLI_STR, "TARGET", offsetof(AttachArgs, target), NULL, "what the guest sees: vdb, sda" },
    { CLI_CHOICE, "--targetbus", offsetof(AttachArgs, bus), CLI_OPTIONAL,
      "the bus; by the target where not given", .choices = "virtio|scsi|ide|sata|usb" },
    { CLI_STR, "--driver", offsetof(AttachArgs, driver), "qemu", "the driver's name", .hidden = TRUE },
    { CLI_CHOICE, "--subdriver", offsetof(AttachArgs, subdriver), CLI_OPTIONAL,
      "the image's format; read from an image that no guest has written where not given",
      .choices = "raw|qcow2" },
    { CLI_CHOICE, "--cache", offsetof(AttachArgs, cache), CLI_OPTIONAL, "how the host caches it",
      .choices = "default|none|writethrough|writeback|directsync|unsafe" },
    { CLI_CHOICE, "--io", offsetof(AttachArgs, io), CLI_OPTIONAL, "how QEMU reads and writes it",
      .choices = "threads|native|io_uring" },
    { CLI_STR, "--serial", offsetof(AttachArgs, serial), CLI_OPTIONAL,
      "the serial number that the guest sees" },
    { CLI_STR, "--wwn", offsetof(AttachArgs, wwn), CLI_OPTIONAL, "its world-wide name" },
    { CLI_CHOICE, "--type", offsetof(AttachArgs, type), CLI_OPTIONAL, "what it is", .choices = "disk|cdrom" },
    { CLI_CHOICE, "--mode", offsetof(AttachArgs, mode), CLI_OPTIONAL, "how it may be used",
      .choices = "readonly|shareable" },
    WHERE_ARGS(AttachArgs),
    { CLI_FLAG, "--print-xml", offsetof(AttachArgs, print_xml), "no", "print the <disk> and change nothing" },
    { 0 },
};

static void
add_attr(XmlWriter *w, const char *name, const char *value)
{
    if (value)
        xml_writer_attr(w, NULL, name, value);
}

static void
add_text(XmlWriter *w, const char *element, const char *text)
{
    if (!text)
        return;
    xml_writer_open(w, NULL, element);
    xml_writer_close(w, NULL, element, text);
}

static gboolean
check_words(const AttachArgs *a, GError **error)
{
    const char *const words[] = { a->source, a->target, a->serial, a->wwn };

    for (gsize i = 0; i < G_N_ELEMENTS(words); i++)
        if (words[i] && !xml_can_say(words[i]))
            return fail(error, KHO_ERROR_INVALID,
                        "\"%s\" has bytes that no definition can hold: rename the file, or leave them out",
                        words[i]);
    return TRUE;
}

static char *
disk_xml(const AttachArgs *a, const char *format)
{
    g_autofree char *path = g_canonicalize_filename(a->source, NULL);
    XmlWriter w;

    xml_writer_init(&w);
    xml_writer_open(&w, NULL, "disk");
    add_attr(&w, "type", "file");
    add_attr(&w, "device", a->type ? a->type : "disk");
    xml_writer_open(&w, NULL, "driver");
    add_attr(&w, "name", "qemu");
    add_attr(&w, "type", format);
    add_attr(&w, "cache", a->cache);
    add_attr(&w, "io", a->io);
    xml_writer_close(&w, NULL, "driver", NULL);
    xml_writer_open(&w, NULL, "source");
    add_attr(&w, "file", path);
    xml_writer_close(&w, NULL, "source", NULL);
    xml_writer_open(&w, NULL, "target");
    add_attr(&w, "dev", a->target);
    add_attr(&w, "bus", a->bus);
    xml_writer_close(&w, NULL, "target", NULL);
    if (g_strcmp0(a->mode, "readonly") == 0)
        add_text(&w, "readonly", "");
    if (g_strcmp0(a->mode, "shareable") == 0)
        add_text(&w, "shareable", "");
    add_text(&w, "serial", a->serial);
    add_text(&w, "wwn", a->wwn);
    xml_writer_close(&w, NULL, "disk", NULL);
    return xml_writer_finish(&w);
}

/* --persistent is --config, and --live where the machine runs. */
static gboolean
find_affect(const CliDomain *opened, const Where *where, KhoAffect *affect, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    gboolean live = where->live, config = where->config || where->persistent;

    if (where->current && (live || config))
        return fail(error, KHO_ERROR_INVALID, "--current goes without --live, --config and --persistent");
    if (where->persistent) {
        if (!kho_domain_status(opened->domain, &status, error))
            return FALSE;
        live = live || status.state != KHO_DOMAIN_SHUTOFF;
    }
    *affect = (KhoAffect) ((live ? KHO_AFFECT_LIVE : 0) | (config ? KHO_AFFECT_CONFIG : 0));
    return TRUE;
}

/* The format that the image is opened with. What a guest can write decides nothing by itself: a qcow2 header
 * counts where the name that a person gave the file says qcow2 too. */
static const char *
find_format(const AttachArgs *a, GError **error)
{
    KhoImageInfo info = { 0 };

    if (a->subdriver)
        return a->subdriver;
    if (!kho_image_info(a->source, NULL, &info, error))
        return NULL;
    const char *format = strcmp(info.format, "raw") == 0 ? "raw" : "qcow2";
    kho_image_info_clear(&info);
    if (strcmp(format, "raw") == 0 || g_str_has_suffix(a->source, ".qcow2"))
        return format;
    fail(error, KHO_ERROR_INVALID,
         "%s begins as a qcow2 image does, which a guest could have written: say --subdriver qcow2, or "
         "--subdriver raw",
         a->source);
    return NULL;
}

static gboolean
run_attach_disk(CliRun *cli, const void *p, GError **error)
{
    const AttachArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    KhoAffect affect;

    if (!cli_domain_open(cli, a->domain, &opened, error) || !find_affect(&opened, &a->where, &affect, error))
        return FALSE;
    const char *format = check_words(a, error) ? find_format(a, error) : NULL;
    if (!format)
        return FALSE;
    g_autofree char *xml = disk_xml(a, format);
    if (a->print_xml) {
        out_print("%s", xml);
        return TRUE;
    }
    if (!kho_domain_attach_disk(opened.domain, xml, affect, cli->job, error))
        return FALSE;
    out_done(cli, "Disk attached successfully");
    return TRUE;
}

const CliVerb verb_attach_disk = {
    .name = "attach-disk",
    .noun = "domain",
    .summary = "plug a disk into a machine",
    .description = "Into the machine that runs, into its definition, or into both at once: all or nothing.",
    .examples = "kho attach-disk web1 /vmdisks/data.qcow2 vdb --live --config",
    .args = attach_args,
    .args_bytes = sizeof(AttachArgs),
    .run = run_attach_disk,
};

typedef struct {
    const char *domain, *target;
    Where where;
} DetachArgs;

static const CliArg detach_args[] = {
    CLI_DOMAIN_ARG(DetachArgs),
    { CLI_STR, "TARGET", offsetof(DetachArgs, target), NULL, "the disk: vdb, or its file" },
    WHERE_ARGS(DetachArgs),
    { 0 },
};

static gboolean
run_detach_disk(CliRun *cli, const void *p, GError **error)
{
    const DetachArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    KhoAffect affect;

    if (!cli_domain_open(cli, a->domain, &opened, error) || !find_affect(&opened, &a->where, &affect, error)
        || !kho_domain_detach_disk(opened.domain, a->target, affect, cli->job, error))
        return FALSE;
    out_done(cli, "Disk detached successfully");
    return TRUE;
}

const CliVerb verb_detach_disk = {
    .name = "detach-disk",
    .noun = "domain",
    .summary = "take a disk out of a machine",
    .description =
        "Out of the machine that runs, of its definition, or of both at once: all or nothing. The "
        "guest's operating system must let go of it. One that does so after the command has given up "
        "loses the disk then; the definition keeps it until the command is given again.",
    .examples = "kho detach-disk web1 vdb --live --config",
    .args = detach_args,
    .args_bytes = sizeof(DetachArgs),
    .run = run_detach_disk,
};
