#include "supervisor/successor.h"

#include "base/fd.h"
#include "base/proc.h"
#include "supervisor/supervisor.h"
#include "vm/folder.h"

gboolean
successor_lives(Supervisor *s)
{
    gboolean held = FALSE;
    gboolean exists;

    fd_clear(&s->alive);
    return vm_folder_is_locked(s->folder, VM_FILE_ALIVE, &held, &exists, NULL) && held;
}

gboolean
successor_take(Supervisor *s)
{
    g_autoptr(GArray) holders = vm_folder_holders(s->folder, VM_FILE_ALIVE);

    for (guint i = 0; i < holders->len; i++) {
        const ProcId *id = &g_array_index(holders, ProcId, i);
        int found = proc_open(id, NULL);
        if (found < 0)
            continue; /* it has just ended */
        fd_clear(&s->qemu);
        s->qemu = found;
        s->is_child = FALSE;
        vm_log(s->log, "process %d, which was taken for QEMU, has ended; process %d goes on for it",
               (int) s->status->pid, (int) id->pid);
        s->status->pid = id->pid;
        s->status->pid_start = id->start_ticks;
        return TRUE;
    }
    return FALSE;
}
