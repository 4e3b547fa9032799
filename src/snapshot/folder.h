/* The snapshots of one machine as files: lib/qemu/snapshot/MACHINE/ holds NAME.xml for each
 * (model/snapshot.h), NAME.mem where its memory was kept, `.current`, the name of the one that the machine
 * goes on from, and `.overlays`, the number of the next overlay and the paths of those that kho made.
 * Here they are read and written, one file at a time; what a change of them needs besides is in create.c,
 * revert.c and delete.c. Whoever writes holds the machine's change lock or its journal entry. */
#ifndef KHO_SNAPSHOT_FOLDER_H
#define KHO_SNAPSHOT_FOLDER_H

#include "model/snapshot.h"
#include "store/tree.h"

/* Makes the machine's folder where it is missing, durably. */
gboolean snapshot_folder_make(const StoreTree *tree, const char *machine, GError **error);
/* Removes it with all that is in it; TRUE where there is none. */
gboolean snapshot_folder_remove(const StoreTree *tree, const char *machine, GError **error);

/* KHO_ERROR_NOT_FOUND; _CORRUPT where it cannot be read as a snapshot of that name. */
ModelSnapshot *snapshot_read(const StoreTree *tree, const char *machine, const char *name, GError **error);
/* ModelSnapshot *, owned, by name. The parents that they name are among them or gone, and go in no circle
 * (KHO_ERROR_CORRUPT). */
GPtrArray *snapshot_read_all(const StoreTree *tree, const char *machine, GError **error);
/* The same without those that are damaged, whatever their parents: where no file is decided on. */
GPtrArray *snapshot_read_sound(const StoreTree *tree, const char *machine, GError **error);
/* Whether the machine has any; reads no file. */
gboolean snapshot_have_any(const StoreTree *tree, const char *machine);

/* Makes or replaces NAME.xml, durably. KHO_ERROR_NO_SPACE, _DENIED, _IO. */
gboolean
snapshot_write(const StoreTree *tree, const char *machine, const ModelSnapshot *snapshot, GError **error);
/* TRUE where it is gone already. */
gboolean snapshot_drop(const StoreTree *tree, const char *machine, const char *name, GError **error);

/* The name of the current one; *name is NULL where there is none. */
gboolean snapshot_current(const StoreTree *tree, const char *machine, char **name, GError **error);
/* With @name NULL there is none. */
gboolean snapshot_set_current(const StoreTree *tree, const char *machine, const char *name, GError **error);

/* The overlays that kho made for the machine: what may go when nobody needs it any more. */
typedef struct SnapshotOverlays {
    guint next;       /* the number that the next one gets, from 1; it only counts up */
    GPtrArray *paths; /* char *, absolute; those that are gone already may be among them */
    char *before;     /* the text that they were read from; "" where there was none */
} SnapshotOverlays;

gboolean
snapshot_overlays(const StoreTree *tree, const char *machine, SnapshotOverlays *overlays, GError **error);
void snapshot_overlays_clear(SnapshotOverlays *overlays);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SnapshotOverlays, snapshot_overlays_clear)
/* The path that the file at @path, whatever links lead there, has in the list; NULL where kho did not make
 * it. */
const char *snapshot_overlays_name(const SnapshotOverlays *overlays, const char *path);
gboolean snapshot_overlays_have(const SnapshotOverlays *overlays, const char *path);
/* Whether the file of one of them is gone for good, as far as can be told: its folder is there, and holds
 * others. An empty one may be where a file system is not mounted. */
gboolean snapshot_overlay_is_gone(const char *path);
/* Writes them, durably, before a file is made: what is not among them is never removed. */
gboolean snapshot_set_overlays(const StoreTree *tree, const char *machine, const SnapshotOverlays *overlays,
                               GError **error);
/* Brings back what was there before them, after the files that they added have gone; with nothing before the
 * folder goes as well, where it is empty. */
gboolean
snapshot_restore_overlays(const StoreTree *tree, const char *machine, const char *before, GError **error);

/* lib/qemu/snapshot/MACHINE/NAME.mem: where a snapshot's memory goes unless told otherwise. */
char *snapshot_memory_path(const StoreTree *tree, const char *machine, const char *name);

/* ---- looking at what snapshot_read_all gave ---- */

/* NULL for none; @name may be NULL. */
ModelSnapshot *snapshot_find(const GPtrArray *all, const char *name);
/* Whether @name comes, by one or more steps, from @ancestor. */
gboolean snapshot_descends(const GPtrArray *all, const char *name, const char *ancestor);

typedef struct SnapshotCount {
    guint children, descendants;
} SnapshotCount;

/* Fills in one for each of @all. */
void snapshot_count(const GPtrArray *all, SnapshotCount *counts);

#endif
