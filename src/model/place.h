/* Where a disk sits on its bus: what its address says, or else what its target's letter stands for. */
#ifndef KHO_MODEL_PLACE_H
#define KHO_MODEL_PLACE_H

#include "model/device.h"

typedef struct {
    gint controller, bus, target, unit;
} ModelPlace;

/* "vda" 0, "vdb" 1, "sdaa" 26; -1 when @target is not a prefix and letters, or stands for more than 16383. */
gint model_target_index(const char *target);

ModelPlace model_disk_place(const ModelDisk *disk);

#endif
