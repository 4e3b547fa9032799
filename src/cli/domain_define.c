/* define, undefine, autostart. */
#include "base/error.h"
#include "cli/domain.h"
#include "cli/output.h"
#include "cli/text.h"

#include <kho/snapshot.h>

typedef struct {
    const char *file;
    gboolean validate;
} DefineArgs;

static const CliArg define_args[] = {
    { CLI_STR, "FILE", offsetof(DefineArgs, file), NULL, "XML file; - reads standard input",
      .object = CLI_FILE },
    { CLI_FLAG, "--validate", offsetof(DefineArgs, validate), "no",
      "refuse elements that kho does not know" },
    { 0 },
};

static gboolean
run_define(CliRun *cli, const void *p, GError **error)
{
    const DefineArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    g_autoptr(GPtrArray) unknown = NULL;
    g_autoptr(GError) closed = NULL;
    g_auto(CliText) xml = { 0 };

    if (!host || !cli_text_read(cli, a->file, &xml, error))
        return FALSE;
    KhoDomainDefineOptions options = { .refuse_unknown = a->validate };
    g_autoptr(KhoDomain) domain = kho_domain_define(host, xml.text, xml.len, &options, &unknown, error);
    if (!domain)
        return cli_text_blame(&xml, error);
    for (guint i = 0; unknown && i < unknown->len; i++)
        out_warning("%s: %s is kept, but kho does not know it", xml.label, (const char *) unknown->pdata[i]);
    if (!kho_snapshot_check_disks(domain, &closed) && g_error_matches(closed, KHO_ERROR, KHO_ERROR_BUSY))
        out_warning("it will not start so: %s", closed->message);
    out_done(cli, "Domain '%s' defined from %s", kho_domain_name(domain), xml.label);
    return TRUE;
}

const CliVerb verb_define = {
    .name = "define",
    .noun = "domain",
    .summary = "make or replace a machine's definition from XML",
    .description = "The XML is libvirt's. What it leaves out (uuid, MAC addresses, ...) is filled in. A "
                   "machine that runs goes on as it "
                   "is; the new definition counts from its next start. Elements that kho does not know are "
                   "kept, with a warning.",
    .examples =
        "kho define web1.xml\nkho dumpxml web1 | sed 's/web1/web2/; /<uuid>/d; /<mac /d' | kho define -",
    .args = define_args,
    .args_bytes = sizeof(DefineArgs),
    .run = run_define,
};

typedef struct {
    const char *domain;
    gboolean snapshots_metadata, managed_save;
} UndefineArgs;

static const CliArg undefine_args[] = {
    CLI_DOMAIN_ARG(UndefineArgs),
    { CLI_FLAG, "--snapshots-metadata", offsetof(UndefineArgs, snapshots_metadata), "no",
      "forget its snapshots, too; their images stay" },
    { CLI_FLAG, "--managed-save", offsetof(UndefineArgs, managed_save), "no",
      "remove its managed save, too" },
    { 0 },
};

/* Also one whose definition is damaged. */
static gboolean
open_to_undefine(const CliRun *cli, const char *which, CliDomain *opened, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (cli_domain_open(cli, which, opened, &why))
        return TRUE;
    g_autoptr(KhoHost) host =
        g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT) ? cli_host_open(cli, NULL) : NULL;
    KhoDomain *domain = host ? kho_domain_lookup_damaged(host, which, NULL) : NULL;
    if (!domain) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    *opened =
        (CliDomain){ .host = g_steal_pointer(&host), .domain = domain, .name = kho_domain_name(domain) };
    return TRUE;
}

static gboolean
run_undefine(CliRun *cli, const void *p, GError **error)
{
    const UndefineArgs *a = p;
    KhoUndefineFlags flags = (a->snapshots_metadata ? KHO_UNDEFINE_SNAPSHOTS_METADATA : 0)
                             | (a->managed_save ? KHO_UNDEFINE_MANAGED_SAVE : 0);
    g_auto(CliDomain) opened = { 0 };

    if (!open_to_undefine(cli, a->domain, &opened, error)
        || !kho_domain_undefine(opened.domain, flags, error))
        return FALSE;
    out_done(cli, "Domain '%s' has been undefined", opened.name);
    return TRUE;
}

const CliVerb verb_undefine = {
    .name = "undefine",
    .noun = "domain",
    .summary = "remove a machine's definition, never its disks",
    .description =
        "A machine that runs goes on running, and is gone when it ends. One that has snapshots is "
        "refused, unless --snapshots-metadata says that they are to be forgotten; so is one that has a "
        "managed save, unless --managed-save says that it goes as well.",
    .args = undefine_args,
    .args_bytes = sizeof(UndefineArgs),
    .run = run_undefine,
};

typedef struct {
    const char *domain;
    gboolean disable;
} AutostartArgs;

static const CliArg autostart_args[] = {
    CLI_DOMAIN_ARG(AutostartArgs),
    { CLI_FLAG, "--disable", offsetof(AutostartArgs, disable), "no", "do not start it with the host" },
    { 0 },
};

static gboolean
run_autostart(CliRun *cli, const void *p, GError **error)
{
    const AutostartArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error)
        || !kho_domain_set_autostart(opened.domain, !a->disable, error))
        return FALSE;
    out_done(cli, "Domain '%s' %smarked as autostarted", opened.name, a->disable ? "un" : "");
    return TRUE;
}

const CliVerb verb_autostart = {
    .name = "autostart",
    .noun = "domain",
    .summary = "mark a machine to be started with the host",
    .args = autostart_args,
    .args_bytes = sizeof(AutostartArgs),
    .run = run_autostart,
};
