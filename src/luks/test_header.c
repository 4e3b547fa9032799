/* Rules held: the fields tile the header; what is decoded encodes to the same bytes; each rule of the header
 * is broken once and refused by name; names lead to specs and back. */
#include "luks/header.h"

#include "base/num.h"

#include <string.h>

#define ROOM (2 * MIB)

static const LuksSpec usual = {
    { CRYPTO_AES256, CRYPTO_XTS, CIPHER_IV_PLAIN64, CRYPTO_SHA256 },
    CRYPTO_SHA256,
};

static void
make(guint8 buf[LUKS_HEADER_BYTES])
{
    LuksHeader header;

    luks_header_init(&header, &usual);
    header.digest_iterations = 1000;
    luks_header_encode(&header, buf);
}

static void
test_round_trip(void)
{
    guint8 buf[LUKS_HEADER_BYTES], again[LUKS_HEADER_BYTES];
    LuksHeader header;
    LuksSpec spec;
    g_autoptr(GError) error = NULL;

    make(buf);
    g_assert_true(luks_header_decode(buf, ROOM, &header, &error));
    g_assert_no_error(error);
    luks_header_derive(&header, &spec);
    g_assert_cmpmem(&spec, sizeof spec, &usual, sizeof usual);
    /* What QEMU and cryptsetup lay out for a key of 64 bytes. */
    g_assert_cmpuint(header.payload_sector, ==, 4040);
    g_assert_cmpuint(header.slots[1].material_sector, ==, 512);
    luks_header_encode(&header, again);
    g_assert_cmpmem(again, sizeof again, buf, sizeof buf);
}

static void
test_every_byte_is_a_fields(void)
{
    guint8 buf[LUKS_HEADER_BYTES], again[LUKS_HEADER_BYTES];

    /* Where no rule forbids it, a changed byte is kept: none is lost or taken twice. */
    for (gsize at = 0; at < LUKS_HEADER_BYTES; at++) {
        LuksHeader header;

        make(buf);
        buf[at] ^= 1;
        if (!luks_header_decode(buf, ROOM, &header, NULL))
            continue;
        luks_header_encode(&header, again);
        g_assert_cmpmem(again, sizeof again, buf, sizeof buf);
    }
}

static const struct {
    const char *name;
    gsize off;
    const char *bytes;
    gsize len;
    KhoErrorCode code;
    const char *says;
} rows[] = {
    { "magic", 5, "\xbf", 1, KHO_ERROR_INVALID, "magic" },
    { "version", 7, "\x02", 1, KHO_ERROR_UNSUPPORTED, "version 2" },
    { "cipher", 8, "des", 4, KHO_ERROR_UNSUPPORTED, "'des'" },
    { "endless-cipher", 8, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 32, KHO_ERROR_CORRUPT, "no end" },
    { "mode-without-generator", 40, "xts\0", 4, KHO_ERROR_UNSUPPORTED, "'xts'" },
    { "mode", 40, "ofb-plain", 10, KHO_ERROR_UNSUPPORTED, "'ofb-plain'" },
    { "generator", 40, "xts-benbi", 10, KHO_ERROR_UNSUPPORTED, "'xts-benbi'" },
    { "essiv-without-hash", 40, "cbc-essiv", 10, KHO_ERROR_UNSUPPORTED, "'cbc-essiv'" },
    { "essiv-hash-too-short", 40, "xts-essiv:sha1", 15, KHO_ERROR_UNSUPPORTED, "essiv" },
    { "hash", 72, "tiger", 6, KHO_ERROR_UNSUPPORTED, "'tiger'" },
    { "key-bytes", 111, "\x21", 1, KHO_ERROR_CORRUPT, "key's length is 33" },
    { "digest-iterations-0", 164, "\0\0\0\0", 4, KHO_ERROR_CORRUPT, "iterations is 0" },
    { "digest-iterations", 164, "\x10\0\0\x01", 4, KHO_ERROR_CORRUPT, "iterations is 268435457" },
    { "state", 208, "\0\0\0\0", 4, KHO_ERROR_CORRUPT, "the state of key slot 0" },
    { "iterations-0", 208, "\0\xac\x71\xf3\0\0\0\0", 8, KHO_ERROR_CORRUPT, "iterations of key slot 0 is 0" },
    { "iterations", 208, "\0\xac\x71\xf3\xff\xff\xff\xff", 8, KHO_ERROR_CORRUPT, "iterations of key slot 0" },
    { "material-in-header", 248, "\0\0\0\x01", 4, KHO_ERROR_CORRUPT, "place of the key material" },
    { "material-past-room", 248 + 7 * 48, "\xff\xff\xff\xff", 4, KHO_ERROR_CORRUPT, "of key slot 7" },
    { "stripes", 252, "\xff\xff\xff\xff", 4, KHO_ERROR_CORRUPT, "stripes of key slot 0" },
    { "overlap", 248 + 48, "\0\0\0\x09", 4, KHO_ERROR_CORRUPT, "slots 0 and 1 overlap" },
};

static void
test_refuses(gconstpointer data)
{
    gsize i = GPOINTER_TO_SIZE(data);
    guint8 buf[LUKS_HEADER_BYTES];
    LuksHeader header = { .version = 77 };
    g_autoptr(GError) error = NULL;

    make(buf);
    memcpy(buf + rows[i].off, rows[i].bytes, rows[i].len);
    g_assert_false(luks_header_decode(buf, ROOM, &header, &error));
    g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
    g_assert_nonnull(strstr(error->message, rows[i].says));
    g_assert_cmpuint(header.version, ==, 77); /* out untouched */
}

static void
test_room(void)
{
    guint8 buf[LUKS_HEADER_BYTES];
    guint64 room = luks_room_bytes(&usual), last_end;
    LuksHeader header;

    make(buf);
    g_assert_true(luks_header_decode(buf, room, &header, NULL));
    last_end = (guint64) header.slots[7].material_sector * CIPHER_SECTOR_BYTES + luks_material_bytes(&header);
    g_assert_cmpuint(last_end, <=, room);
    g_assert_false(luks_header_decode(buf, last_end - 1, &header, NULL));
}

static void
test_names(void)
{
    static const struct {
        LuksNames names;
        const char *says; /* NULL: good */
    } specs[] = {
        { { "aes-128", "cbc", "essiv", "sha256", "sha1" }, NULL },
        { { "twofish-192", "xts", "plain64", NULL, "ripemd160" }, NULL },
        { { "cast5-128", "cbc", "plain", NULL, "sha512" }, NULL },
        { { "cast5-128", "xts", "plain", NULL, "sha512" }, "xts" },
        { { "cast5-128", "cbc", "essiv", "sha256", "sha512" }, "essiv" },
        { { "aes-256", "xts", "essiv", "sha512", NULL }, "essiv" },
        { { "aes-192", "cbc", "plain64", NULL, NULL }, "cannot open" },
        { { "des", NULL, NULL, NULL, NULL }, "'cipher-alg' does not accept value 'des'" },
        { { NULL, "ofb", NULL, NULL, NULL }, "'cipher-mode' does not accept value 'ofb'" },
        { { NULL, NULL, "benbi", NULL, NULL }, "'ivgen-alg' does not accept value 'benbi'" },
        { { NULL, NULL, NULL, NULL, "tiger" }, "'hash-alg' does not accept value 'tiger'" },
        { { NULL, NULL, "essiv", "tiger", NULL }, "'ivgen-hash-alg' does not accept value 'tiger'" },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(specs); i++) {
        g_autoptr(GError) error = NULL;
        LuksSpec spec;
        LuksNames names;
        gboolean good = luks_spec_of_names(&specs[i].names, &spec, &error);

        g_assert_cmpint(good, ==, specs[i].says == NULL);
        if (!good) {
            g_assert_nonnull(strstr(error->message, specs[i].says));
            continue;
        }
        luks_spec_names(&spec, &names);
        g_assert_cmpstr(names.cipher, ==, specs[i].names.cipher);
        g_assert_cmpstr(names.mode, ==, specs[i].names.mode);
        g_assert_cmpstr(names.iv, ==, specs[i].names.iv);
        g_assert_cmpstr(names.iv_hash, ==, specs[i].names.iv_hash);
        g_assert_cmpstr(names.hash, ==, specs[i].names.hash);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/luks/header/round-trip", test_round_trip);
    g_test_add_func("/luks/header/every-byte", test_every_byte_is_a_fields);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *path = g_strdup_printf("/luks/header/refuses/%s", rows[i].name);
        g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_refuses);
    }
    g_test_add_func("/luks/header/room", test_room);
    g_test_add_func("/luks/header/names", test_names);
    return g_test_run();
}
