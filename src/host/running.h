/* What run/qemu/ says of running machines, and asking their kho-vm. Definitions are in machine.h; what
 * changes a running machine is in control.c. */
#ifndef KHO_HOST_RUNNING_H
#define KHO_HOST_RUNNING_H

#include "store/tree.h"

#include <kho/domain.h>

/* The uuid that the run folder of @name tells; NULL where there is no folder, or it tells none. */
char *running_uuid(const StoreTree *tree, const char *name);

/* The name of the machine whose run folder tells @uuid (or, with @uuid NULL, the id @id), other than @but;
 * NULL for none. */
char *running_name_of(const StoreTree *tree, const char *uuid, gint id, const char *but);

/* The live XML, for what is done to a machine that runs. KHO_ERROR_BUSY while it is starting and has none
 * yet; KHO_ERROR_INVALID where it is not running (any more). */
char *running_xml(const StoreTree *tree, const char *name, gsize *len, GError **error);
/* The same for what only tells of it: the definition in place of a live XML that is not there. */
char *running_xml_or_definition(const StoreTree *tree, const char *name, gsize *len, GError **error);

/* kho_domain_status by name, whether or not a definition stands. */
gboolean running_status(KhoHost *host, const char *name, KhoDomainStatus *status, GError **error);

/* A machine that is shut off; @why: its log is asked for the reason. */
void running_status_off(const StoreTree *tree, const char *name, gboolean why, KhoDomainStatus *status);

/* Ends a kho-vm that was left by a machine that is shut off (its status says `unsupervised`) and does not end
 * by itself: it was stopped. */
gboolean running_end_stuck(const StoreTree *tree, const char *name, GError **error);

/* Processor time of a process with all its threads; 0 where it is gone. */
guint64 running_cpu_time_ns(gint64 pid);

#endif
