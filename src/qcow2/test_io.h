/* What the tests of this folder share: guest reads and writes over one image without a backing file, images
 * in memory, and the check that must find nothing. */
#ifndef KHO_QCOW2_TEST_IO_H
#define KHO_QCOW2_TEST_IO_H

#include "qcow2/check.h"
#include "qcow2/entry.h"
#include "qcow2/test_window.h"

#include <string.h>

/* A new image in memory. */
static inline BlkStore *
test_create(const Qcow2CreateOptions *options)
{
    BlkStore *store = blk_mem_new(NULL, 0, "test.qcow2");

    store->writable = TRUE;
    g_assert_true(qcow2_create(store, options, NULL));
    return store;
}

/* Opens for writing over @store without taking it over. */
static inline FormatImage *
test_open(BlkStore *store)
{
    return test_open_flags(store, FORMAT_WRITABLE);
}

static inline gboolean
test_read(FormatImage *image, guint64 at, guint8 *buf, gsize len, GError **error)
{
    while (len > 0) {
        Run run;
        gboolean done = TRUE;
        if (!image->ops->map(image, guest_off(at), len, &run, error))
            return FALSE;
        if (run.kind == RUN_DATA)
            done = blk_pread_padded(image->data, run.host.bytes, buf, run.bytes, error);
        else if (run.kind == RUN_COMPRESSED)
            done = image->ops->inflate(image, guest_off(at), buf, run.bytes, error);
        else
            memset(buf, 0, run.bytes);
        if (!done)
            return FALSE;
        at += run.bytes;
        buf += run.bytes;
        len -= run.bytes;
    }
    return TRUE;
}

/* Fills what the guest does not write of a new place, then publishes it. */
static inline gboolean
test_write(FormatImage *image, guint64 at, const guint8 *buf, gsize len, GError **error)
{
    while (len > 0) {
        Place place;
        if (!image->ops->prepare(image, guest_off(at), len, &place, error))
            return FALSE;
        guint64 head = at - place.at.bytes, n = MIN(len, place.bytes - head);
        gboolean done;
        if (place.in_place) {
            done = blk_pwrite(image->data, place.host.bytes, buf, n, error);
        } else {
            g_autofree guint8 *whole = g_malloc0(place.bytes);
            guint64 known = MIN(place.bytes, image->guest_bytes - place.at.bytes);
            done = test_read(image, place.at.bytes, whole, known, error);
            memcpy(whole + head, buf, n);
            done = done && blk_pwrite(image->data, place.host.bytes, whole, place.bytes, error)
                   && image->ops->commit(image, &place, error);
            if (!done)
                image->ops->abandon(image, &place);
        }
        if (!done)
            return FALSE;
        at += n;
        buf += n;
        len -= n;
    }
    return TRUE;
}

/* Zeros as image/ writes them: what the format cannot flag is written. */
static inline gboolean
test_zero(FormatImage *image, guint64 at, guint64 len, GError **error)
{
    while (len > 0) {
        guint64 done;
        if (!image->ops->zero(image, guest_off(at), len, &done, error))
            return FALSE;
        if (done == 0) {
            FormatInfo info;
            static const guint8 zeros[2 * MIB];
            if (!image->ops->info(image, &info, error))
                return FALSE;
            done = MIN(len, info.cluster_bytes - at % info.cluster_bytes);
            g_ptr_array_unref(info.snapshots);
            if (!test_write(image, at, zeros, done, error))
                return FALSE;
        }
        at += done;
        len -= done;
    }
    return TRUE;
}

/* The store's present contents as a new store. */
static inline BlkStore *
test_copy(BlkStore *mem)
{
    g_autoptr(GBytes) bytes = blk_mem_snapshot(mem);
    gsize len;
    gconstpointer data = g_bytes_get_data(bytes, &len);
    BlkStore *copy = blk_mem_new(data, len, "copy.qcow2");

    copy->writable = TRUE;
    return copy;
}

/* The header as it is on disk. */
static inline Qcow2Header
test_header(BlkStore *store)
{
    Qcow2Header header;
    guint8 *head = NULL;

    g_assert_true(qcow2_header_read(store, &header, &head, NULL));
    g_free(head);
    return header;
}

static inline guint64
test_word(BlkStore *store, guint64 off)
{
    guint8 word[8];

    g_assert_true(blk_pread(store, off, word, sizeof word, NULL));
    return be64_load(word);
}

static inline void
test_set_word(BlkStore *store, guint64 off, guint64 value)
{
    guint8 word[8];

    be64_store(word, value);
    g_assert_true(blk_pwrite(store, off, word, sizeof word, NULL));
}

/* Where on disk the L2 entry of @guest lies; its table must be there. */
static inline guint64
test_l2_off(BlkStore *store, guint64 guest)
{
    Qcow2Header h = test_header(store);
    Qcow2Geometry geo;

    qcow2_header_derive(&h, &geo);
    guint64 l1 = test_word(store, h.l1_off + guest / geo.l2_span_bytes * 8);
    g_assert_cmpuint(l1 & QCOW2_ENTRY_OFFSET, !=, 0);
    return (l1 & QCOW2_ENTRY_OFFSET) + guest / geo.cluster_bytes % geo.l2_entries * geo.l2_entry_bytes;
}

/* Writes @len bytes of @value. */
static inline void
test_fill(FormatImage *image, guint64 at, gsize len, guint8 value)
{
    g_autofree guint8 *bytes = g_malloc(len);
    g_autoptr(GError) error = NULL;

    memset(bytes, value, len);
    test_write(image, at, bytes, len, &error);
    g_assert_no_error(error);
}

static inline void
test_expect(FormatImage *image, guint64 at, gsize len, guint8 value)
{
    g_autofree guint8 *bytes = g_malloc(len);
    g_autoptr(GError) error = NULL;

    test_read(image, at, bytes, len, &error);
    g_assert_no_error(error);
    for (gsize i = 0; i < len; i++)
        g_assert_cmpuint(bytes[i], ==, value);
}

static inline void
test_close(FormatImage *image)
{
    g_autoptr(GError) error = NULL;

    image->ops->close(image, &error);
    g_assert_no_error(error);
}

/* No corruption, and at most @max_leaks. */
static inline void
test_clean(BlkStore *store, guint64 max_leaks)
{
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    FormatCheck found = { .messages = messages };

    qcow2_check_file(store, &found, NULL, &error);
    g_assert_no_error(error);
    for (guint i = 0; i < messages->len && (found.corruptions || found.leaks > max_leaks); i++)
        g_test_message("%s", (const char *) messages->pdata[i]);
    g_assert_cmpuint(found.corruptions, ==, 0);
    g_assert_cmpuint(found.check_errors, ==, 0);
    g_assert_cmpuint(found.leaks, <=, max_leaks);
}

#endif
