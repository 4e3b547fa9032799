/* Bringing a saved machine back: a QEMU that takes its memory from a file. The steps of the change "resume",
 * what is looked at before, and the plan that they work on. Whose the machine is and whether it is off:
 * host/. */
#ifndef KHO_SAVE_RESUME_H
#define KHO_SAVE_RESUME_H

#include "model/domain.h"
#include "store/change.h"
#include "vm/savefile.h"

extern const ChangeKind resume_change;

/* A save file that was opened and found whole. */
typedef struct SaveImage {
    char *path; /* absolute */
    VmSaveHead *head;
    ModelDomain *live; /* what ran, from the head */
} SaveImage;

/* KHO_ERROR_NOT_FOUND, _INVALID, _CORRUPT, _UNSUPPORTED: what vm_ramfile_read says. */
SaveImage *save_image_open(const char *path, GError **error);
void save_image_free(SaveImage *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SaveImage, save_image_free)

/**
 * save_image_check:
 * @definition: of the machine that is to come back; NULL: it has none
 * @cure: what to do where the memory no longer fits, for the messages: "--force ..."
 * @force: it may be used, and the disks may have been written
 *
 * Whether the memory can come back and still fits the disks: KHO_ERROR_INVALID where a guest has been let go
 * from it, where a disk was written since, or is another one in the definition; _NOT_FOUND (a disk);
 * _UNSUPPORTED where the QEMU that is there is older than the one that wrote it. The stream is not read.
 */
gboolean save_image_check(const SaveImage *image, const ModelDomain *definition, const char *cure,
                          gboolean force, GError **error);

typedef struct ResumeRequest {
    const SaveImage *image;
    gboolean managed; /* the file goes when the guest runs; otherwise it stays and is marked as used */
    gboolean paused;  /* the guest is not let go */
} ResumeRequest;

/* The plan for the journal, a new reference. */
json_t *resume_plan_make(const ResumeRequest *request);

#endif
