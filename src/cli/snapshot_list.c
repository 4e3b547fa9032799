/* snapshot-list: as a table, as names, or as a tree. */
#include "base/error.h"
#include "cli/output.h"
#include "cli/snapshot.h"

#include <jansson.h>
#include <string.h>

typedef struct {
    const char *domain, *from;
    gboolean tree, names, parent, roots, leaves, no_leaves, current, descendants, topological;
    gboolean inactive, active, disk_only, internal, external, metadata, no_metadata;
} ListArgs;

static const CliArg list_args[] = {
    CLI_DOMAIN_ARG(ListArgs),
    { CLI_FLAG, "--tree", offsetof(ListArgs, tree), "no", "what came from what, as a tree" },
    { CLI_FLAG, "--name", offsetof(ListArgs, names), "no", "names only, one a line" },
    { CLI_FLAG, "--parent", offsetof(ListArgs, parent), "no", "a column with the parent" },
    { CLI_FLAG, "--roots", offsetof(ListArgs, roots), "no", "those without a parent" },
    { CLI_FLAG, "--leaves", offsetof(ListArgs, leaves), "no", "those without children" },
    { CLI_FLAG, "--no-leaves", offsetof(ListArgs, no_leaves), "no", "those with children" },
    { CLI_STR, "--from", offsetof(ListArgs, from), CLI_OPTIONAL, "the children of this one",
      .object = CLI_SNAPSHOT },
    { CLI_FLAG, "--current", offsetof(ListArgs, current), "no", "the children of the current one" },
    { CLI_FLAG, "--descendants", offsetof(ListArgs, descendants), "no",
      "with --from or --current: their children too, and so on" },
    { CLI_FLAG, "--topological", offsetof(ListArgs, topological), "no",
      "parents before children, instead of by name" },
    { CLI_FLAG, "--inactive", offsetof(ListArgs, inactive), "no",
      "those taken while the machine was shut off" },
    { CLI_FLAG, "--active", offsetof(ListArgs, active), "no", "those with memory" },
    { CLI_FLAG, "--disk-only", offsetof(ListArgs, disk_only), "no",
      "those of a running machine without memory" },
    { CLI_FLAG, "--internal", offsetof(ListArgs, internal), "no", "those inside of images: there are none" },
    { CLI_FLAG, "--external", offsetof(ListArgs, external), "no", "those in files of their own: all" },
    { CLI_FLAG, "--metadata", offsetof(ListArgs, metadata), "no", "those that kho keeps metadata of: all" },
    { CLI_FLAG, "--no-metadata", offsetof(ListArgs, no_metadata), "no", "those without: there are none" },
    { 0 },
};

static const KhoSnapshot *
find(const GPtrArray *all, const char *name)
{
    for (guint i = 0; name && i < all->len; i++) {
        const KhoSnapshot *snapshot = all->pdata[i];
        if (strcmp(snapshot->name, name) == 0)
            return snapshot;
    }
    return NULL;
}

/* How many steps it is up to @from (NULL: to the top); -1 where the way does not lead there. */
static gint
steps_to(const GPtrArray *all, const KhoSnapshot *snapshot, const char *from)
{
    gint steps = 0;

    for (const KhoSnapshot *at = snapshot; at; at = find(all, at->parent), steps++)
        if (from && strcmp(at->name, from) == 0)
            return steps;
    return from ? -1 : steps;
}

/* Filters of one group add up; groups narrow each other, as virsh's do. */
static gboolean
wanted(const ListArgs *a, const GPtrArray *all, const char *from, const KhoSnapshot *s)
{
    gboolean any_state = !a->inactive && !a->active && !a->disk_only;
    gboolean off = strcmp(s->state, "shutoff") == 0, disk_only = strcmp(s->state, "disk-snapshot") == 0;
    gboolean of_state = off ? a->inactive : disk_only ? a->disk_only : a->active;
    gint steps = from ? steps_to(all, s, from) : 1;

    return (any_state || of_state) && (steps == 1 || (steps > 1 && a->descendants))
           && (!a->roots || !find(all, s->parent))
           && (a->leaves == a->no_leaves || a->leaves == (s->children == 0)) && (a->external || !a->internal)
           && (a->metadata || !a->no_metadata);
}

static gint
compare_steps(gconstpointer a, gconstpointer b, gpointer all)
{
    const KhoSnapshot *left = *(KhoSnapshot *const *) a, *right = *(KhoSnapshot *const *) b;
    gint difference = steps_to(all, left, NULL) - steps_to(all, right, NULL);

    return difference ? difference : strcmp(left->name, right->name);
}

static char *
created_text(const KhoSnapshot *snapshot)
{
    g_autoptr(GDateTime) created =
        snapshot->created_s ? g_date_time_new_from_unix_local(snapshot->created_s) : NULL;

    return created ? g_date_time_format(created, "%Y-%m-%d %H:%M:%S %z") : NULL;
}

static void
print_table(const ListArgs *a, const GPtrArray *chosen)
{
    g_autoptr(OutTable) table = a->parent ? out_table_new("Name", "Creation Time", "State", "Parent", NULL)
                                          : out_table_new("Name", "Creation Time", "State", NULL);

    for (guint i = 0; i < chosen->len; i++) {
        const KhoSnapshot *snapshot = chosen->pdata[i];
        g_autofree char *created = created_text(snapshot);
        const char *cells[] = { snapshot->name, created, cli_snapshot_state(snapshot), snapshot->parent };
        out_table_row(table, cells);
    }
    out_table_print(table);
}

static void
print_names(const GPtrArray *chosen)
{
    for (guint i = 0; i < chosen->len; i++)
        out_print("%s\n", ((const KhoSnapshot *) chosen->pdata[i])->name);
}

/* @lead: what stands before the children's lines. As deep as there are snapshots. */
static void
print_below(const GPtrArray *all, const char *name, const char *lead)
{
    const KhoSnapshot *last = NULL;

    for (guint i = 0; i < all->len; i++) {
        const KhoSnapshot *child = all->pdata[i];
        if (g_strcmp0(child->parent, name) == 0)
            last = child;
    }
    for (guint i = 0; last && i < all->len; i++) {
        const KhoSnapshot *child = all->pdata[i];
        if (g_strcmp0(child->parent, name) != 0)
            continue;
        g_autofree char *below = g_strconcat(lead, child == last ? "    " : "|   ", NULL);
        out_print("%s|\n%s+- %s\n", lead, lead, child->name);
        print_below(all, child->name, below);
    }
}

static void
print_tree(const GPtrArray *all, const char *from)
{
    for (guint i = 0; i < all->len; i++) {
        const KhoSnapshot *root = all->pdata[i];
        if (from ? strcmp(root->name, from) != 0 : find(all, root->parent) != NULL)
            continue;
        out_print("%s\n", root->name);
        print_below(all, root->name, "  ");
        out_print("\n");
    }
}

static void
print_json(const GPtrArray *chosen)
{
    json_t *list = json_array();

    for (guint i = 0; i < chosen->len; i++)
        json_array_append_new(list, cli_snapshot_json(chosen->pdata[i]));
    out_json(list);
}

static gboolean
check_args(const ListArgs *a, GError **error)
{
    if (a->tree && (a->names || a->parent || a->roots || a->leaves || a->no_leaves))
        return fail(error, KHO_ERROR_INVALID,
                    "--tree does not go with --name, --parent, --roots, --leaves or --no-leaves");
    if (a->from && a->current)
        return fail(error, KHO_ERROR_INVALID, "--from and --current do not go together");
    if (a->names && a->parent)
        return fail(error, KHO_ERROR_INVALID, "--name and --parent do not go together");
    return TRUE;
}

/* Where the list begins, if not at the top; *from is NULL then. */
static gboolean
find_from(const ListArgs *a, KhoDomain *domain, const GPtrArray *all, char **from, GError **error)
{
    if (a->current)
        *from = kho_snapshot_current(domain, error);
    else if (a->from && !find(all, a->from))
        fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' has no snapshot '%s'", kho_domain_name(domain),
             a->from);
    else
        *from = g_strdup(a->from);
    return *from || (!a->current && !a->from);
}

static gboolean
run_list(CliRun *cli, const void *p, GError **error)
{
    const ListArgs *a = p;
    g_auto(CliDomain) opened = { 0 };
    g_autofree char *from = NULL;

    if (!check_args(a, error) || !cli_domain_open(cli, a->domain, &opened, error))
        return FALSE;
    g_autoptr(GPtrArray) all = kho_snapshot_list(opened.domain, error);
    if (!all || !find_from(a, opened.domain, all, &from, error))
        return FALSE;
    g_autoptr(GPtrArray) chosen = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++)
        if (wanted(a, all, from, all->pdata[i]))
            g_ptr_array_add(chosen, all->pdata[i]);
    if (a->topological)
        g_ptr_array_sort_with_data(chosen, compare_steps, all);
    if (cli->json)
        print_json(chosen);
    else if (a->tree)
        print_tree(all, from);
    else if (a->names)
        print_names(chosen);
    else
        print_table(a, chosen);
    return TRUE;
}

const CliVerb verb_snapshot_list = {
    .name = "snapshot-list",
    .noun = "snapshot",
    .summary = "list the snapshots of a machine",
    .examples = "kho snapshot-list web1 --tree\nkho snapshot-list web1 --json",
    .args = list_args,
    .args_bytes = sizeof(ListArgs),
    .json = TRUE,
    .run = run_list,
};
