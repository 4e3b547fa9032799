#include "qemuimg/encryption_info.h"

#include "base/json.h"

static json_t *
slots_to_json(const KhoImageEncryptionInfo *info)
{
    json_t *list = json_array();

    for (guint i = 0; i < KHO_IMAGE_KEY_SLOTS; i++) {
        const KhoImageKeySlot *slot = &info->slots[i];
        json_t *one = json_object();

        json_object_set_new(one, "active", json_boolean(slot->active));
        if (slot->active)
            json_object_set_new(one, "iters", json_integer(slot->iterations));
        json_object_set_new(one, "key-offset", json_integer((json_int_t) slot->key_offset_bytes));
        if (slot->active)
            json_object_set_new(one, "stripes", json_integer(slot->stripes));
        json_array_append_new(list, one);
    }
    return list;
}

json_t *
qimg_encryption_json(const KhoImageEncryptionInfo *info, gboolean alone)
{
    json_t *root = json_object();

    if (info->cipher_alg) {
        json_object_set_new(root, "ivgen-alg", json_from_bytes(info->ivgen_alg));
        json_object_set_new(root, "hash-alg", json_from_bytes(info->hash_alg));
        json_object_set_new(root, "cipher-alg", json_from_bytes(info->cipher_alg));
        json_object_set_new(root, "uuid", json_from_bytes(info->uuid));
        if (info->ivgen_hash_alg)
            json_object_set_new(root, "ivgen-hash-alg", json_from_bytes(info->ivgen_hash_alg));
    }
    if (!alone)
        json_object_set_new(root, "format", json_from_bytes(info->format));
    if (info->cipher_alg) {
        json_object_set_new(root, "cipher-mode", json_from_bytes(info->cipher_mode));
        json_object_set_new(root, "slots", slots_to_json(info));
        json_object_set_new(root, "payload-offset", json_integer((json_int_t) info->payload_offset_bytes));
        json_object_set_new(root, "master-key-iters", json_integer(info->master_key_iterations));
    }
    return root;
}

/* @in: what the lines begin with. */
static void
append_slot(GString *text, const char *in, const KhoImageKeySlot *slot, guint number)
{
    g_string_append_printf(text, "%s    [%u]:\n%s        active: %s\n", in, number, in,
                           slot->active ? "true" : "false");
    if (slot->active)
        g_string_append_printf(text, "%s        iters: %u\n", in, slot->iterations);
    g_string_append_printf(text, "%s        key offset: %" G_GUINT64_FORMAT "\n", in, slot->key_offset_bytes);
    if (slot->active)
        g_string_append_printf(text, "%s        stripes: %u\n", in, slot->stripes);
}

void
qimg_encryption_append(GString *text, const KhoImageEncryptionInfo *info, gboolean alone)
{
    const char *in = alone ? "    " : "        ";

    if (!alone)
        g_string_append_printf(text, "    encrypt:\n");
    if (info->cipher_alg)
        g_string_append_printf(text, "%sivgen alg: %s\n%shash alg: %s\n%scipher alg: %s\n%suuid: %s\n", in,
                               info->ivgen_alg, in, info->hash_alg, in, info->cipher_alg, in, info->uuid);
    if (info->ivgen_hash_alg)
        g_string_append_printf(text, "%sivgen hash alg: %s\n", in, info->ivgen_hash_alg);
    if (!alone)
        g_string_append_printf(text, "%sformat: %s\n", in, info->format);
    if (!info->cipher_alg)
        return;
    g_string_append_printf(text, "%scipher mode: %s\n%sslots:\n", in, info->cipher_mode, in);
    for (guint i = 0; i < KHO_IMAGE_KEY_SLOTS; i++)
        append_slot(text, in, &info->slots[i], i);
    g_string_append_printf(text, "%spayload offset: %" G_GUINT64_FORMAT "\n%smaster key iters: %u\n", in,
                           info->payload_offset_bytes, in, info->master_key_iterations);
}
