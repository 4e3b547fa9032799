/* What the files that snapshots closed were like then, told by size and time as vm/stamp.h does for memory:
 * nobody but kho writes them while their snapshot stands, and kho notes it when it did. So it is with what
 * these lie on. */
#ifndef KHO_SNAPSHOT_CLOSED_H
#define KHO_SNAPSHOT_CLOSED_H

#include "model/snapshot.h"
#include "store/tree.h"

/* Notes what each file of @snapshot is like, having made what it holds durable, and each that these lie on,
 * but for those that one of @all (of ModelSnapshot) closed. KHO_ERROR_NOT_FOUND, _IO, _NO_SPACE. */
gboolean closed_note(ModelSnapshot *snapshot, const GPtrArray *all, GError **error);

/* The same for every snapshot of the machine that closed one of @paths (of char *), and writes those whose
 * metadata that changes: after kho has written these files. Files that are gone are passed over. */
gboolean
closed_note_again(const StoreTree *tree, const char *machine, const GPtrArray *paths, GError **error);

/* Whether the file at @path, where one of @all (of ModelSnapshot) closed it, is as it was then.
 * KHO_ERROR_INVALID otherwise, naming file and snapshot. What was being deleted is passed over, and what no
 * longer is there. */
gboolean closed_check(const GPtrArray *all, const char *path, GError **error);

/* Whether what the file lies on that @snapshot closed of disk @target, as far as that was noted, is as it was
 * then. As closed_check. */
gboolean closed_check_below(const ModelSnapshot *snapshot, const char *target, GError **error);

/* Calls @tell with one line for each file that a snapshot of the machine closed, or that such a one lies on,
 * and that has been changed since: only reverts and deletes refuse those. Metadata that cannot be read is
 * passed over. */
void closed_tell_changed(const StoreTree *tree, const char *machine,
                         void (*tell)(const char *line, gpointer data), gpointer data);

#endif
