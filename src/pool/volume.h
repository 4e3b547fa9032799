/* Volumes: the image files of a pool. Each is read from its file when asked for; nothing is cached. Names are
 * looked up, and locks taken, by host/. Every write goes through kho/image.h. */
#ifndef KHO_POOL_VOLUME_H
#define KHO_POOL_VOLUME_H

#include "model/volume.h"
#include "pool/pool.h"

#include <kho/image.h>

typedef struct PoolVolume {
    ModelVolume *model; /* format "raw", "qcow2", "iso", or "unknown" where there is a problem */
    char *
        backing_stated; /* the backing file as the header names it; model->backing_path is where that leads */
    char *data_path;    /* the other file that its data lies in, or NULL */
    GError *problem;    /* why the headers cannot be read; NULL normally */
} PoolVolume;

void pool_volume_free(PoolVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PoolVolume, pool_volume_free)

/* Reads the headers of the volume @name; never its backing file. Works on one in use. @format: what it is
 * known to be; NULL: what its headers say. NULL with KHO_ERROR_NOT_FOUND naming pool and volume, or where the
 * file cannot be looked at; damage to its contents is a problem of the volume instead. */
PoolVolume *pool_volume_read(const ModelPool *pool, const char *name, const char *format, GError **error);

/* The format that kho/image.h opens it with: an ISO is raw there. KHO_ERROR_* of its problem where it has
 * one. */
const char *pool_volume_image_format(const PoolVolume *volume, GError **error);

/**
 * pool_volume_create:
 * @wanted: name; capacity or backing; allocation, format, backing path (absolute) and format, cluster size,
 * compat, mode
 * @metadata: make all tables of a qcow2 volume
 * @gate: admits the backing files
 *
 * Makes the volume: a raw one allocated unless @wanted says 0, a qcow2 one sparse unless it says all of the
 * capacity. A failure leaves nothing. KHO_ERROR_EXISTS, _INVALID, _UNSUPPORTED, _NO_SPACE before anything is
 * written where it does not fit, _CANCELLED, ...
 */
gboolean pool_volume_create(const ModelPool *pool, const ModelVolume *wanted, gboolean metadata,
                            const KhoImageGate *gate, const KhoJob *job, GError **error);

/* Copies @source to the new name @name of the same pool, with its format, its features and its backing file.
 */
gboolean pool_volume_clone(const ModelPool *pool, const PoolVolume *source, const char *name,
                           gboolean metadata, const KhoImageGate *gate, const KhoJob *job, GError **error);

/* Takes the locks of an image file and nothing else, so that a damaged one can be held too: as a writer
 * (@alone: nobody else may use it), or as a reader (nobody may write or delete it). KHO_ERROR_BUSY names who
 * uses it. */
KhoImage *pool_volume_hold(const char *path, gboolean alone, GError **error);

/* Removes a volume; the caller holds it alone. */
gboolean pool_volume_delete(const ModelPool *pool, const char *name, GError **error);

#endif
