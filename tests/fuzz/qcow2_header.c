/* The qcow2 header and its extensions, from bytes that nobody has checked. What decodes encodes to the same
 * bytes. */
#include "base/error.h"
#include "base/num.h"
#include "qcow2/extension.h"
#include "qcow2/header.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
decode_extensions(const guint8 *cluster, gsize len, const Qcow2Header *header)
{
    g_auto(Qcow2Extensions) extensions = { 0 };
    g_autoptr(GError) error = NULL;
    gboolean ok = qcow2_extensions_decode(cluster, len, header, &extensions, &error);

    g_assert_true(ok == (error == NULL));
    if (ok && extensions.backing_file)
        g_assert_cmpuint(strlen(extensions.backing_file), <=, QCOW2_BACKING_BYTES);
}

static void
name_features(const guint8 *cluster, gsize len, guint64 header_bytes)
{
    for (guint kind = 0; kind < 3; kind++)
        for (guint bit = 0; bit < 64; bit += 9) {
            g_autofree char *name = qcow2_feature_name(cluster, len, header_bytes, kind, bit);
            g_assert_true(!name || !strchr(name, '\n'));
        }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    /* The file pretends to be large, so that the bounds of the tables are looked at and not only its length.
     */
    static const guint64 sizes[] = { 0, 1 * MIB, 1 * TIB };

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        Qcow2Header header;
        Qcow2Geometry geometry;
        g_autoptr(GError) error = NULL;
        gboolean ok = qcow2_header_decode(data, len, MAX(sizes[i], len), &header, &error);

        g_assert_true(ok == (error == NULL));
        if (!ok)
            continue;
        qcow2_header_derive(&header, &geometry);
        g_assert_true(num_is_pow2(geometry.cluster_bytes) && geometry.refcount_bits <= 64);
        g_autofree guint8 *cluster = g_malloc0(geometry.cluster_bytes);
        memcpy(cluster, data, MIN(len, geometry.cluster_bytes));
        decode_extensions(cluster, geometry.cluster_bytes, &header);
        name_features(cluster, geometry.cluster_bytes, header.header_bytes);
        g_autofree guint8 *again = g_memdup2(cluster, geometry.cluster_bytes);
        qcow2_header_encode(&header, again, geometry.cluster_bytes);
        g_assert_cmpmem(again, MIN(len, geometry.cluster_bytes), cluster, MIN(len, geometry.cluster_bytes));
    }
    return 0;
}
