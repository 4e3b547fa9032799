/* A storage pool as a plain struct, and its XML in both directions. Pure; what a pool does is in pool/. */
#ifndef KHO_MODEL_POOL_H
#define KHO_MODEL_POOL_H

#include "model/node.h"

typedef enum {
    MODEL_POOL_UNSET,
    MODEL_POOL_DIR, /* the only one that pool/ builds so far; the others are kept and refused there */
    MODEL_POOL_FS,
    MODEL_POOL_NETFS,
    MODEL_POOL_LOGICAL,
    MODEL_POOL_DISK,
    MODEL_POOL_ISCSI,
    MODEL_POOL_ISCSI_DIRECT,
    MODEL_POOL_SCSI,
    MODEL_POOL_MPATH,
    MODEL_POOL_RBD,
    MODEL_POOL_SHEEPDOG,
    MODEL_POOL_GLUSTER,
    MODEL_POOL_ZFS,
    MODEL_POOL_VSTORAGE
} ModelPoolType;

/* <permissions>: numbers are MODEL_UNSET when not given; -1 for owner and group means "whoever makes it". */
typedef struct {
    gint mode; /* 0 to 0777; octal in the text */
    gint64 owner, group;
    char *label;
} ModelPermissions;

typedef struct {
    ModelNode node;
    ModelPoolType type;
    char *name; /* never NULL after parsing */
    char *uuid; /* NULL until model_pool_complete when the text has none */
    guint64 capacity_bytes, allocation_bytes,
        available_bytes; /* set by pool/ before formatting; read and ignored */
    gboolean has_source; /* <source> was in the text; it is always written */
    char *target_path;
    ModelPermissions permissions;
} ModelPool;

/* As model_domain_parse. */
ModelPool *model_pool_parse(const char *text, gsize len, GError **error);

/* A random uuid when there is none; checks that a directory pool has an absolute target path. Sets the three
 * sizes to 0. */
gboolean model_pool_complete(ModelPool *pool, GError **error);

char *model_pool_format(const ModelPool *pool);
GPtrArray *model_pool_unknown(const ModelPool *pool);
ModelPool *model_pool_new(ModelPoolType type, const char *name, const char *target_path);
void model_pool_free(ModelPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ModelPool, model_pool_free)

const char *model_pool_type_word(ModelPoolType type);

#endif
