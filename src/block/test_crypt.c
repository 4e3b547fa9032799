/* Rules held: what is written through a crypt store reads back, whatever the edges of writes and reads are,
 * and is not in the store below; the number of a sector makes a difference; nothing passes without a key;
 * threads write different parts of one sector without loss. */
#include "block/crypt.h"

#include "base/num.h"

#include <string.h>

#define DISK (64 * (guint64) CIPHER_SECTOR_BYTES)

static const CipherSpec specs[] = {
    { CRYPTO_AES256, CRYPTO_XTS, CIPHER_IV_PLAIN64, CRYPTO_SHA256 },
    { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_ESSIV, CRYPTO_SHA256 },
    { CRYPTO_CAST5, CRYPTO_CBC, CIPHER_IV_PLAIN, CRYPTO_SHA256 },
    { CRYPTO_TWOFISH192, CRYPTO_XTS, CIPHER_IV_PLAIN64, CRYPTO_SHA256 },
};

static SectorCipher *
cipher_new(const CipherSpec *spec)
{
    guint8 key[CRYPTO_KEY_BYTES_MAX];
    g_autoptr(GError) error = NULL;

    for (gsize i = 0; i < sizeof key; i++)
        key[i] = (guint8) (i * 7);
    SectorCipher *cipher = sector_cipher_new(spec, key, &error);
    g_assert_no_error(error);
    return cipher;
}

static void
test_edges(gconstpointer data)
{
    static const guint64 lens[] = { 1, 511, 512, 513, 1024, 3000, 10000 };
    g_autoptr(BlkStore) below = blk_mem_new(NULL, 0, "disk");
    g_autoptr(BlkStore) crypt = blk_crypt_new(below);
    g_autofree guint8 *model = g_malloc0(DISK), *got = g_malloc(DISK), *some = g_malloc(DISK);
    g_autoptr(GError) error = NULL;

    blk_crypt_unlock(crypt, cipher_new(data));
    g_assert_true(blk_pwrite(crypt, 0, model, DISK, &error));
    for (guint round = 0; round < 200; round++) {
        guint64 len = lens[g_test_rand_int_range(0, G_N_ELEMENTS(lens))];
        guint64 off = (guint64) g_test_rand_int_range(0, (gint32) (DISK - len));

        memset(some, (int) round + 1, len);
        g_assert_true(blk_pwrite(crypt, off, some, len, &error));
        memcpy(model + off, some, len);
        off = (guint64) g_test_rand_int_range(0, (gint32) (DISK - len));
        g_assert_true(blk_pread(crypt, off, got, len, &error));
        g_assert_cmpmem(got, len, model + off, len);
    }
    g_assert_true(blk_pread(crypt, 0, got, DISK, &error));
    g_assert_cmpmem(got, DISK, model, DISK);
    g_assert_true(blk_zero(crypt, 100, 5000, BLK_ZERO_MAY_PUNCH, &error));
    memset(model + 100, 0, 5000);
    g_assert_true(blk_pread(crypt, 0, got, DISK, &error));
    g_assert_cmpmem(got, DISK, model, DISK);

    g_assert_true(blk_pread(below, 0, got, DISK, &error));
    for (guint64 at = 0; at < DISK; at += CIPHER_SECTOR_BYTES) {
        g_assert_cmpint(memcmp(got + at, model + at, CIPHER_SECTOR_BYTES), !=, 0);
        if (at > 0 && memcmp(model + at, model, CIPHER_SECTOR_BYTES) == 0)
            g_assert_cmpint(memcmp(got + at, got, CIPHER_SECTOR_BYTES), !=, 0);
    }
}

static void
test_end_of_store(void)
{
    g_autoptr(BlkStore) below = blk_mem_new(NULL, 0, "disk");
    g_autoptr(BlkStore) crypt = blk_crypt_new(below);
    guint8 bytes[1024] = { 0 };
    g_autoptr(GError) error = NULL;
    gsize got;

    blk_crypt_unlock(crypt, cipher_new(&specs[0]));
    g_assert_true(blk_pwrite(crypt, 700, "end", 3, &error)); /* makes a whole sector of it */
    g_assert_true(blk_pread_upto(crypt, 512, bytes, sizeof bytes, &got, &error));
    g_assert_cmpuint(got, ==, 512);
    g_assert_cmpmem(bytes + 188, 3, "end", 3);
    g_assert_cmpuint(bytes[187], ==, 0);
    g_assert_true(blk_pread_upto(crypt, 2000, bytes, 100, &got, &error));
    g_assert_cmpuint(got, ==, 0);
}

static void
test_locked(void)
{
    g_autoptr(BlkStore) below = blk_mem_new("0123456789", 10, "disk");
    g_autoptr(BlkStore) crypt = blk_crypt_new(below);
    g_autoptr(GError) error = NULL;
    guint8 bytes[10];
    guint64 size;

    g_assert_false(blk_pread(crypt, 0, bytes, sizeof bytes, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    g_assert_nonnull(strstr(error->message, "disk is encrypted"));
    g_clear_error(&error);
    g_assert_false(blk_pwrite(crypt, 0, bytes, sizeof bytes, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    g_assert_cmpint(blk_fd(crypt), ==, -1);
    g_assert_true(blk_size(crypt, &size, NULL));
    g_assert_cmpuint(size, ==, 10);
}

typedef struct {
    BlkStore *crypt;
    guint number;
} Writer;

static gpointer
write_residue(gpointer data)
{
    const Writer *w = data;
    guint8 bytes[64];

    memset(bytes, (int) w->number + 1, sizeof bytes);
    for (guint64 at = w->number * sizeof bytes; at < DISK; at += 4 * sizeof bytes)
        g_assert_true(blk_pwrite(w->crypt, at, bytes, sizeof bytes, NULL));
    return NULL;
}

static void
test_threads(void)
{
    g_autoptr(BlkStore) below = blk_mem_new(NULL, 0, "disk");
    g_autoptr(BlkStore) crypt = blk_crypt_new(below);
    g_autofree guint8 *got = g_malloc(DISK);
    GThread *threads[4];
    Writer writers[4];

    blk_crypt_unlock(crypt, cipher_new(&specs[1]));
    for (guint i = 0; i < 4; i++) {
        writers[i] = (Writer){ crypt, i };
        threads[i] = g_thread_new("writer", write_residue, &writers[i]);
    }
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_assert_true(blk_pread(crypt, 0, got, DISK, NULL));
    for (guint64 at = 0; at < DISK; at++)
        g_assert_cmpuint(got[at], ==, at / 64 % 4 + 1);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autofree char *path = g_strdup_printf("/block/crypt/edges/%" G_GSIZE_FORMAT, i);
        g_test_add_data_func(path, &specs[i], test_edges);
    }
    g_test_add_func("/block/crypt/end-of-store", test_end_of_store);
    g_test_add_func("/block/crypt/locked", test_locked);
    g_test_add_func("/block/crypt/threads", test_threads);
    return g_test_run();
}
