/* Whole LUKS volumes as images: the header with its key slots, and behind it the disk, enciphered sector by
 * sector. All of it is the disk's own: there are no holes, what was never written reads as noise, and nothing
 * names another file. Headers and slots live in header.h and slot.h. Spec: docs/spec/luks.md, section 6. */
#ifndef KHO_LUKS_VOLUME_H
#define KHO_LUKS_VOLUME_H

#include "block/format.h"
#include "luks/change.h"

/* KHO_ERROR_DENIED where the disk is read or written before luks_volume_unlock_with, or the contract's
 * unlock. */
extern const FormatOps luks_volume_format;

/* Bytes in front of the disk of a new volume. */
guint64 luks_volume_head_bytes(const LuksSpec *spec);

/* Makes @file, which is not published yet, a volume with a disk of @guest_bytes and a new key, which *key is
 * set to. What the disk holds is what was there. */
gboolean luks_volume_create(BlkStore *file, const LuksFormat *format, guint64 guest_bytes, LuksKey *key,
                            GError **error);

/* Opens the disk with a key that is known already. */
gboolean luks_volume_unlock_with(FormatImage *image, const LuksKey *key, GError **error);

/* luks_change, durable when it returns TRUE. @image is open for writing. */
gboolean luks_volume_change_keys(FormatImage *image, const LuksChange *change, GError **error);

#ifdef KHO_MUTANTS
/* The rules whose barriers this run leaves out: 1 << LuksRule. */
extern guint luks_volume_mutant;
#endif

#endif
