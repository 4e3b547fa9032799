/* snapshot-info, snapshot-dumpxml, snapshot-current, snapshot-parent; and what all verbs on snapshots share.
 */
#include "base/error.h"
#include "base/json.h"
#include "cli/output.h"
#include "cli/snapshot.h"

const CliArg snapshot_only_args[] = {
    CLI_DOMAIN_ARG(SnapshotArgs),
    CLI_SNAPSHOT_ARG(SnapshotArgs),
    CLI_CURRENT_ARG(SnapshotArgs),
    { 0 },
};

char *
cli_snapshot_name(KhoDomain *domain, const char *given, gboolean current, GError **error)
{
    if (given && current)
        fail(error, KHO_ERROR_INVALID, "--current does not go with the name of a snapshot ('%s')", given);
    else if (!given && !current)
        fail(error, KHO_ERROR_INVALID, "which snapshot? Give its name, or --current");
    else
        return given ? g_strdup(given) : kho_snapshot_current(domain, error);
    return NULL;
}

const char *
cli_snapshot_state(const KhoSnapshot *snapshot)
{
    return snapshot->deleting ? "deleting" : snapshot->state;
}

static json_t *
string_or_null(const char *text)
{
    return text ? json_from_bytes(text) : json_null();
}

json_t *
cli_snapshot_json(const KhoSnapshot *snapshot)
{
    json_t *object = json_object(), *disks = json_array();

    json_object_set_new(object, "name", json_from_bytes(snapshot->name));
    json_object_set_new(object, "description", string_or_null(snapshot->description));
    json_object_set_new(object, "state", json_from_bytes(snapshot->state));
    json_object_set_new(object, "created-s",
                        snapshot->created_s ? json_integer(snapshot->created_s) : json_null());
    json_object_set_new(object, "parent", string_or_null(snapshot->parent));
    json_object_set_new(object, "current", json_boolean(snapshot->current));
    json_object_set_new(object, "deleting", json_boolean(snapshot->deleting));
    json_object_set_new(object, "children", json_integer(snapshot->children));
    json_object_set_new(object, "descendants", json_integer(snapshot->descendants));
    json_object_set_new(object, "memory-file", string_or_null(snapshot->memory_file));
    json_object_set_new(object, "pause-ms",
                        snapshot->pause_ms >= 0 ? json_integer(snapshot->pause_ms) : json_null());
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const KhoSnapshotDisk *from = snapshot->disks->pdata[i];
        json_t *disk = json_object();
        json_object_set_new(disk, "target", json_from_bytes(from->target));
        json_object_set_new(disk, "file", json_from_bytes(from->file));
        json_object_set_new(disk, "format", json_from_bytes(from->format));
        json_array_append_new(disks, disk);
    }
    json_object_set_new(object, "disks", disks);
    return object;
}

/* The machine and the snapshot that @args name. */
static KhoSnapshot *
open_snapshot(CliRun *cli, const SnapshotArgs *a, CliDomain *opened, GError **error)
{
    if (!cli_domain_open(cli, a->domain, opened, error))
        return NULL;
    g_autofree char *name = cli_snapshot_name(opened->domain, a->snapshot, a->current, error);
    return name ? kho_snapshot_info(opened->domain, name, error) : NULL;
}

static gboolean
run_info(CliRun *cli, const void *p, GError **error)
{
    g_auto(CliDomain) opened = { 0 };
    g_autoptr(KhoSnapshot) snapshot = open_snapshot(cli, p, &opened, error);

    if (!snapshot)
        return FALSE;
    if (cli->json) {
        out_json(cli_snapshot_json(snapshot));
        return TRUE;
    }
    out_field("Name", "%s", snapshot->name);
    out_field("Domain", "%s", opened.name);
    out_field("Current", "%s", snapshot->current ? "yes" : "no");
    out_field("State", "%s", cli_snapshot_state(snapshot));
    out_field("Location", "external");
    out_field("Parent", "%s", snapshot->parent ? snapshot->parent : "-");
    out_field("Children", "%u", snapshot->children);
    out_field("Descendants", "%u", snapshot->descendants);
    out_field("Metadata", "yes");
    for (guint i = 0; i < snapshot->disks->len; i++) {
        const KhoSnapshotDisk *disk = snapshot->disks->pdata[i];
        out_field("Disk", "%s %s", disk->target, disk->file);
    }
    if (snapshot->memory_file)
        out_field("Memory", "%s", snapshot->memory_file);
    if (snapshot->pause_ms >= 0)
        out_field("Pause", "%" G_GINT64_FORMAT " ms", snapshot->pause_ms);
    return TRUE;
}

const CliVerb verb_snapshot_info = {
    .name = "snapshot-info",
    .noun = "snapshot",
    .summary = "what is known of a snapshot",
    .description = "The state `deleting` says that deleting it was interrupted after the first write: "
                   "`kho snapshot-delete` goes on, and nothing else can be done with it.",
    .args = snapshot_only_args,
    .args_bytes = sizeof(SnapshotArgs),
    .json = TRUE,
    .run = run_info,
};

static gboolean
run_dumpxml(CliRun *cli, const void *p, GError **error)
{
    const SnapshotArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *name = cli_snapshot_name(opened.domain, a->snapshot, a->current, error);
    g_autofree char *xml = name ? kho_snapshot_xml(opened.domain, name, error) : NULL;
    if (xml)
        out_print("%s", xml);
    return xml != NULL;
}

const CliVerb verb_snapshot_dumpxml = {
    .name = "snapshot-dumpxml",
    .noun = "snapshot",
    .summary = "a snapshot as XML",
    .description =
        "libvirt's <domainsnapshot>; the files that the snapshot closed stand in an element of kho's own.",
    .args = snapshot_only_args,
    .args_bytes = sizeof(SnapshotArgs),
    .run = run_dumpxml,
};

typedef struct {
    const char *domain;
    gboolean name;
} CurrentArgs;

static const CliArg current_args[] = {
    CLI_DOMAIN_ARG(CurrentArgs),
    { CLI_FLAG, "--name", offsetof(CurrentArgs, name), "no", "its name instead of its XML" },
    { 0 },
};

static gboolean
run_current(CliRun *cli, const void *p, GError **error)
{
    const CurrentArgs *a = p;
    g_auto(CliDomain) opened = { 0 };

    if (!cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autofree char *name = kho_snapshot_current(opened.domain, error);
    if (name && cli->json) {
        g_autoptr(KhoSnapshot) snapshot = kho_snapshot_info(opened.domain, name, error);
        if (snapshot)
            out_json(cli_snapshot_json(snapshot));
        return snapshot != NULL;
    }
    if (name && a->name) {
        out_print("%s\n", name);
        return TRUE;
    }
    g_autofree char *xml = name ? kho_snapshot_xml(opened.domain, name, error) : NULL;
    if (xml)
        out_print("%s", xml);
    return xml != NULL;
}

const CliVerb verb_snapshot_current = {
    .name = "snapshot-current",
    .noun = "snapshot",
    .summary = "the snapshot that a machine goes on from",
    .description = "It is the one that was taken last, or gone back to since.",
    .args = current_args,
    .args_bytes = sizeof(CurrentArgs),
    .json = TRUE,
    .run = run_current,
};

static gboolean
run_parent(CliRun *cli, const void *p, GError **error)
{
    g_auto(CliDomain) opened = { 0 };
    g_autoptr(KhoSnapshot) snapshot = open_snapshot(cli, p, &opened, error);

    if (!snapshot)
        return FALSE;
    if (!snapshot->parent)
        return fail(error, KHO_ERROR_NOT_FOUND, "snapshot '%s' of machine '%s' has no parent", snapshot->name,
                    opened.name);
    if (cli->json)
        out_json(json_pack("{s:s}", "name", snapshot->parent));
    else
        out_print("%s\n", snapshot->parent);
    return TRUE;
}

const CliVerb verb_snapshot_parent = {
    .name = "snapshot-parent",
    .noun = "snapshot",
    .summary = "the name of the snapshot that another one followed",
    .args = snapshot_only_args,
    .args_bytes = sizeof(SnapshotArgs),
    .json = TRUE,
    .run = run_parent,
};
