/* <address>: where a device sits on its bus. The one element of devices whose meaning hangs on an attribute.
 */
#ifndef KHO_MODEL_ADDRESS_H
#define KHO_MODEL_ADDRESS_H

#include "model/device.h"
#include "model/table.h"

/* Kinds and forms that are not in ModelAddressType become MODEL_ADDRESS_OTHER, and are kept as they are. */
extern const ModelHook model_address_hook;

#endif
