/* What a machine is: dominfo, domstate, domid, domuuid, domname, dumpxml, domblklist. */
#include "base/error.h"
#include "base/json.h"
#include "cli/domain.h"
#include "cli/output.h"

static void
print_info(const CliDomain *opened, const KhoDomainInfo *info)
{
    g_autofree char *state = cli_domain_state_text(&info->status);

    if (info->status.id >= 0)
        out_field("Id", "%d", info->status.id);
    else
        out_field("Id", "-");
    out_field("Name", "%s", opened->name);
    out_field("UUID", "%s", kho_domain_uuid(opened->domain));
    out_field("OS Type", "%s", info->os_type);
    out_field("State", "%s", state);
    out_field("CPU(s)", "%u", info->vcpus);
    if (info->status.id >= 0)
        out_field("CPU time", "%.1fs", (double) info->cpu_time_ns / 1e9);
    out_field("Max memory", "%" G_GUINT64_FORMAT " KiB", info->max_memory_kib);
    out_field("Used memory", "%" G_GUINT64_FORMAT " KiB", info->memory_kib);
    out_field("Persistent", "%s", info->persistent ? "yes" : "no");
    out_field("Autostart", "%s", info->autostart ? "enable" : "disable");
    out_field("Managed save", "%s", info->managed_save ? "yes" : "no");
    out_field("Security model", "none");
    out_field("Security DOI", "0");
    out_print("\n");
}

static void
print_info_json(const CliDomain *opened, const KhoDomainInfo *info)
{
    json_t *object = json_object();
    json_object_set_new(object, "name", json_from_bytes(opened->name));
    json_object_set_new(object, "uuid", json_from_bytes(kho_domain_uuid(opened->domain)));
    json_t *status = cli_domain_status_json(&info->status);
    json_object_update(object, status);
    json_decref(status);
    json_object_set_new(object, "os-type", json_from_bytes(info->os_type));
    json_object_set_new(object, "vcpus", json_integer(info->vcpus));
    json_object_set_new(object, "cpu-time-ns", json_integer((json_int_t) info->cpu_time_ns));
    json_object_set_new(object, "max-memory-kib", json_integer((json_int_t) info->max_memory_kib));
    json_object_set_new(object, "memory-kib", json_integer((json_int_t) info->memory_kib));
    json_object_set_new(object, "persistent", json_boolean(info->persistent));
    json_object_set_new(object, "autostart", json_boolean(info->autostart));
    json_object_set_new(object, "managed-save", json_boolean(info->managed_save));
    out_json(object);
}

static gboolean
run_dominfo(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_auto(KhoDomainInfo) info = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error) || !kho_domain_info(opened.domain, &info, error))
        return FALSE;
    if (cli->json)
        print_info_json(&opened, &info);
    else
        print_info(&opened, &info);
    return TRUE;
}

const CliVerb verb_dominfo = {
    .name = "dominfo",
    .noun = "domain",
    .summary = "show what a machine is and does",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .json = TRUE,
    .run = run_dominfo,
};

typedef struct {
    const char *domain;
    gboolean reason;
} DomstateArgs;

static const CliArg domstate_args[] = {
    CLI_DOMAIN_ARG(DomstateArgs),
    { CLI_FLAG, "--reason", offsetof(DomstateArgs, reason), "no", "also why it is in that state" },
    { 0 },
};

static gboolean
run_domstate(CliRun *cli, const void *p, GError **error)
{
    const DomstateArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_auto(KhoDomainStatus) status = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error) || !kho_domain_status(opened.domain, &status, error))
        return FALSE;
    if (cli->json) {
        out_json(cli_domain_status_json(&status));
        return TRUE;
    }
    if (a->reason)
        out_print("%s (%s)\n", kho_domain_state_word(status.state), status.reason);
    else
        out_print("%s\n", kho_domain_state_word(status.state));
    cli_domain_warn_unanswered(opened.name, &status);
    return TRUE;
}

const CliVerb verb_domstate = {
    .name = "domstate",
    .noun = "domain",
    .summary = "show a machine's state, and why it is in it",
    .description = "Where QEMU does not answer, the last known state is printed at once, and a warning on "
                   "standard error says since when.",
    .args = domstate_args,
    .args_bytes = sizeof(DomstateArgs),
    .json = TRUE,
    .run = run_domstate,
};

static gboolean
run_domid(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_auto(KhoDomainStatus) status = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error) || !kho_domain_status(opened.domain, &status, error))
        return FALSE;
    if (cli->json)
        out_json(json_pack("{s:o}", "id", status.id >= 0 ? json_integer(status.id) : json_null()));
    else if (status.id >= 0)
        out_print("%d\n", status.id);
    else
        out_print("-\n");
    return TRUE;
}

const CliVerb verb_domid = {
    .name = "domid",
    .noun = "domain",
    .summary = "print the id of a running machine, or -",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .json = TRUE,
    .run = run_domid,
};

static gboolean
run_domuuid(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    if (cli->json)
        out_json(json_pack("{s:s}", "uuid", kho_domain_uuid(opened.domain)));
    else
        out_print("%s\n", kho_domain_uuid(opened.domain));
    return TRUE;
}

const CliVerb verb_domuuid = {
    .name = "domuuid",
    .noun = "domain",
    .summary = "print a machine's uuid",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .json = TRUE,
    .run = run_domuuid,
};

static gboolean
run_domname(CliRun *cli, const void *p, GError **error)
{
    const DomainArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    if (cli->json)
        out_json(json_pack("{s:s}", "name", opened.name));
    else
        out_print("%s\n", opened.name);
    return TRUE;
}

const CliVerb verb_domname = {
    .name = "domname",
    .noun = "domain",
    .summary = "print the name of the machine with a uuid or id",
    .args = domain_only_args,
    .args_bytes = sizeof(DomainArgs),
    .json = TRUE,
    .run = run_domname,
};

typedef struct {
    const char *domain;
    gboolean inactive;
} DumpxmlArgs;

static const CliArg dumpxml_args[] = {
    CLI_DOMAIN_ARG(DumpxmlArgs),
    { CLI_FLAG, "--inactive", offsetof(DumpxmlArgs, inactive), "no",
      "the definition, also of a machine that runs" },
    { 0 },
};

static gboolean
run_dumpxml(CliRun *cli, const void *p, GError **error)
{
    const DumpxmlArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_auto(KhoDomainStatus) status = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *xml = kho_domain_xml(opened.domain, a->inactive, error);
    if (!xml)
        return FALSE;
    out_print("%s", xml);
    if (!a->inactive && kho_domain_status(opened.domain, &status, NULL))
        cli_domain_warn_unanswered(opened.name, &status);
    return TRUE;
}

const CliVerb verb_dumpxml = {
    .name = "dumpxml",
    .noun = "domain",
    .summary = "print a machine's XML: as it runs, or its definition",
    .args = dumpxml_args,
    .args_bytes = sizeof(DumpxmlArgs),
    .run = run_dumpxml,
};

typedef struct {
    const char *domain;
    gboolean inactive, details;
} BlklistArgs;

static const CliArg blklist_args[] = {
    CLI_DOMAIN_ARG(BlklistArgs),
    { CLI_FLAG, "--inactive", offsetof(BlklistArgs, inactive), "no",
      "of the definition, also of a machine that runs" },
    { CLI_FLAG, "--details", offsetof(BlklistArgs, details), "no", "columns for type and device" },
    { 0 },
};

static void
print_disks(const BlklistArgs *a, const GPtrArray *disks)
{
    g_autoptr(OutTable) table = a->details ? out_table_new("Type", "Device", "Target", "Source", NULL)
                                           : out_table_new("Target", "Source", NULL);

    for (guint i = 0; i < disks->len; i++) {
        const KhoDomainDisk *disk = disks->pdata[i];
        const char *cells[] = { disk->type, disk->device, disk->target, disk->source };
        out_table_row(table, a->details ? cells : cells + 2);
    }
    out_table_print(table);
}

static void
print_disks_json(const GPtrArray *disks)
{
    json_t *list = json_array();

    for (guint i = 0; i < disks->len; i++) {
        const KhoDomainDisk *disk = disks->pdata[i];
        json_t *object = json_object();
        json_object_set_new(object, "type", json_from_bytes(disk->type));
        json_object_set_new(object, "device", json_from_bytes(disk->device));
        json_object_set_new(object, "target", json_from_bytes(disk->target));
        json_object_set_new(object, "source", disk->source ? json_from_bytes(disk->source) : json_null());
        json_object_set_new(object, "format", disk->format ? json_from_bytes(disk->format) : json_null());
        json_object_set_new(object, "read-only", json_boolean(disk->read_only));
        json_array_append_new(list, object);
    }
    out_json(list);
}

static gboolean
run_domblklist(CliRun *cli, const void *p, GError **error)
{
    const BlklistArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autoptr(GPtrArray) disks = kho_domain_disks(opened.domain, a->inactive, error);
    if (!disks)
        return FALSE;
    if (cli->json)
        print_disks_json(disks);
    else
        print_disks(a, disks);
    return TRUE;
}

const CliVerb verb_domblklist = {
    .name = "domblklist",
    .noun = "domain",
    .summary = "list a machine's disks",
    .args = blklist_args,
    .args_bytes = sizeof(BlklistArgs),
    .json = TRUE,
    .run = run_domblklist,
};
