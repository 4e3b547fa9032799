/* A volume found by name or path: what host/'s volume files share. */
#ifndef KHO_HOST_VOLUME_H
#define KHO_HOST_VOLUME_H

#include "host/pool.h"
#include "pool/formats.h"
#include "pool/volume.h"

typedef struct HostVolume {
    HostPool *pool; /* active */
    char *name;
    StoreLock *lock; /* of the volume; NULL unless by host_volume_claim */
} HostVolume;

void host_volume_free(HostVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostVolume, host_volume_free)

/* With @pool, a name in it or its path; otherwise a path in any active pool. KHO_ERROR_NOT_FOUND. */
HostVolume *host_volume_find(KhoHost *host, const char *pool, const char *volume, GError **error);

/* The change lock of one volume: only one is ever held. Bytes of images are guarded by QEMU's image locks
 * besides. */
StoreLock *host_volume_claim(KhoHost *host, const HostPool *pool, const char *name, GError **error);

/* Whether two paths lead to the same file or folder, whatever links are on the way. */
gboolean host_same_file(const char *a, const char *b);

/* Reads volumes with the format that is known of each: the one that was recorded when kho made it; else raw
 * where a machine says so; else what the headers say. */
typedef struct HostReader {
    KhoHost *host;
    const ModelPool *pool;
    PoolFormats *formats;
    GPtrArray *disks; /* of all machines; NULL until somebody must know */
} HostReader;

gboolean host_reader_init(HostReader *reader, KhoHost *host, const ModelPool *pool, GError **error);
void host_reader_clear(HostReader *reader);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HostReader, host_reader_clear)

/* As pool_volume_read. */
PoolVolume *host_reader_read(HostReader *reader, const char *name, GError **error);
/* The same for one that was listed: *volume is NULL where it has gone meanwhile. */
gboolean host_reader_next(HostReader *reader, const char *name, PoolVolume **volume, GError **error);
/* One volume alone. */
PoolVolume *host_volume_read(KhoHost *host, const HostPool *pool, const char *name, GError **error);

/* Fails with KHO_ERROR_BUSY naming the first volume, of any pool whose folder can be listed, whose backing
 * file
 * @path is, or the first machine that needs it; @doing: "deleting it", ...; @but_own as
 * host_disks_check_unused. */
gboolean host_volume_check_unused(KhoHost *host, const char *path, const char *doing, gboolean but_own,
                                  GError **error);

/* Admits backing files that lie in an active pool, or in @extra's folder (a path that the user named; NULL).
 */
typedef struct HostGate {
    KhoImageGate gate; /* pass &gate */
    GPtrArray *folders;
} HostGate;

gboolean host_gate_init(HostGate *gate, KhoHost *host, const char *extra, GError **error);
void host_gate_clear(HostGate *gate);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HostGate, host_gate_clear)

#endif
