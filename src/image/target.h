/* A new image on its way to being published: what create and convert share. */
#ifndef KHO_IMAGE_TARGET_H
#define KHO_IMAGE_TARGET_H

#include "image/image.h"
#include "image/publish.h"

/* Virtual sizes are whole sectors, as QEMU makes them. */
#define IMAGE_SECTOR_BYTES 512

/* FALSE with KHO_ERROR_INVALID or _UNSUPPORTED where the options contradict each other or the format. */
gboolean target_check(const KhoImageCreate *options, GError **error);

/**
 * target_open:
 * @publish: begun
 * @path: as the caller named it; a relative backing file is relative to its folder
 * @options: checked by target_check
 * @size_bytes: of the virtual disk; > 0, or 0 for the backing file's
 *
 * Formats the new file and opens it for writing, together with its backing chain where there is one, and
 * preallocates it.
 */
KhoImage *target_open(Publish *publish, const char *path, const KhoImageCreate *options, guint64 size_bytes,
                      const KhoImageGate *gate, const KhoJob *job, GError **error);

/* Flushes and closes @image (in any case), then publishes. */
gboolean target_finish(Publish *publish, KhoImage *image, const KhoJob *job, GError **error);

#endif
