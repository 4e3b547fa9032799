#include "block/crypt.h"

#include "base/error.h"
#include "base/num.h"

#include <string.h>

/* What is enciphered at once, aside: the caller's bytes stay as they are. */
#define PIECE_BYTES (256 * KIB)

typedef struct {
    BlkStore store;
    BlkStore *below;
    guint64 skipped;      /* where offset 0 lies in it */
    SectorCipher *cipher; /* NULL: locked */
    GMutex partial;       /* held from reading a sector to writing it back with other bytes in it */
} CryptStore;

static CryptStore *
crypt_of(BlkStore *store)
{
    return (CryptStore *) store;
}

static gboolean
check_open(CryptStore *crypt, GError **error)
{
    return crypt->cipher
           || fail(error, KHO_ERROR_DENIED, "%s is encrypted: its passphrase is needed (a secret)",
                   crypt->store.label);
}

/* Whole sectors. What lies past the end of the store is zeros before it is deciphered, as anything that was
 * never written is. */
static gboolean
read_sectors(CryptStore *crypt, guint64 off, guint8 *bytes, gsize len, gsize *got, GError **error)
{
    gsize found;

    if (!blk_pread_upto(crypt->below, crypt->skipped + off, bytes, len, &found, error))
        return FALSE;
    gsize whole = (gsize) num_align_up(found, CIPHER_SECTOR_BYTES);
    memset(bytes + found, 0, whole - found);
    *got = found;
    return sector_cipher_decrypt(crypt->cipher, off / CIPHER_SECTOR_BYTES, bytes, whole, error);
}

/* [off, off + len) within one sector. */
static gboolean
read_part(CryptStore *crypt, guint64 off, guint8 *to, gsize len, gsize *got, GError **error)
{
    guint8 sector[CIPHER_SECTOR_BYTES];
    gsize inside = off % CIPHER_SECTOR_BYTES, found;

    if (!read_sectors(crypt, off - inside, sector, sizeof sector, &found, error))
        return FALSE;
    *got = found > inside ? MIN(len, found - inside) : 0;
    memcpy(to, sector + inside, *got);
    crypto_wipe(sector, sizeof sector);
    return TRUE;
}

/* How many of @len bytes at @off come next: the rest of a sector, or whole ones. */
static gsize
next_piece(guint64 off, gsize len, gsize most)
{
    gsize inside = off % CIPHER_SECTOR_BYTES;

    if (inside != 0 || len < CIPHER_SECTOR_BYTES)
        return MIN(len, CIPHER_SECTOR_BYTES - inside);
    return MIN(len - len % CIPHER_SECTOR_BYTES, most);
}

static gboolean
crypt_pread(BlkStore *store, guint64 off, void *buf, gsize len, gsize *got, GError **error)
{
    CryptStore *crypt = crypt_of(store);
    guint8 *to = buf;

    if (!check_open(crypt, error))
        return FALSE;
    for (gsize done = 0, found; done < len; done += found) {
        gsize piece = next_piece(off + done, len - done, len);
        gboolean is_part = piece < CIPHER_SECTOR_BYTES;

        if (!(is_part ? read_part : read_sectors)(crypt, off + done, to + done, piece, &found, error))
            return FALSE;
        if (found < piece) {
            *got = done + found;
            return TRUE;
        }
    }
    *got = len;
    return TRUE;
}

static gboolean
write_sectors(CryptStore *crypt, guint64 off, guint8 *bytes, gsize len, GError **error)
{
    return sector_cipher_encrypt(crypt->cipher, off / CIPHER_SECTOR_BYTES, bytes, len, error)
           && blk_pwrite(crypt->below, crypt->skipped + off, bytes, len, error);
}

static gboolean
write_part(CryptStore *crypt, guint64 off, const guint8 *from, gsize len, GError **error)
{
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&crypt->partial);
    guint8 sector[CIPHER_SECTOR_BYTES];
    gsize inside = off % CIPHER_SECTOR_BYTES, found;

    if (!read_sectors(crypt, off - inside, sector, sizeof sector, &found, error))
        return FALSE;
    if (found == 0) /* past the end: nothing was there, not even ciphertext */
        memset(sector, 0, sizeof sector);
    memcpy(sector + inside, from, len);
    return write_sectors(crypt, off - inside, sector, sizeof sector, error);
}

static gboolean
crypt_pwrite(BlkStore *store, guint64 off, const void *buf, gsize len, GError **error)
{
    CryptStore *crypt = crypt_of(store);
    g_autofree guint8 *aside = NULL;
    const guint8 *from = buf;

    if (!check_open(crypt, error))
        return FALSE;
    for (gsize done = 0, piece; done < len; done += piece) {
        piece = next_piece(off + done, len - done, PIECE_BYTES);
        if (piece < CIPHER_SECTOR_BYTES) {
            if (!write_part(crypt, off + done, from + done, piece, error))
                return FALSE;
            continue;
        }
        if (!aside)
            aside = g_malloc(MIN(len, PIECE_BYTES));
        memcpy(aside, from + done, piece);
        if (!write_sectors(crypt, off + done, aside, piece, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean
crypt_truncate(BlkStore *store, guint64 bytes, GError **error)
{
    CryptStore *crypt = crypt_of(store);

    return blk_truncate(crypt->below, crypt->skipped + bytes, error);
}

static gboolean
crypt_flush(BlkStore *store, GError **error)
{
    return blk_flush(crypt_of(store)->below, error);
}

static gboolean
crypt_size(BlkStore *store, guint64 *bytes, GError **error)
{
    CryptStore *crypt = crypt_of(store);

    if (!blk_size(crypt->below, bytes, error))
        return FALSE;
    *bytes -= MIN(crypt->skipped, *bytes);
    return TRUE;
}

static void
crypt_free(BlkStore *store)
{
    CryptStore *crypt = crypt_of(store);

    sector_cipher_free(crypt->cipher);
    g_mutex_clear(&crypt->partial);
    g_free(crypt);
}

static const BlkOps crypt_ops = {
    .name = "crypt",
    .pread = crypt_pread,
    .pwrite = crypt_pwrite,
    .truncate = crypt_truncate,
    .flush = crypt_flush,
    .size = crypt_size,
    .free = crypt_free,
};

BlkStore *
blk_crypt_new(BlkStore *below)
{
    return blk_crypt_new_behind(below, 0);
}

BlkStore *
blk_crypt_new_behind(BlkStore *below, guint64 skipped)
{
    CryptStore *crypt = g_new0(CryptStore, 1);

    crypt->store =
        (BlkStore){ .ops = &crypt_ops, .label = g_strdup(below->label), .writable = below->writable };
    crypt->below = below;
    crypt->skipped = skipped;
    g_mutex_init(&crypt->partial);
    return &crypt->store;
}

void
blk_crypt_unlock(BlkStore *store, SectorCipher *cipher)
{
    g_assert(store->ops == &crypt_ops);
    CryptStore *crypt = crypt_of(store);

    sector_cipher_free(crypt->cipher);
    crypt->cipher = cipher;
}
