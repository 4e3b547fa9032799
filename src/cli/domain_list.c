/* list. */
#include "base/error.h"
#include "base/json.h"
#include "cli/domain.h"
#include "cli/output.h"

#include <string.h>

typedef struct {
    gboolean all, inactive, names, uuids, ids, title, table;
    gboolean running, paused, shutoff, other;
    gboolean persistent, transient, autostart, no_autostart;
    gboolean with_save, without_save, managed_save;
} ListArgs;

static const CliArg list_args[] = {
    { CLI_FLAG, "--all", offsetof(ListArgs, all), "no", "those that do not run as well" },
    { CLI_FLAG, "--inactive", offsetof(ListArgs, inactive), "no", "only those that do not run" },
    { CLI_FLAG, "--name", offsetof(ListArgs, names), "no", "names only, one a line" },
    { CLI_FLAG, "--uuid", offsetof(ListArgs, uuids), "no", "uuids only, or with --name beside them" },
    { CLI_FLAG, "--id", offsetof(ListArgs, ids), "no", "ids only" },
    { CLI_FLAG, "--title", offsetof(ListArgs, title), "no", "a column with the title" },
    { CLI_FLAG, "--table", offsetof(ListArgs, table), "no", "the table, which is what is printed anyway" },
    { CLI_FLAG, "--state-running", offsetof(ListArgs, running), "no", "those that are running" },
    { CLI_FLAG, "--state-paused", offsetof(ListArgs, paused), "no", "those that are paused" },
    { CLI_FLAG, "--state-shutoff", offsetof(ListArgs, shutoff), "no", "those that are shut off" },
    { CLI_FLAG, "--state-other", offsetof(ListArgs, other), "no", "those in any other state" },
    { CLI_FLAG, "--persistent", offsetof(ListArgs, persistent), "no", "those with a definition" },
    { CLI_FLAG, "--transient", offsetof(ListArgs, transient), "no", "those without a definition" },
    { CLI_FLAG, "--autostart", offsetof(ListArgs, autostart), "no", "those marked for autostart" },
    { CLI_FLAG, "--no-autostart", offsetof(ListArgs, no_autostart), "no", "those not marked for autostart" },
    { CLI_FLAG, "--with-managed-save", offsetof(ListArgs, with_save), "no",
      "those that have a managed save" },
    { CLI_FLAG, "--without-managed-save", offsetof(ListArgs, without_save), "no", "those that have none" },
    { CLI_FLAG, "--managed-save", offsetof(ListArgs, managed_save), "no",
      "the state of those that have a managed save is shown as saved" },
    { 0 },
};

/* Filters of one group add up; groups narrow each other, as virsh's do. */
static gboolean
wanted(const ListArgs *a, const KhoDomainEntry *entry)
{
    KhoDomainState state = entry->status.state;
    gboolean any_state = !a->running && !a->paused && !a->shutoff && !a->other;
    gboolean of_state = state == KHO_DOMAIN_RUNNING   ? a->running
                        : state == KHO_DOMAIN_PAUSED  ? a->paused
                        : state == KHO_DOMAIN_SHUTOFF ? a->shutoff
                                                      : a->other;

    return (any_state || of_state) && (a->persistent == a->transient || a->persistent == entry->persistent)
           && (a->autostart == a->no_autostart || a->autostart == entry->autostart)
           && (a->with_save == a->without_save || a->with_save == entry->managed_save);
}

static void
keep_wanted(const ListArgs *a, GPtrArray *entries)
{
    for (guint i = entries->len; i > 0; i--)
        if (!wanted(a, entries->pdata[i - 1]))
            g_ptr_array_remove_index(entries, i - 1);
}

static void
print_plain(const ListArgs *a, const GPtrArray *entries)
{
    for (guint i = 0; i < entries->len; i++) {
        const KhoDomainEntry *entry = entries->pdata[i];
        if (a->ids && entry->status.id < 0)
            continue;
        if (a->ids)
            out_print("%d\n", entry->status.id);
        else if (a->uuids && a->names)
            out_print("%-36s %-30s\n", entry->uuid ? entry->uuid : "-", entry->name);
        else
            out_print("%s\n", a->uuids ? (entry->uuid ? entry->uuid : "-") : entry->name);
    }
}

static void
print_table(const ListArgs *a, const GPtrArray *entries)
{
    g_autoptr(OutTable) table = a->title ? out_table_new("Id", "Name", "State", "Title", NULL)
                                         : out_table_new("Id", "Name", "State", NULL);

    for (guint i = 0; i < entries->len; i++) {
        const KhoDomainEntry *entry = entries->pdata[i];
        g_autofree char *id = entry->status.id >= 0 ? g_strdup_printf("%d", entry->status.id) : NULL;
        gboolean saved = a->managed_save && entry->managed_save && entry->status.id < 0;
        g_autofree char *word = saved ? g_strdup("saved") : cli_domain_state_text(&entry->status);
        g_autofree char *state =
            g_strconcat(word, entry->damaged ? " (its definition is damaged)" : "", NULL);
        const char *cells[] = { id, entry->name, state, entry->title };
        out_table_row(table, cells);
    }
    out_table_print(table);
}

static void
print_json(const GPtrArray *entries)
{
    json_t *list = json_array();

    for (guint i = 0; i < entries->len; i++) {
        const KhoDomainEntry *entry = entries->pdata[i];
        json_t *object = json_object();
        json_object_set_new(object, "name", json_from_bytes(entry->name));
        json_object_set_new(object, "uuid", entry->uuid ? json_from_bytes(entry->uuid) : json_null());
        json_object_set_new(object, "damaged", json_boolean(entry->damaged));
        json_object_set_new(object, "title", entry->title ? json_from_bytes(entry->title) : json_null());
        json_t *status = cli_domain_status_json(&entry->status);
        json_object_update(object, status);
        json_decref(status);
        json_object_set_new(object, "persistent", json_boolean(entry->persistent));
        json_object_set_new(object, "autostart", json_boolean(entry->autostart));
        json_object_set_new(object, "managed-save", json_boolean(entry->managed_save));
        json_array_append_new(list, object);
    }
    out_json(list);
}

static gboolean
run_list(CliRun *cli, const void *p, GError **error)
{
    const ListArgs *a = p;
    g_autoptr(KhoHost) host = cli_host_open(cli, error);
    KhoDomainListFlags flags = 0;

    if (!host)
        return FALSE;
    if (a->table && (a->names || a->uuids || a->ids))
        return fail(error, KHO_ERROR_INVALID, "--table does not go with --name, --uuid or --id");
    if (a->ids && (a->names || a->uuids))
        return fail(error, KHO_ERROR_INVALID, "--id does not go with --name or --uuid");
    if (!a->inactive)
        flags |= KHO_DOMAIN_LIST_ACTIVE;
    if (a->all || a->inactive || a->shutoff)
        flags |= KHO_DOMAIN_LIST_INACTIVE;
    if (a->uuids || a->title || cli->json)
        flags |= KHO_DOMAIN_LIST_DETAILS;
    else if (!a->names && !a->ids)
        flags |= KHO_DOMAIN_LIST_DAMAGE;
    g_autoptr(GPtrArray) entries = kho_domain_list(host, flags, error);
    if (!entries)
        return FALSE;
    keep_wanted(a, entries);
    if (cli->json)
        print_json(entries);
    else if (a->names || a->uuids || a->ids)
        print_plain(a, entries);
    else
        print_table(a, entries);
    return TRUE;
}

const CliVerb verb_list = {
    .name = "list",
    .noun = "domain",
    .summary = "list machines: those that run, or all",
    .examples = "kho list --all\nkho list --all --name --state-paused\nkho list --json",
    .args = list_args,
    .args_bytes = sizeof(ListArgs),
    .json = TRUE,
    .run = run_list,
};
