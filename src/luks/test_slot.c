/* Rules held: a split key merges to itself and to nothing else when a bit of it changes; a passphrase opens
 * the slot that it was put in and no other; a slot is durable before it is active and inactive before it is
 * wiped; no iteration count is below what QEMU uses at least. */
#include "luks/slot.h"

#include "base/num.h"

#include <string.h>

/* Tells the order of writes and barriers: 'm' material, 'f' a slot's fields, 's' its state, 'h' the whole
 * header, and digits for barriers. */
typedef struct {
    BlkStore store;
    BlkStore *mem;
    GString *order;
} Told;

static gboolean
told_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    return blk_pread_upto(((Told *) store)->mem, off, buf, len, got, error);
}

static gboolean
told_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    Told *told = (Told *) store;

    g_string_append_c(told->order, len == LUKS_HEADER_BYTES ? 'h'
                                   : len == LUKS_SLOT_BYTES ? 'f'
                                   : len == 4               ? 's'
                                                            : 'm');
    return blk_pwrite(told->mem, off, buf, len, error);
}

static gboolean
told_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    return blk_truncate(((Told *) store)->mem, bytes, error);
}

static gboolean
told_flush(BlkStore *store, GError **error)
{
    return TRUE;
}

static gboolean
told_size(BlkStore *store, guint64 *bytes, GError **error)
{
    return blk_size(((Told *) store)->mem, bytes, error);
}

static void
told_free(BlkStore *store)
{
    Told *told = (Told *) store;

    blk_free(told->mem);
    g_string_free(told->order, TRUE);
    g_free(told);
}

static const BlkOps told_ops = {
    .name = "told",
    .pread = told_pread,
    .pwrite = told_pwrite,
    .truncate = told_truncate,
    .flush = told_flush,
    .size = told_size,
    .free = told_free,
};

static gboolean
told_barrier(LuksRule rule, gpointer data, GError **error)
{
    g_string_append_c(((Told *) data)->order, (char) ('0' + rule));
    return TRUE;
}

static const LuksSpec usual = {
    { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_ESSIV, CRYPTO_SHA256 },
    CRYPTO_SHA1,
};

#define OFF 65536

static LuksPlace
make(Told **told)
{
    Told *t = g_new0(Told, 1);
    LuksPassphrase first = { "first", 5 };

    t->store = (BlkStore){ .ops = &told_ops, .label = g_strdup("disk"), .writable = TRUE };
    t->mem = blk_mem_new(NULL, 0, "disk");
    t->order = g_string_new(NULL);
    LuksPlace place = {
        .file = &t->store,
        .off_bytes = OFF,
        .room_bytes = luks_room_bytes(&usual),
        .barrier = told_barrier,
        .data = t,
    };
    const LuksFormat format = { .spec = usual, .iteration_ms = 1, .passphrase = first };
    g_autoptr(GError) error = NULL;
    g_auto(LuksKey) key = { .len = 0 };
    luks_format(&place, &format, &key, &error);
    g_assert_no_error(error);
    *told = t;
    return place;
}

static gboolean
opens(const LuksPlace *place, const char *passphrase, guint *slot, LuksKey *key)
{
    g_autoptr(GError) error = NULL;
    LuksHeader header;

    luks_header_read(place, &header, &error);
    g_assert_no_error(error);
    LuksPassphrase said = { passphrase, strlen(passphrase) };
    if (luks_open(place, &header, said, key, slot, &error))
        return TRUE;
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    return FALSE;
}

static void
test_slots(void)
{
    g_auto(LuksKey) key = { .len = 0 }, same = { .len = 0 };
    g_autoptr(GError) error = NULL;
    LuksHeader header;
    Told *told;
    LuksPlace place = make(&told);
    guint slot;

    g_assert_cmpstr(told->order->str, ==, "hmf0s2");
    g_assert_true(opens(&place, "first", &slot, &key));
    g_assert_cmpuint(slot, ==, 0);
    g_assert_false(opens(&place, "firs", &slot, &same));
    g_assert_false(opens(&place, "", &slot, &same));

    luks_header_read(&place, &header, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(header.digest_iterations, >=, LUKS_ITERATIONS_MIN);
    g_assert_cmpuint(header.slots[0].iterations, >=, LUKS_ITERATIONS_MIN);
    const LuksNewSlot second = { .slot = 6, .key = &key, .passphrase = { "second", 6 }, .iteration_ms = 1 };
    g_string_truncate(told->order, 0);
    g_assert_true(luks_slot_add(&place, &header, &second, &error));
    g_assert_cmpstr(told->order->str, ==, "mf0s2");
    g_assert_true(opens(&place, "second", &slot, &same));
    g_assert_cmpuint(slot, ==, 6);
    g_assert_cmpmem(same.bytes, same.len, key.bytes, key.len);

    g_string_truncate(told->order, 0);
    g_assert_true(luks_slot_remove(&place, &header, 0, &error));
    g_assert_cmpstr(told->order->str, ==, "s1mf2");
    g_assert_false(opens(&place, "first", &slot, &same));
    g_assert_true(opens(&place, "second", &slot, &same));
    blk_free(place.file);
}

/* Nothing of a removed slot is left that its passphrase would open. */
static void
test_removed_is_wiped(void)
{
    g_auto(LuksKey) key = { .len = 0 };
    g_autoptr(GError) error = NULL;
    LuksHeader before, after;
    gboolean still = TRUE;
    Told *told;
    LuksPlace place = make(&told);

    g_assert_true(luks_header_read(&place, &before, &error));
    after = before;
    g_assert_true(luks_slot_remove(&place, &after, 0, &error));
    const LuksPassphrase first = { "first", 5 };
    g_assert_true(luks_slot_opens(&place, &before, 0, first, &key, &still, &error));
    g_assert_false(still);
    blk_free(place.file);
}

static void
test_split(void)
{
    static const CryptoHash hashes[] = { CRYPTO_SHA1, CRYPTO_SHA256, CRYPTO_SHA512, CRYPTO_RIPEMD160 };
    static const gsize lens[] = { 16, 24, 32, 48, 64 };

    g_assert_true(crypto_load(NULL));
    for (gsize h = 0; h < G_N_ELEMENTS(hashes); h++)
        for (gsize l = 0; l < G_N_ELEMENTS(lens); l++) {
            LuksKey key = { .len = lens[l] }, merged = { .len = lens[l] };
            g_autofree guint8 *material = g_malloc(lens[l] * 7);

            crypto_random(key.bytes, key.len);
            luks_split(hashes[h], &key, 7, material);
            luks_merge(hashes[h], material, 7, &merged);
            g_assert_cmpmem(merged.bytes, merged.len, key.bytes, key.len);
            material[lens[l] * 3] ^= 1;
            luks_merge(hashes[h], material, 7, &merged);
            g_assert_cmpint(memcmp(merged.bytes, key.bytes, key.len), !=, 0);
        }
}

static void
test_measure(void)
{
    g_autoptr(GError) error = NULL;
    guint32 some = 0, more = 0;

    g_assert_true(luks_measure(CRYPTO_SHA256, 32, 0, &some, &error));
    g_assert_cmpuint(some, ==, LUKS_ITERATIONS_MIN);
    g_assert_true(luks_measure(CRYPTO_SHA256, 32, 500, &more, &error));
    g_assert_cmpuint(more, >, LUKS_ITERATIONS_MIN);
    g_assert_false(luks_measure(CRYPTO_SHA256, 32, G_MAXUINT64, &some, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_INVALID);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/luks/slot/split", test_split);
    g_test_add_func("/luks/slot/measure", test_measure);
    g_test_add_func("/luks/slot/slots", test_slots);
    g_test_add_func("/luks/slot/removed-is-wiped", test_removed_is_wiped);
    return g_test_run();
}
