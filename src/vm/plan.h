/* The plan of a start: everything that kho decided and kho-vm carries out, as a struct and as JSON with a
 * version. Nothing is opened here; the argument vector is made in vm/argv.h. */
#ifndef KHO_VM_PLAN_H
#define KHO_VM_PLAN_H

#include <kho/error.h>

#define VM_PLAN_VERSION 1
/* No plan is larger: 200 disks of 64 layers with paths of 4 KiB, and an XML of 4 MiB, make 55 MiB. */
#define VM_PLAN_MAX_BYTES (64 << 20)

/* What follows a guest's power-off, reset or panic. */
typedef enum {
    VM_ACTION_DESTROY,  /* end QEMU */
    VM_ACTION_RESTART,  /* boot again within the same QEMU */
    VM_ACTION_PRESERVE, /* leave QEMU as it is, for a person to look at */
    VM_ACTION_N
} VmAction;

const char *vm_action_word(VmAction action);
/* "destroy", "restart", "preserve"; KHO_ERROR_INVALID naming @what. */
gboolean vm_action_parse(const char *word, const char *what, VmAction *action, GError **error);

/* A file that kho-vm opens and QEMU inherits under the number that its arguments name. */
typedef struct {
    char *path;
    gint fd; /* 3 to 4095, unique in the plan, as VmPlan.monitor_fd is */
    gboolean read_only;
} VmPlanFile;

typedef struct VmPlan {
    char *name, *uuid;
    gint id;
    char *run_path;   /* run/qemu/NAME, absolute */
    char *log_path;   /* log/qemu/NAME.log, absolute */
    char **argv;      /* the emulator by absolute path, then its arguments */
    gint monitor_fd;  /* the number of the listening QMP socket in argv; kho-vm makes it */
    GPtrArray *files; /* of VmPlanFile; owned */
    VmAction on_poweroff, on_reboot, on_crash;
    char **links_down;      /* ids of interfaces whose link is down from the start; NULL: none */
    guint64 balloon_bytes;  /* what the guest is to have of its memory; 0: all of it */
    gboolean paused;        /* do not let the guest run */
    char *incoming_path;    /* where its memory comes from; NULL: it boots */
    guint64 incoming_off;   /* where in it QEMU's stream begins, in bytes */
    gboolean late_disks;    /* with it: QEMU opens them for writing when the guest goes */
    char *live_xml;         /* the live definition; kho-vm fills in ptys and ports */
    guint start_timeout_ms; /* for QEMU's first answer; 0: 60 s */
} VmPlan;

VmPlan *vm_plan_new(void);
void vm_plan_free(VmPlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmPlan, vm_plan_free)

void vm_plan_add_file(VmPlan *plan, const char *path, gint fd, gboolean read_only);

/* One line of JSON; freed with g_free. */
char *vm_plan_to_json(const VmPlan *plan);

/* NULL with KHO_ERROR_INVALID (names the member), or KHO_ERROR_UNSUPPORTED for a newer version. */
VmPlan *vm_plan_from_json(const char *text, gsize len, GError **error);

#endif
