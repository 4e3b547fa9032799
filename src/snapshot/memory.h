/* The memory of a running machine on its way into a snapshot: written out while the guest goes on, which
 * stands still for the last of it only, and completed when it goes on again. The file is vm/ramfile.h's,
 * QEMU's part vm/migrate.h's. */
#ifndef KHO_SNAPSHOT_MEMORY_H
#define KHO_SNAPSHOT_MEMORY_H

#include "model/domain.h"
#include "vm/client.h"
#include "vm/savefile.h"

#include <kho/job.h>

/* KHO_ERROR_NO_SPACE with the figures where the file's file system may not hold it. */
gboolean memory_check_room(const ModelDomain *live, const char *path, GError **error);

typedef struct MemoryWrite {
    const char *path;      /* is made: KHO_ERROR_EXISTS */
    const char *live_xml;  /* the machine as it runs */
    gint64 saved_ms;       /* wall clock: with the machine's uuid, what tells this file from any other */
    gboolean running;      /* the guest runs, and goes on */
    const GPtrArray *also; /* char *: files that must be durable, too, when the guest stands still: they are
                              written back all the while, so that little is left to be done then */
} MemoryWrite;

/**
 * memory_write:
 * @head: (out): what memory_finish needs
 *
 * Writes the memory out. When it returns TRUE the guest stands still, stream and @also are durable; the file
 * is not whole yet. On failure what was begun stays: memory_take_back.
 *
 * Returns: FALSE with KHO_ERROR_EXISTS, _NOT_FOUND (the folder), _NO_SPACE, _CANCELLED, _INVALID (a paused
 * machine whose memory was written before), _IO, _TIMEOUT.
 */
gboolean memory_write(VmClient *client, const MemoryWrite *write, VmSaveHead **head, const KhoJob *job,
                      GError **error);

/* Removes the file, if it is that of @saved_ms, when QEMU does not write it any more. Runs any number of
 * times.
 */
gboolean memory_take_back(const char *path, gint64 saved_ms, GError **error);

/* Makes the file whole: its checksum, its head. @head: NULL where another process wrote it. TRUE where it is
 * whole already. */
gboolean memory_finish(const char *path, VmSaveHead *head, GError **error);

#endif
