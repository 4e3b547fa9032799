/* A LUKS header with its key slots, from bytes that nobody has checked: read, opened by a passphrase, and its
 * slots changed. Iterations are set low, since a derivation takes its time on purpose. The first byte says
 * which slot is changed; the header and what follows it are the rest. */
#include "base/num.h"
#include "luks/volume.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define ROOM_BYTES            (3 * MIB)
#define DIGEST_ITERATIONS_OFF 164

static const LuksPassphrase passphrase = { "pass", 4 };

static gboolean
no_barrier(LuksRule rule, gpointer data, GError **error)
{
    return TRUE;
}

static BlkStore *
make_file(const uint8_t *data, size_t len)
{
    BlkStore *file = blk_mem_new(data, len, "image");
    guint8 few[4];

    be32_store(few, LUKS_ITERATIONS_MIN);
    g_assert_true(blk_pwrite(file, DIGEST_ITERATIONS_OFF, few, sizeof few, NULL));
    for (guint i = 0; i < LUKS_SLOTS; i++)
        g_assert_true(blk_pwrite(file, LUKS_SLOTS_OFF + i * LUKS_SLOT_BYTES + 4, few, sizeof few, NULL));
    return file;
}

/* Puts a key into a slot, finds it there, and takes it out again. */
static void
change(const LuksPlace *place, LuksHeader *header, guint slot)
{
    g_auto(LuksKey) key = { .len = header->key_bytes };
    g_auto(LuksKey) found = { .len = 0 };
    const LuksNewSlot new = { slot, &key, passphrase, 1 };
    gboolean opens = FALSE;
    LuksHeader read;

    if (luks_slot_is_active(header, slot) && !luks_slot_remove(place, header, slot, NULL))
        return;
    memset(key.bytes, 7, key.len);
    g_autoptr(GError) error = NULL;
    luks_key_sign(header, &key, &error);
    g_assert_no_error(error);
    luks_slot_add(place, header, &new, &error);
    g_assert_no_error(error);
    luks_slot_opens(place, header, slot, passphrase, &found, &opens, &error);
    g_assert_no_error(error);
    g_assert_true(opens);
    g_assert_cmpmem(found.bytes, found.len, key.bytes, key.len);
    luks_slot_remove(place, header, slot, &error);
    g_assert_no_error(error);
    luks_header_read(place, &read, &error);
    if (!error)
        g_assert_false(luks_slot_is_active(&read, slot));
}

/* The same bytes as a whole volume. */
static void
look_at_volume(const uint8_t *data, size_t len)
{
    BlkStore *file = make_file(data, len);
    FormatInfo info = { 0 };
    guint8 sector[512];
    guint64 done;

    /* Room for slots and a disk, of which a small input is the beginning. */
    g_assert_true(blk_truncate(file, ROOM_BYTES, NULL));
    FormatImage *image = luks_volume_format.open(file, FORMAT_WRITABLE, NULL);
    if (!image) {
        blk_free(file);
        return;
    }
    g_assert_true(image->ops->info(image, &info, NULL));
    g_assert_cmpuint(info.guest_bytes, ==, image->guest_bytes);
    g_free(info.luks);
    g_ptr_array_unref(info.snapshots);
    if (image->ops->unlock(image, passphrase.bytes, passphrase.len, NULL) && image->guest_bytes > 0) {
        g_assert_true(image->ops->zero(image, guest_off(0), sizeof sector, &done, NULL));
        g_assert_true(blk_pread_padded(image->data, 0, sector, sizeof sector, NULL));
        for (gsize i = 0; i < sizeof sector; i++)
            g_assert_cmpuint(sector[i], ==, 0);
    }
    g_assert_true(image->ops->close(image, NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    look_at_volume(data + 1, len - 1);
    g_autoptr(BlkStore) file = make_file(data + 1, len - 1);
    const LuksPlace place = { file, 0, ROOM_BYTES, no_barrier, NULL };
    g_autoptr(GError) error = NULL;
    LuksHeader header;

    if (!luks_header_read(&place, &header, &error))
        return 0;
    g_auto(LuksKey) key = { .len = 0 };
    guint slot = LUKS_SLOTS;
    if (luks_open(&place, &header, passphrase, &key, &slot, &error))
        g_assert_cmpuint(slot, <, LUKS_SLOTS);
    change(&place, &header, data[0] % LUKS_SLOTS);
    return 0;
}
