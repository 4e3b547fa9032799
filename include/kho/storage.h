/* Storage: pools, and the volumes (disk images) in them. Image files wherever they are live in kho/image.h,
 * machines in kho/domain.h. A pool is named by its name or its uuid. Whatever is returned is owned by the
 * caller. */
#ifndef KHO_STORAGE_H
#define KHO_STORAGE_H

#include <kho/host.h>

/* A size that was not given. */
#define KHO_SIZE_UNSET G_MAXUINT64

typedef struct KhoPool {
    char *name;
    char *uuid;        /* NULL where the definition is broken */
    char *type;        /* "dir"; NULL where broken */
    char *target_path; /* NULL where it has none */
    gboolean active, autostart, persistent;
    guint64 capacity_bytes, allocation_bytes, available_bytes; /* 0 unless active */
    char *problem; /* one line: why definition or folder cannot be read; NULL normally */
} KhoPool;

KHO_PUBLIC void kho_pool_free(KhoPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoPool, kho_pool_free)

/**
 * kho_pool_define:
 * @xml: a pool's XML, @len bytes
 * @name: (out): the pool's name
 *
 * Defines a pool, or gives one of the same name and uuid a new definition. KHO_ERROR_INVALID with line and
 * column for malformed XML, _UNSUPPORTED for a type that this kho does not build, _EXISTS where name, uuid or
 * target belong to another pool.
 */
KHO_PUBLIC gboolean kho_pool_define(KhoHost *host, const char *xml, gsize len, char **name, GError **error);

/* The same from words; @uuid may be NULL, @target must be absolute. */
KHO_PUBLIC gboolean kho_pool_define_as(KhoHost *host, const char *name, const char *uuid, const char *type,
                                       const char *target, GError **error);

/* Makes the pool's folder with its parents; one that exists is left as it is. */
KHO_PUBLIC gboolean kho_pool_build(KhoHost *host, const char *pool, GError **error);
/* @build: make its folder first; a start that fails then takes back what it made. KHO_ERROR_INVALID where it
 * is active. */
KHO_PUBLIC gboolean kho_pool_start(KhoHost *host, const char *pool, gboolean build, GError **error);
/* Makes it inactive; its volumes stay as they are. */
KHO_PUBLIC gboolean kho_pool_stop(KhoHost *host, const char *pool, GError **error);
KHO_PUBLIC gboolean kho_pool_set_autostart(KhoHost *host, const char *pool, gboolean on, GError **error);
/* Looks at the folder anew. kho keeps no cache, so this only says whether the pool can be read. */
KHO_PUBLIC gboolean kho_pool_refresh(KhoHost *host, const char *pool, GError **error);
/* Forgets an inactive pool; its volumes stay. */
KHO_PUBLIC gboolean kho_pool_undefine(KhoHost *host, const char *pool, GError **error);

/* All pools, of KhoPool, by name. One that cannot be read is listed with its problem. */
KHO_PUBLIC GPtrArray *kho_pool_list(KhoHost *host, GError **error);
KHO_PUBLIC KhoPool *kho_pool_info(KhoHost *host, const char *pool, GError **error);
/* libvirt's XML; of an active pool that with which it was started, unless @inactive. */
KHO_PUBLIC char *kho_pool_xml(KhoHost *host, const char *pool, gboolean inactive, GError **error);

typedef struct KhoVolume {
    char *name, *pool;
    char *path, *key; /* equal, for files */
    const char *type; /* "file" */
    char *format;     /* "raw", "qcow2", "iso"; "unknown" where there is a problem */
    guint64 capacity_bytes, allocation_bytes, physical_bytes;
    char *backing_path, *backing_format; /* NULL: none */
    char *problem;                       /* one line: what is wrong with the file; NULL normally */
} KhoVolume;

KHO_PUBLIC void kho_volume_free(KhoVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoVolume, kho_volume_free)

typedef struct KhoVolumeCreate {
    const char *name;
    guint64 capacity_bytes; /* KHO_SIZE_UNSET: the backing volume's */
    guint64
        allocation_bytes; /* KHO_SIZE_UNSET: all of a raw volume, what it needs of a qcow2 one. 0: sparse */
    const char *format;   /* "raw" or "qcow2"; NULL: raw */
    const char *backing_volume; /* a volume's name in the pool, or a path; NULL: none */
    const char *backing_format; /* required with backing_volume */
    gboolean prealloc_metadata; /* qcow2 */
} KhoVolumeCreate;

/* Makes a volume in an active pool; a failure or a cancel leaves nothing. KHO_ERROR_EXISTS, _NO_SPACE where
 * what is to be allocated does not fit, ... */
KHO_PUBLIC gboolean kho_volume_create(KhoHost *host, const char *pool, const KhoVolumeCreate *options,
                                      const KhoJob *job, GError **error);
/* The same from a volume's XML. */
KHO_PUBLIC gboolean kho_volume_create_xml(KhoHost *host, const char *pool, const char *xml, gsize len,
                                          const KhoJob *job, char **name, GError **error);

/* The volumes of an active pool, of KhoVolume, by name: regular files with a name that a volume may have. A
 * file that cannot be read is listed with its problem. */
KHO_PUBLIC GPtrArray *kho_volume_list(KhoHost *host, const char *pool, GError **error);

/* In what follows @pool may be NULL: @volume is then a path, looked for in all active pools; otherwise a name
 * or path in that pool. */
KHO_PUBLIC KhoVolume *kho_volume_info(KhoHost *host, const char *pool, const char *volume, GError **error);
KHO_PUBLIC char *kho_volume_xml(KhoHost *host, const char *pool, const char *volume, GError **error);

typedef enum {
    KHO_RESIZE_ALLOCATE = 1 << 0, /* reserve what it grows by */
    KHO_RESIZE_DELTA = 1 << 1,    /* by that much, not to it; with SHRINK less, otherwise more */
    KHO_RESIZE_SHRINK = 1 << 2,   /* what lies past the new end may go */
} KhoResizeFlags;

typedef struct KhoVolumeResize {
    guint64 bytes;
    KhoResizeFlags flags;
} KhoVolumeResize;

/* Returns the capacity in bytes that it has now; 0 with @error. */
KHO_PUBLIC guint64 kho_volume_resize(KhoHost *host, const char *pool, const char *volume,
                                     const KhoVolumeResize *options, const KhoJob *job, GError **error);

/* Copies a volume within its pool: same format, same backing volume. */
KHO_PUBLIC gboolean kho_volume_clone(KhoHost *host, const char *pool, const char *volume,
                                     const char *new_name, gboolean prealloc_metadata, const KhoJob *job,
                                     GError **error);

/* KHO_ERROR_BUSY where a process uses it, a machine or a snapshot needs it, or a volume of any pool that can
 * be listed has it as its backing file: each is named. */
KHO_PUBLIC gboolean kho_volume_delete(KhoHost *host, const char *pool, const char *volume, GError **error);

#endif
