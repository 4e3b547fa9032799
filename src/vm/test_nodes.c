/* Rules held: the layers of a disk come from QEMU's graph, top first, with the fdset of each; only the device
 * that was asked for counts. */
#include "vm/nodes.h"

#include <kho/error.h>
#include <string.h>

static const char blocks_text[] =
    "{\"a\":[{\"qdev\":\"/machine/peripheral/virtio-disk1/"
    "virtio-backend\",\"inserted\":{\"node-name\":\"other\"}},"
    "{\"qdev\":\"/machine/peripheral/virtio-disk0/virtio-backend\",\"inserted\":{\"node-name\":\"top\"}},"
    "{\"qdev\":\"/machine/peripheral/virtio-disk2/"
    "virtio-backend\",\"inserted\":{\"node-name\":\"#block1\"}},"
    "{\"qdev\":\"ide0-1-0\",\"device\":\"\"}]}";
static const char graph_text[] =
    "{\"nodes\":[{\"id\":1,\"name\":\"top\"},{\"id\":2,\"name\":\"top-file\"},{\"id\":3,\"name\":\"base\"},"
    "{\"id\":4,\"name\":\"base-file\"},"
    "{\"id\":5,\"name\":\"#block1\"},{\"id\":6,\"name\":\"busy\"},{\"id\":7,\"name\":\"#block2\"}],\"edges\":"
    "["
    "{\"parent\":5,\"child\":6,\"name\":\"file\"},{\"parent\":6,\"child\":7,\"name\":\"backing\"},"
    "{\"parent\":7,\"child\":3,\"name\":\"backing\"},{\"parent\":1,\"child\":2,\"name\":\"file\"},"
    "{\"parent\":1,\"child\":3,\"name\":\"backing\"},{\"parent\":3,\"child\":4,\"name\":\"file\"}]}";
static const char named_text[] = "{\"a\":[{\"node-name\":\"top\",\"ro\":false,\"file\":\"/dev/fdset/7\"},"
                                 "{\"node-name\":\"top-file\",\"ro\":false,\"file\":\"/dev/fdset/7\"},"
                                 "{\"node-name\":\"base\",\"ro\":true,\"file\":\"/base\"},"
                                 "{\"node-name\":\"base-file\",\"ro\":true,\"file\":\"/base\"}]}";

static GPtrArray *
parse(const char *device, GError **error)
{
    json_auto json_t *blocks = json_parse(blocks_text, strlen(blocks_text), "blocks", NULL);
    json_auto json_t *graph = json_parse(graph_text, strlen(graph_text), "graph", NULL);
    json_auto json_t *named = json_parse(named_text, strlen(named_text), "named", NULL);

    return vm_nodes_parse(json_object_get(blocks, "a"), graph, json_object_get(named, "a"), device, error);
}

static void
test_chain(void)
{
    g_autoptr(GPtrArray) layers = parse("virtio-disk0", NULL);

    g_assert_cmpuint(layers->len, ==, 2);
    const VmNode *top = layers->pdata[0], *base = layers->pdata[1];
    g_assert_cmpstr(top->node, ==, "top");
    g_assert_cmpstr(top->file_node, ==, "top-file");
    g_assert_cmpint(top->fdset, ==, 7);
    g_assert_false(top->read_only);
    g_assert_cmpstr(base->node, ==, "base");
    g_assert_cmpint(base->fdset, ==, -1);
    g_assert_true(base->read_only);
}

/* What QEMU puts between layers while a job runs is not one of them. */
static void
test_filters(void)
{
    g_autoptr(GPtrArray) layers = parse("virtio-disk2", NULL);

    g_assert_cmpuint(layers->len, ==, 2);
    g_assert_cmpstr(((VmNode *) layers->pdata[0])->node, ==, "busy");
    g_assert_cmpstr(((VmNode *) layers->pdata[1])->node, ==, "base");
}

static void
test_others(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) empty = parse("ide0-1-0", NULL);

    g_assert_cmpuint(empty->len, ==, 0);
    g_assert_null(parse("virtio-disk", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/nodes/chain", test_chain);
    g_test_add_func("/vm/nodes/filters", test_filters);
    g_test_add_func("/vm/nodes/others", test_others);
    return g_test_run();
}
