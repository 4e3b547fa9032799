/* What a process may ask of the kernel: a filter over its system calls, put together on the stack, so that a
 * child can lay it on itself between fork and exec. */
#ifndef KHO_BASE_SECCOMP_H
#define KHO_BASE_SECCOMP_H

#include <glib.h>
#include <linux/filter.h>

#define SECCOMP_LINES_MAX 512

typedef struct {
    struct sock_filter lines[SECCOMP_LINES_MAX];
    gushort n;
} SeccompFilter;

/* Refuses calls by any other way of numbering them than the processor's own. */
void seccomp_begin(SeccompFilter *filter);

/* @action (SECCOMP_RET_*) for each of the @n @calls. */
void seccomp_act(SeccompFilter *filter, const int *calls, gsize n, guint32 action);

/* Refuses with EPERM what reaches other processes, the network or the system: threads, signals to oneself and
 * looks at one's own limits go on. */
void seccomp_keep_in(SeccompFilter *filter);

/* Refuses with EPERM what makes, renames or removes names, or changes the rights and times of files. */
void seccomp_keep_names(SeccompFilter *filter);

/* Lays it on the process, for good: all else is allowed. With SECCOMP_FILTER_FLAG_NEW_LISTENER a descriptor,
 * else 0; -1 with errno. */
int seccomp_end(SeccompFilter *filter, guint flags);

#endif
