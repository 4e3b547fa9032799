#include "luks/header.h"

#include "base/error.h"
#include "base/num.h"

#include <stddef.h>
#include <string.h>

static const guint8 magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

/* The only place that knows where a field lies. Numbers are big endian, all else is bytes. */
typedef struct {
    guint16 off, width, member;
    gboolean is_number;
} DiskField;

#define BYTES(type, m, off)                                                                                  \
    {                                                                                                        \
        off, sizeof(((type *) 0)->m), offsetof(type, m), FALSE                                               \
    }
#define NUMBER(type, m, off)                                                                                 \
    {                                                                                                        \
        off, sizeof(((type *) 0)->m), offsetof(type, m), TRUE                                                \
    }

static const DiskField fields[] = {
    BYTES(LuksHeader, magic, 0),         NUMBER(LuksHeader, version, 6),
    BYTES(LuksHeader, cipher_name, 8),   BYTES(LuksHeader, cipher_mode, 40),
    BYTES(LuksHeader, hash_name, 72),    NUMBER(LuksHeader, payload_sector, 104),
    NUMBER(LuksHeader, key_bytes, 108),  BYTES(LuksHeader, digest, 112),
    BYTES(LuksHeader, digest_salt, 132), NUMBER(LuksHeader, digest_iterations, 164),
    BYTES(LuksHeader, uuid, 168),
};

static const DiskField slot_fields[] = {
    NUMBER(LuksSlot, state, 0),    NUMBER(LuksSlot, iterations, 4),
    BYTES(LuksSlot, salt, 8),      NUMBER(LuksSlot, material_sector, 40),
    NUMBER(LuksSlot, stripes, 44),
};

typedef struct {
    const char *name, *header_name; /* QEMU's, and what the header says */
    CryptoAlgorithm algorithm;
} CipherName;

static const CipherName ciphers[] = {
    { "aes-128", "aes", CRYPTO_AES128 },
    { "aes-192", "aes", CRYPTO_AES192 },
    { "aes-256", "aes", CRYPTO_AES256 },
    { "cast5-128", "cast5", CRYPTO_CAST5 },
    { "serpent-128", "serpent", CRYPTO_SERPENT128 },
    { "serpent-192", "serpent", CRYPTO_SERPENT192 },
    { "serpent-256", "serpent", CRYPTO_SERPENT256 },
    { "twofish-128", "twofish", CRYPTO_TWOFISH128 },
    { "twofish-192", "twofish", CRYPTO_TWOFISH192 },
    { "twofish-256", "twofish", CRYPTO_TWOFISH256 },
};

static const char *const mode_names[] = {
    [CRYPTO_ECB] = "ecb", [CRYPTO_CBC] = "cbc", [CRYPTO_XTS] = "xts", [CRYPTO_CTR] = "ctr"
};
static const char *const iv_names[] = {
    [CIPHER_IV_PLAIN] = "plain", [CIPHER_IV_PLAIN64] = "plain64", [CIPHER_IV_ESSIV] = "essiv"
};
static const char *const hash_names[] = {
    [CRYPTO_MD5] = "md5",
    [CRYPTO_SHA1] = "sha1",
    [CRYPTO_SHA224] = "sha224",
    [CRYPTO_SHA256] = "sha256",
    [CRYPTO_SHA384] = "sha384",
    [CRYPTO_SHA512] = "sha512",
    [CRYPTO_RIPEMD160] = "ripemd160",
};

/* The row that says the first @len bytes of @name, or -1. */
static int
find_name(const char *const *names, gsize n, const char *name, gsize len)
{
    for (gsize i = 0; i < n; i++)
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
            return (int) i;
    return -1;
}
#define FIND(names, name, len) find_name(names, G_N_ELEMENTS(names), name, len)

static void
decode_fields(const DiskField *f, gsize n, const guint8 *from, gpointer to)
{
    for (gsize i = 0; i < n; i++)
        for (guint16 b = 0; b < f[i].width; b++) {
            gboolean swap = f[i].is_number && G_BYTE_ORDER != G_BIG_ENDIAN;
            ((guint8 *) to)[f[i].member + (swap ? f[i].width - 1 - b : b)] = from[f[i].off + b];
        }
}

static void
encode_fields(const DiskField *f, gsize n, const void *from, guint8 *to)
{
    for (gsize i = 0; i < n; i++)
        for (guint16 b = 0; b < f[i].width; b++) {
            gboolean swap = f[i].is_number && G_BYTE_ORDER != G_BIG_ENDIAN;
            to[f[i].off + b] = ((const guint8 *) from)[f[i].member + (swap ? f[i].width - 1 - b : b)];
        }
}

void
luks_header_encode(const LuksHeader *header, guint8 buf[LUKS_HEADER_BYTES])
{
    memset(buf, 0, LUKS_HEADER_BYTES);
    encode_fields(fields, G_N_ELEMENTS(fields), header, buf);
    for (guint i = 0; i < LUKS_SLOTS; i++)
        encode_fields(slot_fields, G_N_ELEMENTS(slot_fields), &header->slots[i],
                      buf + LUKS_SLOTS_OFF + i * LUKS_SLOT_BYTES);
}

static gboolean
bad(GError **error, const char *field, guint64 value)
{
    return fail(error, KHO_ERROR_CORRUPT, "bad LUKS header: %s is %" G_GUINT64_FORMAT, field, value);
}

static gboolean
unknown(GError **error, const char *field, const char *value)
{
    return fail(error, KHO_ERROR_UNSUPPORTED, "bad LUKS header: %s is '%s', which is not known", field,
                value);
}

static gboolean
is_ended(const char *text, gsize room, const char *field, GError **error)
{
    return memchr(text, 0, room) || fail(error, KHO_ERROR_CORRUPT, "bad LUKS header: %s has no end", field);
}

/* "xts-plain64", "cbc-essiv:sha256". A hash behind another generator than essiv says nothing. */
static gboolean
read_mode(const char *text, CipherSpec *spec, GError **error)
{
    const char *dash = strchr(text, '-');
    const char *iv = dash ? dash + 1 : "";
    const char *colon = strchr(iv, ':');
    int mode = dash ? FIND(mode_names, text, (gsize) (dash - text)) : -1;
    int kind = FIND(iv_names, iv, colon ? (gsize) (colon - iv) : strlen(iv));
    int hash = colon ? FIND(hash_names, colon + 1, strlen(colon + 1)) : -1;

    if (mode < 0 || kind < 0 || (kind == CIPHER_IV_ESSIV && hash < 0))
        return unknown(error, "the cipher's mode", text);
    spec->mode = (CryptoMode) mode;
    spec->iv = (CipherIv) kind;
    spec->iv_hash = hash < 0 ? CRYPTO_SHA256 : (CryptoHash) hash;
    return TRUE;
}

static gboolean
read_cipher(const LuksHeader *h, CipherSpec *spec, GError **error)
{
    gboolean seen = FALSE;

    if (!read_mode(h->cipher_mode, spec, error))
        return FALSE;
    for (gsize i = 0; i < G_N_ELEMENTS(ciphers); i++) {
        if (!g_str_equal(ciphers[i].header_name, h->cipher_name))
            continue;
        seen = TRUE;
        spec->algorithm = ciphers[i].algorithm;
        if (cipher_spec_key_bytes(spec) == h->key_bytes)
            return cipher_spec_check(spec, error);
    }
    return seen ? bad(error, "the key's length", h->key_bytes) : unknown(error, "the cipher", h->cipher_name);
}

static gboolean
read_spec(const LuksHeader *h, LuksSpec *spec, GError **error)
{
    int hash = FIND(hash_names, h->hash_name, strlen(h->hash_name));

    if (hash < 0)
        return unknown(error, "the hash", h->hash_name);
    spec->hash = (CryptoHash) hash;
    return read_cipher(h, &spec->cipher, error);
}

static gboolean
bad_slot(GError **error, guint slot, const char *field, guint64 value)
{
    return fail(error, KHO_ERROR_CORRUPT, "bad LUKS header: %s of key slot %u is %" G_GUINT64_FORMAT, field,
                slot, value);
}

/* The key's length is checked by now, so that sums of 32-bit sectors and 250 KiB do not overflow. */
static gboolean
check_slot(const LuksHeader *h, guint i, guint64 room_bytes, GError **error)
{
    const LuksSlot *s = &h->slots[i];
    guint64 start = (guint64) s->material_sector * CIPHER_SECTOR_BYTES;

    if (s->state != LUKS_SLOT_ENABLED && s->state != LUKS_SLOT_DISABLED)
        return bad_slot(error, i, "the state", s->state);
    if (s->stripes != LUKS_STRIPES)
        return bad_slot(error, i, "the number of stripes", s->stripes);
    if (s->state == LUKS_SLOT_ENABLED && (s->iterations == 0 || s->iterations > LUKS_ITERATIONS_MAX))
        return bad_slot(error, i, "the number of iterations", s->iterations);
    if (start < LUKS_HEADER_BYTES || start > room_bytes || luks_material_bytes(h) > room_bytes - start)
        return bad_slot(error, i, "the place of the key material, in sectors,", s->material_sector);
    for (guint other = 0; other < i; other++) {
        guint64 begins = (guint64) h->slots[other].material_sector * CIPHER_SECTOR_BYTES;
        if (start < begins + luks_material_bytes(h) && begins < start + luks_material_bytes(h))
            return fail(error, KHO_ERROR_CORRUPT, "bad LUKS header: key slots %u and %u overlap", other, i);
    }
    return TRUE;
}

gboolean
luks_header_decode(const guint8 *buf, guint64 room_bytes, LuksHeader *header, GError **error)
{
    LuksHeader h;
    LuksSpec spec;

    memset(&h, 0, sizeof h);
    decode_fields(fields, G_N_ELEMENTS(fields), buf, &h);
    for (guint i = 0; i < LUKS_SLOTS; i++)
        decode_fields(slot_fields, G_N_ELEMENTS(slot_fields), buf + LUKS_SLOTS_OFF + i * LUKS_SLOT_BYTES,
                      &h.slots[i]);
    if (memcmp(h.magic, magic, sizeof magic) != 0)
        return fail(error, KHO_ERROR_INVALID, "not a LUKS header: its magic number is missing");
    if (h.version != 1)
        return fail(error, KHO_ERROR_UNSUPPORTED, "bad LUKS header: version %u, and kho knows 1", h.version);
    if (!is_ended(h.cipher_name, sizeof h.cipher_name, "the cipher", error)
        || !is_ended(h.cipher_mode, sizeof h.cipher_mode, "the cipher's mode", error)
        || !is_ended(h.hash_name, sizeof h.hash_name, "the hash", error)
        || !is_ended(h.uuid, sizeof h.uuid, "the uuid", error) || !read_spec(&h, &spec, error))
        return FALSE;
    if (h.digest_iterations == 0 || h.digest_iterations > LUKS_ITERATIONS_MAX)
        return bad(error, "the number of the key's iterations", h.digest_iterations);
    for (guint i = 0; i < LUKS_SLOTS; i++)
        if (!check_slot(&h, i, room_bytes, error))
            return FALSE;
    *header = h;
    return TRUE;
}

void
luks_header_derive(const LuksHeader *header, LuksSpec *spec)
{
    gboolean known = read_spec(header, spec, NULL);

    g_assert(known);
}

gsize
luks_material_bytes(const LuksHeader *header)
{
    return (gsize) num_align_up((guint64) header->key_bytes * LUKS_STRIPES, CIPHER_SECTOR_BYTES);
}

static guint64
slot_stride(gsize key_bytes)
{
    return num_align_up((guint64) key_bytes * LUKS_STRIPES, LUKS_ALIGN_BYTES);
}

guint64
luks_room_bytes(const LuksSpec *spec)
{
    return LUKS_ALIGN_BYTES + LUKS_SLOTS * slot_stride(cipher_spec_key_bytes(&spec->cipher));
}

static const CipherName *
cipher_row(CryptoAlgorithm algorithm)
{
    for (gsize i = 0; i < G_N_ELEMENTS(ciphers); i++)
        if (ciphers[i].algorithm == algorithm)
            return &ciphers[i];
    g_assert_not_reached();
}

void
luks_header_init(LuksHeader *header, const LuksSpec *spec)
{
    const CipherSpec *c = &spec->cipher;
    g_autofree char *uuid = g_uuid_string_random();
    guint64 stride = slot_stride(cipher_spec_key_bytes(c));
    gboolean hashed = c->iv == CIPHER_IV_ESSIV;

    memset(header, 0, sizeof *header);
    memcpy(header->magic, magic, sizeof magic);
    header->version = 1;
    g_strlcpy(header->cipher_name, cipher_row(c->algorithm)->header_name, sizeof header->cipher_name);
    g_snprintf(header->cipher_mode, sizeof header->cipher_mode, "%s-%s%s%s", mode_names[c->mode],
               iv_names[c->iv], hashed ? ":" : "", hashed ? hash_names[c->iv_hash] : "");
    g_strlcpy(header->hash_name, hash_names[spec->hash], sizeof header->hash_name);
    g_strlcpy(header->uuid, uuid, sizeof header->uuid);
    header->payload_sector = (guint32) (luks_room_bytes(spec) / CIPHER_SECTOR_BYTES);
    header->key_bytes = (guint32) cipher_spec_key_bytes(c);
    for (guint i = 0; i < LUKS_SLOTS; i++)
        header->slots[i] = (LuksSlot){
            .state = LUKS_SLOT_DISABLED,
            .material_sector = (guint32) ((LUKS_ALIGN_BYTES + i * stride) / CIPHER_SECTOR_BYTES),
            .stripes = LUKS_STRIPES,
        };
}

void
luks_spec_names(const LuksSpec *spec, LuksNames *names)
{
    const CipherSpec *c = &spec->cipher;

    *names = (LuksNames){
        .cipher = cipher_row(c->algorithm)->name,
        .mode = mode_names[c->mode],
        .iv = iv_names[c->iv],
        .iv_hash = c->iv == CIPHER_IV_ESSIV ? hash_names[c->iv_hash] : NULL,
        .hash = hash_names[spec->hash],
    };
}

/* In QEMU's words, which scripts read. */
static gboolean
invalid_name(GError **error, const char *what, const char *value)
{
    return fail(error, KHO_ERROR_INVALID, "Parameter '%s' does not accept value '%s'", what, value);
}

gboolean
luks_spec_of_names(const LuksNames *names, LuksSpec *spec, GError **error)
{
    const char *cipher = names->cipher ? names->cipher : "aes-256", *mode = names->mode ? names->mode : "xts",
               *iv = names->iv ? names->iv : "plain64", *hash = names->hash ? names->hash : "sha256",
               *iv_hash = names->iv_hash ? names->iv_hash : "sha256";
    int mode_row = FIND(mode_names, mode, strlen(mode)), iv_row = FIND(iv_names, iv, strlen(iv)),
        hash_row = FIND(hash_names, hash, strlen(hash)),
        iv_hash_row = FIND(hash_names, iv_hash, strlen(iv_hash));
    const CipherName *row = NULL;

    for (gsize i = 0; i < G_N_ELEMENTS(ciphers) && !row; i++)
        if (g_str_equal(ciphers[i].name, cipher))
            row = &ciphers[i];
    if (!row)
        return invalid_name(error, "cipher-alg", cipher);
    if (mode_row < 0)
        return invalid_name(error, "cipher-mode", mode);
    if (iv_row < 0)
        return invalid_name(error, "ivgen-alg", iv);
    if (hash_row < 0)
        return invalid_name(error, "hash-alg", hash);
    if (iv_hash_row < 0)
        return invalid_name(error, "ivgen-hash-alg", iv_hash);
    LuksSpec s = {
        .cipher = { row->algorithm, (CryptoMode) mode_row, (CipherIv) iv_row, (CryptoHash) iv_hash_row },
        .hash = (CryptoHash) hash_row,
    };
    if (!cipher_spec_check(&s.cipher, error))
        return FALSE;
    /* 24 * 4000 bytes end within a sector: QEMU 7.2 aborts on that. */
    if (cipher_spec_key_bytes(&s.cipher) * LUKS_STRIPES % CIPHER_SECTOR_BYTES != 0)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the cipher %s in mode %s makes an image that QEMU cannot open: use the mode xts", cipher,
                    mode);
    *spec = s;
    return TRUE;
}
