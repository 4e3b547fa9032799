/* Looking is a chain of questions to QEMU: which devices are there, which nodes hang together, which files
 * they are open on; then the nodes go, each after those that stand on it, and their files; and at last the
 * disk leaves live.xml, so that until then no other disk takes its name. Where something is in use still (a
 * job), all is left for the next look. */
#include "supervisor/unplug.h"

#include "base/error.h"
#include "base/num.h"
#include "supervisor/grant.h"
#include "supervisor/monitor.h"
#include "vm/folder.h"

#include <string.h>

#define NOTED_MAX 1000

/* One look at all that is noted. */
typedef struct {
    Supervisor *s;
    json_t *noted; /* as it was when this began */
    size_t at;     /* which of them */
    json_t *devices, *graph;
    guint open; /* commands without an answer */
    gboolean failed, lost;
} Look;

static void look_at_next(Look *look);

static gboolean
publish(const Supervisor *s, GError **error)
{
    g_autofree char *text = json_dumps(s->unplug.noted, JSON_COMPACT);

    return vm_folder_write(s->folder, VM_FILE_UNPLUG, text, error);
}

static const char *
device_of(const json_t *noted)
{
    return json_string_or(noted, "device", "");
}

static void
forget(Supervisor *s, const char *device)
{
    for (size_t i = json_array_size(s->unplug.noted); i-- > 0;)
        if (strcmp(device_of(json_array_get(s->unplug.noted, i)), device) == 0)
            json_array_remove(s->unplug.noted, i);
}

gboolean
unplug_note(Supervisor *s, const json_t *arguments, GError **error)
{
    g_autofree char *device = NULL;
    json_t *nodes = json_object_get(arguments, "nodes");

    if (!json_get_string(arguments, "device", "kho-unplug", &device, error))
        return FALSE;
    if ((nodes && !json_is_array(nodes)) || json_array_size(s->unplug.noted) >= NOTED_MAX)
        return fail(error, KHO_ERROR_INVALID, "kho-unplug: nodes is no array, or too much is noted already");
    forget(s, device);
    if (nodes)
        json_array_append_new(s->unplug.noted, json_pack("{s:s,s:O}", "device", device, "nodes", nodes));
    if (!publish(s, error))
        return FALSE;
    unplug_look(s);
    return TRUE;
}

void
unplug_load(Supervisor *s)
{
    gsize len;
    g_autofree char *text = vm_folder_read(s->folder, VM_FILE_UNPLUG, &len, NULL);
    json_t *found = text ? json_loadb(text, len, 0, NULL) : NULL;

    if (json_is_array(found)) {
        json_decref(s->unplug.noted);
        s->unplug.noted = json_incref(found);
    }
    json_decref(found);
}

static void
look_end(Look *look)
{
    Supervisor *s = look->s;
    gboolean again = s->unplug.again && !look->lost;

    json_decref(look->noted);
    json_decref(look->devices);
    json_decref(look->graph);
    g_free(look);
    s->unplug.looks = s->unplug.again = FALSE;
    if (again)
        unplug_look(s);
}

/* ---- which nodes ---- */

/* Whether the node of that number is one of @set. */
static gboolean
has_id(GHashTable *set, json_int_t id)
{
    const gint64 key = id;

    return g_hash_table_contains(set, &key);
}

static gboolean
add_id(GHashTable *set, json_int_t id)
{
    gint64 *key = g_new(gint64, 1);

    *key = id;
    return g_hash_table_add(set, key);
}

static json_int_t
end_of(const json_t *edge, const char *which)
{
    return json_int_or(edge, which, -1);
}

/* All that hangs together with the nodes of those names. */
static GHashTable *
find_together(const json_t *graph, const json_t *names)
{
    GHashTable *set = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    const json_t *edges = json_object_get(graph, "edges");
    gboolean grew = TRUE;
    size_t i, j;
    json_t *node, *name, *edge;

    json_array_foreach (json_object_get(graph, "nodes"), i, node)
        json_array_foreach ((json_t *) names, j, name)
            if (g_strcmp0(json_string_or(node, "name", ""), json_string_value(name)) == 0)
                add_id(set, json_int_or(node, "id", -1));
    while (grew) {
        grew = FALSE;
        json_array_foreach ((json_t *) edges, i, edge)
            if (has_id(set, end_of(edge, "parent")) != has_id(set, end_of(edge, "child"))) {
                add_id(set, end_of(edge, "parent"));
                add_id(set, end_of(edge, "child"));
                grew = TRUE;
            }
    }
    return set;
}

static gboolean
stands_under(const json_t *edges, json_int_t id, GHashTable *set)
{
    size_t i;
    json_t *edge;

    json_array_foreach ((json_t *) edges, i, edge)
        if (end_of(edge, "child") == id && has_id(set, end_of(edge, "parent")))
            return TRUE;
    return FALSE;
}

/* Their names, each before those that it stands on; NULL where a device or a job uses one of them. */
static GPtrArray *
order_nodes(const json_t *graph, const json_t *names)
{
    g_autoptr(GHashTable) set = find_together(graph, names);
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    guint before;
    size_t i;
    json_t *node;

    do {
        before = g_hash_table_size(set);
        json_array_foreach (json_object_get(graph, "nodes"), i, node) {
            const gint64 id = json_int_or(node, "id", -1);
            if (!has_id(set, id) || stands_under(json_object_get(graph, "edges"), id, set))
                continue;
            if (strcmp(json_string_or(node, "type", ""), "block-driver") != 0)
                return NULL;
            g_ptr_array_add(order, (gpointer) json_string_or(node, "name", ""));
            g_hash_table_remove(set, &id);
        }
    } while (g_hash_table_size(set) < before);
    return before == 0 ? g_steal_pointer(&order) : NULL;
}

/* ---- clearing up ---- */

/* What is noted of the device is done with; or is left for another time. */
static void
end_one(Look *look)
{
    Supervisor *s = look->s;
    g_autofree char *device = g_strdup(device_of(json_array_get(look->noted, look->at)));
    g_autoptr(GError) why = NULL;

    if (look->failed || !live_xml_drop_disk(s, device, &why)) {
        vm_log(s->log, "the guest has let go of disk %s, whose files stay open: %s", device,
               why ? why->message : "something uses them still");
    } else {
        vm_log(s->log, "the guest has let go of disk %s", device);
        forget(s, device);
        if (!publish(s, &why))
            vm_log(s->log, "%s", why->message);
    }
    look->at++;
    look_at_next(look);
}

/* One of what was asked is answered. */
static void
count_down(Look *look)
{
    if (--look->open > 0)
        return;
    if (look->lost)
        look_end(look);
    else
        end_one(look);
}

static void
on_done(const json_t *reply, gpointer data)
{
    Look *look = data;
    const char *text = json_string_or(json_object_get(reply, "error"), "desc", NULL);

    look->lost |= !reply;
    look->failed |= text && !strstr(text, "ailed to find") && !strstr(text, "not found");
    count_down(look);
}

static void
ask(Look *look, const char *command, json_t *arguments, MonitorReply reply)
{
    look->open++;
    if (monitor_send(look->s->monitor, command, arguments, reply, look))
        return;
    look->lost = TRUE;
    if (--look->open == 0)
        look_end(look);
}

/* The numbers of the fdsets of those nodes. */
static GArray *
find_sets(const json_t *named, const GPtrArray *nodes)
{
    static const char prefix[] = "/dev/fdset/";
    GArray *sets = g_array_new(FALSE, FALSE, sizeof(guint64));
    size_t i;
    json_t *entry;

    json_array_foreach ((json_t *) named, i, entry) {
        const char *file = json_string_or(entry, "file", "");
        guint64 number;
        if (strcmp(json_string_or(entry, "drv", ""), "file") == 0 && g_str_has_prefix(file, prefix)
            && g_ptr_array_find_with_equal_func((GPtrArray *) nodes, json_string_or(entry, "node-name", ""),
                                                g_str_equal, NULL)
            && num_parse_uint(file + strlen(prefix), G_MAXINT, "fdset", &number, NULL))
            g_array_append_val(sets, number);
    }
    return sets;
}

static void
close_set(Look *look, guint64 number)
{
    json_auto json_t *wanted = json_pack("{s:I}", "fdset", (json_int_t) number);
    Grant grant = { .fd = -1 };
    g_autoptr(GError) why = NULL;

    if (grant_close(look->s, wanted, &grant, &why))
        ask(look, grant.command, json_incref(grant.arguments), on_done);
    grant_clear(&grant);
}

static void
on_files(const json_t *reply, gpointer data)
{
    Look *look = data;
    const json_t *noted = json_array_get(look->noted, look->at);

    look->open--;
    if (!reply) {
        look->lost = TRUE;
        look_end(look);
        return;
    }
    g_autoptr(GPtrArray) nodes = order_nodes(look->graph, json_object_get(noted, "nodes"));
    look->failed = !nodes;
    look->open++; /* until all is asked */
    if (nodes) {
        g_autoptr(GArray) sets = find_sets(json_object_get(reply, "return"), nodes);
        for (guint i = 0; i < nodes->len; i++)
            ask(look, "blockdev-del", json_pack("{s:s}", "node-name", nodes->pdata[i]), on_done);
        for (guint i = 0; i < sets->len; i++)
            close_set(look, g_array_index(sets, guint64, i));
    }
    count_down(look);
}

static void
on_graph(const json_t *reply, gpointer data)
{
    Look *look = data;

    look->open--;
    if (!reply) {
        look->lost = TRUE;
        look_end(look);
        return;
    }
    json_decref(look->graph);
    look->graph = json_incref(json_object_get(reply, "return"));
    ask(look, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE), on_files);
}

static gboolean
is_there(const Look *look, const char *device)
{
    size_t i;
    json_t *entry;

    json_array_foreach (look->devices, i, entry)
        if (strcmp(json_string_or(entry, "name", ""), device) == 0)
            return TRUE;
    return FALSE;
}

static void
look_at_next(Look *look)
{
    const json_t *noted = look->noted;

    while (look->at < json_array_size(noted) && is_there(look, device_of(json_array_get(noted, look->at))))
        look->at++;
    if (look->at < json_array_size(noted))
        ask(look, "x-debug-query-block-graph", NULL, on_graph);
    else
        look_end(look);
}

static void
on_devices(const json_t *reply, gpointer data)
{
    Look *look = data;

    look->open--;
    look->devices = json_incref(json_object_get(reply, "return"));
    if (json_is_array(look->devices)) {
        look_at_next(look);
        return;
    }
    look->lost = !reply;
    look_end(look);
}

void
unplug_look(Supervisor *s)
{
    if (s->phase != PHASE_RUNNING || json_array_size(s->unplug.noted) == 0)
        return;
    s->unplug.again = s->unplug.looks;
    if (s->unplug.looks)
        return;
    s->unplug.looks = TRUE;
    Look *look = g_new0(Look, 1);
    look->s = s;
    look->noted = json_deep_copy(s->unplug.noted);
    ask(look, "qom-list", json_pack("{s:s}", "path", "/machine/peripheral"), on_devices);
}
