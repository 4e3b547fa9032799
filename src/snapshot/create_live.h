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

/* How the plan's disks stand in QEMU. A guest may let go of a disk at any time. */
typedef struct CreateStanding {
    gboolean switched; /* QEMU writes to the overlays: to those of all disks, or of none */
    guint there;       /* disks that QEMU has still */
    const char *gone;  /* one that it has not: its target; NULL: it has all */
} CreateStanding;

gboolean create_live_look(const CreatePlan *plan, VmClient *client, CreateStanding *standing, GError **error);

/* Opens the overlays and lets QEMU write to them; nothing where it does already. */
gboolean create_live_switch(const CreatePlan *plan, VmClient *client, GError **error);

/* Takes the overlays out of a QEMU that does not write to them. */
gboolean create_live_take_back(const CreatePlan *plan, VmClient *client, GError **error);

/* Replaces the live XML by that of the plan, but for disks that have left it meanwhile. */
gboolean create_live_publish(const StoreTree *tree, const CreatePlan *plan, VmClient *client, GError **error);

#endif
