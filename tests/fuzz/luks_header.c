/* A LUKS header from bytes that nobody has checked: what decodes encodes to the same bytes, names a cipher
 * that can be had, and keeps every slot within its room. */
#include "base/error.h"
#include "base/num.h"
#include "luks/header.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
look(const guint8 buf[LUKS_HEADER_BYTES], guint64 room_bytes)
{
    guint8 again[LUKS_HEADER_BYTES], key[CRYPTO_KEY_BYTES_MAX] = { 0 };
    LuksHeader header;
    LuksSpec spec;
    g_autoptr(GError) error = NULL;
    gboolean ok = luks_header_decode(buf, room_bytes, &header, &error);

    g_assert_true(ok == (error == NULL));
    if (!ok)
        return;
    luks_header_encode(&header, again);
    g_assert_cmpmem(again, sizeof again, buf, sizeof again);
    luks_header_derive(&header, &spec);
    g_assert_cmpuint(cipher_spec_key_bytes(&spec.cipher), ==, header.key_bytes);
    g_autoptr(SectorCipher) cipher = sector_cipher_new(&spec.cipher, key, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < LUKS_SLOTS; i++)
        g_assert_cmpuint((guint64) header.slots[i].material_sector * CIPHER_SECTOR_BYTES
                             + luks_material_bytes(&header),
                         <=, room_bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const guint64 rooms[] = { 0, 2 * MIB, TIB };
    guint8 buf[LUKS_HEADER_BYTES] = { 0 };

    memcpy(buf, data, MIN(len, sizeof buf));
    for (gsize i = 0; i < G_N_ELEMENTS(rooms); i++)
        look(buf, rooms[i]);
    return 0;
}
