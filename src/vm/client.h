/* One connection to a machine's qmp.sock, for a caller that waits: a command, its answer, a deadline. What
 * the commands mean is QEMU's and kho-vm's business; whether there is a machine says vm/runtime.h. Errors do
 * not name the machine: the caller knows which one it is. */
#ifndef KHO_VM_CLIENT_H
#define KHO_VM_CLIENT_H

#include "vm/status.h"

typedef struct VmClient VmClient;

/* Connects to @run_path/qmp.sock and reads the greeting. KHO_ERROR_NOT_FOUND where nobody listens,
 * KHO_ERROR_TIMEOUT where kho-vm does not answer (stopped), KHO_ERROR_DENIED for another user's machine. */
VmClient *vm_client_open(const char *run_path, guint timeout_ms, GError **error);
void vm_client_close(VmClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmClient, vm_client_close)

/* From now on waits for answers end when *@cancelled becomes non-zero: KHO_ERROR_CANCELLED. What was asked
 * may still be done. */
void vm_client_set_cancelled(VmClient *client, const volatile gint *cancelled);

/* FALSE after a call that had no answer, as opposed to one that was answered with an error. */
gboolean vm_client_is_open(const VmClient *client);

/**
 * vm_client_call:
 * @command: a QMP command, or one of kho-vm's own ("kho-status", ...)
 * @arguments: (transfer full): an object, or NULL
 *
 * Sends the command and waits for its answer; events meanwhile are kept for vm_client_next_event.
 *
 * Returns: what "return" held, a new reference; NULL with @error:
 *   %KHO_ERROR_TIMEOUT      no answer in @timeout_ms; the connection cannot be used again
 *   %KHO_ERROR_IO           the connection ended: kho-vm or QEMU did
 *   the code of kho-vm's answer, or %KHO_ERROR_UNSUPPORTED for a command QEMU does not know,
 *   %KHO_ERROR_NOT_FOUND for a device it does not have, %KHO_ERROR_INVALID for what else it refused
 */
json_t *
vm_client_call(VmClient *client, const char *command, json_t *arguments, guint timeout_ms, GError **error);

/* The same, for an answer that says nothing. */
gboolean
vm_client_tell(VmClient *client, const char *command, json_t *arguments, guint timeout_ms, GError **error);

/* The next of QEMU's events since the first QMP command of this connection (of many that nobody asked for,
 * the newest 256), a new reference: {"event", "data", "timestamp"}. Waits until @deadline_ms (pipe.h): NULL
 * with KHO_ERROR_TIMEOUT, the connection then being as good as before, or KHO_ERROR_IO when it ended. */
json_t *vm_client_next_event(VmClient *client, gint64 deadline_ms, GError **error);

/* kho-status. */
VmStatus *vm_client_status(VmClient *client, guint timeout_ms, GError **error);

/* kho-destroy: returns when QEMU has ended. KHO_ERROR_BUSY where @graceful and it did not end in @timeout_ms.
 */
gboolean vm_client_destroy(VmClient *client, gboolean graceful, guint timeout_ms, GError **error);

/* The same, not graceful; @reason is what the log says: "saved", "failed", "from snapshot". */
gboolean vm_client_end(VmClient *client, const char *reason, guint timeout_ms, GError **error);

/* kho-shutdown, or kho-reboot with @reboot: asks the guest by ACPI and does not wait for it. */
gboolean vm_client_powerdown(VmClient *client, gboolean reboot, guint timeout_ms, GError **error);

#endif
