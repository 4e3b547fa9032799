/* The head of a save file. The harness makes the checksums right, so that fuzzing gets behind them; what
 * decodes is encoded to what decodes the same. */
#include "vm/savefile.h"
#include "base/crc.h"
#include "base/num.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define PAGE_CRC_OFF  16
#define TEXTS_CRC_OFF 20

static void
mend_checksums(guint8 *buf, gsize len)
{
    gsize texts = (gsize) be32_load(buf + 24) + be32_load(buf + 28);

    if (texts <= len - VM_SAVEFILE_PAGE_BYTES)
        be32_store(buf + TEXTS_CRC_OFF, crc32_add(0, buf + VM_SAVEFILE_PAGE_BYTES, texts));
    be32_store(buf + PAGE_CRC_OFF, 0);
    be32_store(buf + PAGE_CRC_OFF, crc32_add(0, buf, VM_SAVEFILE_PAGE_BYTES));
}

static void
try_decode(const guint8 *buf, gsize len)
{
    g_autoptr(GError) error = NULL;
    gsize need, again_len;

    if (!vm_savefile_head_bytes(buf, len, "x", &need, &error))
        return;
    g_assert_cmpuint(need, <=, VM_SAVEFILE_HEAD_MAX_BYTES);
    g_autoptr(VmSaveHead) head = vm_savefile_decode(buf, MIN(len, need), len, "x", &error);
    if (!head)
        return;
    g_autofree guint8 *again = vm_savefile_encode(head, &again_len, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(again_len, ==, need);
    g_autoptr(VmSaveHead) second = vm_savefile_decode(again, again_len, len, "x", &error);
    g_assert_no_error(error);
    g_assert_cmpstr(second->live_xml, ==, head->live_xml);
    g_assert_cmpstr(second->inactive_xml, ==, head->inactive_xml);
    g_assert_cmpuint(second->stream_bytes, ==, head->stream_bytes);
    g_assert_cmpuint(second->disks_bytes, ==, head->disks_bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    g_autofree guint8 *copy = g_memdup2(data, len);

    try_decode(data, len);
    if (len >= VM_SAVEFILE_PAGE_BYTES) {
        mend_checksums(copy, len);
        try_decode(copy, len);
    }
    return 0;
}
