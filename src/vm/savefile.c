#include "vm/savefile.h"

#include "base/crc.h"
#include "base/error.h"
#include "base/num.h"

#include <stddef.h>
#include <string.h>

#define MAGIC G_GUINT64_CONSTANT(0x6b686f53415645ff) /* "khoSAVE", and no text */

#define FLAG_WHOLE    (1u << 0)
#define FLAG_USED     (1u << 1)
#define FLAG_PAUSED   (1u << 2)
#define FLAG_SNAPSHOT (1u << 3)
#define FLAGS_KNOWN   (FLAG_WHOLE | FLAG_USED | FLAG_PAUSED | FLAG_SNAPSHOT)

/* The first sector as it is on disk; what is not named is zero. */
typedef struct {
    guint64 magic;
    guint32 version, flags;
    guint32 page_crc; /* of the page, these four bytes taken as zeros */
    guint32 texts_crc, live_bytes, inactive_bytes;
    guint64 saved_ms, stream_off, stream_bytes;
    guint32 stream_crc, qemu_version;
    guint32 disks_bytes, disks_crc;
} Page;

/* The only place that knows where a field lies; the width on disk is the member's own. The layout test proves
 * that the rows tile the page's beginning. */
typedef struct {
    guint16 off;
    guint8 width;
    guint16 member;
} DiskField;

#define FIELD(m, disk_off)                                                                                   \
    {                                                                                                        \
        disk_off, sizeof(((Page *) 0)->m), offsetof(Page, m)                                                 \
    }

static const DiskField fields[] = {
    FIELD(magic, 0),        FIELD(version, 8),       FIELD(flags, 12),          FIELD(page_crc, 16),
    FIELD(texts_crc, 20),   FIELD(live_bytes, 24),   FIELD(inactive_bytes, 28), FIELD(saved_ms, 32),
    FIELD(stream_off, 40),  FIELD(stream_bytes, 48), FIELD(stream_crc, 56),     FIELD(qemu_version, 60),
    FIELD(disks_bytes, 64), FIELD(disks_crc, 68),
};
#define CRC_OFF 16

VmSaveHead *
vm_savehead_new(void)
{
    return g_new0(VmSaveHead, 1);
}

void
vm_savehead_free(VmSaveHead *head)
{
    if (!head)
        return;
    g_free(head->live_xml);
    g_free(head->inactive_xml);
    g_free(head);
}

static void
encode_fields(const Page *page, guint8 *buf)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        const guint8 *from = (const guint8 *) page + fields[i].member;
        for (guint8 b = 0; b < fields[i].width; b++) /* disk is big endian */
            buf[fields[i].off + b] = from[G_BYTE_ORDER == G_BIG_ENDIAN ? b : fields[i].width - 1 - b];
    }
}

static void
decode_fields(const guint8 *buf, Page *page)
{
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        guint8 *to = (guint8 *) page + fields[i].member;
        for (guint8 b = 0; b < fields[i].width; b++)
            to[G_BYTE_ORDER == G_BIG_ENDIAN ? b : fields[i].width - 1 - b] = buf[fields[i].off + b];
    }
}

static guint32
page_crc(const guint8 *buf)
{
    static const guint8 zeros[4];
    guint32 crc = crc32_add(0, buf, CRC_OFF);

    crc = crc32_add(crc, zeros, sizeof zeros);
    return crc32_add(crc, buf + CRC_OFF + sizeof zeros, VM_SAVEFILE_PAGE_BYTES - CRC_OFF - sizeof zeros);
}

/* Where the stream begins behind XMLs of these lengths, each at most VM_SAVEFILE_XML_MAX_BYTES. */
static gsize
head_bytes(gsize live_bytes, gsize inactive_bytes)
{
    return num_align_up(VM_SAVEFILE_PAGE_BYTES + live_bytes + inactive_bytes, VM_SAVEFILE_PAGE_BYTES);
}

guint8 *
vm_savefile_encode(VmSaveHead *head, gsize *len, GError **error)
{
    gsize live = strlen(head->live_xml);
    gsize inactive = head->inactive_xml ? strlen(head->inactive_xml) : 0;

    if (live > VM_SAVEFILE_XML_MAX_BYTES || inactive > VM_SAVEFILE_XML_MAX_BYTES) {
        fail(error, KHO_ERROR_INVALID, "an XML of %" G_GSIZE_FORMAT " bytes: a save file holds at most %d",
             MAX(live, inactive), VM_SAVEFILE_XML_MAX_BYTES);
        return NULL;
    }
    head->stream_off = head_bytes(live, inactive);
    *len = head->stream_off;
    guint8 *buf = g_malloc0(*len);
    guint8 *texts = buf + VM_SAVEFILE_PAGE_BYTES;
    memcpy(texts, head->live_xml, live);
    if (inactive > 0)
        memcpy(texts + live, head->inactive_xml, inactive);
    Page page = {
        .magic = MAGIC,
        .version = VM_SAVEFILE_VERSION,
        .flags = (head->whole ? FLAG_WHOLE : 0) | (head->used ? FLAG_USED : 0)
                 | (head->paused ? FLAG_PAUSED : 0) | (head->snapshot ? FLAG_SNAPSHOT : 0),
        .texts_crc = crc32_add(0, texts, live + inactive),
        .live_bytes = (guint32) live,
        .inactive_bytes = (guint32) inactive,
        .saved_ms = (guint64) head->saved_ms,
        .stream_off = head->stream_off,
        .stream_bytes = head->stream_bytes,
        .stream_crc = head->stream_crc,
        .qemu_version = head->qemu_version,
        .disks_bytes = head->disks_bytes,
        .disks_crc = head->disks_crc,
    };
    encode_fields(&page, buf);
    be32_store(buf + CRC_OFF, page_crc(buf));
    return buf;
}

static gboolean
damaged(const char *label, const char *what, GError **error)
{
    return fail(error, KHO_ERROR_CORRUPT, "the save file %s is damaged: %s", label, what);
}

/* Decodes the page and checks what it says by itself. */
static gboolean
read_page(const guint8 *buf, gsize len, const char *label, Page *page, GError **error)
{
    if (len < VM_SAVEFILE_PAGE_BYTES || be64_load(buf) != MAGIC)
        return fail(error, KHO_ERROR_INVALID, "%s is no save file of kho", label);
    decode_fields(buf, page);
    if (page->version != VM_SAVEFILE_VERSION)
        return fail(error, KHO_ERROR_UNSUPPORTED,
                    "the save file %s has version %u, and this kho knows %d: use a newer kho", label,
                    page->version, VM_SAVEFILE_VERSION);
    if (page->page_crc != page_crc(buf))
        return damaged(label, "the checksum of its first page is wrong", error);
    if (page->flags & ~FLAGS_KNOWN)
        return fail(error, KHO_ERROR_UNSUPPORTED, "the save file %s has flags 0x%x: use a newer kho", label,
                    page->flags & ~FLAGS_KNOWN);
    if (page->live_bytes == 0 || page->live_bytes > VM_SAVEFILE_XML_MAX_BYTES
        || page->inactive_bytes > VM_SAVEFILE_XML_MAX_BYTES)
        return damaged(label, "the length of an XML is out of range", error);
    if (page->stream_off != head_bytes(page->live_bytes, page->inactive_bytes))
        return damaged(label, "its stream does not begin behind its XML", error);
    if (page->saved_ms > G_MAXINT64)
        return damaged(label, "its time is out of range", error);
    return TRUE;
}

gboolean
vm_savefile_head_bytes(const guint8 *buf, gsize len, const char *label, gsize *need_bytes, GError **error)
{
    Page page;

    if (!read_page(buf, len, label, &page, error))
        return FALSE;
    *need_bytes = page.stream_off;
    return TRUE;
}

static gboolean
check_texts(const guint8 *texts, const Page *page, const char *label, GError **error)
{
    gsize len = (gsize) page->live_bytes + page->inactive_bytes;

    if (crc32_add(0, texts, len) != page->texts_crc)
        return damaged(label, "the checksum of its XML is wrong", error);
    if (memchr(texts, '\0', len))
        return damaged(label, "its XML holds a NUL", error);
    return TRUE;
}

static gboolean
check_stream(const Page *page, guint64 file_bytes, const char *label, GError **error)
{
    guint64 end;

    if (!(page->flags & FLAG_WHOLE))
        return TRUE;
    if (page->disks_bytes > VM_SAVEFILE_DISKS_MAX_BYTES)
        return damaged(label, "the length of its list of disks is out of range", error);
    if (page->stream_bytes == 0)
        return damaged(label, "it holds no memory", error);
    if (!num_add(page->stream_off, page->stream_bytes, &end) || !num_add(end, page->disks_bytes, &end)
        || end > file_bytes)
        return fail(error, KHO_ERROR_CORRUPT,
                    "the save file %s is truncated: of its memory, %" G_GUINT64_FORMAT
                    " bytes from %" G_GUINT64_FORMAT " on, the file's %" G_GUINT64_FORMAT
                    " bytes hold a part",
                    label, page->stream_bytes, page->stream_off, file_bytes);
    return TRUE;
}

VmSaveHead *
vm_savefile_decode(const guint8 *buf, gsize len, guint64 file_bytes, const char *label, GError **error)
{
    Page page;

    if (!read_page(buf, len, label, &page, error))
        return NULL;
    if (len < page.stream_off) {
        damaged(label, "it ends within its XML", error);
        return NULL;
    }
    const guint8 *texts = buf + VM_SAVEFILE_PAGE_BYTES;
    if (!check_texts(texts, &page, label, error) || !check_stream(&page, file_bytes, label, error))
        return NULL;
    VmSaveHead *head = vm_savehead_new();
    *head = (VmSaveHead){
        .qemu_version = page.qemu_version,
        .whole = (page.flags & FLAG_WHOLE) != 0,
        .used = (page.flags & FLAG_USED) != 0,
        .paused = (page.flags & FLAG_PAUSED) != 0,
        .snapshot = (page.flags & FLAG_SNAPSHOT) != 0,
        .saved_ms = (gint64) page.saved_ms,
        .live_xml = g_strndup((const char *) texts, page.live_bytes),
        .inactive_xml = page.inactive_bytes > 0
                            ? g_strndup((const char *) texts + page.live_bytes, page.inactive_bytes)
                            : NULL,
        .stream_off = page.stream_off,
        .stream_bytes = page.stream_bytes,
        .stream_crc = page.stream_crc,
        .disks_bytes = page.disks_bytes,
        .disks_crc = page.disks_crc,
    };
    return head;
}
