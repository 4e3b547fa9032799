#include "luks/slot.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* The key that signs the header is derived this much quicker than a slot's, as cryptsetup and QEMU have it.
 */
#define DIGEST_SHARE 8

gboolean
luks_header_read(const LuksPlace *place, LuksHeader *header, GError **error)
{
    guint8 buf[LUKS_HEADER_BYTES];

    if (place->room_bytes < sizeof buf)
        return fail(error, KHO_ERROR_CORRUPT, "%s: there are %" G_GUINT64_FORMAT " bytes for a LUKS header",
                    place->file->label, place->room_bytes);
    if (!blk_pread_padded(place->file, place->off_bytes, buf, sizeof buf, error))
        return FALSE;
    if (luks_header_decode(buf, place->room_bytes, header, error))
        return TRUE;
    g_prefix_error(error, "%s: ", place->file->label);
    return FALSE;
}

static guint64
material_off(const LuksPlace *place, const LuksHeader *header, guint slot)
{
    return place->off_bytes + (guint64) header->slots[slot].material_sector * CIPHER_SECTOR_BYTES;
}

gboolean
luks_slot_opens(const LuksPlace *place, const LuksHeader *header, guint slot, LuksPassphrase passphrase,
                LuksKey *key, gboolean *opens, GError **error)
{
    gsize len = luks_material_bytes(header);
    g_autofree guint8 *material = g_malloc(len); /* at most 64 * 4000 bytes */
    LuksSpec spec;

    luks_header_derive(header, &spec);
    if (!blk_pread_padded(place->file, material_off(place, header, slot), material, len, error)
        || !luks_unlock_material(header, slot, passphrase, material, error))
        return FALSE;
    key->len = header->key_bytes;
    luks_merge(spec.hash, material, LUKS_STRIPES, key);
    crypto_wipe(material, len);
    return luks_key_matches(header, key, opens, error);
}

gboolean
luks_open(const LuksPlace *place, const LuksHeader *header, LuksPassphrase passphrase, LuksKey *key,
          guint *slot, GError **error)
{
    for (guint i = 0; i < LUKS_SLOTS; i++) {
        g_auto(LuksKey) found = { .len = 0 };
        gboolean opens = FALSE;

        if (!luks_slot_is_active(header, i))
            continue;
        if (!luks_slot_opens(place, header, i, passphrase, &found, &opens, error))
            return FALSE;
        if (!opens)
            continue;
        *key = found;
        if (slot)
            *slot = i;
        return TRUE;
    }
    return fail(error, KHO_ERROR_DENIED, "%s: Invalid password, cannot unlock any keyslot",
                place->file->label);
}

/* Fills the slot in memory: salt, iterations, and the key's material as it is to be written. */
static gboolean
fill_slot(LuksHeader *header, const LuksNewSlot *new, guint8 *material, GError **error)
{
    LuksSlot *s = &header->slots[new->slot];
    LuksSpec spec;

    luks_header_derive(header, &spec);
    if (!luks_measure(spec.hash, header->key_bytes, new->iteration_ms, &s->iterations, error))
        return FALSE;
    crypto_random(s->salt, sizeof s->salt);
    luks_split(spec.hash, new->key, LUKS_STRIPES, material);
    return luks_lock_material(header, new->slot, new->passphrase, material, error);
}

static gboolean
write_slot_fields(const LuksPlace *place, const LuksHeader *header, guint slot, GError **error)
{
    guint8 buf[LUKS_HEADER_BYTES];
    gsize at = LUKS_SLOTS_OFF + slot * LUKS_SLOT_BYTES;

    luks_header_encode(header, buf);
    return blk_pwrite(place->file, place->off_bytes + at, buf + at, LUKS_SLOT_BYTES, error);
}

/* The one word that says whether a slot counts; a sector holds it whole. */
static gboolean
write_slot_state(const LuksPlace *place, LuksHeader *header, guint slot, guint32 state, GError **error)
{
    guint8 word[4];

    be32_store(word, state);
    if (!blk_pwrite(place->file, place->off_bytes + LUKS_SLOTS_OFF + slot * LUKS_SLOT_BYTES, word,
                    sizeof word, error))
        return FALSE;
    header->slots[slot].state = state;
    return TRUE;
}

gboolean
luks_slot_add(const LuksPlace *place, LuksHeader *header, const LuksNewSlot *new, GError **error)
{
    gsize len = luks_material_bytes(header);
    g_autofree guint8 *material = g_malloc0(len);
    LuksHeader changed = *header;

    g_assert(!luks_slot_is_active(header, new->slot));
    gboolean done = fill_slot(&changed, new, material, error)
                    && blk_pwrite(place->file, material_off(place, header, new->slot), material, len, error)
                    && write_slot_fields(place, &changed, new->slot, error)
                    && place->barrier(LUKS_SLOT_BEFORE_ACTIVE, place->data, error)
                    && write_slot_state(place, &changed, new->slot, LUKS_SLOT_ENABLED, error)
                    && place->barrier(LUKS_CHANGE_DURABLE, place->data, error);
    crypto_wipe(material, len);
    if (done)
        *header = changed;
    return done;
}

gboolean
luks_slot_remove(const LuksPlace *place, LuksHeader *header, guint slot, GError **error)
{
    gsize len = luks_material_bytes(header);
    g_autofree guint8 *noise = g_malloc(len);
    LuksHeader changed = *header;
    LuksSlot *s = &changed.slots[slot];

    if (!crypto_load(error) || !write_slot_state(place, &changed, slot, LUKS_SLOT_DISABLED, error)
        || !place->barrier(LUKS_INACTIVE_BEFORE_WIPE, place->data, error))
        return FALSE;
    *header = changed;
    crypto_random(noise, len);
    s->iterations = 0;
    memset(s->salt, 0, sizeof s->salt);
    if (!blk_pwrite(place->file, material_off(place, header, slot), noise, len, error)
        || !write_slot_fields(place, &changed, slot, error)
        || !place->barrier(LUKS_CHANGE_DURABLE, place->data, error))
        return FALSE;
    *header = changed;
    return TRUE;
}

gboolean
luks_format(const LuksPlace *place, const LuksFormat *format, LuksKey *key, GError **error)
{
    guint8 buf[LUKS_HEADER_BYTES];
    LuksHeader header;

    if (!crypto_load(error))
        return FALSE;
    luks_header_init(&header, &format->spec);
    g_assert(place->room_bytes >= luks_room_bytes(&format->spec));
    key->len = cipher_spec_key_bytes(&format->spec.cipher);
    crypto_random(key->bytes, key->len);
    crypto_random(header.digest_salt, sizeof header.digest_salt);
    if (!luks_measure(format->spec.hash, LUKS_DIGEST_BYTES, format->iteration_ms / DIGEST_SHARE,
                      &header.digest_iterations, error)
        || !luks_key_sign(&header, key, error))
        return FALSE;
    luks_header_encode(&header, buf);
    const LuksNewSlot first = { 0, key, format->passphrase, format->iteration_ms };
    return blk_pwrite(place->file, place->off_bytes, buf, sizeof buf, error)
           && luks_slot_add(place, &header, &first, error);
}
