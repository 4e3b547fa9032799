/* A disk under test: an image over a store, what is asked of it, and the oracle's record of that. Every step
 * is made through here so that image and oracle never part. */
#ifndef KHO_TESTS_SCENARIO_H
#define KHO_TESTS_SCENARIO_H

#include "block/format.h"
#include "crash/oracle.h"
#include "qcow2/qcow2.h"

typedef struct {
    const char *name;
    Qcow2CreateOptions create;
    guint64 capacity_bytes; /* the largest size that the disk will have; 0: guest_bytes */
    guint64 fill_bytes;     /* written before the recording begins */
    guint64 backing_bytes;  /* how long the backing file is that create names */
    guint random_states;    /* 0: as the options say; fewer for a large disk */
    guint ops;              /* random operations; 0: as many as usual */
    gboolean compressed;    /* made by qemu-img, with compressed clusters full of data */
} ScenarioDisk;

typedef struct {
    const ScenarioDisk *disk;
    FormatImage *image; /* NULL once closed */
    BlkStore *data;     /* the data file, which opening gives to the image; NULL: none */
    GPtrArray *log;     /* of BlkEvent; NULL: nothing is recorded, all events are 0 */
    Oracle *oracle;
    GRand *rand;
    guint64 stamp;     /* the last value written */
    guint n_snapshots; /* made so far: their names */
} Scenario;

/* The bytes of a new image as @disk says, with @oracle's first values set: empty, or compressed data. */
GBytes *scenario_disk_new(const ScenarioDisk *disk, Oracle **oracle);

/* Where it is encrypted, by the passphrase that it was made with. */
void scenario_unlock(FormatImage *image, const ScenarioDisk *disk);

/* Opens @store, which it owns from here on, even on failure. */
gboolean scenario_open(Scenario *s, BlkStore *store, GError **error);
void scenario_clear(Scenario *s);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Scenario, scenario_clear)

/* Each is one operation, in sectors; a failure is recorded as such. */
gboolean scenario_write(Scenario *s, guint64 first, guint64 n, GError **error);
gboolean scenario_zero(Scenario *s, guint64 first, guint64 n, GError **error);
gboolean scenario_flush(Scenario *s, GError **error);
gboolean scenario_resize(Scenario *s, guint64 sectors, GError **error);
/* Grows by format's two halves, with the new part made zeros in between; or, where @gives_up,
 * with garbage in them that is taken back. */
gboolean scenario_thick(Scenario *s, guint64 sectors, gboolean gives_up, GError **error);
/* Lets go of everything, where no backing file shows then. */
gboolean scenario_empty(Scenario *s, GError **error);
/* Another layout, the same contents. */
gboolean scenario_amend(Scenario *s, const FormatAmend *wish, GError **error);
gboolean scenario_snapshot(Scenario *s, GError **error);
gboolean scenario_delete(Scenario *s, guint snapshot, GError **error);
gboolean scenario_revert(Scenario *s, guint snapshot, GError **error);
gboolean scenario_close(Scenario *s, GError **error);

/* The snapshots that are there now, as indices into the oracle's: how many, and one of them at random. */
guint scenario_live_snapshots(const Scenario *s);
guint scenario_any_snapshot(Scenario *s);

#endif
