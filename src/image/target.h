/* A new image on its way to being published: what create and convert share. */
#ifndef KHO_IMAGE_TARGET_H
#define KHO_IMAGE_TARGET_H

#include "image/cost.h"
#include "image/image.h"
#include "image/publish.h"

/* Virtual sizes are whole sectors, as QEMU makes them. */
#define IMAGE_SECTOR_BYTES 512

/* Where it is written: a file without a name yet; or what stands there, be it a server's disk, a device, or a
 * file that a new one could not take the place of, which bears a mark until it is whole. */
typedef struct Target Target;

/* FALSE with KHO_ERROR_INVALID or _UNSUPPORTED where the options contradict each other or the format. */
gboolean target_check(const KhoImageCreate *options, GError **error);

/**
 * target_begin:
 * @path: as the caller named it
 * @options: checked by target_check
 *
 * Makes the new file, as publish_begin does. A server's disk is always replaced: KHO_ERROR_EXISTS where that
 * was not asked for; it is opened only, and stays what it is.
 */
Target *target_begin(const char *path, const KhoImageCreate *options, const KhoJob *job, GError **error);

/* What is written there, for a disk of @size_bytes. The free space of a server's disk, of what is written in
 * place, and of a data file are not known. */
CostPlace target_cost_place(const Target *target, const KhoImageCreate *options, guint64 size_bytes);
/* Tells of what stands there now. */
void target_plan_loss(const Target *target, KhoImagePlan *plan);

/* Looks at what the new image names: its backing file (a relative one is relative to the target's folder),
 * whose size it takes where *size_bytes is 0, and its data file. *size_bytes is whole sectors afterwards. */
gboolean target_look(Target *target, const KhoImageCreate *options, const KhoImageGate *gate,
                     guint64 *size_bytes, GError **error);

/* For a plan, in place of target_open: can there be such an image? Nothing is kept. */
gboolean target_try(const Target *target, const KhoImageCreate *options, guint64 size_bytes, GError **error);

/* After target_look: formats the new file and opens it for writing, and preallocates it. */
KhoImage *target_open(Target *target, const KhoImageCreate *options, guint64 size_bytes, const KhoJob *job,
                      GError **error);

/* Does what is not written read as zeros? Not so on a server's disk that is raw. */
gboolean target_is_zero(const Target *target, const KhoImageCreate *options);

/* Flushes and closes @image (in any case), then publishes. */
gboolean target_finish(Target *target, KhoImage *image, const KhoJob *job, GError **error);

/* Drops what was not finished; a server's disk keeps its mark, which *error (where there is one) then tells.
 */
void target_free(Target *target, GError **error);

#endif
