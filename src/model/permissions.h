/* The rows of <permissions>, which pools and volumes have in common. A mode has no bits above 0777: a disk or
 * a folder that runs as its owner (04000, 02000), or that only owners clean up (01000), is nobody's wish. */
#ifndef KHO_MODEL_PERMISSIONS_H
#define KHO_MODEL_PERMISSIONS_H

#include "model/table.h"

#define PERMISSION_ROWS(prefix, T, m)                                                                        \
    { .path = prefix "/permissions/mode",                                                                    \
      .kind = MODEL_OCTAL,                                                                                   \
      .member = G_STRUCT_OFFSET(T, m.mode),                                                                  \
      .min = 0,                                                                                              \
      .max = 0777 },                                                                                         \
        ROW(prefix "/permissions/owner", MODEL_OWNER, T, m.owner),                                           \
        ROW(prefix "/permissions/group", MODEL_OWNER, T, m.group),                                           \
        ROW(prefix "/permissions/label", MODEL_STRING, T, m.label)

#endif
