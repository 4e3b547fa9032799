/* What kho-vm knows of its machine: written to status.json, answered to kho-status, read back on adoption.
 * A hint for others: pids are verified against the process (vm/runtime.h). */
#ifndef KHO_VM_STATUS_H
#define KHO_VM_STATUS_H

#include "base/json.h"
#include "base/proc.h"
#include "vm/plan.h"

#define VM_STATUS_VERSION 1

/* The state in status.json until the guest may run: whoever finds it without its kho-vm ends QEMU, since
 * nobody was told that the machine started. Never answered to kho-status. */
#define VM_STATE_STARTING "starting"

typedef struct VmStatus {
    char *name, *uuid;
    gint id;
    char *state;  /* libvirt's word: "running", "paused", "in shutdown", "shut off", "crashed", "pmsuspended";
                     or  VM_STATE_STARTING */
    char *reason; /* libvirt's word: "booted", "user", "unpaused", "ioerror", "panicked", "destroyed", ... */
    gboolean paused;
    gboolean images_inactive; /* QEMU has let go of its images, since its memory was written, until it runs */
    gint64 since_ms;          /* wall clock of the last change of state */
    gint64 started_ms;        /* wall clock of QEMU's start */
    gint64 pid;               /* QEMU's */
    guint64
        pid_start; /* its start, in clock ticks since the boot: with pid and boot_id it names one process */
    char *boot_id;
    gint64 supervisor_pid;
    guint64 supervisor_start; /* as pid_start */
    guint64 unanswered_ms;    /* 0: QEMU answers; else for how long it has not. Not in the file */
    gint64 silent_since_ms;   /* wall clock since when it has not, as of the last look; 0: it answered */
    char *version;            /* of kho-vm */
    char *log_path;
    VmAction on_poweroff, on_reboot, on_crash;
} VmStatus;

VmStatus *vm_status_new(void);
void vm_status_free(VmStatus *status);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmStatus, vm_status_free)

/* A new reference. */
json_t *vm_status_to_json(const VmStatus *status);

/* NULL with KHO_ERROR_INVALID, or KHO_ERROR_UNSUPPORTED for a newer version. @label names the source. */
VmStatus *vm_status_from_json(const json_t *json, const char *label, GError **error);

/* status.json of a run folder (vm/folder.h). KHO_ERROR_NOT_FOUND. */
VmStatus *vm_status_read(int folder, GError **error);
gboolean vm_status_write(const VmStatus *status, int folder, GError **error);

/* The two processes that it names, for proc_open. */
void vm_status_process(const VmStatus *status, ProcId *qemu, ProcId *supervisor);

#endif
