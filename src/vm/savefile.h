/* The head of a file that holds a machine's memory: what stands before the stream that QEMU's migration
 * wrote. Bytes to struct and back, no I/O (vm/ramfile.h does that). docs/spec/savefile.md describes the
 * format. */
#ifndef KHO_VM_SAVEFILE_H
#define KHO_VM_SAVEFILE_H

#include <kho/error.h>

#define VM_SAVEFILE_VERSION 1
/* The first page holds the fields; the XMLs follow it, then, at a multiple of the page, the stream. */
#define VM_SAVEFILE_PAGE_BYTES 4096
/* What changes in a file that stands already lies in its first sector, which a disk writes whole. */
#define VM_SAVEFILE_SECTOR_BYTES 512
/* One definition is at most XML_TEXT_MAX (4 MiB); a live one has aliases and addresses besides. */
#define VM_SAVEFILE_XML_MAX_BYTES   (8 << 20)
#define VM_SAVEFILE_DISKS_MAX_BYTES (8 << 20)
/* So no head is larger: the page, two XMLs, and what fills the last page. */
#define VM_SAVEFILE_HEAD_MAX_BYTES (2 * VM_SAVEFILE_PAGE_BYTES + 2 * VM_SAVEFILE_XML_MAX_BYTES)

/* QEMU's version as one number that can be compared: 7.2.5 is 70205. */
#define VM_QEMU_VERSION(major, minor, micro) ((guint32) ((major) *10000 + (minor) *100 + (micro)))

typedef struct VmSaveHead {
    guint32 qemu_version; /* VM_QEMU_VERSION of the QEMU that wrote the stream */
    gboolean whole;       /* stream and head are complete and durable */
    gboolean used;        /* a guest has been let go from it: its disks have moved on */
    gboolean paused;      /* the guest stays paused when it comes back */
    gboolean snapshot;    /* it is a snapshot's: its disks are those that the snapshot closed */
    gint64 saved_ms;      /* wall clock */
    char *live_xml;       /* what ran, with id, aliases, ports; MODEL_FORMAT_LIVE */
    char *inactive_xml;   /* the definition then; NULL: the machine had none */
    guint64 stream_off;   /* in bytes from the file's start; vm_savefile_encode sets it */
    guint64 stream_bytes; /* 0 until it is whole */
    guint32 stream_crc;   /* CRC-32 of the stream */
    guint32 disks_bytes;  /* of what follows the stream: what the disks' files were like (vm/ramfile.h); 0:
                             nothing */
    guint32 disks_crc;
} VmSaveHead;

VmSaveHead *vm_savehead_new(void);
void vm_savehead_free(VmSaveHead *head);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmSaveHead, vm_savehead_free)

/**
 * vm_savefile_encode:
 * @head: neither XML may be larger than VM_SAVEFILE_XML_MAX_BYTES (KHO_ERROR_INVALID)
 * @len: (out): of the head, in bytes: where the stream begins, @head->stream_off
 *
 * The whole head; freed with g_free. Its length depends on the two XMLs alone.
 */
guint8 *vm_savefile_encode(VmSaveHead *head, gsize *len, GError **error);

/**
 * vm_savefile_head_bytes:
 * @page: the first VM_SAVEFILE_PAGE_BYTES of a file
 *
 * How much of the file vm_savefile_decode needs: at most VM_SAVEFILE_HEAD_MAX_BYTES.
 *
 * Returns: FALSE with KHO_ERROR_INVALID (no file of ours), _UNSUPPORTED (a newer kho's), _CORRUPT; @label
 * names the file.
 */
gboolean
vm_savefile_head_bytes(const guint8 *page, gsize len, const char *label, gsize *head_bytes, GError **error);

/**
 * vm_savefile_decode:
 * @buf: the head, vm_savefile_head_bytes of it
 * @file_bytes: size of the file, which must hold what a whole head tells of
 *
 * Returns: NULL with the codes of vm_savefile_head_bytes.
 */
VmSaveHead *
vm_savefile_decode(const guint8 *buf, gsize len, guint64 file_bytes, const char *label, GError **error);

#endif
