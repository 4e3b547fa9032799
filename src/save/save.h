/* Saving a machine: its memory goes into a file, and QEMU ends. The steps of the change "save", and the plan
 * that they work on. The other way is resume.h's; whether the machine may be saved at all, host/'s. */
#ifndef KHO_SAVE_SAVE_H
#define KHO_SAVE_SAVE_H

#include "model/domain.h"
#include "store/change.h"

extern const ChangeKind save_change;

/* What is asked for; all borrowed. */
typedef struct SaveRequest {
    const ModelDomain *live; /* the machine as it runs */
    const char *live_xml;
    const char *definition;   /* NULL: it has none */
    const char *file;         /* absolute */
    const char *pause_reason; /* why it is paused; NULL: it runs */
    gboolean stays_paused;    /* when it comes back */
} SaveRequest;

/**
 * save_plan_make:
 *
 * Decides everything, and refuses what cannot work: KHO_ERROR_EXISTS (a file of that name that is no save
 * file of this machine), _NOT_FOUND (its folder), _NO_SPACE with the figure. Writes nothing.
 *
 * Returns: the plan for the journal, a new reference.
 */
json_t *save_plan_make(const SaveRequest *request, GError **error);

#endif
