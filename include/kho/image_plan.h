/* What a verb on an image will cost, told before anything is changed. Each verb that writes much has a member
 * `plan` among its options; how its work is done is said beside that verb. */
#ifndef KHO_IMAGE_PLAN_H
#define KHO_IMAGE_PLAN_H

#include <kho/image.h>

typedef enum {
    KHO_PLAN_FITS,
    KHO_PLAN_MAY_FIT, /* how well data compresses, or what of it differs, is known only when it is done */
    KHO_PLAN_TOO_LARGE,
} KhoPlanFit;

/* Begins as zeros. The verb does all that it does before its first write, looks and locks included, fills the
 * plan and returns TRUE: nothing is changed. Where it cannot fit it returns FALSE with KHO_ERROR_NO_SPACE and
 * the plan filled, as without a plan it would have refused at the start. */
struct KhoImagePlan {
    guint64 read_bytes, write_bytes; /* of the disk's data, at most, and where none is moved (snapshots,
                                        amend) of tables; what is shared is neither */
    guint64 space_bytes;             /* how much more is in use at the peak, at most: tables too */
    guint64 freed_bytes;             /* of the image's file afterwards, where snapshots or amend free some */
    guint64 free_bytes;              /* where that goes; G_MAXUINT64: not known, or a disk of its own */
    KhoPlanFit fit;
    GPtrArray *lost; /* of char *: what there is now and will not be afterwards; NULL: nothing */
};

KHO_PUBLIC void kho_image_plan_clear(KhoImagePlan *plan);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KhoImagePlan, kho_image_plan_clear)

#endif
