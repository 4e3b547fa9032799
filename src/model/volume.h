/* A storage volume as a plain struct, and its XML in both directions. Pure; making volumes is pool/'s. */
#ifndef KHO_MODEL_VOLUME_H
#define KHO_MODEL_VOLUME_H

#include "model/pool.h"

typedef enum {
    MODEL_VOLUME_UNSET,
    MODEL_VOLUME_FILE,
    MODEL_VOLUME_BLOCK,
    MODEL_VOLUME_DIR,
    MODEL_VOLUME_NETWORK,
    MODEL_VOLUME_NETDIR,
    MODEL_VOLUME_PLOOP
} ModelVolumeType;

typedef struct {
    ModelNode node;
    ModelVolumeType type; /* output; UNSET in most inputs */
    char *name;           /* never NULL after parsing */
    char *key;            /* output */
    guint64 capacity_bytes, allocation_bytes,
        physical_bytes; /* MODEL_SIZE_UNSET: not given, or not printed */
    char *target_path;  /* output */
    char *format;       /* "raw", "qcow2", ...; NULL: not given */
    ModelPermissions permissions;
    char *atime, *mtime, *ctime, *btime; /* output: "1700000000.123456789" */
    char *compat;                        /* "0.10", "1.1" */
    guint64 cluster_bytes;               /* MODEL_SIZE_UNSET: not given */
    gboolean lazy_refcounts;
    char *backing_path; /* NULL: none */
    char *backing_format;
} ModelVolume;

/* As model_domain_parse. Sizes without a unit are bytes. KHO_ERROR_INVALID where neither capacity nor
 * backingStore is given. */
ModelVolume *model_volume_parse(const char *text, gsize len, GError **error);
char *model_volume_format(const ModelVolume *volume);
GPtrArray *model_volume_unknown(const ModelVolume *volume);
ModelVolume *model_volume_new(const char *name);
void model_volume_free(ModelVolume *volume);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelVolume, model_volume_free)

const char *model_volume_type_word(ModelVolumeType type);

#endif
