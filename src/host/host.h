/* What all of host/ knows of a host. The exported functions are in include/kho/. */
#ifndef KHO_HOST_HOST_H
#define KHO_HOST_HOST_H

#include "store/lock.h"
#include "store/tree.h"

#include <kho/host.h>

struct KhoHost {
    StoreTree *tree;
    StoreWait wait; /* for every change lock */
    KhoWarn warn;   /* NULL: nobody hears */
    gpointer warn_data;
};

/* One line for whoever hears warnings. */
void host_warn(const KhoHost *host, const char *line);
/* The image at @path, of format @format, has internal snapshots or persistent bitmaps, which @what, made of
 * it, does not: told as a warning. */
void host_warn_of_loss(const KhoHost *host, const char *path, const char *format, const char *what);

#endif
