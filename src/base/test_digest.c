/* SHA-256 as FIPS 180-4 gives its examples, fed whole and in pieces, and against GLib's own. */
#include "base/digest.h"

#include <string.h>

static const struct {
    const char *text, *digest;
} vectors[] = {
    { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
    { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
    { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static void
test_vectors(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(vectors); i++) {
        g_autofree char *whole = digest_of(vectors[i].text, strlen(vectors[i].text), NULL);
        g_autoptr(Digest) digest = digest_new(NULL);

        g_assert_cmpstr(whole, ==, vectors[i].digest);
        for (const char *c = vectors[i].text; *c; c++)
            digest_feed(digest, c, 1);
        g_autofree char *pieces = digest_text(digest);
        g_assert_cmpstr(pieces, ==, vectors[i].digest);
    }
}

static gpointer
hash_in_thread(gpointer data)
{
    const GByteArray *bytes = data;
    char *found = digest_of(bytes->data, bytes->len, NULL);
    g_autofree char *wanted = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes->data, bytes->len);

    g_assert_cmpstr(found, ==, wanted);
    return found;
}

static void
test_threads(void)
{
    GThread *threads[8];
    g_autoptr(GByteArray) bytes = g_byte_array_new();

    g_byte_array_set_size(bytes, 300001);
    for (guint i = 0; i < bytes->len; i++)
        bytes->data[i] = (guint8) g_random_int();
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("hash", hash_in_thread, bytes);
    for (gsize i = 0; i < G_N_ELEMENTS(threads); i++)
        g_free(g_thread_join(threads[i]));
}

static void
test_text(void)
{
    g_autofree char *text = g_strdup(vectors[0].digest);

    g_assert_true(digest_is_text(text));
    text[7] ^= 0x20; /* one bit: an upper-case digit */
    g_assert_false(digest_is_text(text));
    text[7] ^= 0x20;
    text[63] = 0;
    g_assert_false(digest_is_text(text));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/digest/vectors", test_vectors);
    g_test_add_func("/base/digest/threads", test_threads);
    g_test_add_func("/base/digest/text", test_text);
    return g_test_run();
}
