/* Three layers for the sweeps over merges and over the backing file's name: an overlay, its base, and a raw
 * file below. They are read here by a plain loop of the test's own, so that image/'s chains and its copy
 * engine are judged by something else. */
#ifndef KHO_TESTS_LAYERS_H
#define KHO_TESTS_LAYERS_H

#include "crash/replay.h"
#include "qcow2/qcow2.h"

#define LAYERS_BASE_NAME  "base"
#define LAYERS_BELOW_NAME "below.raw"
#define LAYERS_OTHER_NAME "other.raw"

typedef struct {
    const char *name;
    Qcow2CreateOptions overlay, base; /* a base with clusters of 0 bytes is raw */
    guint64 below_bytes;              /* 0: nothing lies below the base */
    gboolean compressed;              /* the base is full of compressed clusters */
    gboolean shares;                  /* the stores can share bytes, as files can share blocks */
} LayersShape;

typedef enum {
    LAYERS_UP,
    LAYERS_DOWN,
    LAYERS_AWAY, /* down, and the overlay is emptied: what is looked at is the overlay, whose data is in the
                    base by then (layers_commit_base) */
    LAYERS_ONTO, /* the overlay goes over to a file beside the others */
} LayersWay;

typedef struct {
    const LayersShape *shape;
    LayersWay way;
    GBytes *overlay, *base, *below; /* as they were before the merge; @below NULL: none */
    GBytes *other;                  /* ONTO */
    guint64 *values;                /* what the overlay's sectors hold, seen through all layers */
    guint64 sectors;
    guint64 held_bytes; /* of the overlay's own: data and zeros */
} Layers;

/* The shapes that every sweep goes through. */
extern const LayersShape layers_shapes[];
extern const gsize layers_n_shapes;

Layers *layers_new(const LayersShape *shape, LayersWay way, guint32 seed);
void layers_free(Layers *layers);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Layers, layers_free)

/* What the merge writes to: the overlay or the base, as it was. */
GBytes *layers_written(const Layers *layers);

/* A store in memory with @bytes, of the kind that the shape wants for what is written. */
BlkStore *layers_store(const Layers *layers, GBytes *bytes, const char *label);

/* Merges with kho's engine: the file that is written lies over @store (taken over), the others in memory.
 * @cancelled: as in KhoJob; may be NULL. */
gboolean layers_merge(const Layers *layers, BlkStore *store, const volatile gint *cancelled, GError **error);

/* AWAY: the same, with a store for the base too. */
gboolean layers_commit(const Layers *layers, BlkStore *overlay, BlkStore *base, GError **error);

/* AWAY: from here on the base holds what the overlay does. */
void layers_commit_base(Layers *layers);

/* A CrashJudge whose data is a Layers: the overlay reads as it did, through whatever its header names; once
 * durable, also without the base (up), and the base reads like it (down); or it holds nothing itself (away),
 * or names the other file (onto). To carry on is to merge again. */
char *layers_judge(const guint8 *bytes, gsize len, gboolean durable, gboolean carry_on, gpointer data);

#endif
