/* Rules held: hashes and derivations answer what other implementations do, for an empty passphrase too; each
 * cipher answers its published vector; every cipher and mode takes back what it did. */
#include "base/crypto.h"

#include <string.h>

static void
from_hex(const char *hex, guint8 *bytes)
{
    for (gsize i = 0; hex[2 * i]; i++)
        bytes[i] = (guint8) (g_ascii_xdigit_value(hex[2 * i]) << 4 | g_ascii_xdigit_value(hex[2 * i + 1]));
}

static void
assert_hex(const guint8 *bytes, const char *hex)
{
    guint8 wanted[64];

    from_hex(hex, wanted);
    g_assert_cmpmem(bytes, strlen(hex) / 2, wanted, strlen(hex) / 2);
}

/* Digest of "abc"; then 20 bytes derived from "password" and "salt" in 2 iterations, and from nothing and
 * "salt" in one. Made with Python's hashlib (OpenSSL). */
static const struct {
    CryptoHash hash;
    const char *digest, *derived, *from_nothing;
} hashes[] = {
    { CRYPTO_MD5, "900150983cd24fb0d6963f7d28e17f72", "042407b552be345ad6eee2cf2f7ed01dd9662d8f",
      "eeeb6efd1880aac9ca4161b7162484d8db10bfb9" },
    { CRYPTO_SHA1, "a9993e364706816aba3e25717850c26c9cd0d89d", "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957",
      "a33dddc30478185515311f8752895d36ea4363a2" },
    { CRYPTO_SHA224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
      "93200ffa96c5776d38fa10abdf8f5bfc0054b971", "35cc2b821df141e4346ae61836ac2c25a653c02a" },
    { CRYPTO_SHA256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      "ae4d0c95af6b46d32d0adff928f06dd02a303f8e", "f135c27993baf98773c5cdb40a5706ce6a345cde" },
    { CRYPTO_SHA384,
      "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
      "54f775c6d790f21930459162fc535dbf04a93918", "0f2e98f6834469c6dd38a3484e8eba4ddfa88b64" },
    { CRYPTO_SHA512,
      "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d44"
      "23643c"
      "e80e2a9ac94fa54ca49f",
      "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e", "00ef42cdbfc98d29db20976608e455567fdddf14" },
    { CRYPTO_RIPEMD160, "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc", NULL, NULL },
};

static void
test_hashes(void)
{
    g_assert_true(crypto_load(NULL));
    for (gsize i = 0; i < G_N_ELEMENTS(hashes); i++) {
        guint8 digest[CRYPTO_HASH_BYTES_MAX], key[20];
        CryptoDerivation how = { hashes[i].hash, (const guint8 *) "salt", 4, 2 };
        g_autoptr(GError) error = NULL;

        g_assert_cmpuint(strlen(hashes[i].digest), ==, 2 * crypto_hash_bytes(hashes[i].hash));
        crypto_hash(hashes[i].hash, "abc", 3, digest);
        assert_hex(digest, hashes[i].digest);
        crypto_derive(&how, "password", 8, key, sizeof key, &error);
        g_assert_no_error(error);
        if (hashes[i].derived)
            assert_hex(key, hashes[i].derived);
        how.iterations = 1;
        crypto_derive(&how, "", 0, key, sizeof key, &error);
        g_assert_no_error(error);
        if (hashes[i].from_nothing)
            assert_hex(key, hashes[i].from_nothing);
    }
}

/* One block of ECB (XTS: 32 bytes), published: FIPS 197, RFC 2144, the papers of Serpent and Twofish, IEEE
 * 1619. */
static const struct {
    CryptoAlgorithm algorithm;
    CryptoMode mode;
    const char *key, *plain, *cipher;
} vectors[] = {
    { CRYPTO_AES128, CRYPTO_ECB, "000102030405060708090a0b0c0d0e0f", "00112233445566778899aabbccddeeff",
      "69c4e0d86a7b0430d8cdb78070b4c55a" },
    { CRYPTO_AES256, CRYPTO_ECB, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
      "00112233445566778899aabbccddeeff", "8ea2b7ca516745bfeafc49904b496089" },
    { CRYPTO_CAST5, CRYPTO_ECB, "0123456712345678234567893456789a", "0123456789abcdef", "238b4fe5847e44b2" },
    { CRYPTO_TWOFISH128, CRYPTO_ECB, "00000000000000000000000000000000", "00000000000000000000000000000000",
      "9f589f5cf6122c32b6bfec2f2ae8c35a" },
    { CRYPTO_TWOFISH192, CRYPTO_ECB, "0123456789abcdeffedcba98765432100011223344556677",
      "00000000000000000000000000000000", "cfd1d2e5a9be9cdf501f13b892bd2248" },
    { CRYPTO_TWOFISH256, CRYPTO_ECB, "0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff",
      "00000000000000000000000000000000", "37527be0052334b89f0cfccae87cfa20" },
    { CRYPTO_AES128, CRYPTO_XTS, "0000000000000000000000000000000000000000000000000000000000000000",
      "0000000000000000000000000000000000000000000000000000000000000000",
      "917cf69ebd68b2ec9b9fe9a3eadda692cd43d2f59598ed858c02c2652fbf922e" },
};

static void
test_vectors(void)
{
    static const guint8 iv[CRYPTO_BLOCK_BYTES_MAX];

    for (gsize i = 0; i < G_N_ELEMENTS(vectors); i++) {
        guint8 key[CRYPTO_KEY_BYTES_MAX], bytes[32];
        gsize len = strlen(vectors[i].plain) / 2;
        g_autoptr(GError) error = NULL;

        from_hex(vectors[i].key, key);
        from_hex(vectors[i].plain, bytes);
        g_autoptr(CryptoCipher) cipher =
            crypto_cipher_new(vectors[i].algorithm, vectors[i].mode, key, strlen(vectors[i].key) / 2, &error);
        g_assert_no_error(error);
        crypto_cipher_encrypt(cipher, iv, bytes, len);
        assert_hex(bytes, vectors[i].cipher);
        crypto_cipher_decrypt(cipher, iv, bytes, len);
        assert_hex(bytes, vectors[i].plain);
    }
}

static void
test_there_and_back(void)
{
    for (CryptoAlgorithm a = CRYPTO_AES128; a <= CRYPTO_TWOFISH256; a++)
        for (CryptoMode m = CRYPTO_ECB; m <= CRYPTO_CTR; m++) {
            guint8 key[CRYPTO_KEY_BYTES_MAX], iv[CRYPTO_BLOCK_BYTES_MAX], bytes[512], first[512], plain[512];
            g_autoptr(GError) error = NULL;

            if (m == CRYPTO_XTS && crypto_algorithm_block_bytes(a) != 16)
                continue;
            crypto_random(key, sizeof key);
            crypto_random(iv, sizeof iv);
            crypto_random(plain, sizeof plain);
            memcpy(bytes, plain, sizeof bytes);
            g_autoptr(CryptoCipher) cipher = crypto_cipher_new(
                a, m, key, crypto_algorithm_key_bytes(a) * (m == CRYPTO_XTS ? 2 : 1), &error);
            g_assert_no_error(error);
            crypto_cipher_encrypt(cipher, iv, bytes, sizeof bytes);
            g_assert_cmpint(memcmp(bytes, plain, sizeof bytes), !=, 0);
            memcpy(first, bytes, sizeof bytes);
            crypto_cipher_decrypt(cipher, iv, bytes, sizeof bytes);
            g_assert_cmpmem(bytes, sizeof bytes, plain, sizeof plain);
            /* Nothing of the last run is left in the cipher. */
            crypto_cipher_encrypt(cipher, iv, bytes, sizeof bytes);
            g_assert_cmpmem(bytes, sizeof bytes, first, sizeof first);
        }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/crypto/hashes", test_hashes);
    g_test_add_func("/base/crypto/vectors", test_vectors);
    g_test_add_func("/base/crypto/there-and-back", test_there_and_back);
    return g_test_run();
}
