/* Letting what named the file that goes name the one that is left, once a delete has merged them: definition,
 * live XML, metadata. Headers of images are delete.c's. All of it leaves the disks alone that are apart. */
#ifndef KHO_SNAPSHOT_DELETE_PUBLISH_H
#define KHO_SNAPSHOT_DELETE_PUBLISH_H

#include "snapshot/delete_merge.h"

gboolean delete_publish_definition(const DeleteChange *change, GError **error);
/* Nothing is done where the machine does not run. */
gboolean delete_publish_live(const DeleteChange *change, GError **error);

/* The snapshots of the machine; the one that is being deleted forgets the files
 * that are gone; @reparent: its children become its parent's. */
gboolean delete_publish_snapshots(const DeleteChange *change, gboolean reparent, GError **error);

/* A merge writes files that other snapshots closed, or their headers, and what these read stays the same:
 * notes what the files are like now. */
gboolean delete_note_written(const DeleteChange *change, GError **error);

#endif
