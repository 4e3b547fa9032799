/* What all of host/ knows of a host. The exported functions are in include/kho/. */
#ifndef KHO_HOST_HOST_H
#define KHO_HOST_HOST_H

#include "store/lock.h"
#include "store/tree.h"

#include <kho/host.h>

struct KhoHost {
    StoreTree *tree;
    StoreWait wait; /* for every change lock */
};

#endif
