/* A host: the tree that all verbs on machines, pools and volumes work on. Machines are in kho/domain.h, pools
 * and volumes in kho/storage.h. */
#ifndef KHO_HOST_H
#define KHO_HOST_H

#include <kho/error.h>
#include <kho/job.h>

typedef struct KhoHost KhoHost;

/* @root: the tree's folder, or NULL for the system tree (uid 0) or the user's. Makes what is missing of it.
 * Takes no lock; cheap (under a millisecond). */
KHO_PUBLIC KhoHost *kho_host_open(const char *root, GError **error);
KHO_PUBLIC void kho_host_free(KhoHost *host);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(KhoHost, kho_host_free)

/* How long verbs wait for an object that another process changes (30 s unless set; 0: not at all), and a flag
 * that ends the wait when set from any thread or signal handler; NULL for none. */
KHO_PUBLIC void kho_host_set_wait(KhoHost *host, guint timeout_ms, const volatile gint *cancelled);

/* Who hears of what a verb does not fail for, in one line: a file that somebody changed, what could not be
 * removed. Called from within the verb. Nobody unless set. */
typedef void (*KhoWarn)(const char *line, gpointer data);
KHO_PUBLIC void kho_host_set_warn(KhoHost *host, KhoWarn warn, gpointer data);

#endif
