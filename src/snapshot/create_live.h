/* The part of taking a snapshot that happens in QEMU: the overlays are opened, and all disks go over to them
 * in one transaction. The steps that call this are in create.c. */
#ifndef KHO_SNAPSHOT_CREATE_LIVE_H
#define KHO_SNAPSHOT_CREATE_LIVE_H

#include "snapshot/create.h"
#include "vm/client.h"

/* Decides names of nodes and numbers of fdsets for the overlays of @plan. @live: the running machine. */
gboolean create_live_plan(CreatePlan *plan, const ModelDomain *live, VmClient *client, GError **error);

/* Opens the overlays in QEMU, which does not use them yet; those that are open are passed over. */
gboolean create_live_open(const CreatePlan *plan, VmClient *client, GError **error);

/* Whether QEMU writes to the overlays: all of them, or none. */
gboolean
create_live_is_switched(const CreatePlan *plan, VmClient *client, gboolean *switched, GError **error);

/* Opens the overlays and lets QEMU write to them; nothing where it does already. */
gboolean create_live_switch(const CreatePlan *plan, VmClient *client, GError **error);

/* Takes the overlays out of a QEMU that does not write to them. */
gboolean create_live_take_back(const CreatePlan *plan, VmClient *client, GError **error);

/* Replaces the live XML by that of the plan. */
gboolean create_live_publish(const CreatePlan *plan, VmClient *client, GError **error);

#endif
