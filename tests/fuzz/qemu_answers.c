/* What QEMU and kho-vm answer and tell, as those read it who change a running machine: nodes, jobs, merges,
 * places, fdsets, memory on its way out. The first byte says what is done; the rest is the conversation, a
 * message a line: each question gets the next answer, events are told when they are waited for, and the
 * connection ends with the last. Whatever is said, every deed ends, and a failure has one line. */
#include "base/error.h"
#include "vm/blockdev.h"
#include "vm/job.h"
#include "vm/merge.h"
#include "vm/migrate.h"
#include "vm/nodes.h"
#include "vm/qmp.h"
#include "vm/savefile.h"
#include "vm/topology.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define DEVICE "virtio-disk0"
#define NODE   DEVICE "-0"

/* --- vm/client.h once more, without a socket: the linker takes these, since nothing is missing then --- */

struct VmClient {
    QmpDecoder *decoder;
    GQueue events; /* json_t * */
    gboolean ended;
};

/* The next message that is no event; NULL: none is left. */
static json_t *
next_answer(VmClient *client)
{
    json_t *message = NULL;

    while (!client->ended) {
        client->ended = !qmp_decoder_next(client->decoder, &message, NULL) || !message;
        if (client->ended || !json_object_get(message, "event"))
            break;
        g_queue_push_tail(&client->events, g_steal_pointer(&message));
    }
    return message;
}

VmClient *
vm_client_open(const char *run_path, guint timeout_ms, GError **error)
{
    fail(error, KHO_ERROR_NOT_FOUND, "%s: no machine runs here", run_path);
    return NULL;
}

void
vm_client_close(VmClient *client)
{
}

void
vm_client_set_cancelled(VmClient *client, const volatile gint *cancelled)
{
}

gboolean
vm_client_is_open(const VmClient *client)
{
    return !client->ended;
}

json_t *
vm_client_call(VmClient *client, const char *command, json_t *arguments, guint timeout_ms, GError **error)
{
    json_auto json_t *owned = arguments;
    json_auto json_t *answer = next_answer(client);
    json_t *value = json_object_get(answer, "return");

    if (!answer)
        fail(error, KHO_ERROR_IO, "the connection ended");
    else if (json_object_get(answer, "error"))
        qmp_fail(answer, command, error);
    else if (!value)
        fail(error, KHO_ERROR_TIMEOUT, "no answer to %s", command);
    else
        return json_incref(value);
    return NULL;
}

gboolean
vm_client_tell(VmClient *client, const char *command, json_t *arguments, guint timeout_ms, GError **error)
{
    json_auto json_t *answer = vm_client_call(client, command, arguments, timeout_ms, error);

    return answer != NULL;
}

json_t *
vm_client_next_event(VmClient *client, gint64 deadline_ms, GError **error)
{
    json_t *event = g_queue_pop_head(&client->events);

    if (!event && client->ended)
        fail(error, KHO_ERROR_IO, "the connection ended");
    else if (!event)
        fail(error, KHO_ERROR_TIMEOUT, "nothing happened");
    return event;
}

VmStatus *
vm_client_status(VmClient *client, guint timeout_ms, GError **error)
{
    json_auto json_t *answer = vm_client_call(client, "kho-status", NULL, timeout_ms, error);

    return answer ? vm_status_from_json(answer, "kho-vm's status", error) : NULL;
}

gboolean
vm_client_destroy(VmClient *client, gboolean graceful, guint timeout_ms, GError **error)
{
    return vm_client_tell(client, "kho-destroy", NULL, timeout_ms, error);
}

gboolean
vm_client_end(VmClient *client, const char *reason, guint timeout_ms, GError **error)
{
    return vm_client_tell(client, "kho-destroy", NULL, timeout_ms, error);
}

gboolean
vm_client_powerdown(VmClient *client, gboolean reboot, guint timeout_ms, GError **error)
{
    return vm_client_tell(client, "kho-shutdown", NULL, timeout_ms, error);
}

/* --- what is done --- */

static void
expect(gboolean done, GError *const *error)
{
    g_assert_true(done == (*error == NULL));
    g_assert_true(done || !strchr((*error)->message, '\n'));
}

static void
try_nodes(VmClient *client)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) layers = vm_nodes_of_device(client, DEVICE, &error);

    expect(layers != NULL, &error);
    for (guint i = 0; layers && i < layers->len; i++) {
        const VmNode *node = layers->pdata[i];
        g_assert_true(node->node && node->fdset >= -1 && node->fdset <= G_MAXINT);
    }
}

static void
try_node(VmClient *client)
{
    g_autoptr(GError) error = NULL, unwritten = NULL;
    g_autoptr(VmNode) node = vm_node_find(client, NODE, &error);

    g_assert_true(!node || !error);
    if (node && node->file_node)
        expect(vm_node_write_file(client, node, "threads", &unwritten), &unwritten);
}

static void
try_flush(VmClient *client)
{
    g_autoptr(GError) error = NULL;

    expect(vm_node_flush(client, NODE, "unmap", &error), &error);
}

static void
try_places(VmClient *client)
{
    static const char xml[] =
        "<domain type='qemu'><name>m</name><uuid>11111111-2222-4333-8444-555555555555</uuid>"
        "<memory unit='KiB'>32768</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os><devices>"
        "<disk type='file' device='disk'><source file='/a'/><target dev='vda' bus='virtio'/><alias "
        "name='" DEVICE "'/></disk><memballoon model='virtio'><alias name='balloon0'/></memballoon>"
        "</devices></domain>";
    g_autoptr(GError) error = NULL, unread = NULL;
    g_autofree char *pinned = vm_topology_pin_xml(client, xml, &error);
    guint32 version = 0;

    expect(pinned != NULL, &error);
    if (pinned) { /* it goes into the head of a save file, and is read from there */
        g_autoptr(ModelDomain) again = model_domain_parse(pinned, strlen(pinned), &error);
        g_assert_no_error(error);
    }
    if (vm_topology_version(client, &version, &unread))
        g_assert_cmpuint(version, >=, VM_QEMU_VERSION(1, 0, 0));
    else
        expect(FALSE, &unread);
}

static void
try_jobs(VmClient *client)
{
    static const char *const ids[] = { "kho-a", "kho-b", NULL };
    g_autoptr(GError) unwaited = NULL, unfinished = NULL, uncancelled = NULL;

    expect(vm_jobs_wait(client, ids, VM_JOB_PENDING, TRUE, NULL, &unwaited), &unwaited);
    expect(vm_jobs_finish(client, ids, &unfinished), &unfinished);
    expect(vm_jobs_cancel(client, ids, &uncancelled), &uncancelled);
}

static void
try_merge(VmClient *client, gboolean down)
{
    const VmMerge merge = { .job = "kho-a",
                            .device = DEVICE,
                            .down = down,
                            .upper = NODE,
                            .lower = DEVICE "-1",
                            .upper_path = "/upper",
                            .lower_path = "/lower",
                            .backing_name = "below" };
    g_autoptr(GError) uncopied = NULL, unfinished = NULL, uncancelled = NULL;

    expect(vm_merge_copy(client, &merge, NULL, &uncopied), &uncopied);
    expect(vm_merge_finish(client, &merge, &unfinished), &unfinished);
    expect(vm_merge_cancel(client, &merge, &uncancelled), &uncancelled);
}

static void
try_files(VmClient *client)
{
    json_auto json_t *node = json_pack("{s:s}", "node-name", NODE);
    g_autoptr(GError) none_free = NULL, unopened = NULL, unclosed = NULL, unadded = NULL, undropped = NULL;
    gint64 number = 7;

    expect(vm_fdset_free_number(client, &number, &none_free), &none_free);
    g_assert_cmpint(number, >=, 0);
    expect(vm_fdset_open(client, number, "/x", TRUE, &unopened), &unopened);
    expect(vm_fdset_close_each(client, number, &unclosed), &unclosed);
    expect(vm_blockdev_add(client, node, &unadded), &unadded);
    expect(vm_blockdev_drop(client, NODE, &undropped), &undropped);
}

static void
try_memory(VmClient *client)
{
    g_autoptr(GError) unwritten = NULL, uncancelled = NULL;

    expect(vm_migrate_out(client, "/x", 512, NULL, &unwritten), &unwritten);
    expect(vm_migrate_cancel(client, &uncancelled), &uncancelled);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    VmClient client = { .decoder = qmp_decoder_new(QMP_MAX_BYTES), .events = G_QUEUE_INIT };

    if (len > 0)
        qmp_decoder_feed(client.decoder, data + 1, len - 1);
    switch (len > 0 ? data[0] : 0) {
    case 'n': try_nodes(&client); break;
    case 'o': try_node(&client); break;
    case 'f': try_flush(&client); break;
    case 'p': try_places(&client); break;
    case 'j': try_jobs(&client); break;
    case 'u': try_merge(&client, FALSE); break;
    case 'd': try_merge(&client, TRUE); break;
    case 's': try_files(&client); break;
    case 'm': try_memory(&client); break;
    }
    for (json_t *event; (event = g_queue_pop_head(&client.events));)
        json_decref(event);
    qmp_decoder_free(client.decoder);
    return 0;
}
