/* A machine at run time, seen from outside kho-vm: is it there, start it, adopt it, end what is stuck, clear
 * up what died. Talking to one that is there: vm/client.h. The caller of what changes something (start,
 * adopt, clear) need not hold the machine's change lock for the sake of these functions: the locks in the run
 * folder decide. */
#ifndef KHO_VM_RUNTIME_H
#define KHO_VM_RUNTIME_H

#include "vm/client.h"
#include "vm/plan.h"

/* How kho-vm is called: `kho-vm --start RUN-FOLDER` or `kho-vm --adopt RUN-FOLDER`, with these descriptors.
 * It says one line of JSON over the second: {"ok":true}, or {"code","message"}; its end (kho died, or
 * cancels) stops a start. */
#define VM_RUNTIME_PLAN_FD   3
#define VM_RUNTIME_ANSWER_FD 4

/* By the locks of `alive` and `supervisor` in the run folder. */
typedef enum {
    VM_ABSENT,     /* no folder, or an empty one: no machine */
    VM_SUPERVISED, /* both locked: all is well */
    VM_ORPHANED,   /* alive locked, supervisor free: kho-vm died, QEMU lives: vm_runtime_adopt */
    VM_DEAD,       /* both free: both died: vm_runtime_clear */
    VM_PASSING,    /* alive free, supervisor locked: a kho-vm that is just starting or just clearing up */
} VmPresence;

/* Looks without taking a lock; about 10 us. */
gboolean vm_runtime_probe(const char *run_path, VmPresence *presence, GError **error);
/* The same, but waits while a kho-vm starts or clears up, which takes it milliseconds; VM_PASSING when it
 * still does at @deadline_ms (monotonic). */
gboolean
vm_runtime_probe_settled(const char *run_path, gint64 deadline_ms, VmPresence *presence, GError **error);

/**
 * vm_runtime_start:
 * @plan: run_path's parent folder exists
 * @cancelled: non-zero ends the attempt with KHO_ERROR_CANCELLED, and QEMU with it; may be NULL
 *
 * Starts kho-vm with @plan and waits until the guest runs (or is ready to, with @plan->paused). kho-vm is
 * detached: it is no child of the caller afterwards, and lives in a systemd scope of its own where systemd
 * runs.
 *
 * Returns: FALSE with kho-vm's own error, nothing then being left behind: KHO_ERROR_BUSY (the machine runs),
 * _NOT_FOUND (a file, the emulator), _INVALID (QEMU refused: its last line of stderr), _TIMEOUT, ...
 */
gboolean vm_runtime_start(const VmPlan *plan, const volatile gint *cancelled, GError **error);

/* Starts a kho-vm that takes over the QEMU of a dead one, and waits until it answers. TRUE as well when
 * another process adopted it meanwhile, or QEMU ended and nothing is left. */
gboolean vm_runtime_adopt(const char *run_path, guint timeout_ms, GError **error);

/* Removes what a machine left that died together with its kho-vm, and says so in its log. TRUE as well when
 * there is nothing to remove. KHO_ERROR_BUSY when it lives. */
gboolean vm_runtime_clear(const char *run_path, const char *log_path, GError **error);

/* What kho-vm wrote last; unanswered_ms is 0. KHO_ERROR_NOT_FOUND where there is no status. */
VmStatus *vm_runtime_status(const char *run_path, GError **error);

/* Whether a process other than @supervisor holds `alive`: there is a QEMU, whatever status.json names. Walks
 * all processes. */
gboolean vm_runtime_is_held(const char *run_path, gint64 supervisor);

/* live.xml. KHO_ERROR_BUSY while the machine is starting and has none yet; KHO_ERROR_NOT_FOUND where it is
 * not running (any more). */
char *vm_runtime_live_xml(const char *run_path, gsize *len, GError **error);

/**
 * vm_runtime_kill:
 * @reason: libvirt's word for the log: "destroyed", "failed"
 *
 * Ends QEMU (SIGTERM, after half of @timeout_ms SIGKILL) although its kho-vm is dead or does not answer: the
 * process that status.json names, after comparing pid, start time and boot id, so that no other is ever hit,
 * and whoever else holds `alive` (a QEMU that a script started). Ends a kho-vm that does not answer; clears
 * up. KHO_ERROR_BUSY where somebody unknown holds a lock still.
 */
gboolean vm_runtime_kill(const char *run_path, const char *log_path, const char *reason, guint timeout_ms,
                         GError **error);

/* How a machine that is shut off ended, from its log: "shutdown", "destroyed", "crashed", "failed", ... ;
 * "unknown" where the log does not say. @since_ms (out) (optional): when; 0 when not known. Freed with
 * g_free. */
char *vm_runtime_last_end(const char *log_path, gint64 *since_ms);

#endif
