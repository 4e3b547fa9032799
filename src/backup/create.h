/* Making a point: the steps of the change "backup", over a plan. Deciding what goes into it is plan.h's;
 * locks, states and the journal's entry are host/'s. */
#ifndef KHO_BACKUP_CREATE_H
#define KHO_BACKUP_CREATE_H

#include "store/change.h"

/* make-folder, copy, describe, publish!; its plan is backup_plan_to_json's. */
extern const ChangeKind backup_change;

#endif
