/* The files that writes go to once a snapshot has closed a disk's file: STEM.N.qcow2 beside it. Here they get
 * their names, are made, and are taken back. Which disks need one is decided in create_plan.c and
 * revert_plan.c. */
#ifndef KHO_SNAPSHOT_OVERLAY_H
#define KHO_SNAPSHOT_OVERLAY_H

#include "model/domain.h"
#include "snapshot/folder.h"

#include <kho/image.h>

/* The part of @path's name that its overlays keep: "web1" of web1.qcow2, web1.raw, web1.img, and of
 * web1.7.qcow2 where @is_overlay. */
char *overlay_stem(const char *path, gboolean is_overlay);

/* Chooses the name of an overlay of @file: the first STEM.N.qcow2, N counting up from @overlays->next, that
 * is neither on disk nor among @overlays; it is added there. */
char *overlay_choose(const char *file, SnapshotOverlays *overlays);

/* Makes @overlay, an empty qcow2 image over @file, whose format is stated; the name in its header is relative
 * where both are in one folder. It is durable when this returns TRUE. Where @overlay is there already and
 * lies on @file, that is what was wanted; KHO_ERROR_EXISTS where it is something else. @file may be in use,
 * and is not written. */
gboolean
overlay_make(const char *overlay, const char *file, const char *format, const KhoJob *job, GError **error);

/* Removes what overlay_make made, durably; TRUE where it is gone. Anything else at that place stays. */
gboolean overlay_take_back(const char *overlay, const char *file, GError **error);

/* Whether both paths lead to one file. */
gboolean overlay_is_same_file(const char *a, const char *b);

/* Whether there is a qcow2 image at @path that lies on @file. */
gboolean overlay_lies_on(const char *path, const char *file);

/* Whether the image at @path is one file. KHO_ERROR_UNSUPPORTED, with @cure added, where its data are in
 * another: a snapshot closes one file of a disk, and whether a merge changed it is told by that one. */
gboolean overlay_check_data(const char *path, const char *format, const char *cure, GError **error);

/* Opens the chain that begins with @path, with QEMU's locks; its files, of char *, @path first. */
GPtrArray *overlay_chain(const char *path, const char *format, KhoImageFlags flags, GError **error);
/* The same, and adds how many there are to *n_files. */
gboolean overlay_count_chain(const char *path, const char *format, KhoImageFlags flags, guint *n_files,
                             GError **error);

/* Lets the disks of @model that are in the file at @from, whatever links lead there, be in @to. Whether there
 * is one. */
gboolean overlay_move_disk(ModelDomain *model, const char *from, const char *to, const char *format);

/* The name of @backing in the header of an image at @path: relative where both are in one folder. */
char *overlay_backing_name(const char *path, const char *backing);

#endif
