/* Who needs the files that a delete merges: what follows one, and whether it is this machine's alone. What
 * the files and their users are is files.h's, what follows from it for the delete delete_plan.c's. */
#ifndef KHO_SNAPSHOT_DELETE_USERS_H
#define KHO_SNAPSHOT_DELETE_USERS_H

#include "snapshot/delete.h"
#include "snapshot/files.h"

/* What lies on @path, each file once (where several name it, one of @machine's names if there is one), of
 * NamedFile, borrowed. */
GPtrArray *delete_followers(const GPtrArray *files, const char *machine, const char *path);

/* Whether nobody but @machine names or lies on @path, so that what others read does not change with it. */
gboolean delete_is_alone(const GPtrArray *files, const char *machine, const char *path);

/* Whether what a merge downwards is about to change is still needed by those alone for whom it was decided:
 * KHO_ERROR_BUSY naming who came meanwhile. Looks at all files anew. */
gboolean delete_users_check(const StoreTree *tree, const DeletePlan *plan, GError **error);

#endif
