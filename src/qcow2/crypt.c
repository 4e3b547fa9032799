#include "qcow2/crypt.h"

#include "base/error.h"
#include "block/crypt.h"
#include "qcow2/flush.h"
#include "qcow2/qcow2.h"
#include "qcow2/refcount.h"

#include <string.h>

static const CipherSpec legacy_aes = { CRYPTO_AES128, CRYPTO_CBC, CIPHER_IV_PLAIN64, CRYPTO_SHA256 };

void
qcow2_crypt_attach(Qcow2Image *image)
{
    FormatImage *base = &image->base;

    base->encrypted = image->header.crypt_method != QCOW2_CRYPT_NONE;
    if (qcow2_has_data_file(&image->header))
        return; /* it comes later (qcow2_set_data) */
    if (base->encrypted)
        qcow2_crypt_set_data(image, base->file);
    else
        base->data = base->file;
}

void
qcow2_crypt_set_data(Qcow2Image *image, BlkStore *ciphertext)
{
    image->ciphertext = ciphertext;
    /* Of an old one it stays locked: nothing goes through it. */
    image->base.data = blk_crypt_new(ciphertext);
    if (image->waiting)
        blk_crypt_unlock(image->base.data, g_steal_pointer(&image->waiting));
}

void
qcow2_crypt_detach(Qcow2Image *image)
{
    if (image->borrowed_key)
        return;
    sector_cipher_free(image->aes);
    sector_cipher_free(image->waiting);
    if (image->base.data != image->base.file)
        blk_free(image->base.data);
    if (image->ciphertext != image->base.file)
        blk_free(image->ciphertext);
}

void
qcow2_crypt_borrow(Qcow2Image *view, const Qcow2Image *image)
{
    qcow2_crypt_detach(view);
    view->base.data = image->base.data;
    view->ciphertext = image->ciphertext;
    view->aes = image->aes;
    view->borrowed_key = TRUE;
}

static gboolean
barrier(LuksRule rule, gpointer data, GError **error)
{
    static const Qcow2Rule rules[] = {
        [LUKS_SLOT_BEFORE_ACTIVE] = QCOW2_RULE_SLOT_BEFORE_ACTIVE,
        [LUKS_INACTIVE_BEFORE_WIPE] = QCOW2_RULE_INACTIVE_BEFORE_WIPE,
        [LUKS_CHANGE_DURABLE] = QCOW2_RULE_NONE,
    };

    return qcow2_barrier(data, rules[rule], error);
}

static LuksPlace
place_of(const Qcow2Image *image)
{
    return (LuksPlace){
        .file = image->base.file,
        .off_bytes = image->extensions.luks_off,
        .room_bytes = image->extensions.luks_bytes,
        .barrier = barrier,
        .data = (gpointer) image,
    };
}

static gboolean
read_header(const Qcow2Image *image, LuksHeader *header, GError **error)
{
    const LuksPlace place = place_of(image);

    return luks_header_read(&place, header, error);
}

gboolean
qcow2_crypt_describe(const Qcow2Image *image, LuksHeader **luks, GError **error)
{
    LuksHeader header;

    *luks = NULL;
    if (image->header.crypt_method != QCOW2_CRYPT_LUKS)
        return TRUE;
    if (!read_header(image, &header, error))
        return FALSE;
    *luks = g_memdup2(&header, sizeof header);
    return TRUE;
}

static gboolean
use_key(Qcow2Image *image, const LuksHeader *header, const LuksKey *key, GError **error)
{
    LuksSpec spec;

    luks_header_derive(header, &spec);
    SectorCipher *cipher = sector_cipher_new(&spec.cipher, key->bytes, error);
    if (!cipher)
        return FALSE;
    if (image->base.data) {
        blk_crypt_unlock(image->base.data, cipher);
    } else {
        sector_cipher_free(image->waiting);
        image->waiting = cipher;
    }
    return TRUE;
}

static gboolean
unlock_luks(Qcow2Image *image, LuksPassphrase passphrase, GError **error)
{
    const LuksPlace place = place_of(image);
    g_auto(LuksKey) key = { .len = 0 };
    LuksHeader header;

    return luks_header_read(&place, &header, error)
           && luks_open(&place, &header, passphrase, &key, NULL, error)
           && use_key(image, &header, &key, error);
}

gboolean
qcow2_unlock_with(FormatImage *format, const LuksKey *key, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    LuksHeader header;

    return read_header(image, &header, error) && use_key(image, &header, key, error);
}

/* The passphrase is the key, cut or filled up with zeros: whether it is the right one cannot be told. */
static gboolean
unlock_aes(Qcow2Image *image, LuksPassphrase passphrase, GError **error)
{
    g_auto(LuksKey) key = { .len = cipher_spec_key_bytes(&legacy_aes) };

    memcpy(key.bytes, passphrase.bytes, MIN(passphrase.len, key.len));
    sector_cipher_free(image->aes);
    image->aes = sector_cipher_new(&legacy_aes, key.bytes, error);
    return image->aes != NULL;
}

gboolean
qcow2_unlock(FormatImage *format, const void *passphrase, gsize len, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    const LuksPassphrase known = { passphrase, len };

    switch (image->header.crypt_method) {
    case QCOW2_CRYPT_LUKS: return unlock_luks(image, known, error);
    case QCOW2_CRYPT_AES: return unlock_aes(image, known, error);
    default: return fail(error, KHO_ERROR_INVALID, "%s is not encrypted", format->file->label);
    }
}

gboolean
qcow2_change_keys(FormatImage *format, const LuksChange *change, GError **error)
{
    Qcow2Image *image = qcow2_image(format);
    const LuksPlace place = place_of(image);
    const char *label = format->file->label;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&image->meta);

    if (image->header.crypt_method != QCOW2_CRYPT_LUKS)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s has no LUKS header: there are no key slots", label);
    if (!(format->flags & FORMAT_WRITABLE))
        return fail(error, KHO_ERROR_DENIED, "%s is open for reading only", label);
    if (image->broken || image->refusal)
        return fail(error, KHO_ERROR_CORRUPT, "%s takes no writes: %s", label,
                    image->refusal ? image->refusal : "an earlier flush failed");
    return luks_change(&place, change, error);
}

/* --- a new image --- */

void
qcow2_crypt_append_extension(GByteArray *extensions, const LuksFormat *format)
{
    guint8 data[16] = { 0 }; /* where the header lies is known later */

    be64_store(data + 8, luks_room_bytes(&format->spec));
    qcow2_extension_append(extensions, QCOW2_EXT_LUKS, data, sizeof data);
}

static void
set_extension(Qcow2Image *image, guint64 off)
{
    const GArray *places = image->extensions.places;

    for (guint i = 0; i < places->len; i++) {
        const Qcow2ExtensionPlace *place = &g_array_index(places, Qcow2ExtensionPlace, i);
        if (place->type == QCOW2_EXT_LUKS)
            be64_store(image->head + place->off_bytes, off);
    }
    image->extensions.luks_off = off;
}

gboolean
qcow2_crypt_format_locked(Qcow2Image *image, const LuksFormat *format, LuksKey *key, GError **error)
{
    guint bits = image->geo.cluster_bits;
    guint64 n = num_div_up(image->extensions.luks_bytes, image->geo.cluster_bytes), first, got;

    if (!qcow2_alloc(image, n, TRUE, &first, &got, error))
        return FALSE;
    set_extension(image, first << bits);
    const LuksPlace place = place_of(image);
    return blk_zero(image->base.file, first << bits, n << bits, BLK_ZERO_MAY_PUNCH, error)
           && luks_format(&place, format, key, error);
}

/* --- the old method --- */

gboolean
qcow2_crypt_unpacks(const Qcow2Image *image, Qcow2ClusterKind kind)
{
    return kind == QCOW2_CLUSTER_DATA && image->header.crypt_method == QCOW2_CRYPT_AES;
}

gboolean
qcow2_crypt_read_locked(Qcow2Image *image, guint64 guest, guint64 host, void *buf, gsize len, GError **error)
{
    guint64 inside = guest % CIPHER_SECTOR_BYTES;
    gsize whole = (gsize) num_align_up(inside + len, CIPHER_SECTOR_BYTES);

    if (!image->aes) /* the store deciphers, or says that it cannot */
        return blk_pread_padded(image->base.data, host, buf, len, error);
    g_autofree guint8 *bytes = g_malloc(whole); /* at most a cluster */
    gboolean done = blk_pread_padded(image->ciphertext, host - inside, bytes, whole, error)
                    && sector_cipher_decrypt(image->aes, guest / CIPHER_SECTOR_BYTES, bytes, whole, error);
    if (done)
        memcpy(buf, bytes + inside, len);
    crypto_wipe(bytes, whole);
    return done;
}
