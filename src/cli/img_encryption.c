#include "cli/img_encryption.h"

#include "cli/output.h"

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
img_encryption_to_json(const KhoImageEncryptionInfo *info)
{
    json_t *root = json_object();

    if (info->cipher_alg) {
        json_object_set_new(root, "ivgen-alg", json_string(info->ivgen_alg));
        json_object_set_new(root, "hash-alg", json_string(info->hash_alg));
        json_object_set_new(root, "cipher-alg", json_string(info->cipher_alg));
        json_object_set_new(root, "uuid", json_string(info->uuid));
        if (info->ivgen_hash_alg)
            json_object_set_new(root, "ivgen-hash-alg", json_string(info->ivgen_hash_alg));
    }
    json_object_set_new(root, "format", json_string(info->format));
    if (info->cipher_alg) {
        json_object_set_new(root, "cipher-mode", json_string(info->cipher_mode));
        json_object_set_new(root, "slots", slots_to_json(info));
        json_object_set_new(root, "payload-offset", json_integer((json_int_t) info->payload_offset_bytes));
        json_object_set_new(root, "master-key-iters", json_integer(info->master_key_iterations));
    }
    return root;
}

static void
print_slot(const KhoImageKeySlot *slot, guint number)
{
    out_print("            [%u]:\n                active: %s\n", number, slot->active ? "true" : "false");
    if (slot->active)
        out_print("                iters: %u\n", slot->iterations);
    out_print("                key offset: %" G_GUINT64_FORMAT "\n", slot->key_offset_bytes);
    if (slot->active)
        out_print("                stripes: %u\n", slot->stripes);
}

void
img_encryption_print(const KhoImageEncryptionInfo *info)
{
    out_print("    encrypt:\n");
    if (info->cipher_alg)
        out_print("        ivgen alg: %s\n        hash alg: %s\n        cipher alg: %s\n        uuid: %s\n",
                  info->ivgen_alg, info->hash_alg, info->cipher_alg, info->uuid);
    if (info->ivgen_hash_alg)
        out_print("        ivgen hash alg: %s\n", info->ivgen_hash_alg);
    out_print("        format: %s\n", info->format);
    if (!info->cipher_alg)
        return;
    out_print("        cipher mode: %s\n        slots:\n", info->cipher_mode);
    for (guint i = 0; i < KHO_IMAGE_KEY_SLOTS; i++)
        print_slot(&info->slots[i], i);
    out_print("        payload offset: %" G_GUINT64_FORMAT "\n        master key iters: %u\n",
              info->payload_offset_bytes, info->master_key_iterations);
}
