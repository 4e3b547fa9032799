/* The rows of <permissions>, which pools and volumes have in common. */
#ifndef KHO_MODEL_PERMISSIONS_H
#define KHO_MODEL_PERMISSIONS_H

#include "model/table.h"

/* -1 for owner and group is libvirt's "as it comes". uids above 2^31 - 1 are not taken. */
#define PERMISSION_ROWS(prefix, T, m)                                                                        \
    { .path = prefix "/permissions/mode",                                                                    \
      .kind = MODEL_OCTAL,                                                                                   \
      .member = G_STRUCT_OFFSET(T, m.mode),                                                                  \
      .min = 0,                                                                                              \
      .max = 07777 },                                                                                        \
        ROW_NUMBER(prefix "/permissions/owner", T, m.owner, -1, G_MAXINT),                                   \
        ROW_NUMBER(prefix "/permissions/group", T, m.group, -1, G_MAXINT),                                   \
        ROW(prefix "/permissions/label", MODEL_STRING, T, m.label)

#endif
