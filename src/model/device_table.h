/* The element tables of devices, for the table of the machine that holds them. The structs are in device.h.
 */
#ifndef KHO_MODEL_DEVICE_TABLE_H
#define KHO_MODEL_DEVICE_TABLE_H

#include "model/table.h"

extern const ModelTable model_disk_table, model_controller_table, model_interface_table, model_serial_table,
    model_console_table, model_channel_table, model_input_table, model_graphics_table, model_listen_table,
    model_video_table, model_balloon_table, model_rng_table, model_panic_table;

/* The words of a source's type; [0] is absence. */
extern const char *const model_source_types[];

#endif
