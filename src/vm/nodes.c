#include "vm/nodes.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

#define CALL_TIMEOUT_MS 5000
/* What a slow disk may take for all that the host had cached for it. */
#define FLUSH_TIMEOUT_MS 600000
/* A chain of more layers cannot have been opened. */
#define LAYERS_MAX 1024
/* More jobs than that do not work on one layer. */
#define FILTERS_MAX 64

void
vm_node_free(VmNode *node)
{
    if (!node)
        return;
    g_free(node->node);
    g_free(node->file_node);
    g_free(node);
}

/* "/machine/peripheral/ID/virtio-backend", "/machine/peripheral/ID", or "ID". */
static gboolean
is_device(const char *qdev, const char *device)
{
    static const char prefix[] = "/machine/peripheral/";
    gsize len = strlen(device);

    if (g_str_has_prefix(qdev, prefix))
        qdev += strlen(prefix);
    return strncmp(qdev, device, len) == 0 && (qdev[len] == '\0' || qdev[len] == '/');
}

/* The entry whose @by is @value, or NULL. */
static const json_t *
find_entry(const json_t *list, const char *by, const char *value)
{
    size_t i;
    json_t *entry;

    json_array_foreach ((json_t *) list, i, entry)
        if (g_strcmp0(json_string_or(entry, by, NULL), value) == 0)
            return entry;
    return NULL;
}

static const json_t *
find_drive(const json_t *blocks, const char *device)
{
    size_t i;
    json_t *entry;

    json_array_foreach ((json_t *) blocks, i, entry)
        if (is_device(json_string_or(entry, "qdev", ""), device))
            return entry;
    return NULL;
}

/* The name of the node that hangs from @node by an edge @edge_name; NULL for none. */
static const char *
child_of(const json_t *graph, const char *node, const char *edge_name)
{
    const json_t *nodes = json_object_get(graph, "nodes"), *parent = find_entry(nodes, "name", node);
    gint64 id = json_int_or(parent, "id", -1);
    size_t i, j;
    json_t *edge, *child;

    json_array_foreach (json_object_get(graph, "edges"), i, edge) {
        if (json_int_or(edge, "parent", -2) != id || strcmp(json_string_or(edge, "name", ""), edge_name) != 0)
            continue;
        json_array_foreach ((json_t *) nodes, j, child)
            if (json_int_or(child, "id", -1) == json_int_or(edge, "child", -2))
                return json_string_or(child, "name", NULL);
    }
    return NULL;
}

/* A job puts nodes of its own between layers while it runs, named by QEMU: the layer under them. */
static const char *
pass_filters(const json_t *graph, const char *name)
{
    for (guint i = 0; name && *name == '#'; i++) {
        const char *below = child_of(graph, name, "backing");
        name = i == FILTERS_MAX ? NULL : below ? below : child_of(graph, name, "file");
    }
    return name;
}

static VmNode *
read_node(const json_t *graph, const json_t *named, const char *name)
{
    static const char fdset[] = "/dev/fdset/";
    VmNode *node = g_new0(VmNode, 1);
    const char *file_node = child_of(graph, name, "file");
    const char *file =
        json_string_or(find_entry(named, "node-name", file_node ? file_node : name), "file", "");
    guint64 number;

    *node = (VmNode){
        .node = g_strdup(name),
        .file_node = g_strdup(file_node),
        .fdset = -1,
        .read_only = json_is_true(json_object_get(find_entry(named, "node-name", name), "ro")),
        .raw = strcmp(json_string_or(find_entry(named, "node-name", name), "drv", ""), "raw") == 0,
    };
    if (g_str_has_prefix(file, fdset)
        && num_parse_uint(file + strlen(fdset), G_MAXINT, "fdset", &number, NULL))
        node->fdset = (gint64) number;
    return node;
}

GPtrArray *
vm_nodes_parse(const json_t *blocks, const json_t *graph, const json_t *named, const char *device,
               GError **error)
{
    g_autoptr(GPtrArray) layers = g_ptr_array_new_with_free_func((GDestroyNotify) vm_node_free);
    const json_t *drive = find_drive(blocks, device);
    const char *name = json_string_or(json_object_get(drive, "inserted"), "node-name", NULL);

    if (!drive) {
        fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no drive '%s'", device);
        return NULL;
    }
    for (name = pass_filters(graph, name); name && layers->len < LAYERS_MAX;
         name = pass_filters(graph, child_of(graph, name, "backing")))
        g_ptr_array_add(layers, read_node(graph, named, name));
    return g_steal_pointer(&layers);
}

static json_t *
query_graph(VmClient *client, GError **error)
{
    return vm_client_call(client, "x-debug-query-block-graph", NULL, CALL_TIMEOUT_MS, error);
}

static json_t *
query_named(VmClient *client, GError **error)
{
    return vm_client_call(client, "query-named-block-nodes", json_pack("{s:b}", "flat", TRUE),
                          CALL_TIMEOUT_MS, error);
}

GPtrArray *
vm_nodes_of_device(VmClient *client, const char *device, GError **error)
{
    json_auto json_t *blocks = vm_client_call(client, "query-block", NULL, CALL_TIMEOUT_MS, error);
    if (!blocks)
        return NULL;
    json_auto json_t *graph = query_graph(client, error);
    if (!graph)
        return NULL;
    json_auto json_t *named = query_named(client, error);
    return named ? vm_nodes_parse(blocks, graph, named, device, error) : NULL;
}

VmNode *
vm_node_find(VmClient *client, const char *node, GError **error)
{
    json_auto json_t *graph = query_graph(client, error);
    json_auto json_t *named = graph ? query_named(client, error) : NULL;

    return find_entry(named, "node-name", node) ? read_node(graph, named, node) : NULL;
}

/* The options that a node has. */
static json_t *
options_of(const json_t *graph, const json_t *entry, const char *discard)
{
    const char *node = json_string_or(entry, "node-name", "");
    const char *driver = json_string_or(entry, "drv", "");
    const char *below = child_of(graph, node, "backing");
    const json_t *cache = json_object_get(entry, "cache");
    json_t *options = json_pack("{s:s,s:s,s:s*,s:O,s:s}", "driver", driver, "node-name", node, "file",
                                child_of(graph, node, "file"), "read-only", json_object_get(entry, "ro"),
                                "discard", discard ? discard : "ignore");

    if (options && strcmp(driver, "qcow2") == 0)
        json_object_set_new(options, "backing", below ? json_string(below) : json_null());
    if (options)
        json_set_string(options, "detect-zeroes", json_string_or(entry, "detect_zeroes", NULL));
    if (options && cache)
        json_object_set_new(options, "cache",
                            json_pack("{s:O,s:O}", "direct", json_object_get(cache, "direct"), "no-flush",
                                      json_object_get(cache, "no-flush")));
    return options;
}

gboolean
vm_node_flush(VmClient *client, const char *node, const char *discard, GError **error)
{
    json_auto json_t *graph = query_graph(client, error);
    json_auto json_t *named = graph ? query_named(client, error) : NULL;
    const json_t *entry = find_entry(named, "node-name", node);
    json_t *options = entry ? options_of(graph, entry, discard) : NULL;
    g_autoptr(GError) why = NULL;

    if (!named)
        return FALSE;
    if (!options)
        return fail(error, KHO_ERROR_NOT_FOUND, "QEMU has no layer '%s'", node);
    json_auto json_t *done = vm_client_call(client, "blockdev-reopen",
                                            json_pack("{s:[o]}", "options", options), FLUSH_TIMEOUT_MS, &why);
    if (done)
        return TRUE;
    if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    gboolean full = strstr(why->message, "No space left") != NULL;
    return fail(error, full ? KHO_ERROR_NO_SPACE : KHO_ERROR_IO, "%s", why->message);
}

gboolean
vm_node_write_file(VmClient *client, const VmNode *node, const char *aio, GError **error)
{
    json_auto json_t *named = query_named(client, error);
    const json_t *cache = json_object_get(find_entry(named, "node-name", node->file_node), "cache");
    g_autofree char *filename = g_strdup_printf("/dev/fdset/%" G_GINT64_FORMAT, node->fdset);

    if (!named)
        return FALSE;
    /* as a start says it (argv_disk.c), but for `read-only` */
    json_t *options =
        json_pack("{s:s,s:s,s:s*,s:b,s:s,s:s}", "driver", "file", "filename", filename, "node-name",
                  node->file_node, "read-only", FALSE, "locking", "on", "discard", "unmap");
    if (cache)
        json_object_set_new(options, "cache",
                            json_pack("{s:O,s:O}", "direct", json_object_get(cache, "direct"), "no-flush",
                                      json_object_get(cache, "no-flush")));
    json_set_string(options, "aio", aio);
    json_auto json_t *done = vm_client_call(
        client, "blockdev-reopen", json_pack("{s:[o]}", "options", options), FLUSH_TIMEOUT_MS, error);
    return done != NULL;
}
